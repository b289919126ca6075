"""How far rounding alone moves a delta, measured by nudges that cancel.

An adapter that changes nothing leaves all rounding unchanged, so it shows no noise; a real one
changes it everywhere. Two small adapters that are each other's negative have deltas whose sum is
zero except for rounding and a second-order term. With rounding errors n of equal size in each
answer,
    h₊ + h₋ - 2 h₀ = n₊ + n₋ - 2 n₀, which is √3 times as long as n₊ - n₀, the noise in a delta.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import torch

from hubdelta.indexer.engines.edits.edits import DenseEdit, Edits, LowRank
from hubdelta.indexer.engines.engine import Activations

Run = Callable[[Sequence[Edits]], Activations]
"""Hidden states [adapters, probes, hidden] under some adapters."""

_FIRST_SCALE = 1e-2
_ROUNDS = 3
_PAIRS = 2


def noise_in_delta(
    run: Run, alone: Activations, shapes: Mapping[str, tuple[int, int]], eps: float
) -> float:
    """L2 norm of the noise in a delta, the largest of a few measured.

    Args:
        run: computes adapters.
        alone: the base's own states, [probes, hidden].
        shapes: (out_features, in_features) of each layer that an adapter may change.
        eps: distance from 1 to the next number of the dtype in which states are computed.
    """
    base = alone.mean(axis=0, dtype=np.float64)
    # Far above a rounding error, so that all rounding changes, but its square is far below one.
    wanted = eps**0.75 * float(np.linalg.norm(base))
    scale = _FIRST_SCALE
    for _ in range(_ROUNDS):
        states = run([edit for seed in range(_PAIRS) for edit in _pair(shapes, scale, seed)])
        means = states.mean(axis=1, dtype=np.float64)
        up, down = means[::2], means[1::2]
        moved = float(np.linalg.norm((up - down) / 2, axis=1).mean())
        noise = float(np.linalg.norm(up + down - 2 * base, axis=1).max()) / math.sqrt(3)
        scale *= wanted / moved if moved else 2.0
    return noise


def idle(shapes: Mapping[str, tuple[int, int]]) -> Edits:
    """An adapter on every layer that changes nothing."""
    return _nudge(shapes, 0.0, seed=0)


def _pair(shapes: Mapping[str, tuple[int, int]], scale: float, seed: int) -> Collection[Edits]:
    return _nudge(shapes, scale, seed), _nudge(shapes, -scale, seed)


def _nudge(shapes: Mapping[str, tuple[int, int]], scale: float, seed: int) -> Edits:
    random = torch.Generator().manual_seed(seed)
    return {
        module: DenseEdit(
            LowRank(
                torch.randn(1, inputs, generator=random) / math.sqrt(inputs),
                torch.randn(outputs, 1, generator=random),
                scale,
            )
        )
        for module, (outputs, inputs) in shapes.items()
    }
