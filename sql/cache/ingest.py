"""Rows of Parquet files become rows of the cache, and what is derived from them is recomputed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hubdelta.schemas.arrow import schema_of
from hubdelta.schemas.errors import DamagedFileError, UnreadableError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import TABLES, CatalogRow, FailureRow, Row, VectorRow
from hubdelta.sql.cache import flat_deltas
from hubdelta.sql.cache.families import VectorFamily, read_family, read_linkage, unit_vectors
from hubdelta.sql.views import text_of
from hubdelta.vectors.linkage import Linkage, relink
from hubdelta.vectors.sketch import WORDS, sketches

_ROWS = 8192  # rows added at once: a row group of the cache
_KEY = ["base", "repo_id", "subfolder"]
_READ_NEXT_TIME = 0
"""Stored as the time of a file that could not be read: it matches no file, so it is tried again."""

_OF_CACHED_VECTORS = {
    "place": pa.int64(),
    "hidden": pa.int32(),
    "slot": pa.int64(),
    "fold": pa.uint32(),
}
"""What stored_vectors has in place of the deltas; cache_schema.sql says what it means."""

_OF_ADAPTERS = (CatalogRow, VectorRow, FailureRow)
"""Tables whose rows are about an adapter, with that key."""


def create_tables(database: duckdb.DuckDBPyConnection, version: str) -> None:
    """Create the tables of a new cache, attached as `cache`, and begin a new edition."""
    for row_type in TABLES:
        schema = schema_of(row_type)
        if row_type is VectorRow:
            schema = schema.remove(schema.get_field_index("delta"))
            for name, kind in _OF_CACHED_VECTORS.items():
                schema = schema.append(pa.field(name, kind))
        create = f"CREATE TABLE cache.stored_{row_type.table} AS FROM added"
        _insert(database, schema.empty_table(), create)
    database.execute(text_of("cache_schema.sql"))
    edition = flat_deltas.new_edition()
    database.execute("INSERT INTO cache.facts VALUES (?, false, true, ?)", [version, edition])


def ingest(database: duckdb.DuckDBPyConnection, index: Index, names: Sequence[str]) -> None:
    """Add the rows of files to the cache, and recompute the current state of their adapters.

    Until all is done the cache is not `settled`, and a cache that is not settled is discarded. So
    rows need no common transaction and get their permanent rowids at once.

    Args:
        database: the cache is attached as `cache`, for writing.
        index: the index.
        names: Parquet files, relative to the index's root; missing ones are forgotten.
    """
    _prepare(database)
    database.execute("UPDATE cache.facts SET settled = false")
    for row_type in TABLES:
        mine = [name for name in names if name.startswith(f"{row_type.table}/")]
        for table in _tables(database, index, row_type, mine):
            _add(database, index, row_type, table)
    with _transaction(database):
        _settle(database)
        database.execute(
            "UPDATE cache.facts SET settled = true, linked = ?", [not _changed_families(database)]
        )


def link_families(database: duckdb.DuckDBPyConnection, index: Index) -> None:
    """Bring the linkage of every family up to date: each new vector is compared with all others.

    Args:
        database: the cache is attached as `cache`, to be written.
        index: the index.

    Raises:
        FlatDeltasError: a delta does not match the cache.
    """
    deltas = flat_deltas.mapped(database, index)
    for base, recipe_id in _changed_families(database):
        with _transaction(database):
            _link(database, deltas, base, recipe_id)
    database.execute("UPDATE cache.facts SET linked = true")


def _prepare(database: duckdb.DuckDBPyConnection) -> None:
    """Create what is needed outside the cache: a transaction writes to one database only."""
    database.execute("CREATE SCHEMA hubdelta")
    database.execute("CREATE TEMP TABLE touched (base VARCHAR, repo_id VARCHAR, subfolder VARCHAR)")
    for part in ("touched_sources.sql", "embedded.sql", "present.sql"):
        database.execute(text_of(part))
    database.execute("CREATE VIEW adapters AS FROM hubdelta.present_adapters")
    database.execute(text_of("terms.sql"))


@contextmanager
def _transaction(database: duckdb.DuckDBPyConnection) -> Iterator[None]:
    database.execute("BEGIN TRANSACTION")
    yield
    database.execute("COMMIT")


def _add(
    database: duckdb.DuckDBPyConnection, index: Index, row_type: type[Row], rows: pa.Table
) -> None:
    if row_type is VectorRow:
        _add_vectors(database, index, rows)
    else:
        _insert(database, rows, f"INSERT INTO cache.stored_{row_type.table} FROM added")
    if row_type in _OF_ADAPTERS:
        _insert(database, rows.select(_KEY), "INSERT INTO touched FROM added")


def _tables(
    database: duckdb.DuckDBPyConnection,
    index: Index,
    row_type: type[Row],
    names: Sequence[str],
) -> Iterator[pa.Table]:
    """The rows of files, small ones together; each file is recorded as held or damaged."""
    held = schema_of(row_type).empty_table()
    for name in names:
        database.execute("DELETE FROM cache.files AS f WHERE f.name = ?", [name])
        if not (index.root / name).exists():
            continue
        state = (index.root / name).stat()
        modified, damage = state.st_ctime_ns, None
        try:
            held = pa.concat_tables([held, index.read_file(row_type, index.root / name)])
        except DamagedFileError as error:
            damage = " ".join(str(error).split())
        except UnreadableError as error:
            modified, damage = _READ_NEXT_TIME, " ".join(str(error).split())
        database.execute(
            "INSERT INTO cache.files VALUES (?, ?, ?, ?)",
            [name, state.st_size, modified, damage],
        )
        while len(held) >= _ROWS:
            yield held.slice(0, _ROWS)
            held = held.slice(_ROWS)
    if len(held):
        yield held


def _add_vectors(database: duckdb.DuckDBPyConnection, index: Index, table: pa.Table) -> None:
    lengths = pc.list_value_length(table["delta"])
    for hidden in sorted(set(lengths.to_pylist())):
        rows = table.filter(pc.equal(lengths, hidden)).combine_chunks()
        deltas = _matrix(rows["delta"], hidden)
        place, slot = _counts(database, hidden)
        if hidden:
            flat_deltas.append(index, flat_deltas.edition_of(database), slot, deltas)
        facts = rows.drop_columns("delta")
        for name, values in zip(
            _OF_CACHED_VECTORS,
            (
                np.arange(place, place + len(rows)),
                np.full(len(rows), hidden, np.int32),
                np.arange(slot, slot + len(rows)),
                flat_deltas.folds(deltas),
            ),
            strict=True,
        ):
            facts = facts.append_column(name, pa.array(values))
        _insert(database, facts, "INSERT INTO cache.stored_vectors FROM added")
        _add_comparable(database, facts, deltas)


def _add_comparable(
    database: duckdb.DuckDBPyConnection, facts: pa.Table, deltas: npt.NDArray[np.float32]
) -> None:
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", deltas, deltas)  # in float32, as in is_comparable
    chosen = np.isfinite(squares) & (squares > 0) & (facts["signal"].to_numpy() > 1)
    words = sketches(deltas[chosen])
    norms = np.linalg.norm(deltas[chosen].astype(np.float64), axis=1)
    names = [f"b{word}" for word in range(WORDS)]
    sketch = pa.StructArray.from_arrays([pa.array(words[:, i]) for i in range(WORDS)], names)
    comparable = facts.filter(pa.array(chosen)).drop_columns("norm")
    for name, column in (("sketch", sketch), ("norm", pa.array(norms))):
        comparable = comparable.append_column(name, column)
    _insert(
        database,
        comparable,
        "INSERT INTO cache.families"
        " SELECT k.*, (SELECT count(*) FROM cache.families) + row_number() OVER ()"
        " FROM (SELECT DISTINCT a.base, a.recipe_id, a.hidden FROM added AS a) AS k"
        " ANTI JOIN cache.families AS f USING (base, recipe_id, hidden)",
    )
    _insert(
        database,
        comparable,
        "INSERT INTO cache.sketched BY NAME"
        " SELECT concat_ws('/', a.repo_id, nullif(a.subfolder, '')) AS adapter,"
        " a.base, a.repo_id, a.subfolder, a.revision, a.recipe_id, f.family,"
        " a.signal, a.embedded_at, a.place, a.hidden, a.slot, a.norm, a.fold, a.sketch"
        " FROM added AS a JOIN cache.families AS f USING (base, recipe_id, hidden)",
    )


def _settle(database: duckdb.DuckDBPyConnection) -> None:
    """Recompute the current state and vector of the adapters in `touched`."""
    database.execute(text_of("settle.sql"))


def _changed_families(database: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Base and recipe of each family whose linkage is not of its newest vectors."""
    return database.execute(
        "SELECT DISTINCT coalesce(c.base, l.base) AS base,"
        " coalesce(c.recipe_id, l.recipe_id) AS recipe_id"
        " FROM (FROM cache.sketched AS n WHERE n.newest) AS c"
        " FULL JOIN cache.linkage AS l ON l.place = c.place"
        " WHERE c.place IS NULL OR l.place IS NULL ORDER BY ALL"
    ).fetchall()


