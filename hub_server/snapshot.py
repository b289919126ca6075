"""One commit of a repository: the files of a folder, their hashes and what they declare."""

import logging
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hubdelta.hub_server.blobs import Blob, BlobHashes, StoredFile, git_oid, is_settled
from hubdelta.hub_server.metadata import Metadata, read_metadata
from hubdelta.hub_server.settings import SETTINGS_NAME

logger = logging.getLogger(__name__)

REVISIONS_NAME = ".revisions"
# Never part of a repository: our own files, git's folder, and what huggingface_hub leaves in a
# `local_dir` (its upload_folder leaves both out as well).
_NOT_SERVED_ANYWHERE = frozenset({SETTINGS_NAME, ".git"})
_NOT_SERVED_AT_ROOT = frozenset({REVISIONS_NAME, ".cache"})


@dataclass(frozen=True)
class FolderState:
    """The result of one scan of a folder; equal states mean unchanged files.

    Attributes:
        files: sorted by path.
        newest_ns: the latest change of any file or folder, nanoseconds since 1970.
        oldest_ns: the earliest.
    """

    files: tuple[StoredFile, ...]
    newest_ns: int
    oldest_ns: int

    @property
    def is_settled(self) -> bool:
        """Whether the next scan can be compared with this one."""
        return all(is_settled(file.ctime_ns) for file in self.files)


def look_at(folder: Path) -> FolderState:
    """List the files of a repository folder without reading any.

    A link is followed only to a served file of the same folder; others are skipped with a warning,
    so that no link can publish files from elsewhere.

    Raises:
        OSError: when a folder cannot be listed.
    """
    root = Path(os.path.realpath(folder))
    files: list[StoredFile] = []
    times: list[int] = []
    pending = [("", root)]
    while pending:
        prefix, place = pending.pop()
        try:
            times.append(place.stat().st_mtime_ns)
            with os.scandir(place) as listing:
                entries = list(listing)
        except FileNotFoundError:
            if place == root:
                raise
            continue  # deleted since its parent was listed
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if _is_hidden(path) or not _is_text(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append((f"{path}/", Path(entry.path)))
            elif (file := _stored(path, entry, root)) is not None:
                files.append(file)
                times.append(file.mtime_ns)
    files.sort(key=lambda file: file.path)
    return FolderState(tuple(files), max(times), min(times))


def _is_hidden(path: str) -> bool:
    parts = path.split("/")
    return parts[0] in _NOT_SERVED_AT_ROOT or not _NOT_SERVED_ANYWHERE.isdisjoint(parts)


def _is_text(path: str) -> bool:
    """Whether a name can be written in a URL: file systems allow other bytes too."""
    try:
        path.encode()
    except UnicodeEncodeError:
        logger.warning("skipped, its name is not UTF-8: %r", path)
        return False
    return True


def _stored(path: str, entry: os.DirEntry[str], root: Path) -> StoredFile | None:
    place = Path(entry.path)
    if entry.is_symlink():
        place = Path(os.path.realpath(entry.path))
        if not place.is_relative_to(root) or _is_hidden(place.relative_to(root).as_posix()):
            logger.warning("skipped, a link to outside the repository: %s", entry.path)
            return None
    try:
        if not place.is_file():
            return None
        status = place.stat()
    except FileNotFoundError:  # deleted since the folder was listed
        return None
    return StoredFile(path, place, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Snapshot:
    """The files of one commit. Hashes and metadata are read on first use and cached.

    Attributes:
        files: by path, sorted.
        state: the scan of the folder that it represents.
    """

    def __init__(self, state: FolderState, hashes: BlobHashes, commit: str | None = None) -> None:
        self.state = state
        self.files = {file.path: file for file in state.files}
        self._hashes = hashes
        self._commit = commit
        self._trees: dict[str, str] | None = None
        self._metadata: Metadata | None = None
        self._lock = threading.RLock()

    def blob(self, path: str) -> Blob:
        """The identity of one file's content.

        Raises:
            KeyError: for a path that is not a file of this commit.
            OSError: when the file cannot be read.
        """
        return self._hashes.of(self.files[path])

    @property
    def sha(self) -> str:
        """The commit, 40 hex digits: given by the operator, or a hash of the content alone."""
        with self._lock:
            if self._commit is None:
                commit = f"tree {self.trees['']}\n\nserved from a folder\n"
                self._commit = git_oid("commit", commit.encode())
            return self._commit

    @property
    def trees(self) -> dict[str, str]:
        """Git's tree id of every folder, by path; the root is ``""``."""
        with self._lock:
            if self._trees is None:
                self._trees = self._hash_trees()
            return self._trees

    @property
    def metadata(self) -> Metadata:
        """What the card and the configurations declare."""
        with self._lock:
            if self._metadata is None:
                self._metadata = read_metadata(self.files)
            return self._metadata

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files.values())

    def _hash_trees(self) -> dict[str, str]:
        children: dict[str, dict[str, str]] = defaultdict(dict, {"": {}})
        for path in self.files:
            for folder, name in _steps(path):
                children[folder].setdefault(name, "")
        trees: dict[str, str] = {}
        for folder in sorted(children, key=lambda path: path.count("/") + bool(path), reverse=True):
            entries = []
            for name in children[folder]:
                path = f"{folder}/{name}" if folder else name
                if path in children:
                    # Git sorts a folder as if its name ended in a slash.
                    entries.append((f"{name}/", f"40000 {name}", trees[path]))
                else:
                    entries.append((name, f"100644 {name}", self.blob(path).oid))
            content = b"".join(
                f"{entry}\0".encode() + bytes.fromhex(oid)
                for _, entry, oid in sorted(entries, key=lambda entry: entry[0].encode())
            )
            trees[folder] = git_oid("tree", content)
        return trees


def _steps(path: str) -> Iterator[tuple[str, str]]:
    """Each (folder, name in it) on the path from the root to a file."""
    folder = ""
    for name in path.split("/"):
        yield folder, name
        folder = f"{folder}/{name}" if folder else name
