"""What stands in place of a file, told from its first bytes: pointers, error pages, nothing."""

import re
from typing import Final

_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_UPLOAD_AGAIN: Final = "its author has to upload the file again"
_PAGE = re.compile(
    rb"(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", re.S | re.I
)


def foreign_content(start: bytes) -> str | None:
    """What a file is instead of weights or a configuration, and what helps; None if nothing shows.

    Args:
        start: its first bytes, some hundred of them; none at all for an empty file.
    """
    if not start:
        return f"is empty (0 bytes): {_UPLOAD_AGAIN}"
    if start.startswith(_POINTER):
        return (
            "is a Git LFS pointer, a text of three lines in place of the file: its author has to "
            "push the file itself (git lfs push --all, or hf upload)"
        )
    if _PAGE.match(start[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()):
        return f"is an HTML page, most likely of a download that failed: {_UPLOAD_AGAIN}"
    if not start.strip(b"\0"):
        return f"holds nothing but zeros where it begins: {_UPLOAD_AGAIN}"
    return None
