"""Hidden states of probes by a model's own forward pass, one probe at a time."""

import inspect
from collections.abc import Sequence
from typing import Any

import peft
import torch

from hubdelta.indexer.base_structure import below_head
from hubdelta.indexer.engines.base_model import decoder_start
from hubdelta.indexer.engines.engine import Activations
from hubdelta.indexer.engines.layer_state import layer_count, layers_of, state_given
from hubdelta.indexer.engines.pooling import pooled
from hubdelta.indexer.readout import PAPERS, Readout


@torch.inference_mode()
def hidden_states(
    model: torch.nn.Module, probes: Sequence[torch.Tensor], readout: Readout = PAPERS
) -> Activations:
    """The hidden state defined by `recipe` for each probe's first row, [probes, hidden].

    Args:
        model: a transformers language model, perhaps wrapped by PEFT.
        probes: token ids, int64 [rows, tokens] each.
        readout: which hidden states of a probe count.
    """
    inner: Any = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    options: dict[str, Any] = {"use_cache": False}
    if "logits_to_keep" in inspect.signature(inner.forward).parameters:
        options["logits_to_keep"] = 1
    start = decoder_start(inner)
    parts = {inner.get_decoder()} | ({below_head(inner)[0]} if start is None else set())
    seen: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if (state := getattr(output, "last_hidden_state", None)) is not None:
            seen.append(state[:1])

    def keep_before(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        seen.append(state_given(args, kwargs)[:1])

    if readout.layer is None:
        # OPT calls its decoder directly; in other models the last to return is the outer one.
        hooks = [part.register_forward_hook(keep) for part in parts if part is not inner]
    else:
        layer = layers_of(inner, layer_count(inner.config))[readout.layer]
        hooks = [layer.register_forward_pre_hook(keep_before, with_kwargs=True)]
    rows = []
    try:
        for probe in probes:
            seen.clear()
            if start is not None:
                options["decoder_input_ids"] = torch.full_like(probe[:, :1], start)
            model(input_ids=probe, attention_mask=torch.ones_like(probe), **options)
            # Tokens that a learned prompt puts before the probe are not the probe's.
            rows.append(pooled(seen[-1][:, -probe.shape[1] :], readout))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(rows).float().cpu().numpy()
