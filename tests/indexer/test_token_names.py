"""Names of tokens: what a person can read, and whole words before parts of words."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from hubdelta.indexer.token_names import TokenNames
from hubdelta.schemas.errors import HubdeltaError


@pytest.fixture(scope="module")
def byte_level(demo_base):
    """SmolLM2's, whose pieces are written in letters for bytes."""
    return TokenNames(demo_base)


@pytest.fixture
def sentencepiece(tmp_path):
    """As Llama 2's: a mark for spaces, and a token for each byte."""
    words = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "s"]
    words += ["\u2581a", "\u2581law", "law", "ing", "\u2581\u2581\u2581"]
    tokenizer = Tokenizer(
        models.BPE({word: n for n, word in enumerate(words)}, [], byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>"
    ).save_pretrained(tmp_path)
    return TokenNames(tmp_path), {word: n for n, word in enumerate(words)}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (" def", "def"),
        ("def", "def"),
        ("\n", "\\n"),
        ("\n\n", "\\n\\n"),
        (" ", "1 space"),
        ("    ", "4 spaces"),
        ("<|im_end|>", "<|im_end|>"),
        ("!", "!"),
    ],
)
def test_words_and_white_space_are_named(byte_level, text, name):
    (token,) = byte_level._tokenizer(text, add_special_tokens=False)["input_ids"]
    assert byte_level.name(token) == name


def test_parts_of_characters_are_named_by_their_bytes(byte_level, sentencepiece):
    pieces = byte_level._tokenizer("\U0001f9ff", add_special_tokens=False)["input_ids"]
    assert len(pieces) > 1
    named = " ".join(byte_level.name(piece).removeprefix("bytes ") for piece in pieces)
    assert bytes.fromhex(named) == "\U0001f9ff".encode()
    names, ids = sentencepiece
    assert names.name(ids["<0xE2>"]) == "byte E2"
    assert names.name(ids["\u2581\u2581\u2581"]) == "3 spaces"
    assert names.name(ids["\u2581law"]) == names.name(ids["law"]) == "law"


def test_ids_beyond_the_vocabulary_have_no_name(byte_level):
    assert byte_level.name(10**6) == ""
    assert byte_level.chosen([10**6], [1.0], 10) == []


def test_whole_words_come_before_parts_and_every_name_once(byte_level):
    def ids(*texts: str) -> list[int]:
        found = [byte_level._tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
        assert all(len(one) == 1 for one in found)
        return [one[0] for one in found]

    tokens = ids("ation", " law", "law", " court", "ness")
    values = [5.0, 4.0, 3.0, 2.0, 1.0]
    assert byte_level.chosen(tokens, values, 2) == [("law", 4.0), ("court", 2.0)]
    shown = byte_level.chosen(tokens, values, 10)
    assert shown == [("ation", 5.0), ("law", 4.0), ("court", 2.0), ("ness", 1.0)]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(HubdeltaError, match="tokenizer"):
        TokenNames(tmp_path)
