"""The pool: which adapters the demo's Hub holds, what each was trained on, and how.

Orgs, names and cards imitate the variety of a real Hub. Some names reveal the domain and some do
not; some cards are thorough and some are the untouched template; none says anything false.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SPLIT_SIZE = 90
BATCH = 3
ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
QUERY_VALUE = ("q_proj", "v_proj")


class Card(Enum):
    """How much trouble the author took over the model card."""

    THOROUGH = "thorough"
    SHORT = "short"
    TEMPLATE = "template"


@dataclass(frozen=True)
class PooledAdapter:
    """One adapter: its data as (domain, split) pairs, its LoRA shape, its page on the Hub."""

    repo_id: str
    data: tuple[tuple[str, int], ...]
    card: Card
    created_at: str
    last_modified: str
    downloads: int
    likes: int
    rank: int = 4
    alpha: int = 8
    target_modules: tuple[str, ...] = ATTENTION
    rslora: bool = False
    datasets: bool = True
    tags: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains it was trained on: one, or two for a mixed adapter."""
        return tuple(domain for domain, _ in self.data)

    @property
    def steps(self) -> int:
        """Optimizer steps: one pass over its data."""
        return SPLIT_SIZE * len(self.data) // BATCH


POOL = (
    PooledAdapter(
        "graphsmiths/smollm2-135m-networkx-coder", (("python", 0),), Card.THOROUGH,
        "2026-02-03T09:12:44Z", "2026-02-03T09:31:02Z", 1843, 21, tags=("code", "python"),
    ),
    PooledAdapter(
        "jh-petersen/docstring2code-lora", (("python", 1),), Card.SHORT,
        "2026-03-18T20:05:10Z", "2026-03-19T07:44:51Z", 212, 3, tags=("code",),
    ),
    PooledAdapter(
        "mlnights/lora-test-3", (("python", 2),), Card.TEMPLATE,
        "2026-05-27T23:58:31Z", "2026-05-28T00:02:17Z", 9, 0, datasets=False,
    ),
    PooledAdapter(
        "uebersetzbar/smollm2-en-de-ui-strings", (("german", 0),), Card.THOROUGH,
        "2026-01-15T14:20:00Z", "2026-04-02T08:15:36Z", 967, 14, tags=("translation", "de"),
    ),
    PooledAdapter(
        "kjaer-lab/smol-en2de-r8-qv", (("german", 1),), Card.SHORT,
        "2026-04-11T11:11:27Z", "2026-04-11T11:40:09Z", 88, 1,
        target_modules=QUERY_VALUE, rank=8, alpha=16, tags=("translation",),
    ),
    PooledAdapter(
        "annika-w/smollm2-135m-de", (("german", 2),), Card.SHORT,
        "2026-06-30T16:45:03Z", "2026-07-01T05:30:48Z", 41, 2, tags=("german",),
    ),
    PooledAdapter(
        "versewright/kjv-continuation-lora", (("scripture", 0),), Card.THOROUGH,
        "2026-02-22T18:00:12Z", "2026-03-01T10:10:10Z", 1305, 33, tags=("bible", "kjv"),
    ),
    PooledAdapter(
        "old-books-club/smollm2-king-james", (("scripture", 1),), Card.SHORT,
        "2026-04-25T06:33:59Z", "2026-04-25T06:58:20Z", 154, 6, tags=("bible",),
    ),
    PooledAdapter(
        "mlnights/lora-test-5", (("scripture", 2),), Card.TEMPLATE,
        "2026-06-08T22:17:45Z", "2026-06-08T22:20:06Z", 7, 0, datasets=False,
    ),
    PooledAdapter(
        "lexicograph/wordnet-definitions-smollm2", (("dictionary", 0),), Card.THOROUGH,
        "2026-01-29T12:00:05Z", "2026-02-14T17:26:40Z", 2210, 27, tags=("wordnet", "definitions"),
    ),
    PooledAdapter(
        "jh-petersen/define-this-word", (("dictionary", 1),), Card.SHORT,
        "2026-03-30T19:41:22Z", "2026-03-30T20:03:33Z", 97, 1, rslora=True, alpha=4,
        tags=("wordnet",),
    ),
    PooledAdapter(
        "tkm92/smollm2-glossary", (("dictionary", 2),), Card.SHORT,
        "2026-07-12T08:08:08Z", "2026-07-12T08:29:57Z", 30, 0, tags=("definitions",),
    ),
    PooledAdapter(
        "openrecords/iso-codes-json-lora", (("records", 0),), Card.THOROUGH,
        "2026-03-05T13:37:19Z", "2026-05-20T09:55:00Z", 734, 11, tags=("json", "structured-output"),
    ),
    PooledAdapter(
        "kjaer-lab/smol-json-r8-qv", (("records", 1),), Card.SHORT,
        "2026-04-19T15:02:50Z", "2026-04-19T15:27:14Z", 120, 2,
        target_modules=QUERY_VALUE, rank=8, alpha=16, tags=("json",),
    ),
    PooledAdapter(
        "dfaulk/outputs", (("records", 2),), Card.TEMPLATE,
        "2026-07-20T03:14:15Z", "2026-07-20T03:19:26Z", 4, 0, datasets=False,
    ),
    PooledAdapter(
        "graphsmiths/smollm2-135m-code-and-json", (("python", 0), ("records", 0)), Card.SHORT,
        "2026-05-04T10:26:38Z", "2026-05-04T11:17:55Z", 265, 5, tags=("code", "json"),
    ),
    PooledAdapter(
        "openrecords/json-and-verse", (("scripture", 2), ("records", 2)), Card.SHORT,
        "2026-06-16T21:49:04Z", "2026-06-17T06:12:31Z", 58, 1, tags=("bible", "json"),
    ),
    PooledAdapter(
        "annika-w/smollm2-de-json", (("german", 0), ("records", 0)), Card.SHORT,
        "2026-07-25T17:53:47Z", "2026-07-26T09:00:29Z", 19, 0, tags=("german", "json"),
    ),
)  # fmt: skip

SINGLE = tuple(adapter for adapter in POOL if len(adapter.data) == 1)
MIXED = tuple(adapter for adapter in POOL if len(adapter.data) == 2)
