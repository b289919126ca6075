"""The edits of a batch at one module, stacked on the device where they are used."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from hubdelta.indexer.engines.edits.edits import DenseEdit
from hubdelta.indexer.engines.edits.norms import row_norms


@dataclass(frozen=True)
class DenseLayer:
    """A dense layer of the base.

    Attributes:
        weight: [out_features, in_features], as held.
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
    """What a batch changes at a dense layer; attributes are None if no adapter has that change.

    Products are in the batch's dtype, the rest in fp32.

    Attributes:
        adapters: how many.
        down: [adapters, rank, in_features].
        up: [adapters, out_features, rank], scaled.
        kroneckers: places [n] of adapters whose factors have the same shapes, and these factors
            [n, ., .].
        weights: an adapter's place → its own weight [out_features, in_features], where products
            are of whole activations.
        weight_changes: an adapter's place → that less the base's, where they are of differences.
        in_scale: [adapters, 1, in_features].
        out_scale: [adapters, 1, out_features].
        more_bias: [adapters, 1, out_features], the rest of each adapter's bias.
    """

    adapters: int
    down: torch.Tensor | None
    up: torch.Tensor | None
    kroneckers: tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]
    weights: Mapping[int, torch.Tensor]
    weight_changes: Mapping[int, torch.Tensor]
    in_scale: torch.Tensor | None
    out_scale: torch.Tensor | None
    more_bias: torch.Tensor | None

    @classmethod
    def of(
        cls,
        edits: Sequence[DenseEdit | None],
        layer: DenseLayer,
        dtype: torch.dtype,
        of_differences: bool,
    ) -> "DenseStack":
        """Stack edits.

        Args:
            edits: of each adapter; None if it leaves the layer unchanged.
            layer: the layer.
            dtype: of the products.
            of_differences: whether they are of differences from the base's activations.
        """
        some = [edit or DenseEdit() for edit in edits]
        device = layer.weight.device
        # A norm that is off would move the whole activation, so DoRA's are in fp32.
        has_norms = any(edit.magnitude is not None for edit in some)
        down, up = _low_rank(some, layer, torch.float32 if has_norms else dtype)
        weights = {
            place: edit.weight.to(device, torch.float32)
            for place, edit in enumerate(some)
            if edit.weight is not None
        }
        ones = torch.ones(layer.out_features)
        out_scale = _vectors([edit.out_scale for edit in some], ones, device)
        if has_norms and down is not None and up is not None:
            none = torch.full((layer.out_features,), torch.nan)
            magnitudes = [none if (m := edit.magnitude) is None else m.float() for edit in some]
            given = gathered(magnitudes, none.shape, device)
            dora_scale = dora_scales(given, down, up, layer)
            out_scale = dora_scale if out_scale is None else out_scale * dora_scale
        return cls(
            len(edits),
            None if down is None else down.to(dtype),
            None if up is None else up.to(dtype),
            _kroneckers(some, device, dtype),
            {} if of_differences else weights,
            {
                place: (weight - layer.weight.to(torch.float32)).to(dtype)
                for place, weight in weights.items()
                if of_differences
            },
            _vectors([edit.in_scale for edit in some], torch.ones(layer.in_features), device),
            out_scale,
            _more_biases(some, out_scale, layer),
        )


