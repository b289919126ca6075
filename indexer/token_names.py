"""Tokens as a person reads them: words without their marks, white space and bytes by name."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple
from unicodedata import combining

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from hubdelta.indexer.base_structure import LOADING_ERRORS, brief
from hubdelta.schemas.errors import HubdeltaError

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How sentencepiece spells a byte that no other token covers."""

_BYTE_OF: Final = {letter: byte for byte, letter in bytes_to_unicode().items()}
"""The letters for which byte-level BPE writes its bytes."""

_SPACES: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\f": r"\f", "\v": r"\v"}


class Named(NamedTuple):
    """A token and its number.

    Attributes:
        name: readable, without white space around it.
        value: what belongs to it, such as the change of its logit.
    """

    name: str
    value: float


class TokenNames:
    """Names for the tokens of a base.

    Args:
        folder: a transformers folder with its tokenizer.

    Raises:
        HubdeltaError: it holds no tokenizer.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        except LOADING_ERRORS as error:
            raise HubdeltaError(f"the base's tokenizer cannot be loaded: {brief(error)}") from error
        self._special = frozenset(self._tokenizer.all_special_ids)
        self.name = lru_cache(maxsize=None)(self._name)
        self._is_fragment = lru_cache(maxsize=None)(self._is_part_of_a_word)

    def chosen(self, tokens: Sequence[int], values: Sequence[float], most: int) -> list[Named]:
        """The tokens to show of those that changed most: whole words before parts of words.

        Args:
            tokens: ids, in the order of their values.
            values: one for each token.
            most: how many to choose.

        Returns:
            At most `most`, in the order given. Of tokens of the same name, such as a word with and
            without a space before it, the first is taken; ids that are no token have no name.
        """
        first: dict[str, tuple[int, int]] = {}
        for place, token in enumerate(tokens):
            if name := self.name(token):
                first.setdefault(name, (place, token))
        places = sorted(first.items(), key=lambda item: (self._is_fragment(item[1][1]), item[1][0]))
        shown = sorted(places[:most], key=lambda item: item[1][0])
        return [Named(name, values[place]) for name, (place, _) in shown]

    def _name(self, token: int) -> str:
        """A token's name; "" if there is no token of that id."""
        if token >= len(self._tokenizer):
            return ""
        piece = str(self._tokenizer.convert_ids_to_tokens(token) or "")
        if token in self._special:
            return piece
        if byte := _BYTE.fullmatch(piece):
            return f"byte {byte[1]}"
        text = self._text(token)
        if "\N{REPLACEMENT CHARACTER}" in text:
            return _bytes_of(piece)
        word = text.strip()
        if word and all(combining(letter) or not letter.isprintable() for letter in word):
            return " ".join(f"U+{ord(letter):04X}" for letter in word)
        if word:
            return "".join(_SPACES.get(letter, letter) for letter in word)
        return " ".join(_blank(text)) or piece

    def _text(self, token: int) -> str:
        """What a token adds to a text; alone, some tokenizers drop its space."""
        before = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        both = str(self._tokenizer.decode([*before, token], **options))
        return both.removeprefix(str(self._tokenizer.decode(before, **options)))

    def _is_part_of_a_word(self, token: int) -> bool:
        """Whether a token only continues a word: no token is that word with a space before it."""
        text = self._text(token)
        if token in self._special or not text.isalpha():
            return text.strip() == "" or "\N{REPLACEMENT CHARACTER}" in text
        return len(self._tokenizer(f" {text}", add_special_tokens=False)["input_ids"]) != 1


def _bytes_of(piece: str) -> str:
    """The bytes of a piece of byte-level BPE that is not whole characters."""
    if any(letter not in _BYTE_OF for letter in piece):
        return piece
    return f"bytes {' '.join(f'{_BYTE_OF[letter]:02X}' for letter in piece)}"


def _blank(text: str) -> Iterable[str]:
    """White space in words, such as: 4 spaces."""
    for letter, run in groupby(text):
        count = len(list(run))
        if letter in _SPACES:
            yield _SPACES[letter] * count
        elif letter == " ":
            yield "1 space" if count == 1 else f"{count} spaces"
        else:
            yield " ".join([f"U+{ord(letter):04X}"] * count)
