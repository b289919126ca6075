"""Salient masks: which weights of the whole model an adapter changes most, compared in row blocks.

No mask of the whole model is ever made: the threshold of an adapter comes from sampled entries of
its ΔW = s·B·A, and the entries that two masks share are counted layer by layer.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hubdelta.evaluation.factors import Factors, FactorStore, Layer
from hubdelta.indexer.base_structure import BaseStructure

SHARE: Final = 0.01
"""Of the whole model's weights that a mask marks."""

SAMPLES: Final = 2**20
"""Entries of ΔW from which a threshold is found."""

_SEED: Final = 0
_MOST_COUNTED: Final = 2**24
"""Entries that fp32 counts without rounding."""


def model_weights(base: BaseStructure) -> int:
    """How many weights a base has; an output layer that shares the embedding's counts once."""
    model = base.model
    counted: int = sum(parameter.numel() for parameter in model.parameters())
    output, own = model.get_output_embeddings(), model.get_input_embeddings().weight
    # Without weights, a shared table is two parameters on the meta device.
    is_twice = output is not None and output.weight is not own
    shared = bool(model.config.get_text_config(decoder=True).tie_word_embeddings)
    if is_twice and shared:
        counted -= output.weight.numel()
    return counted


def threshold(store: FactorStore, adapter: str, model_weights: int) -> float:
    """The |ΔW| above which about 1% of the whole model's weights lie.

    Weights that the adapter does not touch change by 0. An adapter that touches less than 1% of the
    model has threshold 0: all that it changes is salient.

    Args:
        store: holds the adapter.
        adapter: which one.
        model_weights: how many weights the whole model has.
    """
    layers = store.layers(adapter)
    sizes = np.array([layer.out_features * layer.in_features for layer in layers.values()])
    wanted = SHARE * model_weights
    if wanted >= sizes.sum():
        return 0.0
    random = np.random.default_rng(_SEED)
    drawn = random.multinomial(SAMPLES, sizes / sizes.sum())
    sampled = []
    for (module, layer), count in zip(layers.items(), drawn.tolist(), strict=True):
        rows = random.integers(layer.out_features, size=count)
        columns = random.integers(layer.in_features, size=count)
        own = store.read(adapter, module)
        changes = np.einsum("kr,rk->k", own.up[rows], own.down[:, columns])
        sampled.append(np.abs(own.scale * changes))
    return float(np.quantile(np.concatenate(sampled), 1 - wanted / sizes.sum()))


def shared_entries(
    store: FactorStore,
    thresholds: Mapping[str, float],
    new: Sequence[str],
    others: Sequence[str],
) -> NDArray[np.float64]:
    """How many entries of the model two adapters' masks both mark.

    Args:
        store: holds all of them.
        thresholds: of each adapter.
        new: adapters, as rows.
        others: adapters, as columns.

    Returns:
        [new, others]; of an adapter with itself, the entries that its mask marks.
    """
    counts = np.zeros((len(new), len(others)))
    for module in store.modules([*new, *others]):
        rows = [place for place, name in enumerate(new) if module in store.layers(name)]
        columns = [place for place, name in enumerate(others) if module in store.layers(name)]
        layers = [store.layers(new[place])[module] for place in rows]
        layers += [store.layers(others[place])[module] for place in columns]
        each = max(max(4 * one.numbers, 8 * one.in_features) for one in layers)
        for tile in store.tiles(rows, each):
            for other in store.tiles(columns, each):
                left = [new[place] for place in rows[tile]]
                right = [others[place] for place in columns[other]]
                at = np.ix_(rows[tile], columns[other])
                counts[at] += _of_layer(store, thresholds, module, layers[0], left, right)
    return counts


def _of_layer(
    store: FactorStore,
    thresholds: Mapping[str, float],
    module: str,
    layer: Layer,
    left: Sequence[str],
    right: Sequence[str],
) -> NDArray[np.float64]:
    """Shared entries of one layer, a block of rows at a time."""
    factors = {name: store.read(name, module) for name in {*left, *right}}
    # A block of ΔW takes 4 bytes an entry, its mask 4 more.
    each = 8 * layer.in_features * max(len(left), len(right))
    at_once = max(1, min(store.largest_block // 2 // each, _MOST_COUNTED // layer.in_features))
    counts = np.zeros((len(left), len(right)))
    for start in range(0, layer.out_features, at_once):
        block = slice(start, start + at_once)
        masks = np.stack([_mask(factors[name], block, thresholds[name]) for name in left])
        others = masks
        if list(left) != list(right):
            others = np.stack([_mask(factors[name], block, thresholds[name]) for name in right])
        counts += masks @ others.T
    return counts


def _mask(factors: Factors, rows: slice, above: float) -> NDArray[np.float32]:
    """Which entries of some rows of ΔW are salient, 1 or 0, flattened."""
    changes = factors.scale * (factors.up[rows] @ factors.down)
    mask: NDArray[np.float32] = (np.abs(changes) > above).astype(np.float32)
    return mask.ravel()
