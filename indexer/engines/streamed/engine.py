"""The streamed engine: full finetunes, layer by layer, compared with a base streamed likewise."""

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from hubdelta.indexer.adapters.adapter import Adapter, FullFinetune
from hubdelta.indexer.adapters.checkpoint import Checkpoint, open_folder
from hubdelta.indexer.adapters.dequantization import Dequantized, plain
from hubdelta.indexer.engines.base_model import start_token
from hubdelta.indexer.engines.engine import (
    Activations,
    Answer,
    Baseline,
    Engine,
    Result,
    attempt,
    noise_floor,
    not_finite,
)
from hubdelta.indexer.engines.layer_state import caught_before, layer_count, layers_of
from hubdelta.indexer.engines.out_of_memory import is_out_of_memory
from hubdelta.indexer.engines.pooling import pooled
from hubdelta.indexer.engines.streamed.skeleton import Skeleton
from hubdelta.indexer.engines.streamed.stream import StoppedError, WeightStream
from hubdelta.indexer.readout import PAPERS, Readout
from hubdelta.schemas.errors import AdapterError, HubError, Reason
from hubdelta.schemas.words import counted

logger = logging.getLogger(__name__)

_PADDING = 1e-3
"""Largest relative difference due to padding a probe: rounding gives about 1e-6."""

_REPEATS = 4  # of the probes in the batch that measures the noise floor, as in the reference engine

Step = tuple[int, FullFinetune, Skeleton | AdapterError]
"""A finetune's place, the finetune, and the modules for its weights."""


class StreamedEngine(Engine):
    """Whole models in fp32, with two layers in memory at a time.

    Args:
        base_folder: a transformers folder of the base.
        probes: token ids of each probe, int64 [1, tokens].
        readout: which hidden states of a probe to return.
        device: where to compute.
        stop: when set, the current computation is abandoned, without an answer.
        turn: held while computing, but never while waiting for weights.
    """

    name = "streamed"
    precision = "fp32"

    def __init__(
        self,
        base_folder: Path,
        probes: Sequence[torch.Tensor],
        *,
        readout: Readout = PAPERS,
        device: str = "cpu",
        stop: Event | None = None,
        turn: "Lock | None" = None,  # a function before Python 3.13
    ) -> None:
        self._folder, self._device = base_folder, device
        self._readout = readout
        self._probes = [probe[0].to(device) for probe in probes]
        self._stop, self._turn = stop or Event(), turn
        self._baseline: Baseline | AdapterError | None = None
        self._apart = False  # whether each probe runs alone, since padding affects this base
        self._familiar: Collection[str] = ()

    @property
    def baseline(self) -> Baseline:
        """The base's own answer, computed on first use.

        The noise floor is the L2 distance of the base's mean from that of a batch with every probe
        four times, which changes the shapes of matrix products and so the order of their sums.

        Raises:
            AdapterError: unsupported_adapter, if the base cannot be streamed.
        """
        if self._baseline is None:
            try:
                self._baseline = self._measured()
            except (HubError, StoppedError):
                raise
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                logger.debug("the base", exc_info=True)
                message = f"the base in {self._folder} cannot be streamed: {error}"
                self._baseline = AdapterError(Reason.UNSUPPORTED_ADAPTER, message)
        if isinstance(self._baseline, AdapterError):
            raise self._baseline
        return self._baseline

    def _measured(self) -> Baseline:
        config = json.loads((self._folder / "config.json").read_bytes())
        checkpoint = plain(open_folder(self._folder), config)
        self._familiar = checkpoint.tensors.keys()

        def states(probes: Sequence[torch.Tensor], repeats: int = 1) -> Activations:
            skeleton = Skeleton.build(config, self._device)
            return self._hidden_states(skeleton, checkpoint, probes, repeats=repeats)

        alone = states(self._probes)
        shortest = min(range(len(self._probes)), key=lambda place: len(self._probes[place]))
        (by_itself,) = states([self._probes[shortest]])
        if np.linalg.norm(by_itself - alone[shortest]) > _PADDING * np.linalg.norm(by_itself):
            self._apart = True
            alone = states(self._probes)
        floor = noise_floor(alone, [states(self._probes, _REPEATS)])
        return Baseline(self.name, self.precision, alone, floor)

    def can_embed(self, adapter: Adapter) -> bool:
        """Whole models only."""
        return isinstance(adapter, FullFinetune)

    def steps(self, adapters: Sequence[Adapter]) -> Iterator[Step]:
        """The finetunes one by one, with their modules built; weights are loaded later."""
        for place, adapter in enumerate(adapters):
            if not isinstance(adapter, FullFinetune):
                raise TypeError(f"{adapter.key} is not a whole model")
            build = partial(Skeleton.build, adapter.config, self._device)
            yield place, adapter, attempt(adapter.key, build)

    def run(self, step: Step) -> Iterator[Result]:
        """Stream one finetune.

        If the run was stopped meanwhile, or memory did not suffice beside other engines, there is
        no result, so that the finetune stays pending.

        Raises:
            HubdeltaError: the Hub can no longer be reached, or the device no longer works.
        """
        place, finetune, skeleton = step
        if isinstance(skeleton, AdapterError):
            yield place, skeleton
            return
        answer = partial(self._answer, finetune, skeleton)
        result = attempt(finetune.key, answer, self._check)
        if result is not None:
            yield place, result

    def _answer(self, finetune: FullFinetune, skeleton: Skeleton) -> Answer | None:
        """Its answer; None if the finetune is to stay pending."""
        try:
            baseline = self.baseline
            return Answer(self._embed(finetune, skeleton, baseline), baseline)
        except StoppedError:
            logger.debug("%s: abandoned", finetune.key)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("%s: not enough memory for its layers at the moment", finetune.key)
        return None

    def _embed(self, finetune: FullFinetune, skeleton: Skeleton, baseline: Baseline) -> Activations:
        checkpoint = plain(finetune.checkpoint, finetune.config)
        activations = self._hidden_states(skeleton, checkpoint, self._probes, self._familiar)
        if activations.shape != baseline.activations.shape:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"its hidden states have {activations.shape[1]} dimensions, "
                f"but the base's have {baseline.activations.shape[1]}",
            )
        if not np.isfinite(activations).all():
            raise not_finite(self.precision)
        return activations

    @torch.inference_mode()
    def _hidden_states(
        self,
        skeleton: Skeleton,
        checkpoint: Checkpoint | Dequantized,
        probes: Sequence[torch.Tensor],
        familiar: Collection[str] | None = None,
        repeats: int = 1,
    ) -> Activations:
        """The hidden state defined by `recipe` for each probe, [probes, hidden]."""
        with WeightStream(
            skeleton,
            checkpoint,
            familiar=familiar,
            device=self._device,
            stop=self._stop,
            turn=self._turn,
        ):
            longest = max(map(len, probes))
            apart = self._apart or skeleton.depends_on_length(longest)
            rows = [
                self._states(skeleton, group, repeats)[: len(group)]
                for group in ([[probe] for probe in probes] if apart else [probes])
            ]
        return torch.cat(rows).float().cpu().numpy()

    def _states(
        self, skeleton: Skeleton, probes: Sequence[torch.Tensor], repeats: int
    ) -> torch.Tensor:
        if skeleton.model.config.is_encoder_decoder:
            return _decoder_states(skeleton, probes, repeats, self._decoder_start)
        return _pooled_states(skeleton, probes, repeats, self._readout)

    @cached_property
    def _decoder_start(self) -> int:
        """The token that the decoder starts with: the base's, for all of its finetunes.

        Raises:
            HubdeltaError: no file of the base names it.
        """
        config: Mapping[str, Any] = json.loads((self._folder / "config.json").read_bytes())
        if (self._folder / "generation_config.json").exists():
            # If there is such a file, transformers does not look for these tokens elsewhere.
            config = GenerationConfig.from_pretrained(self._folder).to_dict()
        return start_token(config)

    def _is_sound(self) -> bool:
        """Whether the device works; the base is on disk."""
        return torch.ones(1, device=self._device).sum().item() == 1


