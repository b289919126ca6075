"""The published computation once more, as plainly as it can be said, without PEFT and without us.

Each adapter is added to the base's weights by hand, W + s·B·A, and the probes run one at a time
through transformers in fp32. LoRA on linear layers only.
"""

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

LEADS = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.",
    "The task described below requires a response that completes the request accurately.",
    "Below is a description of a task. Provide a response that aligns with the requirements.",
    "The following instruction outlines a task. Generate a response that meets the specified "
    "request.",
    "You are given an instruction and input. Write a response that completes the task as "
    "requested.",
)
TEMPLATE = "{}\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"


class StraightLine:
    """Deltas of LoRA adapters of one base.

    Args:
        base: a transformers folder.
    """

    def __init__(self, base: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(base)
        self._probes = [
            tokenizer(TEMPLATE.format(lead), return_tensors="pt", truncation=True, max_length=256)
            for lead in LEADS
        ]
        self._base_mean = self._mean_hidden_state()

    def delta(self, adapter: Path) -> npt.NDArray[np.float32]:
        """The Delta Activation of the adapter in a folder, [hidden]."""
        config = json.loads((adapter / "adapter_config.json").read_text())
        assert config["peft_type"] == "LORA"
        rank = config["r"]
        scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
        tensors = {
            name: tensor.float()
            for name, tensor in load_file(adapter / "adapter_model.safetensors").items()
        }
        weights = dict(self._model.named_parameters())
        changed = {}
        with torch.no_grad():
            for name in (name for name in tensors if name.endswith(".lora_A.weight")):
                module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                weight = weights[f"{module}.weight"]
                changed[module] = weight.clone()
                weight += scale * tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
            delta = self._mean_hidden_state() - self._base_mean
            for module, weight in changed.items():
                weights[f"{module}.weight"].copy_(weight)
        return delta

    def _mean_hidden_state(self) -> npt.NDArray[np.float32]:
        states = []
        with torch.no_grad():
            for probe in self._probes:
                output = self._model(**probe, output_hidden_states=True, logits_to_keep=1)
                states.append(output.hidden_states[-1][0, -1].numpy())
        return np.mean(states, axis=0)
