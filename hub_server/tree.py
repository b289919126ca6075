"""The files of a commit as the API lists them: tree pages and paths-info."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

from hubdelta.hub_server.entries import lfs_fields, wire_time
from hubdelta.hub_server.errors import BadRequest, EntryNotFound
from hubdelta.hub_server.repository import Repository
from hubdelta.hub_server.snapshot import Snapshot

PAGE_ENTRIES = 1000
EXPANDED_PAGE_ENTRIES = 50
_UNSCANNED = {
    "status": "unscanned",
    "avScan": {"status": "unscanned"},
    "pickleImportScan": {"status": "unscanned", "pickleImports": []},
}


def tree_paths(snapshot: Snapshot, folder: str, *, recursive: bool) -> list[str]:
    """Names below a folder: folders first, then files, each in order; folders end in a slash.

    Raises:
        EntryNotFound: when the commit has no such folder.
    """
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    files, folders = [], set()
    for path in snapshot.files:
        if path.startswith(prefix):
            parents = path[len(prefix) :].split("/")[:-1]
            depth = len(parents) if recursive else min(1, len(parents))
            folders |= {f"{prefix}{'/'.join(parents[:n])}/" for n in range(1, depth + 1)}
            if recursive or not parents:
                files.append(path)
    if prefix and not files and not folders:
        raise EntryNotFound(folder, snapshot.sha)
    return sorted(folders) + files


def tree_page(
    paths: Sequence[str], limit: int, cursor: str | None
) -> tuple[Sequence[str], str | None]:
    """One page of names, and the cursor of the next (None after the last).

    Raises:
        BadRequest: for a cursor that was not issued.
    """
    start = 0
    if cursor is not None:
        try:
            start = paths.index(base64.urlsafe_b64decode(cursor).decode()) + 1
        except (binascii.Error, ValueError) as error:
            raise BadRequest('"cursor" was not issued by this Hub') from error
    page = paths[start : start + limit]
    if start + limit >= len(paths):
        return page, None
    return page, base64.urlsafe_b64encode(page[-1].encode()).decode()


def tree_entries(
    repository: Repository, snapshot: Snapshot, paths: Iterable[str], *, expand: bool
) -> list[dict[str, Any]]:
    """Names as the API's objects, without those that the commit does not have.

    Args:
        repository: whose files they are.
        snapshot: the commit.
        paths: of files and folders; a folder may end in a slash.
        expand: whether to add the last commit and the security scan (none was made).

    Raises:
        OSError: when a file cannot be read.
    """
    last_commit = {
        "id": snapshot.sha,
        "title": "Served from a folder",
        "date": wire_time(repository.last_modified),
    }
    entries: list[dict[str, Any]] = []
    for path in paths:
        name = path.rstrip("/")
        values: dict[str, Any]
        if name in snapshot.files:
            blob = snapshot.blob(name)
            values = {"type": "file", "oid": blob.oid, "size": blob.size}
            if blob.sha256 is not None:
                values["lfs"] = lfs_fields(blob, "oid")
        elif name and name in snapshot.trees:
            values = {"type": "directory", "oid": snapshot.trees[name], "size": 0}
        else:
            continue
        values["path"] = name
        if expand:
            values["lastCommit"] = last_commit
            if values["type"] == "file":
                values["securityFileStatus"] = _UNSCANNED
        entries.append(values)
    return entries
