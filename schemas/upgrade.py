"""Files of versions 1 to 3, which have a column `base` and are in other folders.

Every run that writes to an index moves them first. Until then, readers other than this package
would take such a folder's name for the base.
"""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hubdelta.schemas.errors import DamagedFileError, UnreadableError
from hubdelta.schemas.files import appearing
from hubdelta.schemas.layout import columns_files, files_under, folder_of
from hubdelta.schemas.parquet import open_parquet
from hubdelta.schemas.rows import TABLES, Row

logger = logging.getLogger(__name__)

_LAST = 3
"""The last version that wrote such files."""


def older_files(root: Path, row_type: type[Row]) -> list[Path]:
    """The files of a table, with or without rows, that have or may have a column `base`.

    Raises:
        UnreadableError: a folder cannot be listed.
    """
    if not row_type.by_base or min(columns_files(root, row_type), default=_LAST + 1) > _LAST:
        return []
    return [path for path in files_under(root / row_type.table) if _may_have_base(path)]


def copy_rows(path: Path, row_type: type[Row], root: Path) -> list[Path]:
    """Write the rows of an older file to their current place, in files of the same name.

    Args:
        path: one of `older_files`.
        row_type: its table.
        root: the directory of the index to write to.

    Returns:
        The new files: none if it has no rows.

    Raises:
        DamagedFileError: it is incomplete or corrupt.
        UnreadableError: it cannot be read at the moment.
        OSError: something cannot be written.
    """
    file = open_parquet(path)
    try:
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(f"damaged Parquet file {path} ({error})") from error
    copies = []
    for base in pc.unique(table["base"]).to_pylist():
        rows = table.filter(pc.equal(table["base"], base)).drop_columns("base")
        copy = folder_of(root, row_type, base) / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        with appearing(copy) as written:
            pq.write_table(rows, written, compression="zstd", write_page_checksum=True)
        copies.append(copy)
    return copies


def upgrade(root: Path) -> None:
    """Move what earlier versions wrote to its current place; the index must be held.

    Killing it loses nothing: a row is written before its source file is removed, and the next run
    continues. Damaged files stay where they are, and so does the file without rows, which shows
    that there are older files: once they are repaired, a run moves them.

    Raises:
        OSError: something cannot be written.
        UnreadableError: a file or a folder cannot be read at the moment.
    """
    for row_type in TABLES:
        older, without_rows = older_files(root, row_type), columns_files(root, row_type).values()
        moved = [_move(path, row_type, root) for path in older if path not in without_rows]
        if all(moved):
            for path in older:
                if path in without_rows:
                    path.unlink()


def _move(path: Path, row_type: type[Row], root: Path) -> bool:
    """Move the rows of an older file; False if it is damaged."""
    try:
        copies = copy_rows(path, row_type, root)
    except DamagedFileError as error:
        logger.warning("%s; left out", error)
        return False
    if path not in copies:  # the folder of a base without an organization kept its name
        path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
    return True


def _may_have_base(path: Path) -> bool:
    try:
        return "base" in open_parquet(path).schema_arrow.names
    except (DamagedFileError, UnreadableError):
        return True  # reading it reports what is wrong with it
