"""Entries of a listing: whatever authors write, a row can be made of it or it is left out."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hubdelta.crawler.catalog import Sighting, adapter_rows
from hubdelta.crawler.entry import Entry, is_repo_id, read_entry
from hubdelta.crawler.hub import ROW_PROPERTIES
from hubdelta.crawler.lineage import Conclusion
from hubdelta.schemas.index import Index

SAMPLES = Path(__file__).parents[1] / "hub_server" / "samples"
SHA = "0123456789abcdef0123456789abcdef01234567"


def entry(**raw: Any) -> Entry:
    return read_entry({"id": "org/name", "sha": SHA, **raw})


def test_a_recorded_entry_of_the_real_hub_is_read_completely() -> None:
    sample = SAMPLES / "list_expand.json"
    read = read_entry(json.loads(sample.read_text())[0])
    assert (read.repo_id, read.author) == ("cross-encoder/ms-marco-MiniLM-L6-v2", "cross-encoder")
    assert (read.relation, read.bases) == (
        "quantized",
        ("cross-encoder/ms-marco-MiniLM-L12-v2",),
    )
    assert read.created_at is not None
    assert (read.license, read.datasets) == ("apache-2.0", ["sentence-transformers/msmarco"])
    assert (read.languages, read.likes, read.gated) == (["en"], 290, None)
    assert "model.safetensors" in read.files


@pytest.mark.parametrize(
    "hostile",
    [None, "text", 7, -1, 1e308, 2**70, True, [], {}, [None, 3, {"a": []}], {"self": 1}, "\ud800"],
    ids=repr,
)
def test_no_field_of_a_wrong_type_stops_a_row(hostile: Any, tmp_path: Path) -> None:
    inner = {
        "cardData": dict.fromkeys(["base_model", "datasets", "language", "license"], hostile),
        "config": {
            "peft": {"base_model_name_or_path": hostile, "task_type": hostile},
            "model_type": hostile,
            "quantization_config": hostile,
        },
        "baseModels": {"relation": hostile, "models": [hostile, {"id": hostile}]},
        "siblings": [hostile, {"rfilename": hostile}],
    }
    index = Index.create(tmp_path)
    for read in (entry(**dict.fromkeys(ROW_PROPERTIES, hostile) | {"sha": SHA}), entry(**inner)):
        sighting = Sighting("meta/base", "run", datetime.now(UTC))
        conclusion = Conclusion("meta/base", "tag")
        rows = adapter_rows(read, conclusion, conclusion, sighting)
        assert index.write(rows, base="meta/base") is not None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "x",
        {},
        {"id": "org/name"},
        {"id": 3, "sha": SHA},
        {"id": "no-owner", "sha": SHA},
        {"id": "org/../name", "sha": SHA},
        {"id": "org/name", "sha": "main"},
    ],
    ids=repr,
)
def test_an_entry_without_name_or_commit_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"no"):
        read_entry(raw)


def test_files_that_would_leave_the_repository_are_not_seen() -> None:
    paths = ["../x/adapter_config.json", "/etc/passwd", "a//b", "a/./b", "a\\b", "ok/f"]
    assert entry(siblings=[{"rfilename": path} for path in paths]).files == ["ok/f"]


@pytest.mark.parametrize(
    "path",
    ["\ud800", "a/\udcff/b", "\x1b[2J", "a\0b", "a\nb", "x" * 256, "é" * 128, "d/" * 512 + "f"],
    ids=ascii,
)
def test_paths_that_no_disk_or_terminal_should_meet_are_not_seen(path: str) -> None:
    fine = "ordner/Ä 中文/" + "x" * 255
    assert entry(siblings=[{"rfilename": path}, {"rfilename": fine}]).files == [fine]


def test_gated_is_manual_where_the_hub_only_says_yes() -> None:
    assert [entry(gated=value).gated for value in ("auto", "manual", True, False)] == [
        "auto",
        "manual",
        "manual",
        None,
    ]


def test_lineage_is_read_from_tags_where_the_hub_sends_no_base_models() -> None:
    read = entry(tags=["base_model:a/b", "base_model:adapter:a/b", "base_model:adapter:/home/m"])
    assert (read.relation, read.bases) == ("adapter", ("a/b", "/home/m"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", True),
        ("org/na.me-1_x", True),
        ("gpt2", False),
        ("/home/me", False),
        ("a/b/c", False),
        ("../b", False),
        ("a/b\n", False),
        ("a/" + "b" * 100, False),
    ],
)
def test_what_counts_as_a_name_on_the_hub(text: str, expected: bool) -> None:
    assert is_repo_id(text) is expected
