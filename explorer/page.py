"""The map's page: one HTML file with its style, script and data that makes no requests.

`page.html` is built from `web/` and has a placeholder for the data. Its content security policy
allows its own style and script, by their hashes, and nothing else, so the data is never executed.
"""

import json
import re
from pathlib import Path
from typing import NoReturn

FORMAT = 1
"""The layout of the data that the page reads: `web/src/payload.ts` describes it."""

_PAGE = Path(__file__).with_name("page.html")
_PLACEHOLDER = "{{payload}}"

_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
"""What could end the script element, open a comment in it, or cannot be written as UTF-8. In JSON
these occur only in strings, where an escape means the same."""


def render(payload: str) -> str:
    """The page that shows `payload`, the JSON text of an object with `format`; save it as UTF-8.

    Raises:
        ValueError: it is not JSON (NaN and infinities are not), or of another format.
    """
    data = json.loads(payload, parse_constant=_refuse)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"the page shows data of format {FORMAT} only")
    before, after = _PAGE.read_text(encoding="utf-8").split(_PLACEHOLDER)
    return before + _UNSAFE.sub(_escaped, payload) + after


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
