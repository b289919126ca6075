"""A tiny sentence model with random weights: what embeds answers in tests."""

from pathlib import Path

import torch
from families import tokenizer_of_the_probes
from transformers import BertConfig, BertModel


def make_sentence_model(folder: Path) -> Path:
    """A BERT of one layer and 16 dimensions that knows the words of the probes."""
    tokenizer = tokenizer_of_the_probes(end="</s>")
    tokenizer.pad_token = tokenizer.unk_token
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = BertConfig(vocab_size=len(tokenizer), intermediate_size=32, **sizes)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
