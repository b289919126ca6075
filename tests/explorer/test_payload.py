"""What the page is given: columns of n values, exact neighbors, and JSON that any parser takes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from map_pools import add, clustered, drawn, names

from hubdelta.explorer.page import render
from hubdelta.explorer.payload import payload
from hubdelta.explorer.pool import opened_pool
from hubdelta.schemas.errors import QueryError, UsageError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import LabelRow
from hubdelta.sql.connection import connect

pytestmark = pytest.mark.slow

COLUMNS = {
    *("adapter", "repo_id", "subfolder", "revision", "x", "y", "domain", "label", "downloads"),
    *("likes", "license", "rank", "alpha", "signal", "norm", "adapter_type", "target_modules"),
    *("weight_bytes", "author", "datasets", "languages", "task", "created_at", "last_modified"),
    *("status", "promotes", "card"),
}


def text_of(index: Index, base: str | None = None) -> str:
    with connect(index) as queries, opened_pool(queries, base) as pool:
        placement, domains = drawn(pool)
        return payload(
            pool,
            placement,
            domains,
            threshold=0.25,
            hub="https://huggingface.co",
            version="9.9",
            made_at=datetime(2026, 11, 21, 3, 45, tzinfo=UTC),
        )


def page_of(index: Index, base: str | None = None) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    page: dict[str, Any] = json.loads(text_of(index, base), parse_constant=refuse)
    return page


def test_it_has_what_the_page_reads(index: Index):
    add(index, names(0, 12), clustered(12, clusters=2), pipeline_tag="text-generation")
    lone = clustered(50, clusters=50)[49:]
    add(index, ["b/lone"], lone, datasets=["d/x"], author=None, card="c" * 5000)
    index.write([LabelRow(adapter="a/00002", label="law", labelled_at=datetime.now(UTC))])
    page = page_of(index)
    assert {name: page[name] for name in ("format", "base", "recipe", "hub", "version")} == {
        "format": 1,
        "base": "org/base",
        "recipe": "recipe",
        "hub": "https://huggingface.co",
        "version": "9.9",
    }
    assert (page["made_at"], page["threshold"]) == ("2026-11-21T03:45:00+00:00", 0.25)
    columns = page["columns"]
    assert set(columns) == COLUMNS
    assert {len(column) for column in columns.values()} == {13}
    assert columns["adapter"] == [*names(0, 12), "b/lone"]
    assert [domain["size"] for domain in page["domains"]] == [6, 6]
    assert columns["domain"] == [*([columns["domain"][0], columns["domain"][1]] * 6), None]
    assert page["domains"][columns["domain"][2]]["name"] == "law"
    assert sorted(domain["number"] for domain in page["domains"]) == [1, 2]
    assert columns["label"][2] == "law"
    assert columns["task"] == ["text-generation"] * 12 + ["CAUSAL_LM"]
    assert columns["card"][12] == "c" * 400
    assert columns["datasets"][12] == ["d/x"]
    assert columns["created_at"][0] == "2026-11-01T00:00:00+00:00"
    assert columns["status"][0] == "embedded"


def test_neighbors_are_rows_and_distances(index: Index):
    add(index, names(0, 12), clustered(12))
    page = page_of(index)
    k = page["neighbors"]["k"]
    rows = np.frombuffer(base64.b64decode(page["neighbors"]["index"]), "<i4").reshape(12, k)
    distances = np.frombuffer(base64.b64decode(page["neighbors"]["distance"]), "<f4")
    assert k == 50
    assert ((rows >= 0).sum(axis=1) == 11).all()
    assert (rows[:, :2] % 4 == np.arange(12)[:, None] % 4).all()
    assert (np.diff(distances.reshape(12, k)[:, :11], axis=1) >= 0).all()


def test_numbers_that_are_none_are_null(index: Index):
    add(index, names(0, 3), clustered(3), signal=float("inf"), alpha=float("nan"))
    columns = page_of(index)["columns"]
    assert columns["signal"] == columns["alpha"] == [None] * 3


def test_a_page_shows_it_and_text_from_the_hub_stays_text(index: Index):
    evil = "</script><script>alert(1)</script><!-- \u2028 \x1b[31m"
    add(index, names(0, 4), clustered(4), card=evil, license="<b>", author=evil)
    html = render(text_of(index))
    assert "alert(1)</script" not in html
    assert "a/00003" in html


def test_only_the_larger_recipe_is_shown_with_a_warning(index: Index, caplog):
    add(index, names(0, 5), clustered(5))
    add(index, names(5, 7), clustered(2), recipe_id="other")
    page = page_of(index)
    assert page["columns"]["adapter"] == names(0, 5)
    assert "2 adapters have vectors of another recipe" in caplog.text


def test_a_vector_within_the_noise_is_no_point(index: Index):
    add(index, names(0, 3), clustered(3))
    add(index, names(3, 4), clustered(1), signal=1.0)
    assert page_of(index)["columns"]["adapter"] == names(0, 3)


def test_several_bases_ask_for_one(index: Index):
    add(index, names(0, 3), clustered(3))
    add(index, names(0, 2), clustered(2), base="org/second")
    with pytest.raises(UsageError, match=r"several bases: org/base, org/second"):
        page_of(index)
    assert len(page_of(index, "org/second")["columns"]["x"]) == 2


def test_nothing_to_show_is_an_error(index: Index):
    with pytest.raises(QueryError, match="embed adapters first"):
        page_of(index)
    add(index, names(0, 1), clustered(1), signal=0.5)
    with pytest.raises(QueryError, match="no vector of org/base"):
        page_of(index, "org/base")
    with pytest.raises(QueryError, match="no base org/nobody: it has org/base"):
        page_of(index, "org/nobody")
