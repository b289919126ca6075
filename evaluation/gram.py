"""Inner products of adapters in the spaces of their factors, layer by layer in bounded blocks."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hubdelta.evaluation.factors import FactorStore

Matrix = NDArray[np.float64]


def weights_products(store: FactorStore, new: Sequence[str], others: Sequence[str]) -> Matrix:
    """Inner products of flattened factors: Σ over layers of ⟨A₁, A₂⟩ + ⟨B₁, B₂⟩.

    Factors of different ranks are compared as if zeros filled the smaller one up; so is a layer
    that one of the adapters lacks.

    Args:
        store: holds all of them.
        new: adapters, as rows.
        others: adapters, as columns.

    Returns:
        [new, others], summed in fp64.
    """
    products = np.zeros((len(new), len(others)))
    for module in store.modules([*new, *others]):
        rows, columns = _having(store, module, new), _having(store, module, others)
        layers = [store.layers(name)[module] for name in {*_at(new, rows), *_at(others, columns)}]
        rank = max(layer.rank for layer in layers)
        each = 8 * rank * (layers[0].out_features + layers[0].in_features)
        for tile in store.tiles(rows, each):
            left = _flattened(store, module, _at(new, rows[tile]), rank)
            for other in store.tiles(columns, each):
                right = _flattened(store, module, _at(others, columns[other]), rank)
                products[np.ix_(rows[tile], columns[other])] += left @ right.T
    return products


def update_products(store: FactorStore, new: Sequence[str], others: Sequence[str]) -> Matrix:
    """Inner products of the weights' changes, which are never made.

    ⟨s₁B₁A₁, s₂B₂A₂⟩ = s₁s₂ tr((B₁ᵀB₂)(A₂A₁ᵀ)): the sum of all entries of (B₁ᵀB₂) ∘ (A₁A₂ᵀ).

    Args:
        store: holds all of them.
        new: adapters, as rows.
        others: adapters, as columns.

    Returns:
        [new, others], in fp64.
    """
    products = np.zeros((len(new), len(others)))
    for module in store.modules([*new, *others]):
        rows, columns = _having(store, module, new), _having(store, module, others)
        layers = [store.layers(name)[module] for name in {*_at(new, rows), *_at(others, columns)}]
        # The products of two tiles' factors, [ranks, ranks], are to fit into half a block too.
        ranks = max(layer.rank for layer in layers) * math.isqrt(4 * store.largest_block)
        each = max(ranks, 8 * max(layer.numbers for layer in layers))
        for tile in store.tiles(rows, each):
            down, up, starts = _stacked(store, module, _at(new, rows[tile]))
            for other in store.tiles(columns, each):
                down2, up2, starts2 = _stacked(store, module, _at(others, columns[other]))
                entries = (up.T @ up2) * (down @ down2.T)  # [ranks, ranks of the others]
                summed = np.add.reduceat(np.add.reduceat(entries, starts, 0), starts2, 1)
                products[np.ix_(rows[tile], columns[other])] += summed
    return products


def _having(store: FactorStore, module: str, adapters: Sequence[str]) -> list[int]:
    return [place for place, name in enumerate(adapters) if module in store.layers(name)]


def _at(adapters: Sequence[str], places: Sequence[int]) -> list[str]:
    return [adapters[place] for place in places]


def _flattened(store: FactorStore, module: str, adapters: Sequence[str], rank: int) -> Matrix:
    """Factors of one layer as rows, [adapters, rank · (in_features + out_features)]."""
    rows = []
    for name in adapters:
        own = store.read(name, module)
        lacking = ((0, rank - own.down.shape[0]), (0, 0))
        down, up = np.pad(own.down, lacking), np.pad(own.up.T, lacking)
        rows.append(np.concatenate([down.ravel(), up.ravel()]))
    return np.array(rows, np.float64)


def _stacked(
    store: FactorStore, module: str, adapters: Sequence[str]
) -> tuple[Matrix, Matrix, list[int]]:
    """Factors of one layer above and beside each other.

    Returns:
        s·A of all adapters [ranks, in_features], B of all [out_features, ranks], and the row at
        which each adapter begins.
    """
    factors = [store.read(name, module) for name in adapters]
    down = np.concatenate([own.scale * own.down.astype(np.float64) for own in factors])
    up = np.concatenate([own.up.astype(np.float64) for own in factors], axis=1)
    starts = np.cumsum([0, *(own.down.shape[0] for own in factors[:-1])])
    return down, up, starts.tolist()
