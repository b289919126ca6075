"""Where the files of an index lie.

A table with rows of many bases has a folder for each base, named as Hive names partitions: `base=`
and the percent-encoded base. DuckDB, pandas, polars and pyarrow read the column `base` off these
names, and some of them refuse files that hold such a column as well: so the files lack it.

Each table also has a file without rows, whose columns are those of the newest version that wrote to
the index: SQL over a table that is still empty works, and older files get the columns they lack.
Where a table has folders, that file lies in one named as if there were a base `.none`, which is no
name on the Hub: beside the folders some readers take it for a table of its own.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from hubdelta.schemas.errors import UnreadableError
from hubdelta.schemas.files import why_unread

if TYPE_CHECKING:  # it loads pyarrow, which completion in a shell would have to wait for
    from hubdelta.schemas.rows import Row

SCHEMA_VERSION = 4
"""Raised with every change of a column or of where files lie; a reader reads all up to its own."""

_KEY = "base="
_NO_BASE = f"{_KEY}.none"


def folder_of(root: Path, row_type: "type[Row]", base: str) -> Path:
    """The folder of a table's files.

    Args:
        root: the index's directory.
        row_type: which table.
        base: the base model; of no consequence where the table has no folder for each.
    """
    folder = root / row_type.table
    return folder / f"{_KEY}{quote(base, safe='')}" if row_type.by_base else folder


def base_in(path: Path) -> str:
    """The base whose rows a file holds, by the name of its folder."""
    return unquote(path.parent.name.removeprefix(_KEY))


def crawled_bases(root: Path) -> list[str]:
    """The bases that the catalog has folders for, by their names alone; no file is opened."""
    folders = (root / "catalog").glob(f"{_KEY}*")
    return sorted(base_in(folder / "*") for folder in folders if folder.name != _NO_BASE)


def columns_file(root: Path, row_type: "type[Row]") -> Path:
    """The file without rows that this version writes."""
    folder = root / row_type.table
    return (folder / _NO_BASE if row_type.by_base else folder) / f"schema-v{SCHEMA_VERSION}.parquet"


def columns_files(root: Path, row_type: "type[Row]") -> dict[int, Path]:
    """The files without rows of all versions that wrote to an index, by version.

    Those of versions 1 to 3 lie beside the folders.
    """
    folder = root / row_type.table
    return {
        int(path.stem.removeprefix("schema-v")): path
        for place in (folder, folder / _NO_BASE)
        for path in place.glob("schema-v*.parquet")
    }


def files_under(folder: Path, suffix: str = ".parquet") -> list[Path]:
    """The files of a folder and those in it, by name; none where there is no such folder.

    Raises:
        UnreadableError: some folder cannot be listed, so that it is unknown what it holds.
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
