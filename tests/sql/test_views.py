"""The views: which row is the newest, what state an adapter is in, which vector stands for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from geometry import at
from rows import catalog_row, failure_row, vector_row
from sharing import opened

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import TABLES, ClusterRow, LabelRow, VectorRow
from hubdelta.sql.columns import COLUMNS, described, names
from hubdelta.sql.connection import Queries

EARLY = datetime(2026, 1, 1, tzinfo=UTC)
LATE = datetime(2026, 2, 1, tzinfo=UTC)
OLD, NEW = "1" * 40, "2" * 40

AS_STORED = [row_type for row_type in TABLES if row_type not in (ClusterRow, LabelRow)]
"""Tables whose view has their columns; `clusters` and `labels` show what their rows amount to."""


def only(index: Index, query: str) -> dict[str, object]:
    rows = opened.of(index).run(query).to_pylist()
    assert len(rows) == 1, rows
    return rows[0]


@pytest.mark.parametrize(
    "view",
    [
        "adapters",
        "catalog",
        "vectors",
        "comparable",
        "failures",
        "bases",
        "runs",
        "clusters",
        "maps",
        "spaces",
    ],
)
def test_every_view_of_an_empty_index_is_empty(empty: Index, view: str) -> None:
    assert len(opened.of(empty).run(f"FROM {view}")) == 0


def comments(queries: Queries) -> dict[str, dict[str, str]]:
    """Of each view the comments of its columns, in its order."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    rows = queries.run(
        "SELECT table_name, column_name, comment FROM duckdb_columns()"
        " WHERE schema_name = 'main' AND NOT internal AND database_name = current_database()"
        " ORDER BY table_name, column_index"
    ).to_pylist()
    for row in rows:
        found[row["table_name"]][row["column_name"]] = row["comment"]
    return found


def test_every_column_of_every_view_carries_its_comment(
    index: Index, over_parquet: Callable[[Index], Queries]
) -> None:
    found = comments(opened.of(index))
    assert found == comments(over_parquet(index)) == COLUMNS
    assert [list(columns) for columns in found.values()] == [list(COLUMNS[name]) for name in found]
    assert all(meaning for columns in found.values() for meaning in columns.values())


def test_stored_columns_are_described_as_in_the_schemas() -> None:
    for row_type in AS_STORED:
        assert described(row_type).items() <= COLUMNS[row_type.table].items()
    assert described(VectorRow)["norm"] == "L2 norm of delta [hidden-state units]"
    assert described(VectorRow)["probe_set"] == "name of the probe set"


def test_adapters_has_the_newest_revision_only(index: Index) -> None:
    index.write([catalog_row(revision=NEW, crawled_at=LATE, downloads=7)], base="org/base")
    index.write([catalog_row(revision=OLD, crawled_at=EARLY, downloads=3)], base="org/base")
    row = only(index, "SELECT revision, downloads FROM adapters")
    assert row == {"revision": NEW, "downloads": 7}


def test_one_repository_is_an_adapter_per_base_and_subfolder(index: Index) -> None:
    index.write([catalog_row(), catalog_row(subfolder="x/y")], base="org/base")
    index.write([catalog_row(base="org/other")], base="org/other")
    rows = opened.of(index).run("SELECT base, adapter FROM adapters ORDER BY ALL").to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("org/base", "a/b"),
        ("org/base", "a/b/x/y"),
        ("org/other", "a/b"),
    ]


def test_an_adapter_never_tried_is_pending(index: Index) -> None:
    index.write([catalog_row()], base="org/base")
    assert only(index, "SELECT status FROM adapters") == {"status": "pending"}


def test_a_failed_adapter_shows_its_newest_attempt(index: Index) -> None:
    index.write([catalog_row()], base="org/base")
    index.write(
        [
            failure_row(reason="network", attempt=1, failed_at=EARLY, due_at=LATE),
            failure_row(reason="corrupt", attempt=2, failed_at=LATE, message="truncated"),
        ],
        base="org/base",
    )
    row = only(index, "SELECT status, reason, message, attempt, due_at FROM adapters")
    assert list(row.values()) == ["failed", "corrupt", "truncated", 2, None]


def test_a_failure_that_healed_leaves_no_trace(index: Index) -> None:
    index.write([catalog_row()], base="org/base")
    index.write([failure_row()], base="org/base")
    index.write([vector_row(signal=5.0, rank=4)], base="org/base")
    row = only(index, "SELECT status, reason, signal, rank, engine FROM adapters")
    assert list(row.values()) == ["embedded", None, 5.0, 4, "reference"]


def test_a_new_revision_is_pending_though_the_old_one_has_a_vector_and_a_failure(
    index: Index,
) -> None:
    index.write([catalog_row(revision=NEW, crawled_at=LATE)], base="org/base")
    index.write([vector_row(revision=OLD)], base="org/base")
    index.write([failure_row(revision=OLD)], base="org/base")
    row = only(index, "SELECT status, reason, norm FROM adapters")
    assert list(row.values()) == ["pending", None, None]


def test_what_the_hub_lost_is_vanished_and_keeps_its_vector(index: Index) -> None:
    index.write([catalog_row(crawled_at=EARLY)], base="org/base")
    index.write([catalog_row(crawled_at=LATE, vanished_at=LATE)], base="org/base")
    index.write([vector_row()], base="org/base")
    row = only(index, "SELECT status, norm FROM adapters")
    assert list(row.values()) == ["vanished", 1.0]


