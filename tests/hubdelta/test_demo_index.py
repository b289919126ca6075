"""What the whole tool makes of the demo's Hub: the method's claims, computed from the index."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from hubdelta.demo.awkward import AWKWARD
from hubdelta.demo.base import BASE_ID
from hubdelta.demo.pool import MIXED, POOL, SINGLE

COMMITTED = Path(__file__).parents[2] / "demo" / "hub"
DOMAIN_OF = {adapter.repo_id: adapter.domains[0] for adapter in SINGLE}


def deltas(demo):
    with demo.queries() as queries:
        rows = queries.run("SELECT adapter, delta FROM vectors").to_pylist()
    return {row["adapter"]: np.array(row["delta"]) for row in rows}


def test_vectors_equal_the_published_computation(demo, published):
    found = deltas(demo)
    for name, expected in published.items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("repo", AWKWARD, ids=lambda repo: repo.repo_id)
def test_each_awkward_repository_becomes_the_right_row(demo, repo):
    with demo.queries() as queries:
        rows = queries.run(
            "SELECT subfolder, status, reason, message FROM adapters WHERE repo_id = ?",
            [repo.repo_id],
        ).to_pylist()
        cataloged = queries.run(
            "SELECT count(*) AS n FROM catalog WHERE repo_id = ? AND kind = 'mirror'",
            [repo.repo_id],
        ).to_pylist()
    if repo.expected == "not_listed":
        assert rows == []
    elif repo.expected == "mirror":
        assert rows == []
        assert cataloged == [{"n": 1}]
    else:
        assert {row["subfolder"] for row in rows} == set(repo.folders)
        for row in rows:
            outcome = row["reason"] if row["status"] == "failed" else row["status"]
            assert outcome == repo.expected, row
            assert row["status"] == "embedded" or len(row["message"]) > 20


def test_the_pickle_with_code_was_not_run(demo):
    assert not list(Path.cwd().glob("PICKLE-WAS-RUN"))
    assert not list(demo.path.rglob("PICKLE-WAS-RUN"))


SILHOUETTE = """
WITH labeled AS (
    SELECT v.adapter, l.domain, v.delta
    FROM vectors AS v JOIN labels AS l USING (adapter)
),
distances AS (
    SELECT x.adapter, x.domain, y.domain AS other,
           avg(greatest(0, least(1, 1 - list_cosine_similarity(x.delta, y.delta)))) AS distance
    FROM labeled AS x JOIN labeled AS y ON x.adapter <> y.adapter
    GROUP BY ALL
),
widths AS (
    SELECT adapter,
           min(distance) FILTER (other = domain) AS a,
           min(distance) FILTER (other <> domain) AS b
    FROM distances GROUP BY adapter
)
SELECT avg((b - a) / greatest(a, b)) AS silhouette FROM widths
"""


def test_the_domains_separate(demo, tmp_path):
    """Silhouette over the 15 single-domain adapters; the paper has .614 on three bases."""
    labels = ", ".join(f"('{name}', '{domain}')" for name, domain in DOMAIN_OF.items())
    with demo.queries() as queries:
        (answer,) = queries.run(
            f"WITH labels(adapter, domain) AS (VALUES {labels}), " + SILHOUETTE.strip()[5:]
        ).to_pylist()
    assert answer["silhouette"] >= 0.55

    found = deltas(demo)
    unit = np.array([found[name] / np.linalg.norm(found[name]) for name in DOMAIN_OF])
    distance = np.clip(1 - unit @ unit.T, 0, 1)
    np.fill_diagonal(distance, 0)
    theirs = silhouette_score(distance, list(DOMAIN_OF.values()), metric="precomputed")
    assert answer["silhouette"] == pytest.approx(theirs, abs=1e-6)

    csv = tmp_path / "labels.csv"
    csv.write_text("\n".join(["adapter,label", *map(",".join, DOMAIN_OF.items())]))
    (row,) = demo.ask("evaluate", "--base", BASE_ID, "--labels", csv)["spaces"]
    assert row["silhouette"] == pytest.approx(theirs, abs=1e-6)
    assert (row["retrieval"], row["dimension"]) == (1, unit.shape[1])


ADDITIVITY = """
WITH part AS (
    SELECT delta, row_number() OVER (ORDER BY adapter) AS n
    FROM vectors WHERE adapter IN ($first, $second)
),
mixed AS (SELECT delta FROM vectors WHERE adapter = $mixed)
SELECT
    list_cosine_similarity(
        m.delta, list_transform(list_zip(x.delta, y.delta), lambda pair: pair[1] + pair[2])
    ) AS to_sum,
    list_cosine_similarity(m.delta, x.delta) AS to_first,
    list_cosine_similarity(m.delta, y.delta) AS to_second
