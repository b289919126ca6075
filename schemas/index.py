"""An index: a directory of Parquet files that are written once, whole, and never changed."""

import logging
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from hubdelta.schemas.arrow import VERSION_KEY, schema_of, table_of
from hubdelta.schemas.errors import (
    DamagedFileError,
    IndexBusyError,
    IndexWriteError,
    NewerIndexError,
    NoIndexError,
    UnreadableError,
)
from hubdelta.schemas.files import UNFINISHED, appearing, why_unread, why_unwritten
from hubdelta.schemas.layout import (
    SCHEMA_VERSION,
    base_in,
    columns_file,
    columns_files,
    files_under,
    folder_of,
)
from hubdelta.schemas.parquet import open_parquet
from hubdelta.schemas.rows import TABLES, Row, RunRow
from hubdelta.schemas.upgrade import older_files, upgrade

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Index:
    """The tables of one index; layout.py says where their files are.

    Attributes:
        root: the index's directory.
    """

    root: Path

    @classmethod
    def open(cls, root: Path) -> "Index":
        """Open an existing index.

        Raises:
            NoIndexError: there is none at `root`.
            NewerIndexError: a newer hubdelta wrote it.
            UnreadableError: no permission to look into it.
        """
        try:
            has_runs = (root / RunRow.table).is_dir()
        except OSError as error:
            raise UnreadableError(why_unread(root, error)) from error
        if not has_runs:
            raise NoIndexError(f"no index at {root}")
        for row_type in TABLES:
            for version, path in columns_files(root, row_type).items():
                _check_version(path, version)
        return cls(root)

    @classmethod
    def create(cls, root: Path) -> "Index":
        """Open the index at `root`, creating it if there is none.

        Raises:
            IndexWriteError: the directory cannot be written.
            NewerIndexError: a newer hubdelta wrote it.
        """
        index = cls(root)
        try:
            lacking = [
                (row_type, path)
                for row_type in TABLES
                if not (path := columns_file(root, row_type)).exists()
            ]
        except OSError as error:
            raise UnreadableError(why_unread(root, error)) from error
        for row_type, path in lacking:
            index._write_file(path, row_type, [])
        return cls.open(root)

    @property
    def has_newest_columns(self) -> bool:
        """Whether a run of this version has written to it, not only earlier versions."""
        return all(columns_file(self.root, row_type).exists() for row_type in TABLES)

    @contextmanager
    def writing(self, *, wait: bool = False) -> Iterator[None]:
        """Hold the index for one run.

        Leftovers of killed runs are removed, and files of earlier versions are moved to their
        current place. The lock belongs to the process and is freed by the kernel when it dies.

        Args:
            wait: wait for the other run to end instead of raising.

        Raises:
            IndexBusyError: another run holds it, and `wait` is false.
        """
        lock = FileLock(self.root / ".lock")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            message = f"another run is writing to {self.root}"
            if not wait:
                raise IndexBusyError(f"{message}: try again when it has ended") from None
            logger.warning("%s: waiting for it to end", message)
            lock.acquire()
        except OSError as error:
            raise _write_error(self.root, error) from error
        try:
            for row_type in TABLES:
                for path in files_under(self.root / row_type.table, UNFINISHED):
                    path.unlink(missing_ok=True)
            for path in self.root.glob(f"*.sql.*{UNFINISHED}"):
                path.unlink(missing_ok=True)
            try:
                upgrade(self.root)
            except OSError as error:
                raise _write_error(self.root, error) from error
            yield
        finally:
            lock.release()

    def write(self, rows: Sequence[Row], *, base: str = "") -> Path | None:
        """Write rows of one type as one new file, atomically.

        Args:
            rows: the rows.
            base: the base model; not needed for a table without a folder per base.

        Returns:
            The file, or None where there are no rows.

        Raises:
            IndexWriteError: no space, no permission.
        """
        if not rows:
            return None
        row_type = type(rows[0])
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.parquet"
        path = folder_of(self.root, row_type, base) / name
        self._write_file(path, row_type, rows)
        return path

    def read(
        self,
        row_type: type[Row],
        *,
        base: str,
        columns: Sequence[str] | None = None,
        repo_ids: Collection[str] | None = None,
    ) -> pa.Table:
        """All rows of a table for one base, with the columns of this version.

        Damaged files are named in a warning and left out.

        Args:
            row_type: which table.
            base: the base model.
            columns: the columns wanted; all by default.
            repo_ids: the repositories whose rows are wanted, of a table with a column `repo_id`;
                all by default.

        Raises:
            UnreadableError: there may be rows that cannot be read at the moment.
        """
        schema = schema_of(row_type)
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)
        tables = [schema.empty_table()]
        for path in self._files_of(row_type, base):
            try:
                tables.append(_read_file(path, schema, base, repo_ids))
            except DamagedFileError as error:
                logger.warning("%s; left out", error)
        return pa.concat_tables(tables)

    def read_file(self, row_type: type[Row], path: Path) -> pa.Table:
        """All rows of one file of a table, with the columns of this version.

        Raises:
            DamagedFileError: it is incomplete or corrupt.
            UnreadableError: it cannot be read at the moment.
            NewerIndexError: a newer hubdelta wrote it.
        """
        return _read_file(path, schema_of(row_type))

    def has_damage(self, row_type: type[Row], *, base: str) -> bool:
        """Whether some rows of a base cannot be read; only footers are looked at."""
        for path in self._files_of(row_type, base):
            try:
                open_parquet(path)
            except DamagedFileError:
                return True
        return False

    def files(self, row_type: type[Row]) -> list[Path]:
        """The readable Parquet files of a table, all bases, oldest first.

        Only footers are read. Damaged and unreadable files are named in a warning and left out.

        Raises:
            UnreadableError: a folder cannot be listed.
        """
        sound = []
        for path in files_under(self.root / row_type.table):
            try:
                _check_version(path, _version(open_parquet(path).schema_arrow))
            except (DamagedFileError, UnreadableError) as error:
                logger.warning("%s; left out", error)
            else:
                sound.append(path)
        return sound

    def _files_of(self, row_type: type[Row], base: str) -> list[Path]:
        older = older_files(self.root, row_type)
        return [*older, *files_under(folder_of(self.root, row_type, base))]

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file beside the tables, replacing any file of that name atomically.

        Raises:
            IndexWriteError: no space, no permission.
        """
        path = self.root / name
        with _appearing(path) as file:
            file.write(text.encode())
        return path

    def _write_file(self, path: Path, row_type: type[Row], rows: Sequence[Row]) -> None:
        table = table_of(rows, row_type)
        if row_type.by_base:
            table = table.drop_columns("base")
        with _appearing(path) as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A file of the index, written atomically."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as file:
            yield file
    except OSError as error:
        raise _write_error(path, error) from error


def new_run_id(now: datetime) -> str:
    """An id that sorts by the run's start: `20261121T034502Z-1a2b3c`."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _read_file(
    path: Path,
    schema: pa.Schema,
    base: str | None = None,
    repo_ids: Collection[str] | None = None,
) -> pa.Table:
    """The rows of a file, of one base and of some repositories if these are named."""
    file = open_parquet(path)
    stored = file.schema_arrow
    _check_version(path, _version(stored))
    try:
        wanted = None
        if repo_ids is not None:
            names = file.read(columns=["repo_id"])["repo_id"]
            wanted = pc.is_in(names, pa.array(repo_ids, pa.string()))
            if not pc.any(wanted).as_py():
                return schema.empty_table()
        table = file.read(columns=[n for n in stored.names if n in schema.names or n == "base"])
        if wanted is not None:
            table = table.filter(wanted)
        if "base" not in stored.names:
            table = table.append_column("base", pa.repeat(base_in(path), len(table)))
        elif base is not None:
            table = table.filter(pc.equal(table["base"], base))
        columns = [
            table[spec.name].cast(spec.type)
            if spec.name in table.column_names
            else pa.nulls(len(table), spec.type)
            for spec in schema
        ]
    except (pa.ArrowException, OSError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UnreadableError(why_unread(path, error)) from error
        raise DamagedFileError(f"damaged Parquet file {path} ({error})") from error
    return pa.table(columns, schema=schema)


def _version(schema: pa.Schema) -> int:
    return int((schema.metadata or {}).get(VERSION_KEY, b"1"))


def _check_version(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise NewerIndexError(
            f"{path} was written by a newer hubdelta (format {version}, this one reads up to "
            f"{SCHEMA_VERSION}): pip install --upgrade hubdelta"
        )


def _write_error(path: Path, error: OSError) -> IndexWriteError:
    return IndexWriteError(why_unwritten(path, error))
