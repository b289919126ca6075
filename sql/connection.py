"""A DuckDB connection to an index, over its cache or its Parquet files; it can only read."""

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

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.index import Index
from hubdelta.sql import cache, read_only
from hubdelta.sql.parquet_files import ParquetFiles
from hubdelta.sql.script import cache_definitions

logger = logging.getLogger(__name__)

Parameters = Sequence[Any] | Mapping[str, Any]

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


_NEEDS_LINKAGE = re.compile(
    r"\b(pairs|near_pairs|duplicates|components|chained|groups|domains|domain_terms|summaries"
    r"|central|most_central|outliers|nearest_of|linkage)\b",
    re.IGNORECASE,
)
"""What a query names that rests on the linkage, which is brought up to date for such alone."""


@dataclass
class Queries:
    """The views and macros of an index, to be asked; `connect` makes it.

    It shows the index as it was when it was made. It is for one thread at a time.

    Attributes:
        index: the index.
        unsafe: whether queries may do anything.
        database: the DuckDB connection; what runs on it directly is not checked.
        parquet: the files it reads; None where it reads the cache.
    """

    index: Index
    unsafe: bool
    database: duckdb.DuckDBPyConnection
    parquet: ParquetFiles | None = field(repr=False)
    _linked: bool = field(repr=False)

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
        if self.parquet is not None:
            self.parquet.close()

    def names(self) -> list[str]:
        """The names of all views, their columns and the macros, sorted: for completion."""
        rows = self.database.execute(
            "SELECT view_name FROM duckdb_views()"
            " WHERE schema_name = 'main' AND NOT internal AND database_name = current_database()"
            " UNION SELECT column_name FROM duckdb_columns()"
            " WHERE schema_name = 'main' AND NOT internal AND database_name = current_database()"
            " UNION SELECT function_name FROM duckdb_functions()"
            " WHERE schema_name = 'main' AND NOT internal ORDER BY 1"
        ).fetchall()
        return [name for (name,) in rows]

    def run(self, sql: str, parameters: Parameters = ()) -> pa.Table:
        """Run one query.

        Damage inside a file shows only now. A damaged cache is made anew; Parquet files are named
        in a warning and left out from then on. Then the query is run once more.

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
            if not self._linked and _NEEDS_LINKAGE.search(sql):
                self.link()
            try:
                return self._run(sql, parameters)
            except duckdb.Error as error:
                if isinstance(error, _OWN_FAULTS) or not self._leave_out_damage():
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

    def _leave_out_damage(self) -> bool:
        """Get rid of what is damaged; whether anything was."""
        if self.parquet is not None:
            return self.parquet.leave_out_damaged(self.database)
        logger.warning("%s is damaged, and is made anew", cache.path_of(self.index))
        cache.remove(self.index)
        self._reconnect()
        return True

    def link(self) -> None:
        """Bring the linkage up to date, which domains and pairs rest on, if it is not."""
        if not self._linked:
            self._linked = True
            self._reconnect()

    def _reconnect(self) -> None:
        self.database.close()
        self.database, self.parquet = _connect(self.index, self.unsafe, linked=self._linked)


def connect(index: Index, *, unsafe: bool = False) -> Queries:
    """Open an index for queries, in a DuckDB in memory.

    They read the cache, which is first brought up to date. Where it cannot be written, as in a
    folder of somebody else's, and is out of date, they read the Parquet files: with the same
    answers, but slower. Damaged Parquet files are named in a warning and left out.

    Args:
        index: the index.
        unsafe: let queries write, configure, load extensions and read other files.

    Raises:
        DamagedFileError: there is no cache, and a table has no readable file.
        NewerIndexError: a newer hubdelta wrote a file.
    """
    # Nothing tells what macros of their own the queries of an unsafe connection will use.
    database, parquet = _connect(index, unsafe, linked=unsafe)
    return Queries(index, unsafe, database, parquet, unsafe)


def _connect(
    index: Index, unsafe: bool, *, linked: bool
) -> tuple[duckdb.DuckDBPyConnection, ParquetFiles | None]:
    database, parquet = _open(unsafe), None
    try:
        if cache.attach(database, index, linked=linked):
            for damage in cache.damages(database):
                logger.warning("%s; left out", damage)
            database.execute(cache_definitions(cache.hidden_sizes(database)))
        else:
            parquet = ParquetFiles.of(index)
            parquet.define(database)
        if not unsafe:
            _lock(database, parquet.allowed_paths() if parquet else [])
    except BaseException:
        database.close()
        raise
    return database, parquet


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


def _lock(database: duckdb.DuckDBPyConnection, allowed: Sequence[str]) -> None:
    literals = ", ".join("'" + text.replace("'", "''") + "'" for text in sorted(allowed))
    database.execute(f"SET allowed_paths = [{literals}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def _one_line(error: Exception) -> str:
    """DuckDB's message without the excerpt of the query that follows it."""
    message = re.split(r"\n\s*\n|\nLINE \d+:", str(error).strip(), maxsplit=1)[0]
    return " ".join(message.split())
