"""What a file holds in place of its content, by its first bytes: a pointer, a web page, nothing."""

import re
from typing import Final

_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_UPLOAD_AGAIN: Final = "its author has to upload the file again"
_PAGE = re.compile(
    rb"(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", re.S | re.I
)


def foreign_content(start: bytes) -> str | None:
    """What a file is instead of weights or a configuration, and how to fix it; None if unknown.

    Args:
        start: its first few hundred bytes; b"" for an empty file.
    """
    if not start:
        return f"is empty (0 bytes): {_UPLOAD_AGAIN}"
    if start.startswith(_POINTER):
        return (
            "is a Git LFS pointer, three lines of text in place of the file: its author has to "
            "push the file itself (git lfs push --all, or hf upload)"
        )
    if _PAGE.match(start[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()):
        return f"is an HTML page, most likely from a failed download: {_UPLOAD_AGAIN}"
    if not start.strip(b"\0"):
        return f"begins with nothing but zeros: {_UPLOAD_AGAIN}"
    return None
