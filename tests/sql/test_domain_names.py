"""What domains are called, and the evidence for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from geometry import adapter, write_pairs
from sharing import opened

from hubdelta.crawler.card import card_text
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, LabelRow, VectorRow
from hubdelta.sql.script import write_script

pytestmark = pytest.mark.slow


def described(
    repo_id: str, degrees: float, *, card: str | None = None, **changes: Any
) -> tuple[CatalogRow, VectorRow]:
    listed, vector = adapter(repo_id, degrees, **changes)
    return listed, replace(vector, card=card)


def label(index: Index, **labels: str) -> None:
    """Label a/NAME for each NAME=label."""
    now = datetime.now(UTC)
    index.write(
        [
            LabelRow(adapter=f"a/{name}", label=text, labelled_at=now)
            for name, text in labels.items()
        ]
    )


def names(index: Index, base: str = "org/base") -> list[str]:
    queries = opened.of(index, linked=True)
    return queries.run("FROM domains(?, distance := 0.25)", [base])["name"].to_pylist()


def terms(index: Index, domain: int = 1) -> list[dict[str, Any]]:
    """The evidence for a domain's name, the first terms first."""
    queries = opened.of(index, linked=True)
    return queries.run(
        "FROM domain_terms('org/base', distance := 0.25) WHERE domain = ? ORDER BY place",
        [domain],
    ).to_pylist()


def test_a_name_is_what_sets_the_domain_apart(fill: Callable[..., Index]) -> None:
    index = fill(
        adapter("a/1", 0, datasets=["openai/gsm8k"], tags=["math", "chatty"]),
        adapter("b/2", 5, datasets=["openai/gsm8k"], tags=["math", "chatty"]),
        adapter("a/3", 90, datasets=["law/bench"], tags=["chatty"]),
        adapter("b/4", 95, datasets=["law/bench", "openai/gsm8k"], tags=["chatty"]),
    )
    assert names(index) == ["math, openai/gsm8k", "law/bench"]


def test_the_three_top_terms_are_the_name(fill: Callable[..., Index]) -> None:
    index = fill(
        *(
            described(f"{author}/verse", i, datasets=["x/kjv"], tags=["bible"], card="Old psalms")
            for i, author in enumerate("ab")
        ),
        adapter("c/else", 90),
    )
    assert names(index)[0] == "x/kjv, bible, verse"
    assert [term["source"] for term in terms(index)] == ["dataset", "tag", "name", "card", "card"]


def test_the_weight_is_the_published_one(fill: Callable[..., Index]) -> None:
    index = fill(
        adapter("a/--", 0, tags=["law"]),
        adapter("b/--", 5, tags=["law", "tax"]),
        adapter("c/--", 90, tags=["law"]),
        adapter("d/--", 180, tags=["poems"]),
    )
    # A tag counts 3. Two classes: the domain of two with 9 in all, and the rest with 6.
    (law, tax) = terms(index)
    assert law["weight"] == pytest.approx(6 * math.log(1 + (15 / 2) / 9), abs=1e-6)
    assert tax["weight"] == pytest.approx(3 * math.log(1 + (15 / 2) / 3), abs=1e-6)
    assert (law["inside"], law["outside"], law["place"]) == (2, 1, 1)


def test_boilerplate_gives_no_name(fill: Callable[..., Index]) -> None:
    tags = [
        "base_model:adapter:org/base", "license:mit", "region:us", "dataset:x/y", "arxiv:1.2",
        "peft", "safetensors", "lora", "endpoints_compatible", "en", "deu", "medical",
        "text2text-generation", "mylib",
    ]  # fmt: skip
    index = fill(
        adapter(
            "a/1",
            0,
            tags=tags,
            languages=["en", "deu"],
            library_name="mylib",
            pipeline_tag="text2text-generation",
        )
    )
    assert names(index) == ["medical"]


def test_a_card_that_nobody_wrote_gives_no_name(fill: Callable[..., Index]) -> None:
    template = Path(huggingface_hub.__file__).parent / "templates" / "modelcard_template.md"
    text = card_text(template.read_bytes())
    assert text is not None
    assert len(text) > 1000
    words = re.findall(r"\w+", text)
    # All of its words, wherever the part that counts ends.
    index = fill(
        *(described(f"a/{i}", i / 10, card=" ".join(words[i::9])) for i in range(9)),
        described("b/1", 90, card=text),
    )
    assert terms(index) == terms(index, 2) == []


def test_a_card_names_what_declares_nothing(fill: Callable[..., Index]) -> None:
    card = "This LoRA adapter writes Sonnets with k_proj, sonnets in 14 lines. By me, on base."
    index = fill(
        described("me/run-1", 0, card=card),
        described("you/run-2", 5, card=card),
        described("you/run-3", 90, card="A model."),
    )
    assert [term["term"] for term in terms(index)] == ["lines", "sonnets"]
    assert names(index) == ["lines, sonnets", "you/run-3"]


def test_a_word_that_is_repeated_counts_once(fill: Callable[..., Index]) -> None:
    index = fill(
        described("a/--", 0, card="aardvark " * 50),
        described("b/--", 5, card="aardvark zebra"),
        described("c/--", 9, card="zebra"),
        described("d/--", 90, card="other"),
    )
    aardvark, zebra = terms(index)
    assert aardvark["weight"] == zebra["weight"]
    assert [aardvark["term"], zebra["term"]] == ["aardvark", "zebra"]


def test_repository_words_name_what_declares_nothing(fill: Callable[..., Index]) -> None:
    index = fill(
        adapter("me/Legal_lora-r8-base-v2", 0, base="org/base-135M"),
        adapter("you/legal.adapter-for-7b-135m", 5, base="org/base-135M"),
        adapter("you/poems-lora", 90, base="org/base-135M"),
    )
    assert names(index, "org/base-135M") == ["legal", "poems"]


