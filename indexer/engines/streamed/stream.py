"""Streaming a model's weights: each unit's are loaded just before it runs and released after."""

import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event, Lock
from types import TracebackType
from typing import Any, Final, Self

import torch
from torch.overrides import TorchFunctionMode

from hubdelta.indexer.adapters.checkpoint import Checkpoint
from hubdelta.indexer.adapters.dequantization import Dequantized
from hubdelta.indexer.adapters.quantization import quantized
from hubdelta.indexer.adapters.weights import is_finite
from hubdelta.indexer.engines.streamed.leftovers import check_leftovers
from hubdelta.indexer.engines.streamed.naming import Source, find_names
from hubdelta.indexer.engines.streamed.skeleton import Skeleton, Unit
from hubdelta.indexer.memory import empty
from hubdelta.schemas.errors import AdapterError, Reason

_POLL_SECONDS: Final = 0.2  # seconds between checks of whether to stop


class StoppedError(Exception):
    """The run is to end; nothing is wrong with the current computation."""


class WeightStream:
    """Makes a skeleton run as if it had all its weights, while the context lasts.

    At most two layers are in memory: one running in fp32, and the next one as stored. From an
    embedding table, only the rows that are looked up are read.

    Args:
        skeleton: must not be used for anything else afterwards.
        checkpoint: its weights.
        familiar: tensors of the base, which may be present unused; None for the base itself.
        device: where it runs.
        stop: when set, the run is abandoned before the next unit.
        turn: held throughout, except while waiting for weights.

    Raises:
        AdapterError: corrupt: a tensor is missing, or its shape contradicts the config;
            unsupported_adapter: weights are quantized, or some have no place in the skeleton.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        checkpoint: Checkpoint | Dequantized,
        *,
        familiar: Collection[str] | None = None,
        device: str,
        stop: Event,
        turn: "Lock | None" = None,  # a function before Python 3.13
    ) -> None:
        self._model, self._checkpoint = skeleton.model, checkpoint
        self._device, self._stop = device, stop
        self._turn = turn or Lock()
        names = find_names(skeleton.model, checkpoint.tensors)
        self._sources = names.sources
        units, tables = skeleton.units(), skeleton.tables()
        check_leftovers(skeleton.model, names, checkpoint.tensors, units, tables, familiar)
        self._layers = [unit for unit in units if unit.is_layer]
        state = skeleton.model.state_dict()
        for name in (*tables, *(name for unit in units for name in unit.tensors)):
            self._check(name, tuple(state[name].shape))
        self._rows = _RowLookup(
            {
                id(weight): functools.partial(self._read_rows, name, self._sources[name])
                for name, weight in tables.items()
            }
        )
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="hubdelta-layer")
        self._ahead: tuple[Unit, Future[dict[str, torch.Tensor]]] | None = None
        self._units = units

    def __enter__(self) -> Self:
        self._turn.acquire()
        for unit in self._units:
            unit.module.forward = self._streamed(unit, unit.module.forward)
        self._rows.__enter__()  # type: ignore[no-untyped-call]
        self._fetch_ahead(self._layers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for unit in self._units:
            del unit.module.forward  # it would keep the weights' files open
        self._turn.release()
        self._ahead = None
        self._executor.shutdown(wait=not self._stop.is_set(), cancel_futures=True)

    @contextmanager
    def _others_turn(self) -> Iterator[None]:
        """Let others compute while waiting for weights."""
        self._turn.release()
        try:
            yield
        finally:
            self._turn.acquire()

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        """Reject a checkpoint in which a tensor is missing or wrong, before reading any."""
        source = self._sources.get(name)
        path, _, own = name.rpartition(".")
        is_buffer = own in self._model.get_submodule(path)._buffers
        if source is None:
            computed = self._model._keys_to_ignore_on_load_missing or ()
            if is_buffer and any(re.search(pattern, name) for pattern in computed):
                return
            raise AdapterError(Reason.CORRUPT, f"tensor {name} is missing from the weights")
        if source.converter is None and len(source.tensors) > 1:
            raise AdapterError(
                Reason.CORRUPT,
                f"the weights hold {name} more than once, as {' and '.join(source.tensors)}",
            )
        for stored in map(self._checkpoint.tensors.__getitem__, source.tensors):
            if not is_buffer and not stored.dtype.is_floating_point:
                raise quantized(f"tensor {name} is stored as {stored.dtype}")
            if source.converter is None and stored.shape != shape:
                raise _mismatch(name, stored.shape, shape)

    def _streamed(self, unit: Unit, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A module's forward, with its weights loaded while it runs."""

        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            empty = self._load(unit)
            try:
                return forward(*args, **kwargs)
            finally:
                for module, name, parameter in empty:
                    module._parameters[name] = parameter

        return run

    def _load(self, unit: Unit) -> list[tuple[torch.nn.Module, str, torch.nn.Parameter]]:
        """Put a unit's weights in place.

        This starts loading the next layer's.

        Returns:
            The previous parameters, without data, by module and name.
        """
        tensors = self._take(unit)
        empty = []
        for source in self._sources_of(unit):
            try:
                made = source.make(tensors, self._model)
            except (RuntimeError, ValueError, IndexError) as error:
                raise AdapterError(
                    Reason.CORRUPT, f"tensor {source.target} cannot be assembled: {error}"
                ) from error
            for name in made.keys() & unit.tensors.keys():
                module, own = unit.tensors[name], name.rpartition(".")[2]
                value = self._ready(name, made.pop(name))
                old = module._parameters.get(own)
                if old is None:
                    module._buffers[own] = value
                    continue
                if old.shape != value.shape:
                    raise _mismatch(name, value.shape, old.shape)
                empty.append((module, own, old))
                module._parameters[own] = torch.nn.Parameter(value, requires_grad=False)
        # Only now: while experts are merged into one tensor, a layer takes nearly twice its memory.
        if self._ahead is None and unit.is_layer:
            self._fetch_ahead(self._layers[self._layers.index(unit) + 1 :])
        return empty

    def _sources_of(self, unit: Unit) -> list[Source]:
        held = (self._sources[name] for name in unit.tensors if name in self._sources)
        return list(dict.fromkeys(held))

    def _take(self, unit: Unit) -> dict[str, torch.Tensor]:
        """A unit's tensors as stored."""
        if self._stop.is_set():
            raise StoppedError
        if self._ahead is not None and self._ahead[0] is unit:
            future, self._ahead = self._ahead[1], None
            with self._others_turn():
                while not wait([future], _POLL_SECONDS).done:
                    if self._stop.is_set():
                        raise StoppedError
            tensors = future.result()
        else:
            with self._others_turn():
                tensors = self._read(unit)
        return tensors

    def _fetch_ahead(self, layers: Sequence[Unit]) -> None:
        if layers:
            self._ahead = layers[0], self._executor.submit(self._read, layers[0])

    def _read(self, unit: Unit) -> dict[str, torch.Tensor]:
        names = (name for source in self._sources_of(unit) for name in source.tensors)
        return self._checkpoint.read(list(dict.fromkeys(names)))

    def _read_rows(self, name: str, source: Source, rows: list[int]) -> torch.Tensor:
        """Rows of a table [rows, width], ready for lookup."""
        stored = next(iter(source.tensors))
        length = self._checkpoint.tensors[stored].shape[0]
        if rows[-1] >= length:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"tensor {name} has {length} rows: too few for the tokens of the base's probes",
            )
        with self._others_turn():
            table = self._checkpoint.read_rows(stored, rows)
        return self._ready(name, table)

    def _ready(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor ready for computation: floats in fp32, on the device."""
        if not tensor.is_floating_point():
            return tensor.to(self._device)
        tensor = tensor.to(self._device)
        if tensor.dtype is not torch.float32:
            on_cpu = tensor.device.type == "cpu"
            tensor = empty(tensor.shape, torch.float32).copy_(tensor) if on_cpu else tensor.float()
        if not is_finite(tensor):
            raise AdapterError(Reason.NOT_FINITE, f"tensor {name} holds NaN or infinity")
        return tensor


class _RowLookup(TorchFunctionMode):
    """Looks up embeddings, reading only the rows that are needed.

    It intercepts torch's functions, not the modules that call them: some transformers embeddings
    scale the result or compute the ids themselves.

    Args:
        tables: id of the weight → a function that reads some of its rows, sorted.
    """

    def __init__(self, tables: Mapping[int, Callable[[list[int]], torch.Tensor]]) -> None:
        super().__init__()
        self._tables = tables

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Handle one call of a torch function."""
        if func is torch.nn.functional.embedding:
            ids, weight = args[:2]
            if id(weight) in self._tables:
                rows, places = ids.unique(return_inverse=True)
                return func(places, self._tables[id(weight)](rows.tolist()))
        return func(*args, **(kwargs or {}))


def _mismatch(name: str, found: Sequence[int], expected: Sequence[int]) -> AdapterError:
    return AdapterError(
        Reason.CORRUPT,
        f"tensor {name} has shape {list(found)}, but its config.json says {list(expected)}",
    )
