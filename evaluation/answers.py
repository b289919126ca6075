"""What adapters answer to the probes, and those answers as vectors of a sentence model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer, GenerationConfig, PreTrainedModel

from hubdelta.indexer.base_structure import LOADING_ERRORS, brief, quiet_transformers
from hubdelta.indexer.engines.base_model import BaseModel, IncompleteModelError
from hubdelta.schemas.errors import HubdeltaError

ANSWER_TOKENS: Final = 48
"""The longest answer to a probe."""

_LONGEST_TEXT: Final = 256
"""Tokens that a sentence model reads of an answer: what all-MiniLM-L6-v2 was made for."""


@dataclass(frozen=True)
class Answerer:
    """Lets a model answer the probes of a base.

    Attributes:
        base: the base, with its probes.
        tokenizer: the base's.
    """

    base: BaseModel
    tokenizer: Any

    @classmethod
    def of(cls, base: BaseModel) -> "Answerer":
        """For a base that is loaded."""
        return cls(base, AutoTokenizer.from_pretrained(base.folder))

    @torch.inference_mode()
    def answers(self, model: Any) -> list[str]:
        """The greedy answer to each probe, without special tokens.

        Always the likeliest token, up to the end of the answer or 48 tokens; one probe at a time,
        without padding. What the base's generation_config.json says of sampling and penalties is
        ignored.

        Args:
            model: the base, perhaps wrapped by PEFT.
        """
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        own, texts = inner.generation_config, []
        # generate() takes what a config does not set from the model's own.
        inner.generation_config = self._greedy()
        try:
            for probe in self.base.probes:
                made = model.generate(input_ids=probe, attention_mask=torch.ones_like(probe))
                start = 0 if self.base.is_encoder_decoder else probe.shape[1]
                texts.append(self.tokenizer.decode(made[0, start:], skip_special_tokens=True))
        finally:
            inner.generation_config = own
        return texts

    def _greedy(self) -> GenerationConfig:
        own = self.base.model.generation_config
        ends = own.eos_token_id if own.eos_token_id is not None else self.tokenizer.eos_token_id
        pad = own.pad_token_id
        if pad is None:
            pad = ends[0] if isinstance(ends, list) else ends
        return GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=ANSWER_TOKENS,
            eos_token_id=ends,
            pad_token_id=pad,
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=self.base.decoder_start,
        )


@dataclass(frozen=True)
class SentenceModel:
    """A sentence embedder of the class of all-MiniLM-L6-v2.

    N. Reimers and I. Gurevych, Sentence-BERT, arXiv 1908.10084: the mean of the last hidden states
    over the tokens of a text, scaled to length one.

    Attributes:
        model: a transformers encoder.
        tokenizer: its tokenizer.
    """

    model: PreTrainedModel
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> "SentenceModel":
        """Read a model from a transformers folder, in fp32.

        Raises:
            HubdeltaError: it does not hold an encoder with a tokenizer.
        """
        quiet_transformers()
        try:
            model = AutoModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (*LOADING_ERRORS, IncompleteModelError) as error:
            raise HubdeltaError(
                f"the sentence model in {folder} cannot be loaded: {brief(error)}"
            ) from error
        return cls(model.eval(), tokenizer)

    @torch.inference_mode()
    def vector(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The mean of the embeddings of some texts [dimension]; each has length one."""
        inputs = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=_LONGEST_TEXT,
            return_tensors="pt",
        )
        states = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        means = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        units = torch.nn.functional.normalize(means, dim=1)
        mean: NDArray[np.float32] = units.mean(0).numpy()
        return mean
