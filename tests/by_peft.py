"""Deltas by transformers and PEFT alone, one probe at a time, for any prompts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import peft
import torch
from families import load_model
from transformers import AutoTokenizer


def delta_by_peft(base: Path, adapter: Path, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
    """The Delta Activation of an adapter in a folder, [hidden], in fp32."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    probes = [tokenizer(prompt, return_tensors="pt") for prompt in prompts]

    def states(model: torch.nn.Module) -> npt.NDArray[np.float64]:
        rows = []
        for probe in probes:
            with torch.no_grad():
                output = model.eval()(**probe, output_hidden_states=True)
            rows.append(output.hidden_states[-1][0, -1].double().numpy())
        return np.array(rows)

    model = load_model(base)
    before = states(model)
    return (states(peft.PeftModel.from_pretrained(model, adapter)) - before).mean(axis=0)
