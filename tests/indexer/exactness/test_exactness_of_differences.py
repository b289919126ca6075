"""Products of differences come to what PEFT computes: every family, all kinds in mixed batches.

A CPU multiplies tf32's factors in fp32. So nothing is rounded more coarsely than in fp32, and what
is tested is the way that an adapter's answer is put together from the base's own products.
"""

import pytest
from families import FAMILIES
from test_exactness import TOLERANCE, wrong

from hubdelta.indexer.engines.stacked.engine import StackedEngine

NORM_AFTERWARD = {"gemma2", "gemma3_text", "olmo2"}
"""Families that normalize what a sublayer puts out."""

AFTER_NORMS = 3e-4
"""Where an adapter makes an output much smaller than the base's, as random IA3 factors near zero
do, y_b + W (x - x_b) cancels, and a norm that follows scales up the rounding of y_b."""


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_activations_are_those_of_peft(family, pool_of, stackable_of):
    made = pool_of(family).all_kinds()
    engine = StackedEngine(stackable_of(family).model)
    engine._precision = "tf32"  # which a user is refused on a CPU

    results = dict(engine.answers([one.adapter for one in made]))

    tolerance = AFTER_NORMS if str(family) in NORM_AFTERWARD else TOLERANCE
    assert wrong(results, made, tolerance) == {}
    assert {answer.baseline.precision for answer in results.values()} == {"tf32"}
    assert engine.model._own, "no product of the base was used"
