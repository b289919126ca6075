"""The text of a model card: the prose in a file that may hold anything."""

import html
import logging
import re
from typing import Final

from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, one_line
from hubdelta.crawler.ranged import read_start
from hubdelta.schemas.keys import AdapterKey

logger = logging.getLogger(__name__)

CARD_FILE: Final = "README.md"

CARD_BYTES: Final = 1 << 16
"""How much of the file is read: front matter can be long, and text beyond the first pages adds
little."""

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


def fetch_card(hub: Hub, key: AdapterKey) -> bytes:
    """The first bytes of a repository's card at the adapter's commit: one ranged GET.

    It is the repository's card even if the adapter is in a subfolder.

    Returns:
        At most CARD_BYTES; none if there is no card or it cannot be fetched: an adapter does not
        fail for that.
    """
    try:
        return hub.call(read_start, hub, key, CARD_FILE, CARD_BYTES).content
    except HUB_FAILURES as error:
        logger.debug("%s: no card: %s", key, one_line(error))
        return b""


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
