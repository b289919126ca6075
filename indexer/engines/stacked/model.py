"""A base whose forward pass gives every adapter of a batch separate rows.

The transformers model runs as it is; only the forward passes of its dense layers, embeddings and
norms are replaced, in a copy that shares the base's weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.edits.edits import DenseEdit, Edits
from hubdelta.indexer.engines.edits.structure import (
    LeafInputs,
    computes_dense_product,
    is_dense,
    structural_copy,
    with_tied_parameters,
)
from hubdelta.indexer.engines.engine import Activations
from hubdelta.indexer.engines.stacked.arithmetic import Arithmetic, OwnProduct
from hubdelta.indexer.engines.stacked.batching import free_bytes
from hubdelta.indexer.engines.stacked.block_stacks import blocks_in, stacks_of_blocks
from hubdelta.indexer.engines.stacked.experts import StackedExperts, WatchedExperts
from hubdelta.indexer.engines.stacked.forward import ForwardPass, UnstackableError, headless
from hubdelta.indexer.engines.stacked.layers import (
    StackedDense,
    StackedParameters,
    StackedTable,
    table_of,
)
from hubdelta.indexer.engines.stacked.precision import DTYPES, placed_on, products_in
from hubdelta.indexer.engines.stacked.rows import Ends, Rows, by_length, side_by_side
from hubdelta.indexer.engines.stacked.shortcuts import rms_norm_of, same, trim_last_layer
from hubdelta.indexer.engines.stacked.stacks import DenseLayer
from hubdelta.indexer.process import threads_of_one_core
from hubdelta.indexer.readout import PAPERS

_GATHERERS = 8
"""Threads that gather a batch for a GPU: one core copies memory at a tenth of a GPU's rate."""

_ROWS_OF_A_PASS = {"cpu": 64, "cuda": 1024}
"""The fixed cost of a pass, in rows: on a CPU mainly reading the weights once; on a GPU thousands
of launches, which block the interpreter for the threads that prepare the next batch."""

_FULL_PASS = 48
"""Adapters in a pass that counts as full when its largest part is measured."""

Standin = StackedDense | StackedTable | StackedParameters | StackedExperts


