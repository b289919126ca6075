"""The stacked engine against PEFT's own forward pass: every family, every kind of adapter."""

import pytest
from adapter_kinds import KINDS, is_tested
from families import FAMILIES
from fingerprint import fingerprint
from made_by_peft import relative_change, relative_error

from hubdelta.indexer.engines.engine import Answer

TOLERANCE = 1e-5
"""Of fp32 against fp32: both are within 3e-6 of fp64 on these bases."""

PAIRS = [(family, kind) for family in FAMILIES for kind in KINDS if is_tested(family, kind)]


@pytest.mark.parametrize(("family", "kind"), PAIRS, ids=str)
def test_activations_are_those_of_peft(family, kind, pool_of, engine_of):
    pool, engine = pool_of(family), engine_of(family)
    made = pool.made(kind)
    for one in made:
        # What hardly changed the base could be dropped without being missed.
        assert relative_change(one.expected, pool.base_activations) > 1e-3, one.name
        assert engine.can_embed(one.adapter), one.name

    results = dict(engine.answers([one.adapter for one in made]))

    assert wrong(results, made) == {}


@pytest.mark.parametrize("max_batch", [3, None])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_company_order_and_batch_size_do_not_matter(family, max_batch, pool_of, mixed_run_of):
    made, results = mixed_run_of(family, max_batch)

    assert sorted(place for place, _ in results) == list(range(len(made)))
    assert wrong(dict(results), made) == {}
    baselines = {id(answer.baseline): answer.baseline for _, answer in results}
    for baseline in baselines.values():
        expected = pool_of(family).base_activations
        assert relative_error(baseline.activations, expected) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_the_base_is_untouched(family, stackable_of, mixed_run_of):
    mixed_run_of(family, None)

    base = stackable_of(family)
    assert fingerprint(base.model.model, base.model.probes) == base.before


def wrong(results, made, tolerance=TOLERANCE):
    """The answers that are not PEFT's, by the adapter's kind and settings: how far off they are."""
    off = {}
    for place, one in enumerate(made):
        match results.get(place):
            case Answer(activations):
                error = relative_error(activations, one.expected)
                if not error <= tolerance:
                    off[one.name] = error
            case other:
                off[one.name] = other
    return off
