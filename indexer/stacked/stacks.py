"""The edits of a batch at one module, stacked and on the device where they are used."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody calls it)

from hubdelta.indexer.stacked.edits import DenseEdit
from hubdelta.indexer.stacked.norms import row_norms


@dataclass(frozen=True)
class DenseLayer:
    """What is known of a dense layer of the base.

    Attributes:
        weight: [out_features, in_features], as it is held.
        bias: [out_features], or None.
        host_bias: the same in fp32 on the CPU.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    host_bias: torch.Tensor | None

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None) -> "DenseLayer":
        """A layer with this weight and bias."""
        return cls(weight, bias, None if bias is None else bias.float().cpu())

    @property
    def out_features(self) -> int:
        """Length of an output."""
        return int(self.weight.shape[0])

    @property
    def in_features(self) -> int:
        """Length of an input."""
        return int(self.weight.shape[1])


@dataclass(frozen=True)
class DenseStack:
    """What a batch changes at a dense layer; None where no adapter of it does.

    Products are in the type of the batch's arithmetic, the rest in fp32.

    Attributes:
        adapters: how many.
        down: [adapters, rank, in_features].
        up: [adapters, out_features, rank], scaled.
        kroneckers: places [n] of adapters whose factors have the same shapes, and those factors
            [n, ., .].
        weights: an adapter's place → its own weight [out_features, in_features].
        in_scale: [adapters, 1, in_features].
        out_scale: [adapters, 1, out_features].
        bias: [adapters, 1, out_features], in place of the base's.
    """

    adapters: int
    down: torch.Tensor | None
    up: torch.Tensor | None
    kroneckers: tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]
    weights: Mapping[int, torch.Tensor]
    in_scale: torch.Tensor | None
    out_scale: torch.Tensor | None
    bias: torch.Tensor | None

    @classmethod
    def of(
        cls, edits: Sequence[DenseEdit | None], layer: DenseLayer, dtype: torch.dtype
    ) -> "DenseStack":
        """Stack edits.

        Args:
            edits: of each adapter, None where it leaves the layer alone.
            layer: the layer.
            dtype: of the products.
        """
        some = [edit or DenseEdit() for edit in edits]
        device = layer.weight.device
        down, up = _low_rank(some, layer, dtype)
        ones = torch.ones(layer.out_features)
        out_scale = _vectors([edit.out_scale for edit in some], ones, device)
        dora_scale = _dora_scales(some, down, up, layer)
        if out_scale is not None and dora_scale is not None:
            out_scale = out_scale * dora_scale
        return cls(
            len(edits),
            down,
            up,
            _kroneckers(some, device, dtype),
            {
                place: edit.weight.to(device, dtype)
                for place, edit in enumerate(some)
                if edit.weight is not None
            },
            _vectors([edit.in_scale for edit in some], torch.ones(layer.in_features), device),
            dora_scale if out_scale is None else out_scale,
            _biases(some, layer),
        )


def gathered(tensors: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Tensors of one shape as one, on a device; to a GPU in one copy, out of pinned memory."""
    if device.type == "cpu":
        return torch.stack(list(tensors))
    types = {tensor.dtype for tensor in tensors}
    dtype = types.pop() if len(types) == 1 else torch.float32
    shape = (len(tensors), *tensors[0].shape)
    host = torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
    torch.stack(list(tensors), out=host)
    return host.to(device, non_blocking=True)


def _low_rank(
    edits: Sequence[DenseEdit], layer: DenseLayer, dtype: torch.dtype
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Downs, and ups with the scale in them; zeros pad ranks, and are where no product is."""
    products = [edit.low_rank for edit in edits]
    rank = max((product.rank for product in products if product), default=0)
    if not rank:
        return None, None
    device = layer.weight.device
    no_down, no_up = torch.zeros(1, layer.in_features), torch.zeros(layer.out_features, 1)
    downs = [_padded(product.down if product else no_down, rows=rank) for product in products]
    ups = [_padded(product.up if product else no_up, columns=rank) for product in products]
    scales = gathered(
        [torch.tensor(product.scale if product else 0.0) for product in products], device
    )
    up = gathered(ups, device).float() * scales.view(-1, 1, 1)
    return gathered(downs, device).to(dtype), up.to(dtype)


def _padded(tensor: torch.Tensor, *, rows: int = 0, columns: int = 0) -> torch.Tensor:
    """A matrix with zeros added below and to the right, up to so many rows or columns."""
    more = (0, max(0, columns - tensor.shape[1]), 0, max(0, rows - tensor.shape[0]))
    return F.pad(tensor, more) if any(more) else tensor


def _kroneckers(
    edits: Sequence[DenseEdit], device: torch.device, dtype: torch.dtype
) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]:
    places: dict[tuple[torch.Size, torch.Size], list[int]] = defaultdict(list)
    found = {}
    for place, edit in enumerate(edits):
        if edit.kronecker is not None:
            found[place] = edit.kronecker
            places[edit.kronecker.left.shape, edit.kronecker.right.shape].append(place)
    return tuple(
        (
            torch.tensor(same, device=device),
            gathered([found[place].left for place in same], device).to(dtype),
            gathered([found[place].right for place in same], device).to(dtype),
        )
        for same in places.values()
    )


def _vectors(
    vectors: Sequence[torch.Tensor | None], default: torch.Tensor, device: torch.device
) -> torch.Tensor | None:
    """Vectors [adapters, 1, features] in fp32, the default where an adapter has none."""
    if all(vector is None for vector in vectors):
        return None
    whole = [default if vector is None else vector.float() for vector in vectors]
    return gathered(whole, device).unsqueeze(1)


def _dora_scales(
    edits: Sequence[DenseEdit],
    down: torch.Tensor | None,
    up: torch.Tensor | None,
    layer: DenseLayer,
) -> torch.Tensor | None:
    """Magnitude / ‖W + ΔW‖ of each row [adapters, 1, out], one where there is no magnitude."""
    if down is None or up is None or all(edit.magnitude is None for edit in edits):
        return None
    norms = row_norms(layer.weight.to(down.dtype), down, up)
    given = gathered([torch.tensor(edit.magnitude is not None) for edit in edits], norms.device)
    none = torch.ones(layer.out_features)
    magnitudes = gathered(
        [none if edit.magnitude is None else edit.magnitude.float() for edit in edits], norms.device
    )
    return torch.where(given[:, None], magnitudes / norms, 1.0).unsqueeze(1)


def _biases(edits: Sequence[DenseEdit], layer: DenseLayer) -> torch.Tensor | None:
    """Each adapter's whole bias, where any has one that is not the base's."""
    own = layer.host_bias
    biases: list[torch.Tensor | None] = []
    for edit in edits:
        bias = own if edit.bias is None else edit.bias.float()
        if edit.out_scale is not None and bias is not None:
            bias = bias * edit.out_scale.float()
        if edit.more_bias is not None:
            bias = edit.more_bias if bias is None else bias + edit.more_bias
        # Where only rows are scaled, or weights exchanged, the layer's own bias comes last too.
        biases.append(None if bias is own else bias)
    default = torch.zeros(layer.out_features) if own is None else own
    return _vectors(biases, default, layer.weight.device)
