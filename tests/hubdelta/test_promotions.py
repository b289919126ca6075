"""What adapters promote: the base's unembedding times their deltas, kept in the index."""

import json
import logging
from datetime import timedelta

import numpy as np
import pytest
from families import load_model, make_base
from rows import catalog_row, vector_row

from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.token_names import TokenNames
from hubdelta.jobs.promotions import refresh_promotions
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import BaseRow, PromotionRow
from hubdelta.sql.connection import connect

CODE = "graphsmiths/smollm2-135m-networkx-coder"
HIDDEN = 32


def test_changes_are_the_unembedding_times_the_delta_less_the_pools_mean(demo, demo_base):
    with demo.queries() as queries:
        rows = queries.run("FROM comparable WHERE newest").to_pylist()
        told = queries.run("FROM promotes(?)", [CODE]).to_pylist()
    deltas = {row["adapter"]: np.array(row["delta"], np.float64) for row in rows}
    center = np.mean(list(deltas.values()), 0)
    weight = load_model(demo_base).get_output_embeddings().weight.detach().double().numpy()
    changes = weight @ (deltas[CODE] - center)
    assert len(told) == 20
    assert {row["pool"] for row in told} == {len(deltas)}
    names = TokenNames(demo_base)
    order = np.argsort(changes)
    for side in (told[:10], told[10:]):
        candidates = order[-200:] if side[0]["change"] > 0 else order[:200]
        known = {}
        for token in candidates:
            known.setdefault(names.name(int(token)), []).append(changes[token])
        for row in side:
            assert min(abs(np.array(known[row["token"]]) - row["change"])) < 2e-3
    assert changes.max() == pytest.approx(told[0]["change"], abs=2e-3)
    assert [row["change"] for row in told] == sorted((r["change"] for r in told), reverse=True)


def test_adapters_trained_on_python_promote_its_words(demo):
    with demo.queries() as queries:
        (row,) = queries.run("SELECT * FROM adapters WHERE adapter = ?", [CODE]).to_pylist()
        verses = queries.run(
            "SELECT promotes FROM adapters WHERE adapter = 'mlnights/lora-test-5'"
        ).to_pylist()
    assert "def" in row["promotes"]
    assert "def" not in verses[0]["promotes"]
    assert len(row["promotes"]) == len(row["suppresses"]) == 10


def test_similar_compare_and_domains_tell_them(demo):
    nearest = demo.ask("similar", CODE, "-k", "3")
    assert all(row["promotes"] for row in nearest)
    shown = demo.run("similar", CODE, "-k", "3").stdout
    assert shown.splitlines()[0].endswith("promotes")
    assert ", ".join(nearest[0]["promotes"][:3]) in shown
    compared = demo.run("compare", CODE, "mlnights/lora-test-5").stdout
    assert "promotes" in compared
    assert "suppresses" in compared
    domains = demo.ask("domains", "--evidence")
    coders = next(domain for domain in domains if CODE in domain["members"])
    common = {token["token"]: token["inside"] for token in coders["promotes"]}
    assert 2 * min(common.values()) >= coders["size"]
    first = next(iter(common))
    evidence = demo.run("domains", "--evidence").stdout
    assert f"promotes {first} ({common[first]} of {coders['size']})" in evidence


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "base")


@pytest.fixture
def add(index, base):
    """Adds an adapter with a random delta, and the base's own states."""
    rng = np.random.default_rng(0)
    states = rng.standard_normal((len(ALPACA_5.prompts), HIDDEN)).astype(np.float32)
    own = {spec: getattr(vector_row(), spec) for spec in ("base_revision", "recipe_id", "engine")}
    own |= {spec: getattr(vector_row(), spec) for spec in ("probe_set", "probe_set_id", "run_id")}
    row = BaseRow(
        **own,
        base="org/base",
        prompts=list(ALPACA_5.prompts),
        layer="last",
        token="last",
        pooling="mean",
        model_type="llama",
        hidden_size=HIDDEN,
        activations=list(states),
        noise_floor=1e-6,
        precision="fp32",
        embedded_at=vector_row().embedded_at,
    )
    index.write([row], base="org/base")
    now = row.embedded_at

    def write(name: str, **changes) -> None:
        nonlocal now
        now += timedelta(minutes=1)
        delta = rng.standard_normal(HIDDEN).astype(np.float32)
        index.write([catalog_row(repo_id=name, crawled_at=now, **changes)], base="org/base")
        norm = float(np.linalg.norm(delta))
        vector = vector_row(repo_id=name, delta=delta, norm=norm, embedded_at=now, **changes)
        index.write([vector], base="org/base")

    return write


def made(index: Index, base, run_id: str) -> list[str]:
    """The adapters that get a row in a run."""
    refresh_promotions(index, "org/base", recipe_id="recipe", base_folder=base, run_id=run_id)
    rows = rows_of(index.read(PromotionRow, base="org/base"), PromotionRow)
    return sorted(row.adapter for row in rows if row.run_id == run_id)


def test_only_new_adapters_get_rows_until_the_pool_has_doubled(index, base, add):
    for name in ("a/1", "a/2", "a/3"):
        add(name)
    assert made(index, base, "first") == ["a/1", "a/2", "a/3"]
    assert made(index, base, "again") == []
    add("a/4")
    add("a/1", revision="1" * 40)
    assert made(index, base, "later") == ["a/1", "a/4"]
    add("a/5")
    add("a/6")
    # Those of a pool of three are of half of the present size; those of four are not.
    assert made(index, base, "doubled") == ["a/2", "a/3", "a/5", "a/6"]
    with connect(index) as queries:
        rows = queries.run("SELECT adapter, pool, run_id FROM promotions ORDER BY ALL")
    assert rows.to_pylist()[:2] == [
        {"adapter": "a/1", "pool": 4, "run_id": "later"},
        {"adapter": "a/2", "pool": 6, "run_id": "doubled"},
    ]


def test_a_base_without_a_readable_output_layer_is_a_warning(index, base, add, caplog):
    add("a/1")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "nothing"}))
    with caplog.at_level(logging.WARNING):
        assert made(index, base, "first") == []
    assert "what adapters of org/base promote is not up to date" in caplog.text