def _link(
    database: duckdb.DuckDBPyConnection, deltas: flat_deltas.Deltas, base: str, recipe_id: str
) -> None:
    family = read_family(database, base, recipe_id)
    old, kept = read_linkage(database, family)
    with unit_vectors(deltas, family) as units:
        rows = linkage_rows(family, relink(old, kept, units))
    database.execute(
        "DELETE FROM cache.linkage AS l WHERE l.base = ? AND l.recipe_id = ?", [base, recipe_id]
    )
    _insert(database, rows, "INSERT INTO cache.linkage BY NAME FROM added")


def linkage_rows(family: VectorFamily, linkage: Linkage) -> pa.Table:
    """A family's rows of the table `linkage`."""
    return pa.table(
        {
            "base": pa.repeat(family.base, len(linkage.order)),
            "recipe_id": pa.repeat(family.recipe_id, len(linkage.order)),
            "position": np.arange(len(linkage.order), dtype=np.int32),
            "place": family.places[linkage.order],
            "gap": np.round(linkage.gap.astype(np.float64), 6),
            "parent": pa.array(family.places[linkage.parent], mask=linkage.parent < 0),
        }
    )


def _matrix(lists: pa.ChunkedArray, hidden: int) -> npt.NDArray[np.float32]:
    """Lists of one length as [lists, hidden]."""
    flat = pc.fill_null(pc.list_flatten(lists), float("nan"))
    return flat.to_numpy().reshape(-1, hidden) if hidden else np.empty((len(lists), 0), np.float32)


def _counts(database: duckdb.DuckDBPyConnection, hidden: int) -> tuple[int, int]:
    """How many vectors the cache holds, and how many of a length: the next one's place and slot.

    None is ever deleted.
    """
    counts = "SELECT count(*), count(*) FILTER (v.hidden = ?) FROM cache.stored_vectors AS v"
    ((place, slot),) = database.execute(counts, [hidden]).fetchall()
    return place, slot


def _insert(database: duckdb.DuckDBPyConnection, rows: pa.Table, statement: str) -> None:
    """Run a statement that reads Arrow rows as `added`."""
    database.register("added", rows)
    database.execute(statement)
    database.unregister("added")
