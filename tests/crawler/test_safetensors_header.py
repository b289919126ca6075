"""Headers of safetensors files: what is wrong with one is told before any tensor is read."""

import json
import struct

import pytest

from hubdelta.crawler.safetensors_header import BadHeaderError, header_length, parse_header


def file_of(header: str, data: int = 0) -> bytes:
    return struct.pack("<Q", len(header.encode())) + header.encode() + bytes(data)


def tensor(shape: str = "[2, 3]", place: str = "[0, 24]", dtype: str = '"F32"') -> str:
    return f'{{"dtype": {dtype}, "shape": {shape}, "data_offsets": {place}}}'


def complaint(content: bytes) -> str:
    with pytest.raises(BadHeaderError) as caught:
        parse_header(content, len(content))
    return str(caught.value)


def test_a_sound_header_is_read_with_its_metadata() -> None:
    content = file_of(f'{{"a": {tensor()}, "__metadata__": {{"format": "pt"}}}}', 24)
    header = parse_header(content, len(content))
    assert (header.tensors["a"].shape, header.layout.metadata) == ((2, 3), {"format": "pt"})


@pytest.mark.parametrize(
    "shape", ["[1e400, 3]", "[NaN, 3]", "[-2, -3]", "[2.0, 3]", "[true, 6]", '["2", 3]', "6", "[2]"]
)
def test_an_impossible_shape(shape: str) -> None:
    assert complaint(file_of(f'{{"a": {tensor(shape)}}}', 24))


@pytest.mark.parametrize("place", ["[0, 1e400]", "[NaN, 24]", "[-24, 0]", "[0, 24, 48]", "[24]"])
def test_an_impossible_place(place: str) -> None:
    assert complaint(file_of(f'{{"a": {tensor(place=place)}}}', 24))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (f'{{"a": {tensor("[99999999999, 99999999999]")}}}', "do not match its shape"),
        (f'{{"a": {tensor()}, "b": {tensor(place="[12, 36]")}}}', "does not begin where"),
        (f'{{"a": {tensor()}, "b": {tensor(place="[30, 54]")}}}', "does not begin where"),
        (f'{{"a": {tensor()}, "a": {tensor()}}}', "repeats a name"),
        (f'{{"a": {tensor(place="[0, 12]", dtype=chr(34) + "F16" + chr(34))}}}', "overlong"),
        ("[" * 100_000, "cannot be read"),
        ('{"a": 1}', "cannot be read"),
        ('{"__metadata__": {"a": 1}}', "cannot be read"),
    ],
    ids=["huge", "overlap", "hole", "twice", "overlong", "nested", "number", "metadata"],
)
def test_what_is_wrong_is_said(header: str, says: str) -> None:
    assert says in complaint(file_of(header, 24))


def test_a_file_that_ends_early_is_truncated() -> None:
    assert "truncated" in complaint(file_of(f'{{"a": {tensor()}}}', 20))
    assert "truncated" in complaint(file_of(json.dumps({"a": {}}))[:12])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 13\n", "LFS pointer"),
        (b"<!DOCTYPE html><html><head><title>Access denied</title>", "an HTML page"),
        (b'\xef\xbb\xbf\n<?xml version="1.0"?>\n<!-- a -->\n<HTML lang="en">', "an HTML page"),
        (bytes(600), "nothing but zeros"),
        (b"{}", "only 2 bytes"),
        (b"\xff" * 100, "a header of"),
    ],
)
def test_another_thing_in_its_place_is_named(content: bytes, says: str) -> None:
    with pytest.raises(BadHeaderError, match=says):
        header_length(content)
