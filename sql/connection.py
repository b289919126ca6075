"""A DuckDB connection over the sound files of an index, read-only by construction."""

import logging
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hubdelta.schemas.errors import DamagedFileError, QueryError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import TABLES
from hubdelta.sql import read_only
from hubdelta.sql.script import definitions

logger = logging.getLogger(__name__)

Parameters = Sequence[Any] | Mapping[str, Any]

_GLOB = re.compile(r"([*?\[])")

# What no damaged file can cause: the query itself is wrong or not allowed.
_OWN_FAULTS = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.OutOfMemoryException,
    duckdb.ParserException,
    duckdb.PermissionException,
    duckdb.TransactionException,
)


@dataclass(frozen=True)
class Queries:
    """The views and macros of an index, to be asked; `connect` makes it.

    It shows the index as it was when it was made. It is for one thread at a time.

    Attributes:
        index: the index.
        unsafe: whether queries may do anything.
        database: the DuckDB connection; what runs on it directly is not checked.
    """

    index: Index
    unsafe: bool
    database: duckdb.DuckDBPyConnection
    _files: dict[str, list[Path]] = field(repr=False)
    _columns: tempfile.TemporaryDirectory[str] | None = field(repr=False)

    def __enter__(self) -> "Queries":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the DuckDB connection."""
        self.database.close()
        if self._columns is not None:
            self._columns.cleanup()

    def names(self) -> list[str]:
        """The names of all views, their columns and the macros, sorted: for completion."""
        rows = self.database.execute(
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
            " UNION SELECT column_name FROM duckdb_columns()"
            " WHERE schema_name = 'main' AND NOT internal"
            " UNION SELECT function_name FROM duckdb_functions()"
            " WHERE schema_name = 'main' AND NOT internal ORDER BY 1"
        ).fetchall()
        return [name for (name,) in rows]

    def run(self, sql: str, parameters: Parameters = ()) -> pa.Table:
        """Run one query.

        A file whose footer is sound but whose pages are damaged shows only now: such files are
        named in a warning and left out from then on, and the query is run once more.

        Args:
            sql: one statement; any statements if `unsafe`.
            parameters: values of `?` or `$name` in it.

        Raises:
            QueryError: it is wrong, or does what a read-only connection may not do.
            KeyboardInterrupt: Ctrl-C stopped it.
        """
        try:
            sql.encode()  # lone surrogates, which DuckDB's client cannot take
            if not self.unsafe:
                read_only.check(self.database, sql)
            try:
                return self._run(sql, parameters)
            except duckdb.Error as error:
                if isinstance(error, _OWN_FAULTS) or not self._leave_out_damaged():
                    raise
            return self._run(sql, parameters)
        except (duckdb.Error, pa.ArrowException, UnicodeError) as error:
            raise QueryError(_one_line(error)) from error

    def _run(self, sql: str, parameters: Parameters) -> pa.Table:
        def answer() -> pa.Table:
            relation = self.database.sql(sql, params=parameters or None)
            return pa.table({}) if relation is None else relation.to_arrow_table()

        # DuckDB looks for Ctrl-C only now and then, and in some queries never; so the query runs
        # in another thread, and this one stops it.
        with self._transaction(), ThreadPoolExecutor(1) as thread:
            running = thread.submit(answer)
            try:
                return running.result()
            except KeyboardInterrupt:
                while not running.done():
                    self.database.interrupt()
                    wait([running], timeout=0.05)
                raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self.unsafe:
            yield
            return
        self.database.execute("BEGIN TRANSACTION READ ONLY")
        try:
            yield
        finally:
            self.database.execute("ROLLBACK")

    def _leave_out_damaged(self) -> bool:
        found = False
        for table, paths in self._files.items():
            sound = [path for path in paths if _is_sound(path)]
            found |= len(sound) < len(paths)
            self._files[table] = sound or paths
        if found:
            _offer(self.database, self._files)
        return found


def connect(index: Index, *, unsafe: bool = False) -> Queries:
    """Open the files of an index that can be read, in a DuckDB in memory.

    Damaged files are named in a warning and left out.

    Args:
        index: the index.
        unsafe: let queries write, configure, load extensions and read other files.

    Raises:
        DamagedFileError: a table has no readable file.
    """
    stored = {row_type.table: index.files(row_type) for row_type in TABLES}
    for table, paths in stored.items():
        if not paths:
            raise DamagedFileError(
                f"no file of the table {table} in {index.root} can be read: remove the damaged "
                "ones and run `hubdelta index` again"
            )
    columns = None
    if not index.has_newest_columns:  # which the views are about
        columns = tempfile.TemporaryDirectory(prefix="hubdelta-")
        without_rows = Index.create(Path(columns.name))
        for row_type in TABLES:
            stored[row_type.table] += without_rows.files(row_type)
    empty = {
        table: [path for path in paths if path.name.startswith("schema-v")] or paths
        for table, paths in stored.items()
    }
    database = _open(unsafe)
    offered = "getvariable('hubdelta_files')[name]"
    _offer(database, empty)
    database.execute(definitions(bind=offered, files=offered))
    _offer(database, stored)
    if not unsafe:
        _lock(database, [path for paths in stored.values() for path in paths])
    return Queries(index, unsafe, database, stored, columns)


def _open(unsafe: bool) -> duckdb.DuckDBPyConnection:
    # Spilled data goes to a folder of its own: DuckDB lets queries read its spill folder, which
    # by default is `.tmp` in the working directory.
    spill = Path(tempfile.gettempdir()) / f"hubdelta-{secrets.token_hex(8)}"
    options: dict[str, str | bool | int | float | list[str]] = {"temp_directory": str(spill)}
    if not unsafe:
        options |= {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_persistent_secrets": "false",
            "python_enable_replacements": "false",
        }
    connection = duckdb.connect(config=options)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _offer(database: duckdb.DuckDBPyConnection, files: Mapping[str, Sequence[Path]]) -> None:
    patterns = {table: [_escape(path) for path in paths] for table, paths in files.items()}
    database.execute("SET VARIABLE hubdelta_files = $files", {"files": patterns})


def _lock(database: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    # DuckDB asks for the right to a pattern before it asks for the right to the file it matches.
    allowed = {text for path in files for text in (str(path), _escape(path))}
    literals = ", ".join("'" + text.replace("'", "''") + "'" for text in sorted(allowed))
    database.execute(f"SET allowed_paths = [{literals}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


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


def _one_line(error: Exception) -> str:
    """DuckDB's message without the excerpt of the query that follows it."""
    message = re.split(r"\n\s*\n|\nLINE \d+:", str(error).strip(), maxsplit=1)[0]
    return " ".join(message.split())
