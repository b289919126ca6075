"""Activations by transformers and PEFT alone, one probe at a time, for any recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import peft
import torch
from families import load_model
from transformers import AutoTokenizer

States = npt.NDArray[np.float64]


def states_by_transformers(
    base: Path,
    model: torch.nn.Module,
    prompts: Sequence[str],
    *,
    pooling: Literal["last", "mean"] = "last",
    layer: int = -1,
) -> States:
    """Hidden states of a model for prompts by a base's tokenizer, [probes, hidden], in fp32."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = []
    for prompt in prompts:
        probe = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            output = model.eval()(
                input_ids=probe["input_ids"],
                attention_mask=probe["attention_mask"],
                output_hidden_states=True,
            )
        own = output.hidden_states[layer][0, -probe["input_ids"].shape[1] :].double()
        rows.append((own[-1] if pooling == "last" else own.mean(0)).numpy())
    return np.array(rows)


def delta_by_peft(
    base: Path,
    adapter: Path,
    prompts: Sequence[str],
    *,
    pooling: Literal["last", "mean"] = "last",
    layer: int = -1,
) -> npt.NDArray[np.float64]:
    """The Delta Activation of an adapter in a folder, [hidden]."""
    model = load_model(base)
    before = states_by_transformers(base, model, prompts, pooling=pooling, layer=layer)
    wrapped = peft.PeftModel.from_pretrained(model, adapter)
    after = states_by_transformers(base, wrapped, prompts, pooling=pooling, layer=layer)
    return (after - before).mean(axis=0)