def _pooled_states(
    skeleton: Skeleton, probes: Sequence[torch.Tensor], repeats: int, readout: Readout
) -> torch.Tensor:
    """Hidden states of each probe, pooled, [repeats · probes, hidden].

    Shorter probes are padded with their last token, which the mask hides: causal attention never
    sees it, but an untrusted config can request another kind.
    """
    batch, mask = _padded(probes, repeats)
    layer = None if readout.layer is None else _layer(skeleton, readout.layer)
    with caught_before(layer, stop=True) as seen:  # later layers' weights are then not needed
        output = skeleton.parts[0](input_ids=batch, attention_mask=mask, use_cache=False)
    return pooled(seen[0] if seen else output.last_hidden_state, readout, mask.sum(1) - 1)


def _layer(skeleton: Skeleton, layer: int) -> torch.nn.Module:
    """The layer of a number, from 0.

    Raises:
        AdapterError: base_mismatch: the model has fewer.
    """
    count = layer_count(skeleton.model.config)
    if layer >= count:
        raise AdapterError(
            Reason.BASE_MISMATCH, f"it has {counted(count, 'layer')}: layer {layer} has no state"
        )
    return layers_of(skeleton.parts[0], count)[layer]


def _decoder_states(
    skeleton: Skeleton, probes: Sequence[torch.Tensor], repeats: int, start: int
) -> torch.Tensor:
    """Final decoder states at its start token, [repeats · probes, hidden]."""
    encoder, decoder = skeleton.parts
    batch, mask = _padded(probes, repeats)
    encoded = encoder(input_ids=batch, attention_mask=mask).last_hidden_state
    states: torch.Tensor = decoder(
        input_ids=torch.full_like(batch[:, :1], start),
        encoder_hidden_states=encoded,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return states[:, -1]


def _padded(probes: Sequence[torch.Tensor], repeats: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probes of different lengths as one batch, padded with their last tokens, and its mask.

    Returns:
        Token ids and mask, int64 [repeats · probes, tokens].
    """
    longest = max(map(len, probes))
    ids = [torch.cat([probe, probe[-1:].expand(longest - len(probe))]) for probe in probes]
    batch = torch.stack(ids).repeat(repeats, 1)
    lengths = torch.tensor([len(probe) for probe in probes], device=batch.device).repeat(repeats)
    places = torch.arange(longest, device=batch.device)
    return batch, (places < lengths[:, None]).long()
