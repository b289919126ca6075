"""Whether a file is what the Hub has on record, by the hash in its ETag."""

import hashlib
from pathlib import Path


def has_hash(path: Path, etag: str) -> bool:
    """Whether a file is what its ETag says: SHA-256 of an LFS file, git's blob hash of another."""
    if len(etag) == 64:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == etag
    if len(etag) == 40:
        content = path.read_bytes()
        blob = b"blob %d\0" % len(content) + content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == etag
    return True
