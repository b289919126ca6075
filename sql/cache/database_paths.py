"""Paths of database files that DuckDB accepts."""

import os
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path


def for_duckdb(path: Path) -> str:
    """The path of a database file as a literal for ATTACH.

    DuckDB 2 reads backslashes as slashes, so such a path goes through a link in the system's
    temporary folder, which stays until the process ends.
    """
    absolute = path.absolute()
    taken = _link_to(absolute.parent) / absolute.name if "\\" in str(absolute) else path
    return "'" + str(taken).replace("'", "''") + "'"


def keeps_log_beside(path: Path) -> bool:
    """Whether DuckDB can write a database file, given that it keeps a log beside it.

    DuckDB 2 inserts the log's `.wal` before the first question mark of the whole path. A link does
    not help: DuckDB resolves links first.
    """
    return "?" not in os.path.realpath(path)


@lru_cache
def _link_to(folder: Path) -> Path:
    link = Path(_links().name, secrets.token_hex(4))
    link.symlink_to(folder)
    return link


@lru_cache
def _links() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hubdelta-links-")
