"""Sketches: fixed for ever, and near for vectors that are near."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from hubdelta.vectors.sketch import BITS, WORDS, sketches


def differing(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """In how many bits sketches [n, WORDS] differ."""
    return np.unpackbits((x ^ y).view(np.uint8), axis=1).sum(axis=1)


def test_a_sketch_never_changes() -> None:
    fixed = np.arange(-300, 724, dtype=np.float32).reshape(1, -1) ** 2
    found = sketches(fixed)
    assert found.shape == (1, WORDS)
    assert found.dtype == np.int64
    assert sha256(found.astype("<i8").tobytes()).hexdigest()[:16] == "af03ecadb55d06c1"


def test_a_sketch_does_not_depend_on_its_length_nor_on_the_others() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 96)).astype(np.float32)
    together = sketches(vectors)
    assert (sketches(vectors * np.float32(1e4)) == together).all()
    assert all((sketches(vectors[i : i + 1]) == together[i]).all() for i in range(50))


@pytest.mark.parametrize("degrees", [1, 10, 45, 90, 135, 180])
def test_the_share_of_differing_bits_is_the_angle(degrees: float) -> None:
    rng = np.random.default_rng(degrees)
    axes, _ = np.linalg.qr(rng.normal(size=(200, 128, 2)))
    angle = np.radians(degrees)
    x, y = axes[:, :, 0], np.cos(angle) * axes[:, :, 0] + np.sin(angle) * axes[:, :, 1]
    bits = differing(sketches(x.astype(np.float32)), sketches(y.astype(np.float32)))
    share = degrees / 180
    deviation = np.sqrt(BITS * share * (1 - share))
    assert abs(bits.mean() - BITS * share) <= 5 * deviation / np.sqrt(200) + 1e-9
    assert (abs(bits - BITS * share) <= 5 * deviation + 1).all()