def test_a_mirror_of_the_base_is_no_adapter(index: Index) -> None:
    index.write([catalog_row(), catalog_row(repo_id="a/base-4bit", kind="mirror")], base="org/base")
    assert only(index, "SELECT adapter FROM adapters") == {"adapter": "a/b"}


def test_a_contradiction_about_the_base_is_shown(index: Index) -> None:
    index.write([catalog_row(canonical_base="org/else")], base="org/base")
    assert only(index, "SELECT canonical_base FROM adapters WHERE canonical_base <> base")


def test_the_vector_of_what_turns_out_to_belong_to_another_base_no_longer_counts(
    index: Index,
) -> None:
    index.write([catalog_row(crawled_at=EARLY)], base="org/base")
    index.write([vector_row()], base="org/base")
    assert only(index, "SELECT status FROM adapters") == {"status": "embedded"}
    index.write([catalog_row(crawled_at=LATE, canonical_base="org/else")], base="org/base")
    index.write([failure_row(reason="base_mismatch", failed_at=LATE)], base="org/base")
    row = only(index, "SELECT status, reason FROM adapters")
    assert row == {"status": "failed", "reason": "base_mismatch"}
    assert only(index, "SELECT count(*) AS n FROM comparable WHERE current") == {"n": 0}


def test_a_vector_stored_twice_counts_once_and_the_later_wins(index: Index) -> None:
    index.write([vector_row(signal=1.0, embedded_at=EARLY)], base="org/base")
    index.write([vector_row(signal=2.0, embedded_at=LATE)], base="org/base")
    index.write([vector_row(signal=2.0, embedded_at=LATE)], base="org/base")
    assert only(index, "SELECT signal FROM vectors") == {"signal": 2.0}
    assert only(index, "SELECT count(*) AS n FROM comparable") == {"n": 1}


def test_the_cataloged_revision_stands_for_the_adapter_even_if_another_was_made_later(
    index: Index,
) -> None:
    index.write([catalog_row(revision=OLD)], base="org/base")
    index.write([vector_row(revision=OLD, embedded_at=EARLY)], base="org/base")
    index.write([vector_row(revision=NEW, embedded_at=LATE)], base="org/base")
    assert only(index, "SELECT revision FROM comparable WHERE current") == {"revision": OLD}


def test_the_vector_made_last_stands_in_for_a_revision_that_has_none(index: Index) -> None:
    index.write([catalog_row(revision="3" * 40)], base="org/base")
    index.write([vector_row(revision=NEW, embedded_at=LATE)], base="org/base")
    index.write([vector_row(revision=OLD, embedded_at=EARLY)], base="org/base")
    assert only(index, "SELECT revision FROM comparable WHERE current") == {"revision": NEW}


@pytest.mark.parametrize("bad", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_a_vector_without_direction_stands_for_nothing_not_even_by_an_older_revision(
    index: Index, bad: list[float]
) -> None:
    index.write([catalog_row(revision=NEW)], base="org/base")
    index.write(
        [
            vector_row(revision=OLD, embedded_at=EARLY),
            vector_row(revision=NEW, embedded_at=LATE, delta=np.array(bad, np.float32)),
        ],
        base="org/base",
    )
    queries = opened.of(index)
    assert len(queries.run("FROM comparable WHERE current")) == 0
    assert len(queries.run("FROM vectors")) == 2


def test_each_recipe_has_its_vector_and_the_later_one_is_newest(index: Index) -> None:
    index.write([catalog_row()], base="org/base")
    index.write(
        [
            vector_row(recipe_id="later", embedded_at=LATE, delta=at(0)),
            vector_row(recipe_id="earlier", embedded_at=EARLY, delta=at(90)),
        ],
        base="org/base",
    )
    rows = opened.of(index).run("SELECT recipe_id, current, newest FROM comparable ORDER BY 1")
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        ("earlier", True, False),
        ("later", True, True),
    ]


def cluster_row(number: int, members: list[str], **changes: object) -> ClusterRow:
    row: dict[str, object] = {
        "base": "org/base",
        "recipe_id": "recipe",
        "cluster": number,
        "members": members,
        "strengths": [1.0] + [0.5] * (len(members) - 1) if members else [],
        "medoid": members[-1] if members else None,
        "cohesion": 0.9 if members else None,
        "silhouette": None,
        "clustered_at": EARLY,
        "run_id": "r",
    }
    return ClusterRow(**row | changes)  # type: ignore[arg-type]


def test_clusters_show_each_member_of_the_newest_state_of_each_cluster(index: Index) -> None:
    index.write(
        [
            cluster_row(1, ["a/one", "a/gone"]),
            cluster_row(2, ["a/x", "a/y"]),
            cluster_row(1, ["a/one", "a/two"], clustered_at=LATE),
            cluster_row(3, [], clustered_at=LATE),
            cluster_row(3, ["a/p", "a/q"]),
        ],
        base="org/base",
    )
    index.write([cluster_row(1, ["b/one", "b/two"], base="org/other")], base="org/other")
    queries = opened.of(index)
    rows = queries.run(
        "SELECT base, cluster, size, adapter, strength, is_medoid FROM clusters ORDER BY ALL"
    ).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("org/base", 1, 2, "a/one", 1.0, False),
        ("org/base", 1, 2, "a/two", 0.5, True),
        ("org/base", 2, 2, "a/x", 1.0, False),
        ("org/base", 2, 2, "a/y", 0.5, True),
        ("org/other", 1, 2, "b/one", 1.0, False),
        ("org/other", 1, 2, "b/two", 0.5, True),
    ]


def test_completion_knows_views_columns_and_macros() -> None:
    assert {"adapters", "downloads", "neighbors", '"between"', "central"} <= set(names())
