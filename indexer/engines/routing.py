"""The engines by name, and routing each adapter to one that computes it exactly."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hubdelta.indexer.adapters.adapter import Adapter
from hubdelta.indexer.building import BUILDING
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Engine, Result, unexpected
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.engines.stacked.forward import UnstackableError
from hubdelta.indexer.engines.vllm.engine import VllmEngine
from hubdelta.indexer.engines.vllm.pooler import check_installed
from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason, UsageError

logger = logging.getLogger(__name__)

_WORTH_A_TRIAL = 32
"""Adapters from which on `auto` tries narrow types on a CPU. For SmolLM2-135M that takes four
seconds, which bf16 saves on twenty adapters (bench/PERFORMANCE.md)."""


def make_engine(
    base: BaseModel, load_on_device: Callable[[], BaseModel], settings: IndexSettings
) -> Engine:
    """The requested engine, with the reference engine as fallback.

    Args:
        base: the base as returned by `load_base`.
        load_on_device: returns the base in fp32 on the device; called when needed.
        settings: names the engine, the device and the precision.

    Raises:
        UsageError: the precision does not exist here.
    """
    if settings.engine == "reference":
        return ReferenceEngine(load_on_device())
    try:
        stacked = StackedEngine(
            base, device=device_of(settings.device), precision=settings.precision
        )
    except HubdeltaError:
        raise
    except Exception as error:
        # An unforeseen architecture must not make the whole run fail.
        logger.debug("this base cannot be stacked", exc_info=True)
        what = error if isinstance(error, UnstackableError) else unexpected(error)
        logger.warning("using the reference engine, since this base cannot be stacked: %s", what)
        return ReferenceEngine(load_on_device())
    return RoutedEngine(stacked, lambda: ReferenceEngine(load_on_device()))


def load_engine(
    folder: Path, probes: ProbeSet, settings: IndexSettings, *, adapters: int | None = None
) -> Engine:
    """The requested engine, with its base loaded.

    Args:
        folder: a transformers folder of the base.
        probes: the probe set.
        settings: names the engine, the device and the precision.
        adapters: how many there are to embed; None for many.

    Raises:
        HubdeltaError: the base cannot be loaded.
        MissingExtraError: vLLM is requested but not installed.
        UsageError: there is no such device, or it lacks that precision.
    """
    if settings.engine == "vllm":
        with BUILDING:
            fast = VllmEngine(
                folder,
                probes,
                precision=settings.precision,
                tensor_parallel=settings.tensor_parallel,
            )
        # On the CPU: vLLM has the GPUs.
        return RoutedEngine(fast, lambda: ReferenceEngine(BaseModel.load(folder, probes)))
    base = load_base(folder, probes, settings)
    device = device_of(settings.device)
    are_few = adapters is not None and adapters < _WORTH_A_TRIAL
    if settings.precision == "auto" and device == "cpu" and are_few:
        settings = replace(settings, precision="fp32")

    def on_device() -> BaseModel:
        if base.model.device.type == device.partition(":")[0]:
            return base
        return BaseModel.load(folder, probes, readout=settings.readout, device=device)

    return make_engine(base, on_device, settings)


def load_base(folder: Path, probes: ProbeSet, settings: IndexSettings) -> BaseModel:
    """A base in the form that the engine of the settings needs.

    The stacked engine copies it to a GPU itself, in the stored dtype.

    Raises:
        HubdeltaError: it cannot be loaded.
        UsageError: there is no such device.
    """
    device = device_of(settings.device)
    if settings.engine == "stacked" and device != "cpu":
        return BaseModel.load(folder, probes, readout=settings.readout, as_stored=True)
    return BaseModel.load(folder, probes, readout=settings.readout, device=device)


def check_usable(settings: IndexSettings) -> None:
    """Reject settings that this machine does not support, before a crawl spends minutes.

    Raises:
        MissingExtraError: vLLM is requested but not installed.
        UsageError: there is no such device, or it lacks that precision.
    """
    if settings.engine == "vllm":
        check_installed()
    if device_of(settings.device) == "cpu" and settings.precision == "tf32":
        raise UsageError("tf32 needs a GPU: use fp32 on a CPU")


def device_of(asked: str) -> str:
    """The device to run on.

    Raises:
        UsageError: there is no such device here.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=asked).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"no device {asked!r} here: {str(error).partition(chr(10))[0]}") from error
    return "cpu" if torch.device(asked).type == "cpu" else asked


class RoutedEngine(Engine):
    """Gives each adapter to a fast engine, or to an exact one if the fast one is not exact for it.

    Args:
        fast: the requested engine.
        make_exact: makes the engine for all others; called for the first of them.
    """

    def __init__(self, fast: Engine, make_exact: Callable[[], Engine]) -> None:
        self._fast, self._make_exact = fast, make_exact

    def can_embed(self, adapter: Adapter) -> bool:
        """Any adapter that either engine computes."""
        return self._fast.can_embed(adapter) or self._exact.can_embed(adapter)

    def steps(self, adapters: Sequence[Adapter]) -> Iterator["_Step"]:
        """Steps of the fast engine, then each other adapter alone."""
        fast = [place for place, adapter in enumerate(adapters) if self._fast.can_embed(adapter)]
        for step in self._fast.steps([adapters[place] for place in fast]):
            yield _Step(adapters, fast, step)
        for place in sorted(set(range(len(adapters))) - set(fast)):
            yield _Step(adapters, [place])

    def run(self, step: "_Step") -> Iterator[Result]:
        """Run a step on its engine.

        An adapter on which the fast engine fails through no fault of the adapter gets a second try
        on the exact one.

        Raises:
            HubdeltaError: an engine no longer works.
        """
        if step.fast is None:
            yield from self._exactly(step, step.places[0])
            return
        for number, answer in self._fast.run(step.fast):
            place = step.places[number]
            if isinstance(answer, AdapterError) and answer.reason is Reason.ENGINE:
                logger.info(
                    "%s: retrying on the exact engine: %s", step.adapters[place].key, answer
                )
                yield from self._exactly(step, place)
            else:
                yield place, answer

    def _exactly(self, step: "_Step", place: int) -> Iterator[Result]:
        for _, answer in self._exact.answers([step.adapters[place]]):
            yield place, answer

    @cached_property
    def _exact(self) -> Engine:
        return self._make_exact()


@dataclass(frozen=True)
class _Step:
    """A step of the fast engine, or one adapter for the exact one.

    Attributes:
        adapters: all adapters of the request.
        places: in `adapters`, of those given to the fast engine, or of the one.
        fast: the fast engine's step; None for the exact one.
    """

    adapters: Sequence[Adapter]
    places: Sequence[int]
    fast: Any = None
