"""The text of a model card: the prose in a file that may hold anything."""

import html
import logging
import re
from collections import OrderedDict
from concurrent.futures import Future
from threading import Lock
from typing import Final, NamedTuple

from huggingface_hub.errors import EntryNotFoundError

from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, one_line
from hubdelta.crawler.ranged import read_start
from hubdelta.schemas.keys import AdapterKey

logger = logging.getLogger(__name__)

CARD_FILE: Final = "README.md"

CARD_BYTES: Final = 1 << 16
"""How much of the file is read: front matter can be long, and text beyond the first pages adds
little."""

_MOST_RECENT: Final = 64  # cards kept for other adapters of their repositories

_LONGEST_TEXT: Final = 4_000  # characters

_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\n.*?(?:^---[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)

# Each match ends or takes all the rest, so that an unclosed element costs one pass, not one from
# every position.
_DROPPED = re.compile(
    r"""
    ^[ \t>]*(?P<fence>`{3,}|~{3,}).*?(?:^[ \t>]*(?P=fence)|\Z)      # code
    | <!--.*?(?:-->|\Z)
    | <(?P<element>script|style)\b.*?(?:</(?P=element)\s*>|\Z)
    | </?[a-z][^<>]*>                                               # a tag
    | (?:https?|ftp)://[^\s<>)\]"']+ | \bwww\.[^\s<>)\]"']+
    | \]\([^()\[\]\n]*\)                                            # the target of a link
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE | re.IGNORECASE,
)
_MARKS = re.compile(r"[#*`|>~\[\]{}\\=<]|-{2,}|_{2,}")


class Card(NamedTuple):
    """A repository's card at a commit.

    Attributes:
        content: the file's first bytes, at most CARD_BYTES; none if there is no card.
        hash: of the whole file, on record at the Hub; empty if there is none, None where the Hub
            does not say, or the card cannot be fetched.
    """

    content: bytes
    hash: str | None


class Cards:
    """Cards, each fetched once for the adapters of a repository at a commit; thread-safe.

    Args:
        hub: where they are.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub, self._changing = hub, Lock()
        self._recent: OrderedDict[tuple[str, str], Future[Card]] = OrderedDict()

    def of(self, key: AdapterKey) -> Card:
        """The card of an adapter's repository; see `fetch_card`."""
        place = (key.repo_id, key.revision)
        with self._changing:
            is_new = place not in self._recent
            card = self._recent.setdefault(place, Future())
            if len(self._recent) > _MOST_RECENT:
                self._recent.popitem(last=False)
        if is_new:
            try:
                card.set_result(fetch_card(self._hub, key))
            except BaseException as error:
                card.set_exception(error)
                raise
        return card.result()


def fetch_card(hub: Hub, key: AdapterKey) -> Card:
    """The first bytes of a repository's card at the adapter's commit: one ranged GET.

    It is the repository's card even if the adapter is in a subfolder. An adapter does not fail for
    a card that cannot be fetched.
    """
    try:
        start = hub.call(read_start, hub, key, CARD_FILE, CARD_BYTES)
    except HUB_FAILURES as error:
        logger.debug("%s: no card: %s", key, one_line(error))
        return Card(b"", "" if isinstance(error, EntryNotFoundError) else None)
    return Card(start.content, start.hash)


def card_text(content: bytes) -> str | None:
    """A card's text on one line, without front matter, code, markup, URLs and control characters.

    Args:
        content: the file, or its first bytes.

    Returns:
        At most 4,000 characters; None if nothing is left, or the file is not text.
    """
    if b"\0" in content:
        return None
    text = content.decode("utf-8-sig", "replace").replace("\r\n", "\n")
    text = _DROPPED.sub(" ", _FRONT_MATTER.sub("", text))
    text = _MARKS.sub(" ", html.unescape(text)).replace("\N{REPLACEMENT CHARACTER}", " ")
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(text.split())[:_LONGEST_TEXT].rstrip() or None
