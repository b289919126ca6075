"""Where the files of an index are.

A table with rows of many bases has a folder for each base, named as Hive names partitions: `base=`
and the percent-encoded base. DuckDB, pandas, polars and pyarrow read the column `base` off these
names, and some of them reject files that also hold such a column, so the files omit it.

Each table also has a file without rows that holds the columns of the newest version that wrote to
the index: SQL over an empty table works, and older files get the columns they lack. In a table with
folders, that file is in a folder named for a base `.none`, which cannot be a name on the Hub: if it
were beside the folders, some readers would take it for a separate table.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from hubdelta.schemas.errors import UnreadableError
from hubdelta.schemas.files import why_unread

if TYPE_CHECKING:  # it loads pyarrow, which completion in a shell would have to wait for
    from hubdelta.schemas.rows import Row

SCHEMA_VERSION = 5
"""Raised whenever columns or file locations change; a reader accepts versions up to its own."""

_KEY = "base="
_NO_BASE = f"{_KEY}.none"


def folder_of(root: Path, row_type: "type[Row]", base: str) -> Path:
    """The folder of a table's files.

    Args:
        root: the index's directory.
        row_type: which table.
        base: the base model; ignored for a table without a folder per base.
    """
    folder = root / row_type.table
    return folder / f"{_KEY}{quote(base, safe='')}" if row_type.by_base else folder


def base_in(path: Path) -> str:
    """The base whose rows a file holds, read from its folder's name."""
    return unquote(path.parent.name.removeprefix(_KEY))


def crawled_bases(root: Path) -> list[str]:
    """The bases that the catalog has folders for; no file is opened."""
    folders = (root / "catalog").glob(f"{_KEY}*")
    return sorted(base_in(folder / "*") for folder in folders if folder.name != _NO_BASE)


def columns_file(root: Path, row_type: "type[Row]") -> Path:
    """The file without rows that this version writes."""
    folder = root / row_type.table
    return (folder / _NO_BASE if row_type.by_base else folder) / f"schema-v{SCHEMA_VERSION}.parquet"


def columns_files(root: Path, row_type: "type[Row]") -> dict[int, Path]:
    """The files without rows of all versions that wrote to an index, by version.

    Those of versions 1 to 3 are beside the folders.
    """
    folder = root / row_type.table
    return {
        int(path.stem.removeprefix("schema-v")): path
        for place in (folder, folder / _NO_BASE)
        for path in place.glob("schema-v*.parquet")
    }


def files_under(folder: Path, suffix: str = ".parquet") -> list[Path]:
    """The files under a folder, by name; none if there is no such folder.

    Raises:
        UnreadableError: a folder cannot be listed, so its contents are unknown.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            place = Path(os.fsdecode(error.filename))
            raise UnreadableError(why_unread(place, error)) from error

    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if name.endswith(suffix)
    )