def gathered(
    tensors: Sequence[torch.Tensor | None], shape: Sequence[int], device: torch.device
) -> torch.Tensor:
    """One tensor of several, zero-padded to one shape; copied to a GPU at once from pinned memory.

    Args:
        tensors: at least one not None; the result has their common dtype, or fp32 if they differ.
        shape: the largest shape of each; None becomes zeros.
        device: where to put it.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    types = {tensor.dtype for tensor in given}
    dtype = types.pop() if len(types) == 1 else torch.float32
    on_gpu = device.type == "cuda"
    host = torch.empty(len(tensors), *shape, dtype=dtype, pin_memory=on_gpu)
    if len(given) == len(tensors) and {tensor.shape for tensor in given} == {host.shape[1:]}:
        torch.stack(given, out=host)
    else:
        host.zero_()
        for place, tensor in zip(host, tensors, strict=True):
            if tensor is not None:
                place[tuple(map(slice, tensor.shape))] = tensor
    return host.to(device, non_blocking=on_gpu)


def low_rank_stack(
    adapters: int,
    down: torch.Tensor,
    up: torch.Tensor,
    out_scale: torch.Tensor | None,
    layer: DenseLayer,
) -> DenseStack:
    """What a batch changes at a layer by LoRA or DoRA alone.

    Args:
        adapters: how many.
        down: as in `DenseStack`.
        up: as in `DenseStack`.
        out_scale: as in `DenseStack`.
        layer: the layer.
    """
    bias = None
    if out_scale is not None:
        bias = _more_biases([DenseEdit()] * adapters, out_scale, layer)
    return DenseStack(adapters, down, up, (), {}, {}, None, out_scale, bias)


def numbers(values: Sequence[float], device: torch.device) -> torch.Tensor:
    """Numbers [n, 1, 1] on a device, copied asynchronously."""
    on_gpu = device.type == "cuda"
    return torch.tensor(values, pin_memory=on_gpu).to(device, non_blocking=on_gpu).view(-1, 1, 1)


def _low_rank(
    edits: Sequence[DenseEdit], layer: DenseLayer, dtype: torch.dtype
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Downs, and ups multiplied by the scale; zeros pad ranks and stand for absent products."""
    products = [edit.low_rank for edit in edits]
    rank = max((product.rank for product in products if product), default=0)
    if not rank:
        return None, None
    device = layer.weight.device
    downs = [product.down if product else None for product in products]
    ups = [product.up if product else None for product in products]
    scales = numbers([product.scale if product else 0.0 for product in products], device)
    down = gathered(downs, (rank, layer.in_features), device).to(dtype)
    up = gathered(ups, (layer.out_features, rank), device)
    return down, (up * scales).to(dtype)  # scales are fp32, and so is the product


def _kroneckers(
    edits: Sequence[DenseEdit], device: torch.device, dtype: torch.dtype
) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]:
    places: dict[tuple[torch.Size, torch.Size], list[int]] = defaultdict(list)
    found = {}
    for place, edit in enumerate(edits):
        if edit.kronecker is not None:
            found[place] = edit.kronecker
            places[edit.kronecker.left.shape, edit.kronecker.right.shape].append(place)

    def factors(each: Sequence[torch.Tensor]) -> torch.Tensor:
        return gathered(each, each[0].shape, device).to(dtype)

    return tuple(
        (
            torch.tensor(same, device=device),
            factors([found[place].left for place in same]),
            factors([found[place].right for place in same]),
        )
        for same in places.values()
    )


def _vectors(
    vectors: Sequence[torch.Tensor | None], default: torch.Tensor, device: torch.device
) -> torch.Tensor | None:
    """Vectors [adapters, 1, features] in fp32, with a default for adapters that have none."""
    if all(vector is None for vector in vectors):
        return None
    whole = [default if vector is None else vector.float() for vector in vectors]
    return gathered(whole, default.shape, device).unsqueeze(1)


def dora_scales(
    magnitudes: torch.Tensor, down: torch.Tensor, up: torch.Tensor, layer: DenseLayer
) -> torch.Tensor:
    """Magnitude / ‖W + ΔW‖ of each row [adapters, 1, out]; one where the magnitude is NaN."""
    norms = row_norms(layer.weight.to(down.dtype), down, up)
    return torch.where(magnitudes.isnan(), 1.0, magnitudes / norms).unsqueeze(1)


def _more_biases(
    edits: Sequence[DenseEdit], out_scale: torch.Tensor | None, layer: DenseLayer
) -> torch.Tensor | None:
    """Each adapter's bias minus the base's, which is scaled like the rest; zeros if equal.

    The base's bias stays in the product, so that an adapter without its own bias or factor gets
    bit-identical results in any batch, which fp16 would not give otherwise.
    """
    own = torch.zeros(layer.out_features) if layer.host_bias is None else layer.host_bias
    device = layer.weight.device
    if out_scale is not None and layer.host_bias is not None:
        done = own.to(device) * out_scale
    elif any(edit.bias is not None or edit.more_bias is not None for edit in edits):
        done = own.to(device).expand(len(edits), 1, -1)
    else:
        return None
    wanted = []
    for edit in edits:
        bias = own if edit.bias is None else edit.bias.float()
        if edit.out_scale is not None:
            bias = bias * edit.out_scale.float()
        wanted.append(bias if edit.more_bias is None else bias + edit.more_bias.float())
    return gathered(wanted, own.shape, device).unsqueeze(1) - done
