"""A read-only DuckDB connection to an index, over its cache or its Parquet files."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.index import Index
from hubdelta.sql import read_only
from hubdelta.sql.cache import cache
from hubdelta.sql.cache.contents import path_of
from hubdelta.sql.cache.flat_deltas import Deltas, FlatDeltasError
from hubdelta.sql.cache.spill import spill_folder
from hubdelta.sql.parquet_files import ParquetFiles
from hubdelta.sql.script import cache_definitions
from hubdelta.sql.search.function import Search
from hubdelta.sql.stoppable import StoppableThread, interruptible
from hubdelta.sql.vocabulary import NEED_LINKAGE

logger = logging.getLogger(__name__)

# A relation is planned both when it is created and when it runs. A result is planned once, but
# copies its rows (few, for questions with parameters) and warns about that each time.
warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)

Parameters = Sequence[Any] | Mapping[str, Any]

_R = TypeVar("_R")

# Errors that no damaged file can cause: the query itself is wrong or not allowed.
_OWN_FAULTS = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.OutOfMemoryException,
    duckdb.ParserException,
    duckdb.PermissionException,
    duckdb.TransactionException,
)

# Errors that a damaged cache causes, besides those of the base class.
_DAMAGE = (
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.IOException,
    duckdb.SerializationException,
)


@dataclass(frozen=True)
class _Opened:
    """A DuckDB connection with the views and macros.

    Attributes:
        database: the connection.
        parquet: the files it reads; None if it reads the cache.
        linked: whether queries that need the linkage have it.
        search: the search for neighbors; None without the cache.
        held: what to close with it.
    """

    database: duckdb.DuckDBPyConnection
    parquet: ParquetFiles | None
    linked: bool
    search: Search | None
    held: ExitStack

    def close(self) -> None:
        self.held.close()


@dataclass
class Queries:
    """Runs queries on the views and macros of an index; made by `connect`.

    It shows the index as of its creation, except that if the linkage was out of date, the first
    query about pairs or domains moves it to the current state. For one thread at a time.

    Attributes:
        index: the index.
        unsafe: whether queries are unrestricted.
    """

    index: Index
    unsafe: bool
    _opened: _Opened = field(repr=False)
    _checked: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)
    _thread: StoppableThread = field(default_factory=StoppableThread, repr=False)

    @property
    def database(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection; queries run on it directly are not checked."""
        return self._opened.database

    @property
    def parquet(self) -> ParquetFiles | None:
        """The files read; None if the cache is read."""
        return self._opened.parquet

    @property
    def deltas(self) -> Deltas:
        """The deltas of the cache; empty where the Parquet files are read."""
        return {} if self._opened.search is None else self._opened.search.deltas

    def __enter__(self) -> "Queries":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the DuckDB connection."""
        try:
            self._opened.close()
        finally:
            self._thread.close()

    def run(self, sql: str, parameters: Parameters = ()) -> pa.Table:
        """Run one query.

        Damage inside a file shows only now. A damaged cache is rebuilt; damaged Parquet files are
        named in a warning and left out from then on. Then the query is run once more.

        Args:
            sql: one statement; any statements if `unsafe`.
            parameters: values of `?` or `$name` in it.

        Raises:
            QueryError: it is wrong, or not allowed on a read-only connection.
            KeyboardInterrupt: Ctrl-C stopped it.
        """
        self._thread.settle()
        try:
            sql.encode()  # lone surrogates, which DuckDB's client cannot take
            if not self.unsafe:  # an unsafe connection is linked from the start
                if sql not in self._checked:
                    self._checked[sql] = self._in_thread(
                        partial(read_only.check, self.database, sql)
                    )
                if self._checked[sql] & NEED_LINKAGE:
                    self.link()
            try:
                return self._run(sql, parameters)
            except duckdb.Error as error:
                if not self._leave_out_damage(error):
                    raise
            return self._run(sql, parameters)
        except duckdb.ParserException as error:
            raise QueryError(_one_line(error) + read_only.parser_hint(sql)) from error
        except duckdb.BinderException as error:
            message = _one_line(error)
            raise QueryError(message + read_only.binder_hint(sql, message)) from error
        except duckdb.CatalogException as error:
            raise QueryError(read_only.catalog_message(_one_line(error))) from error
        except (duckdb.Error, pa.ArrowException, UnicodeError) as error:
            raise QueryError(_one_line(error)) from error

    def run_all(self, sql: str) -> Iterator[pa.Table]:
        """Run statements one after the other; all are checked before the first one runs.

        Raises:
            QueryError: one is wrong, or not allowed on a read-only connection.
            KeyboardInterrupt: Ctrl-C stopped it.
        """
        self._thread.settle()
        try:
            sql.encode()
            found = self._in_thread(partial(read_only.statements, self.database, sql)) or [sql]
            for statement in found if not self.unsafe else ():
                self._in_thread(partial(read_only.check, self.database, statement))
        except duckdb.ParserException as error:
            raise QueryError(_one_line(error) + read_only.parser_hint(sql)) from error
        except (duckdb.Error, UnicodeError) as error:
            raise QueryError(_one_line(error)) from error
        for statement in found:
            yield self.run(statement)

    def neighbors(self, adapter: str, k: int) -> pa.Table:
        """The rows of `neighbors(adapter, k := k)`.

        With the cache, the search answers directly, in less time than DuckDB takes to plan a query.

        Args:
            adapter: `org/name[/subfolder][@revision]`.
            k: how many.

        Raises:
            QueryError: k is negative.
            KeyboardInterrupt: Ctrl-C stopped it.
        """
        found = self._searched(adapter, k, None)
        return self.run("FROM neighbors(?, k := ?)", [adapter, k]) if found is None else found

    def within(self, adapter: str, distance: float) -> pa.Table:
        """The rows of `within(adapter, distance := distance)`, answered as by `neighbors`.

        Args:
            adapter: `org/name[/subfolder][@revision]`.
            distance: the largest cosine distance.

        Raises:
            KeyboardInterrupt: Ctrl-C stopped it.
        """
        found = self._searched(adapter, None, float(distance))
        query = "FROM within(?, distance := ?)"
        return self.run(query, [adapter, distance]) if found is None else found

    def _searched(self, adapter: str, k: int | None, distance: float | None) -> pa.Table | None:
        """The search's answer; None if the query has to run, to report a cause or repair damage."""
        search = self._opened.search
        if search is None:
            return None
        try:
            return self._in_thread(partial(search.nearest, adapter, k, distance))
        except (duckdb.Error, FlatDeltasError, ValueError):
            return None

    def _run(self, sql: str, parameters: Parameters) -> pa.Table:
        def answer() -> pa.Table:
            if parameters:
                return self.database.execute(sql, parameters).to_arrow_table()
            relation = self.database.sql(sql)
            return pa.table({}) if relation is None else relation.to_arrow_table()

        def answer_reading() -> pa.Table:
            with self._transaction():
                return answer()

        return self._in_thread(answer if self.unsafe else answer_reading)

    def _in_thread(self, work: Callable[[], _R]) -> _R:
        """Run a function in the thread; Ctrl-C stops it."""
        self._thread.settle()
        search = self._opened.search
        if search is not None:
            search.stopped.clear()

        def interrupt() -> None:
            if search is not None:
                search.stopped.set()
            self.database.interrupt()

        return self._thread.run(work, interrupt)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A read-only transaction, closed whatever happens."""
        try:
            self.database.execute("BEGIN TRANSACTION READ ONLY")
            yield
        finally:
            is_open = True
            while is_open:
                # Ctrl-C may have ended BEGIN, or arrived after the query had ended.
                with suppress(duckdb.InterruptException):
                    with suppress(duckdb.TransactionException):
                        self.database.execute("ROLLBACK")
                    is_open = False

    def _leave_out_damage(self, error: duckdb.Error) -> bool:
        """Drop what is damaged, if damage caused an error; whether anything was damaged."""
        searched = self._opened.search is not None and self._opened.search.is_damaged
        if self.unsafe:  # a query that writes must not run twice; the next connection repairs
            if searched and cache.is_damaged(self.index):
                cache.remove(self.index)
            return False
        if self.parquet is not None:
            return not isinstance(error, _OWN_FAULTS) and self.parquet.leave_out_damaged(
                self.database
            )
        if not searched and not isinstance(error, _DAMAGE) and type(error) is not duckdb.Error:
            return False
        linked = self._opened.linked
        self._opened.close()
        damaged = cache.is_damaged(self.index)
        if damaged:
            logger.warning("%s is damaged, and will not be used", path_of(self.index))
        usable = not damaged or cache.remove(self.index)
        self._opened = _open(self.index, self.unsafe, linked=linked, cached=usable)
        return damaged or searched

    def link(self) -> None:
        """Bring the linkage, which domains and pairs need, up to date."""
        if self._opened.linked:
            return
        self._opened.close()
        try:
            self._opened = _open(self.index, self.unsafe, linked=True)
        except BaseException:  # Ctrl-C: other questions can still be answered
            self._opened = _open(self.index, self.unsafe, linked=False)
            raise


def connect(index: Index, *, unsafe: bool = False) -> Queries:
    """Open an index for queries, in an in-memory DuckDB.

    They read the cache, which is first brought up to date. If it is out of date and cannot be
    written, as in another user's folder, they read the Parquet files: the answers are the same, but
    slower. Damaged Parquet files are named in a warning and left out.

    Args:
        index: the index.
        unsafe: let queries write, configure, load extensions and read other files.

    Raises:
        DamagedFileError: there is no cache, and a table has no readable file.
        NewerIndexError: a newer hubdelta wrote a file.
    """
    # Queries of an unsafe connection may define macros of their own that need the linkage.
    return Queries(index, unsafe, _open(index, unsafe, linked=unsafe))


def _open(index: Index, unsafe: bool, *, linked: bool, cached: bool = True) -> _Opened:
    """A connection over the cache, with an up-to-date linkage if `linked`, or over the files."""
    with interruptible(), ExitStack() as stack:
        database = stack.enter_context(_database(unsafe, stack.enter_context(spill_folder())))
        parquet, search = None, None
        attached = cache.attach(database, index, linked=linked) if cached else None
        if attached is not None:
            stack.callback(attached.close)
            search = Search(database, attached.contents.deltas)
            stack.callback(search.close)
            for damage in attached.damages():
                logger.warning("%s; left out", damage)
            database.execute(cache_definitions())
            linked = attached.contents.linked
        else:
            parquet = ParquetFiles.of(index)
            stack.callback(parquet.close)
            parquet.define(database)
            linked = True
        if not unsafe:
            _lock(database, parquet.allowed_paths() if parquet else [])
        return _Opened(database, parquet, linked, search, stack.pop_all())


def _database(unsafe: bool, spill: Path) -> duckdb.DuckDBPyConnection:
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
    """DuckDB's message, or ours passed through it, without the excerpt of the query."""
    message = re.split(r"\n\s*\n|\nLINE \d+:", str(error).strip(), maxsplit=1)[0]
    message = re.sub(r"Python exception occurred while executing the UDF: \w+: ", "", message)
    return " ".join(message.split())
