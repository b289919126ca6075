"""The wrong turns of mutations.py can still be taken: what each replaces is in the code."""

import mutations
import pytest


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_text_that_a_mutation_replaces_stands_once_in_its_file(mutation: mutations.Mutation):
    assert (mutations.ROOT / mutation.file).read_text("utf-8").count(mutation.right) == 1
