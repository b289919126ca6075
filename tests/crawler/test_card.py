"""Model cards: what is kept of them, and that nothing about them goes wrong."""

import time

import pytest
from faults import Fault, FaultyHub
from small_repos import Repos

from hubdelta.crawler.card import CARD_BYTES, card_text, fetch_card
from hubdelta.crawler.hub import Hub
from hubdelta.schemas.keys import AdapterKey

CARD = """\
\ufeff---
license: mit
tags: [poems]
---
# Über *Sonnets* &amp; more

A [lovely model](https://host.example/sonnets?x=1) at <https://host.example>, for <b>verse</b>.
<!-- Provide a quick
summary -->
<style>h1 { color: red }</style>

```python
import poems
```

| metric | value |
|:--|---:|
| `k_proj` | ![plot](images/plot.png) **bold** |

> ~~~
> indented code
> ~~~
हिन्दी \x1b[31m and www.host.example/odes too
"""


def test_a_card_is_reduced_to_its_words() -> None:
    assert card_text(CARD.encode()) == (
        "Über Sonnets & more A lovely model at , for verse . metric value : : k_proj ! plot bold "
        "हिन्दी 31m and too"
    )
    assert card_text(CARD.replace("\n", "\r\n").encode()) == card_text(CARD.encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"---\nlicense: mit\n---\n",
        b"---\nlicense: mit\n",
        b"```\nimport code that never ends",
        b"<!-- nobody wrote this",
        b"text\0with a NUL",
        "UTF-16".encode("utf-16"),
        b"\x80\xfe\xff" * 100,
        b"\x1b\x07\x7f",
    ],
)
def test_what_says_nothing_is_no_text(content: bytes) -> None:
    assert card_text(content) is None


def test_a_rule_within_a_card_is_no_front_matter() -> None:
    assert card_text(b"# Title\n---\nstays\n---\n") == "Title stays"


def test_a_text_has_at_most_four_thousand_characters() -> None:
    text = card_text("é ".encode() * 30_000)
    assert text is not None
    assert 3_990 < len(text) <= 4_000


def test_a_character_that_was_cut_in_two_is_dropped() -> None:
    assert card_text("gut für".encode()[:6]) == "gut f"


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<!--",
        "](",
        "```\n",
        "`",
        "~~~",
        "<a ",
        "<style",
        "http://",
        "&#",
        "---\n",
        "> ",
        "\n> ",
    ],
)
def test_no_card_takes_long(piece: str) -> None:
    content = (piece * CARD_BYTES).encode()[:CARD_BYTES]
    before = time.perf_counter()
    card_text(content)
    assert time.perf_counter() - before < 2.0


@pytest.fixture
def key(hub: Hub, repos: Repos) -> AdapterKey:
    repos.adapter("a/b")
    (repos.place / "a/b/README.md").write_text("A card.")
    return AdapterKey("a/b", "", hub.model("a/b").sha)


def card_requests(served: FaultyHub) -> int:
    """How often a card was asked for; the redirect that follows is the same question."""
    return sum(request.path.startswith("/a/b/resolve/") for request in served.requests)


def test_a_card_is_one_request(hub: Hub, key: AdapterKey, served: FaultyHub) -> None:
    assert fetch_card(hub, key).content == b"A card."
    assert card_requests(served) == 1


def test_the_card_of_an_adapter_in_a_subfolder_is_the_repositorys(
    hub: Hub, key: AdapterKey, repos: Repos
) -> None:
    within = AdapterKey(key.repo_id, "some/folder", key.revision)
    assert fetch_card(hub, within).content == b"A card."


@pytest.mark.parametrize("no_ranges", [False, True])
def test_of_a_huge_file_only_the_beginning_is_taken(
    hub: Hub, repos: Repos, served: FaultyHub, no_ranges: bool
) -> None:
    served.faults.add(Fault("*README.md*", no_ranges=no_ranges, times=None))
    repos.adapter("a/b")
    with (repos.place / "a/b/README.md").open("wb") as file:
        file.write(b"word ")
        file.truncate(100 << 20)
    before = hub.bytes_received
    key = AdapterKey("a/b", "", hub.model("a/b").sha)
    content = fetch_card(hub, key).content
    assert len(content) == CARD_BYTES
    assert content.startswith(b"word ")
    assert hub.bytes_received - before < 20 * CARD_BYTES


def test_a_missing_card_is_asked_for_once_and_is_no_failure(
    hub: Hub, key: AdapterKey, repos: Repos, served: FaultyHub
) -> None:
    (repos.place / "a/b/README.md").unlink()
    missing = AdapterKey("a/b", "", hub.model("a/b").sha)
    assert fetch_card(hub, missing).content == b""
    assert card_requests(served) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("*README.md*", status=503, times=None),
        Fault("*README.md*", status=403, times=None),
        Fault("*README.md*", cut_after=3, times=None),
    ],
    ids=["down", "forbidden", "cut"],
)
def test_a_card_that_cannot_be_had_is_no_failure_and_not_asked_for_forever(
    hub: Hub, key: AdapterKey, served: FaultyHub, fault: Fault, pauses: list[float]
) -> None:
    served.faults.add(fault)
    assert fetch_card(hub, key).content == b""
    assert card_requests(served) <= hub.settings.attempts


@pytest.mark.slow
def test_a_stumbling_hub_is_asked_again_for_a_card(
    hub: Hub, key: AdapterKey, served: FaultyHub
) -> None:
    served.faults.add(Fault("*README.md*", status=429, reset=0))
    assert fetch_card(hub, key).content == b"A card."