def test_a_term_of_one_member_does_not_name_a_domain_that_shares_others(
    fill: Callable[..., Index],
) -> None:
    index = fill(
        *(adapter(f"u{i}/legal-{i}", i) for i in range(4)),
        adapter("u9/legal-9", 9, datasets=["odd/set"], tags=["oddity"]),
        adapter("u/else", 90),
    )
    assert names(index)[0] == "legal"
    assert [term["term"] for term in terms(index)] == ["legal", "odd/set", "oddity"]


def test_where_nothing_is_shared_single_members_name_the_domain(
    fill: Callable[..., Index],
) -> None:
    index = fill(adapter("a/--", 0, tags=["tax"]), adapter("b/--", 5, tags=["law"]))
    assert names(index) == ["law, tax"]


def test_a_series_of_uploads_by_one_author_does_not_rule_a_name(
    fill: Callable[..., Index],
) -> None:
    index = fill(
        *(adapter(f"mill/--{i}", i / 10, tags=["mill"]) for i in range(30)),
        *(adapter(f"author{i}/--", 5, tags=["poems"]) for i in range(6)),
        adapter("c/else", 90),
    )
    first, second = terms(index)
    assert (first["term"], first["inside"]) == ("poems", 6)
    assert (second["term"], second["inside"]) == ("mill", 30)


def test_what_is_as_frequent_elsewhere_is_no_evidence(fill: Callable[..., Index]) -> None:
    index = fill(
        adapter("a/--", 0, tags=["law", "chatty"]),
        adapter("b/--", 5, tags=["law"]),
        adapter("c/--", 90, tags=["chatty"]),
        adapter("d/--", 180, tags=["poems"]),
    )
    assert [term["term"] for term in terms(index)] == ["law"]


def test_without_any_word_the_central_member_names_the_domain(fill: Callable[..., Index]) -> None:
    index = fill(adapter("me/lora", 0), adapter("you/lora", 90))
    assert names(index) == ["me/lora", "you/lora"]


def test_a_label_takes_precedence_and_the_terms_stay_as_evidence(
    fill: Callable[..., Index],
) -> None:
    index = fill(
        adapter("a/x", 0, tags=["law"]),
        adapter("a/y", 5, tags=["law"]),
        adapter("a/z", 90),
    )
    label(index, x="Statutes", z="Statutes")
    assert names(index) == ["Statutes", "Statutes"]
    (mine, law) = terms(index)
    assert (mine["term"], mine["source"], mine["inside"], mine["outside"], mine["weight"]) == (
        *("Statutes", "label", 1, 1),
        None,
    )
    assert (law["term"], law["place"]) == ("law", 2)


LABELS = {"bbba": "b + a", "bbbba": "b", "ba": "a + b", "abcabc": "a + b", "abcdea": "a"}


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Seven adapters of a base for each of the labels, whose letters are those of the first."""
    index = Index.create(tmp_path_factory.mktemp("labeled") / "index")
    for labels in LABELS:
        write_pairs(index, *(adapter(f"a/{labels}{i}", i, base=f"org/{labels}") for i in range(7)))
    label(index, **{f"{labels}{i}": text for labels in LABELS for i, text in enumerate(labels)})
    return index


@pytest.mark.parametrize(("labels", "name"), LABELS.items())
def test_two_labels_are_joined_where_a_quarter_holds_each(
    labeled: Index, labels: str, name: str
) -> None:
    assert names(labeled, f"org/{labels}") == [name]


def test_labels_that_differ_in_case_only_are_one_spelt_as_last(
    fill: Callable[..., Index],
) -> None:
    index = fill(*(adapter(f"a/n{i}", i) for i in range(4)))
    label(index, n0="law", n1="LAW")
    label(index, n2="Law")
    assert names(index) == ["Law"]


def test_a_label_that_was_taken_back_names_nothing(fill: Callable[..., Index]) -> None:
    index = fill(adapter("a/x", 0, tags=["law"]))
    label(index, x="Statutes")
    now = datetime.now(UTC)
    index.write([LabelRow(adapter="a/x", label=None, labelled_at=now)])
    assert names(index) == ["law"]


def test_every_duckdb_gives_the_same_names(
    fill: Callable[..., Index], ask: Callable[..., list[Any]]
) -> None:
    index = fill(
        described("a/x", 0, tags=["law"], card="Statutes of old"),
        described("a/y", 5, tags=["law"], card="Statutes"),
        described("b/z", 9, datasets=["it's/hostile"], tags=["'); DROP TABLE x; --"]),
        described("b/poems", 90),
    )
    label(index, x="Statutes")
    questions = ["FROM domains(NULL)", "FROM domain_terms(NULL)", "FROM suggestions(NULL)"]
    queries = opened.of(index, linked=True)
    ours = [queries.run(question).to_pylist() for question in questions]
    assert all(ours)
    assert ask(write_script(index), questions) == ours


def test_adapters_in_no_domain_count_as_elsewhere(fill: Callable[..., Index]) -> None:
    index = fill(
        *(adapter(f"{author}/x", i, tags=["law"]) for i, author in enumerate("abc")),
        adapter("d/alone", 90, tags=["law"]),
        adapter("e/alone", 180),
        adapter("f/alone", 270),
    )
    queries = opened.of(index, linked=True)
    (domain,) = queries.run("FROM domains('org/base')").to_pylist()
    found = queries.run("FROM domain_terms('org/base') WHERE term = 'law'").to_pylist()
    assert domain["members"] == ["a/x", "b/x", "c/x"]
    assert [(t["domain"], t["inside"], t["outside"]) for t in found] == [(1, 3, 1)]
