"""Numbers and choices in sentences."""

import pytest

from hubdelta.schemas.words import counted, either


def test_one_is_no_plural() -> None:
    assert counted(1, "row") == "1 row"
    assert counted(2000, "row") == "2,000 rows"
    assert counted(2, "entry", "entries") == "2 entries"


@pytest.mark.parametrize(
    ("choices", "said"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")]
)
def test_choices_are_listed_as_in_a_sentence(choices: list[str], said: str) -> None:
    assert either(choices) == said