class StackedModel:
    """The base up to its final norm, with adapters stacked on it.

    Args:
        base: the base; its modules are unchanged, and its weights are shared if the device is the
            same.
        device: where to run.

    Attributes:
        device: where it runs.
        tokens: the distinct token ids that embeddings see, sorted, int64 [tokens].
        stackable: names of the base's modules that an adapter may edit here.
        rows_per_adapter: tokens that one adapter adds to the largest pass.
        layer_bytes: bytes of fp32 activations that one token takes in the widest layer.
        dense_numbers: weights in the dense layers.
        dense_flops: of the base's own dense products, for one adapter.

    Raises:
        UnstackableError: the model cannot be run this way.
    """

    def __init__(self, base: BaseModel, *, device: str | None = None) -> None:
        self.device = torch.device(device) if device else base.model.device
        self._side = _stream_beside(self.device)
        self._map = threads_of_one_core(_GATHERERS).map if self._side else map
        inner, prefix = headless(base)
        placed = {} if self.device == base.model.device else placed_on(self.device, inner)
        self._inner = structural_copy(inner, lambda tensor: placed.get(id(tensor), tensor))
        self._passage = ForwardPass.through(self._inner, base)
        probes = [probe.to(self.device) for probe in base.probes]
        seen = [ids[0] for probe in probes for ids in self._passage.inputs(probe).values()]
        self.tokens = torch.unique(torch.cat(seen))
        self._by_length = by_length(probes)
        self._arithmetic, self._ends = Arithmetic(), Ends()
        sample = _sample(probes)
        with torch.inference_mode():
            standins: dict[str, Standin] = dict(self._dense_standins())
            if placed:  # half-precision weights with fp32 activations: transformers cannot
                self._exchange_forwards(standins)
            experts = WatchedExperts(self._inner)
            with experts.watching():
                inputs, expected = self._watched(sample)
            standins |= self._other_standins(inputs, sample)
            standins |= (experts_standins := experts.standins(sample.numel()))
            self._exchange_forwards(standins)
            # An encoder-decoder's decoder has one token, and its encoder no last.
            if not base.is_encoder_decoder and base.readout == PAPERS:
                trim_last_layer(self._inner, standins, sample)
            self._check(self._last_states(sample), expected)
            self._side_by_side = None if base.is_encoder_decoder else self._checked(probes)
        self._standins = {prefix + name: standin for name, standin in standins.items()}
        # Of what sees some tokens alone, as a routed expert, there is no product to start from.
        self._comparable = {standins[name] for name in standins.keys() & inputs.whole_batch}
        self._own: dict[tuple[int, ...], Mapping[object, OwnProduct]] = {}
        told_apart = inputs.whole_batch | experts_standins.keys()
        alone = (standins.keys() & told_apart) - with_tied_parameters(self._inner)
        self.stackable = frozenset(prefix + name for name in alone)
        self.rows_per_adapter = max(rows.ids.numel() for rows in self._rows(_FULL_PASS))
        self.layer_bytes = inputs.bytes_per_token
        self.dense_numbers = sum(dense.layer.weight.numel() for dense in self._dense())
        tokens = sum(probe.numel() for probe in probes)
        once = inputs.once_a_row.union(
            name for name, standin in standins.items() if getattr(standin, "last_token_only", False)
        )
        self.dense_flops = sum(
            2 * dense.layer.weight.numel() * (len(probes) if name in once else tokens)
            for name, dense in standins.items()
            if isinstance(dense, StackedDense)
        )

    def prepare(self, batch: Sequence[Edits], precision: str) -> "Prepared":
        """Stack the edits of a batch where they are used; may run beside another batch's pass.

        Args:
            batch: the edits of each adapter; none at all makes the base itself.
            precision: of the matrix products; what is between them is fp32.

        Raises:
            RuntimeError: what torch raises, as when memory runs out.
        """
        dtype, of_differences = DTYPES[precision], precision != "fp32"
        if (blocks := blocks_in(batch)) is not None:
            with torch.inference_mode(), self._beside():
                shared = stacks_of_blocks(blocks, dict(self.editable_layers()), dtype)
            return Prepared(len(batch), precision, shared, self._event())

        def stacked(name: str) -> Any:
            edits = [each.get(name) for each in batch]
            with torch.inference_mode(), self._beside():
                return self._standins[name].prepare(edits, dtype, of_differences=of_differences)

        names = sorted(set(chain.from_iterable(batch)))
        stacks = dict(zip(names, self._map(stacked, names), strict=True))
        return Prepared(len(batch), precision, stacks, self._event())

    def _event(self) -> torch.cuda.Event | None:
        """On a GPU, the moment from which on what was prepared is there."""
        return self._side.record_event() if self._side else None

    def run(self, prepared: "Prepared") -> Activations:
        """The hidden states of a batch of adapters, [adapters, probes, hidden] in fp32.

        Raises:
            RuntimeError: what torch raises, as when memory runs out.
        """
        adapters = prepared.adapters
        passes = self._rows(adapters)
        known: list[Mapping[object, OwnProduct]] = [{} for _ in passes]
        if prepared.precision != "fp32":
            known = [self._own_products(rows) for rows in passes]
        states: dict[int, torch.Tensor] = {}
        if prepared.done is not None:
            torch.cuda.current_stream(self.device).wait_event(prepared.done)
        with torch.inference_mode(), self._using(prepared):
            for rows, self._arithmetic.known in zip(passes, known, strict=True):
                ends = None if rows.ends is None else rows.ends.repeat(adapters)
                last = self._last_states(rows.ids.repeat(adapters, 1), ends)
                by_probe = last.view(adapters, len(rows.places), -1).float().unbind(1)
                states.update(zip(rows.places, by_probe, strict=True))
            ordered = torch.stack([states[place] for place in sorted(states)], dim=1)
            # This waits for the device, so that the stacks may be released.
            return ordered.cpu().numpy()

    def _last_states(self, ids: torch.Tensor, ends: torch.Tensor | None = None) -> torch.Tensor:
        self._ends.at = ends
        return self._passage(ids, self._ends)

    def _rows(self, adapters: int) -> Sequence[Rows]:
        """The passes for some adapters: side by side if there are few and padding is cheap."""
        if self._side_by_side is None:
            return self._by_length
        padding = self._side_by_side.ids.numel() - sum(rows.ids.numel() for rows in self._by_length)
        of_a_pass = _ROWS_OF_A_PASS.get(self.device.type, _ROWS_OF_A_PASS["cpu"])
        saved = of_a_pass * (len(self._by_length) - 1)
        return (self._side_by_side,) if adapters * padding < saved else self._by_length

    def _checked(self, probes: Sequence[torch.Tensor]) -> Rows | None:
        """All probes side by side, if this model ignores padding."""
        rows = side_by_side(probes)
        given = self._last_states(rows.ids, rows.ends)
        expected = torch.cat([self._last_states(probe) for probe in probes])
        return rows if same(given, expected) else None

    def _own_products(self, rows: Rows) -> Mapping[object, OwnProduct]:
        """What each dense layer of the base makes of some rows, computed once, in fp32."""
        if rows.places not in self._own:
            with torch.inference_mode(), products_in("fp32"), self._arithmetic.recording() as found:
                self._last_states(rows.ids, rows.ends)
            self._own[rows.places] = {
                dense: own for dense, own in found.items() if dense in self._comparable
            }
        return self._own[rows.places]

    def hold(self, precision: str) -> None:
        """Keep dense weights in a narrow type too, where there is memory for them."""
        dtype = DTYPES[precision]
        if (
            self.device.type == "cpu"
            and dtype.itemsize * self.dense_numbers < free_bytes(self.device) / 2
        ):
            for dense in self._dense():
                dense.hold(dtype)

    def overflows_in(self, dtype: torch.dtype) -> bool:
        """Whether a weight of a dense layer becomes infinite in a dtype."""
        most = torch.finfo(dtype).max
        return any(float(dense.layer.weight.abs().max()) > most for dense in self._dense())

    def idle_edits(self) -> Edits:
        """Edits of every dense layer that change nothing but take the path of real edits."""
        return {
            name: DenseEdit(out_scale=torch.ones(layer.out_features))
            for name, layer in self.editable_layers()
        }

    def editable_layers(self) -> Iterator[tuple[str, DenseLayer]]:
        """The dense layers that an adapter may edit here, with their names."""
        for name, standin in self._standins.items():
            if isinstance(standin, StackedDense) and name in self.stackable:
                yield name, standin.layer

    @property
    def dense_shapes(self) -> list[tuple[int, int]]:
        """(out_features, in_features) of each dense layer."""
        return [(dense.layer.out_features, dense.layer.in_features) for dense in self._dense()]

    def _dense(self) -> list[StackedDense]:
        return [standin for standin in self._standins.values() if isinstance(standin, StackedDense)]

    def _watched(self, sample: torch.Tensor) -> tuple[LeafInputs, torch.Tensor]:
        """Run the model unchanged: its modules' inputs, and the last states [rows, hidden]."""
        try:
            return self._passage.watched(sample)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UnstackableError(f"it does not run on token ids alone: {error}") from error

    @staticmethod
    def _check(given: torch.Tensor, expected: torch.Tensor) -> None:
        """Check that the replaced forward passes compute the same as the model's own."""
        if not same(given, expected):
            raise UnstackableError("its own forward pass gives a different last hidden state")

    def _exchange_forwards(self, standins: Mapping[str, Standin]) -> None:
        for name, standin in standins.items():
            self._inner.get_submodule(name).forward = standin

    def _dense_standins(self) -> dict[str, StackedDense]:
        """A forward pass for each dense layer.

        Some models' subclasses of Linear compute something else, such as routers; each class is
        tried once.
        """
        plain: dict[type[nn.Module], bool] = {}
        standins = {}
        for name, module in self._inner.named_modules():
            if is_dense(module):
                kind = type(module)
                if kind not in plain:
                    plain[kind] = computes_dense_product(module)
                if plain[kind]:
                    standins[name] = StackedDense(module, self._arithmetic, self._ends)
        return standins

    def _other_standins(self, inputs: LeafInputs, sample: torch.Tensor) -> dict[str, Standin]:
        """A forward pass for each other module without children that has parameters."""
        standins: dict[str, Standin] = {}
        ids = self._passage.inputs(sample).values()
        for name, module in self._inner.named_modules():
            seen = inputs.first.get(name)
            childless = not any(True for _ in module.children())
            if is_dense(module) or seen is None or not childless:
                continue
            if isinstance(module, nn.Embedding):
                table = None
                if any(torch.equal(seen, each) for each in ids):
                    table = table_of(module, self.tokens, seen)
                if table is not None:
                    standins[name] = table
            elif any(True for _ in module.parameters()):
                standins[name] = StackedParameters(module, self._ends, rms_norm_of(module, seen))
        return standins

    @contextmanager
    def _using(self, prepared: "Prepared") -> Iterator[None]:
        """Give every module the stack of its edits while this lasts."""
        self._arithmetic.dtype = DTYPES[prepared.precision]
        self._arithmetic.adapters = prepared.adapters
        try:
            for name, stack in prepared.stacks.items():
                self._standins[name].use(stack)
            with products_in(prepared.precision):
                yield
        finally:
            for name in prepared.stacks:
                self._standins[name].use(None)
            self._arithmetic.known = {}
            self._arithmetic.forget()

    def _beside(self) -> AbstractContextManager[object]:
        """On a GPU, a stream beside the one on which batches run."""
        return torch.cuda.stream(self._side) if self._side else nullcontext()


@dataclass(frozen=True)
class Prepared:
    """A batch with stacked edits.

    Attributes:
        adapters: how many.
        precision: of the matrix products.
        stacks: module name → what its stand-in takes.
        done: on a GPU, the moment from which on they are there.
    """

    adapters: int
    precision: str
    stacks: Mapping[str, Any]
    done: torch.cuda.Event | None


def _sample(probes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Three rows that differ at every token, [3, tokens], to recognize row-wise modules."""
    longest = max(probes, key=lambda probe: probe.shape[1])
    return torch.cat([longest, longest.flip(1), longest.roll(1, dims=1)])


def _stream_beside(device: torch.device) -> torch.cuda.Stream | None:
    """On a GPU, a stream for copies to it."""
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
