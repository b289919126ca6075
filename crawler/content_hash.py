"""Whether a file is the one that the Hub has on record, by the hash in its ETag."""

import hashlib
from pathlib import Path


def has_hash(path: Path, etag: str) -> bool:
    """Whether a file matches its ETag; see `content_has_hash`."""
    if len(etag) == 64:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == etag
    return content_has_hash(path.read_bytes(), etag) if len(etag) == 40 else True


def content_has_hash(content: bytes, etag: str | None) -> bool:
    """Whether bytes match an ETag.

    Args:
        content: of the whole file.
        etag: 64 hex digits are the SHA-256 of an LFS file; 40 are git's blob hash of another file,
            or the plain SHA-1 that Artifactory gives instead. Anything else, or None, says nothing
            about the content, which is then trusted.
    """
    match len(etag or ""):
        case 64:
            return hashlib.sha256(content).hexdigest() == etag
        case 40:
            return etag in {git_hash(content), _sha1(content)}
    return True


def git_hash(content: bytes) -> str:
    """Git's blob hash of a file's content: 40 hex digits."""
    return _sha1(b"blob %d\0" % len(content) + content)


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
