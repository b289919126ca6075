"""The readable Parquet files of an index, by table, for the views over them."""

import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hubdelta.schemas.errors import DamagedFileError
from hubdelta.schemas.index import Index
from hubdelta.schemas.layout import columns_file
from hubdelta.schemas.rows import TABLES, Row
from hubdelta.schemas.upgrade import copy_rows, older_files
from hubdelta.sql.script import parquet_definitions

logger = logging.getLogger(__name__)

_GLOB = re.compile(r"([*?\[])")


@dataclass
class ParquetFiles:
    """The files of each table that can be read; damaged ones are named in a warning and left out.

    Attributes:
        tables: the files, by table; the last file of each has all columns and no rows.
    """

    tables: dict[str, list[Path]]
    _own: tempfile.TemporaryDirectory[str] = field(repr=False)

    @classmethod
    def of(cls, index: Index) -> "ParquetFiles":
        """The files of an index, checked by their footers.

        Raises:
            UnreadableError: a folder cannot be listed.
            NewerIndexError: a newer hubdelta wrote a file.
        """
        own = tempfile.TemporaryDirectory(prefix="hubdelta-")
        tables = {}
        for row_type in TABLES:
            sound, older = index.files(row_type), set(older_files(index.root, row_type))
            columns = columns_file(index.root, row_type)
            if columns not in sound:  # an earlier version wrote the index, or it is damaged
                columns = columns_file(Index.create(Path(own.name)).root, row_type)
            tables[row_type.table] = [
                *(path for path in sound if path not in older and path != columns),
                *_copies([path for path in sound if path in older], row_type, Path(own.name)),
                columns,
            ]
        return cls(tables, own)

    def define(self, database: duckdb.DuckDBPyConnection) -> None:
        """Define the views and macros over these files."""
        offered = "getvariable('hubdelta_files')[name]"
        _offer(database, {table: paths[-1:] for table, paths in self.tables.items()})
        database.execute(parquet_definitions(bind=offered, files=offered))
        _offer(database, self.tables)

    def allowed_paths(self) -> list[str]:
        """The paths that a locked connection must be allowed to open."""
        # DuckDB checks permission for the pattern before that for the file it matches.
        paths = [path for paths in self.tables.values() for path in paths]
        return [text for path in paths for text in {str(path), _escape(path)}]

    def leave_out_damaged(self, database: duckdb.DuckDBPyConnection) -> bool:
        """Read every file and drop those with damaged pages; whether there were any."""
        found = False
        for table, paths in self.tables.items():
            sound = [path for path in paths if _is_sound(path)]
            found |= len(sound) < len(paths)
            self.tables[table] = sound
        if found:
            _offer(database, self.tables)
        return found

    def close(self) -> None:
        """Remove the temporary folder."""
        self._own.cleanup()


def _copies(older: Sequence[Path], row_type: type[Row], root: Path) -> list[Path]:
    """Copies of earlier versions' files in the current layout, below another folder."""
    copies = []
    for path in older:
        try:
            copies += copy_rows(path, row_type, root)
        except DamagedFileError as error:
            logger.warning("%s; left out", error)
    return copies


def _offer(database: duckdb.DuckDBPyConnection, files: Mapping[str, Sequence[Path]]) -> None:
    patterns = {table: [_escape(path) for path in paths] for table, paths in files.items()}
    database.execute("SET VARIABLE hubdelta_files = $files", {"files": patterns})


def _escape(path: Path) -> str:
    """A pattern for read_parquet that matches this path only."""
    return _GLOB.sub(r"[\1]", str(path))


def _is_sound(path: Path) -> bool:
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        logger.warning("damaged Parquet file %s (%s); left out", path, error)
        return False
    return True
