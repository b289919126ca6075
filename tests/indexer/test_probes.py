"""Probes from a file, and what a base cannot read of them."""

import json

import pytest
from families import make_base

from hubdelta.indexer.pipeline.recipe_check import check_recipe
from hubdelta.indexer.probes import ALPACA_5, ProbeSet
from hubdelta.indexer.readout import PAPERS
from hubdelta.schemas.errors import HubdeltaError, UsageError

PROMPTS = ("Below is a task.\n\nAnswer:", 'a "quoted" word', "line\u2028separator")


@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        lambda prompts: json.dumps(prompts, indent=2),
        lambda prompts: "\ufeff" + json.dumps(prompts),
        lambda prompts: "".join(json.dumps(prompt) + "\n" for prompt in prompts),
        lambda prompts: "\r\n\r\n".join(json.dumps({"prompt": one, "n": 1}) for one in prompts),
        lambda prompts: "\n".join(json.dumps(one, ensure_ascii=False) for one in prompts),
    ],
    ids=["list", "indented", "with a mark", "strings", "objects", "not escaped"],
)
def test_a_file_holds_prompts_with_newlines(tmp_path, write):
    file = tmp_path / "my-probes.jsonl"
    file.write_bytes(write(PROMPTS).encode())

    probes = ProbeSet.from_file(file)

    assert (probes.name, probes.prompts) == ("my-probes", PROMPTS)
    assert probes.id == ProbeSet("another name", PROMPTS).id


def test_the_papers_prompts_in_a_file_are_the_papers_probe_set(tmp_path):
    file = tmp_path / "copy.json"
    file.write_text(json.dumps(ALPACA_5.prompts))

    assert ProbeSet.from_file(file).id == ALPACA_5.id


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no probe"),
        (b" \n\n", "holds no probe"),
        (b"[]", "holds no probe"),
        (b'"one"\nBelow is\n', "line 2 is not JSON"),
        (b'["one", "two"', "is not JSON"),
        (b'"one"\n{"text": "two"}', "line 2 is neither a string nor an object"),
        (b'["one", 2]', "probe 2 in .* is neither a string nor an object"),
        (b'["one", ""]', "probe 2 in .* is an empty probe"),
        (b'"\\ud800"', "line 1 is not valid Unicode"),
        (b'"\xff"', "cannot be read"),
    ],
)
def test_a_file_without_prompts_is_one_clear_line(tmp_path, content, message):
    file = tmp_path / "probes.jsonl"
    file.write_bytes(content)

    with pytest.raises(UsageError, match=message) as raised:
        ProbeSet.from_file(file)

    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json cannot be read"):
        ProbeSet.from_file(tmp_path / "none.json")


def probes_of(*words: int) -> ProbeSet:
    """Probes of so many words, each a token of the tiny tokenizer."""
    return ProbeSet("mine", tuple(" ".join(["task"] * number) for number in words))


def test_a_probe_longer_than_the_limit_is_named(tmp_path):
    base = make_base(tmp_path)

    check_recipe(base, probes_of(5, 256), PAPERS)
    with pytest.raises(UsageError, match=r"probe 2 of mine \('task .*\) has 257 tokens: .* 256$"):
        check_recipe(base, probes_of(5, 257), PAPERS)


def test_a_probe_longer_than_the_context_is_named(tmp_path):
    base = make_base(tmp_path, max_position_embeddings=64)

    check_recipe(base, probes_of(64), PAPERS)
    with pytest.raises(UsageError, match=r"probe 1 of mine .* 65 tokens: the base can read .* 64$"):
        check_recipe(base, probes_of(65), PAPERS)


def test_a_probe_of_white_space_has_no_token(tmp_path):
    with pytest.raises(UsageError, match=r"probe 1 of mine \(''\) has no token"):
        check_recipe(make_base(tmp_path), ProbeSet("mine", ("\n",)), PAPERS)


def test_a_folder_without_a_tokenizer_is_one_clear_line(tmp_path):
    for file in make_base(tmp_path).glob("token*"):
        file.unlink()

    with pytest.raises(HubdeltaError, match="tokenizer cannot be loaded"):
        check_recipe(tmp_path, probes_of(5), PAPERS)