FROM mixed AS m, part AS x, part AS y
WHERE x.n = 1 AND y.n = 2
"""


@pytest.mark.parametrize("mixed", MIXED, ids=lambda adapter: adapter.repo_id)
def test_a_mixed_adapter_is_closer_to_the_sum_than_to_either_domain(demo, mixed):
    first, second = (
        next(single.repo_id for single in SINGLE if single.data == (part,)) for part in mixed.data
    )
    with demo.queries() as queries:
        (answer,) = queries.run(
            ADDITIVITY, {"first": first, "second": second, "mixed": mixed.repo_id}
        ).to_pylist()
    assert answer["to_sum"] > max(answer["to_first"], answer["to_second"])


def test_the_nearest_neighbor_is_of_the_same_domain(demo):
    with demo.queries() as queries:
        for name, domain in DOMAIN_OF.items():
            near = queries.run("FROM neighbors(?, k := 30)", [name]).to_pylist()
            labeled = [DOMAIN_OF[row["adapter"]] for row in near if row["adapter"] in DOMAIN_OF]
            assert labeled[0] == domain, name


def test_a_run_keeps_what_each_stage_took_and_what_came_over_the_line(demo):
    with demo.queries() as queries:
        (run,) = queries.run(
            "FROM runs WHERE kind = 'index' ORDER BY started_at LIMIT 1"
        ).to_pylist(maps_as_pydicts="strict")
    assert run["busy"].keys() == {"load", "download", "read", "stack", "compute", "write"}
    for stage, busy in run["busy"].items():
        assert 0 < busy < run["seconds"]
        assert run["waited"][stage] + busy == pytest.approx(
            run["waited"]["compute"] + run["busy"]["compute"], abs=0.1
        )
    wanted = sum((demo.hub.folder / name).stat().st_size for name in embedded_files(demo))
    assert wanted <= run["needed_bytes"] <= run["fetched_bytes"]
    sent = sum(record.bytes for record in demo.hub.requests)
    assert run["fetched_bytes"] < sent


def embedded_files(demo):
    """The weights of each adapter that has a vector, as files of the Hub's folder."""
    with demo.queries() as queries:
        rows = queries.run(
            "SELECT repo_id, unnest(weights_files) AS file FROM adapters"
            " WHERE status = 'embedded' AND kind = 'adapter'"
        ).to_pylist()
    return [f"{row['repo_id']}/{row['file']}" for row in rows]


def test_a_second_run_embeds_nothing_and_asks_once_a_listing(demo):
    before = len(demo.hub.requests)
    summary = demo.ask("index", "--base", BASE_ID)
    assert summary["embedded"] == 0
    assert summary["crawl"]["new"] == summary["crawl"]["changed"] == 0
    listings = [
        dict(request.query)["filter"]
        for request in demo.hub.requests[before:]
        if request.path == "/api/models"
    ]
    assert len(listings) == len(set(listings)) > 2
    assert len(demo.hub.requests) - before == len(listings) + 1  # and one for the base


def test_the_commands_answer(demo):
    near = demo.ask("similar", "mlnights/lora-test-3", "-k", "3")
    assert "graphsmiths/smollm2-135m-networkx-coder" in [row["adapter"] for row in near]
    domains = demo.ask("domains")
    members = [set(row["members"]) for row in domains]
    for name in set(DOMAIN_OF.values()):
        domain = {adapter for adapter in DOMAIN_OF if DOMAIN_OF[adapter] == name}
        assert any(domain <= group for group in members), name
    status = demo.ask("status")
    (base,) = status["bases"]
    expected = [repo.expected for repo in AWKWARD for _ in repo.folders]
    assert base["embedded"] == len(POOL) + expected.count("embedded")
    assert base["pending"] == 1  # the full finetune, embedded with --relation finetune only
    assert sum(base["failed"].values()) == len(
        [e for e in expected if e not in ("embedded", "mirror", "not_listed")]
    )


def test_a_zero_adapter_has_a_vector_and_no_neighbors(demo):
    zero = "mlnights/lora-test-0"
    with demo.queries() as queries:
        (row,) = queries.run(
            "SELECT norm, signal FROM vectors WHERE adapter = ?", [zero]
        ).to_pylist()
        assert row["signal"] <= 1
        assert not len(queries.run("FROM neighbors(?)", [zero]))
        everyone = queries.run("FROM neighbors('mlnights/lora-test-3', k := 1000)")["adapter"]
    assert zero not in everyone.to_pylist()
    done = demo.run("similar", zero)
    assert done.returncode == 1
    assert "without direction" in done.stderr


def test_plain_duckdb_gives_the_same_answers(demo):
    question = "FROM neighbors('mlnights/lora-test-5', k := 4)"
    with demo.queries() as queries:
        ours = queries.run(question).to_pylist()
    with duckdb.connect() as plain:
        plain.execute((demo.path / "hubdelta.sql").read_text())
        assert plain.sql(question).to_arrow_table().to_pylist() == ours
