"""Do the domains that hubdelta finds agree with the true ones? Measured on the demo's adapters.

    python bench/domains.py [--index INDEX]

Each of the demo's adapters was trained on text of one of five domains (demo/README.md); three were
trained on two, and those are excluded from the score, since no partition has a right place for
them, but not from the clustering, where they are between two domains, as on the Hub. The same holds
for the demo's copies, which would be right for free. Without --index the demo's Hub is
served, crawled and embedded first, as by `hubdelta demo`, which takes about a minute.

The score is the adjusted Rand index (scikit-learn's): 1 for the true domains, around 0 for chance.
An adapter in no cluster counts as a separate cluster. A domain's name is right if it has a word of
the true domain's description in demo/sources.py that no other description has; names of data sets
are not part of it. The last line is one JSON object.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

# Before torch is loaded: threads that spin while waiting slow a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from sklearn.metrics import adjusted_rand_score

from hubdelta.demo.awkward import build_hub
from hubdelta.demo.base import BASE_ID, build_base
from hubdelta.demo.pool import MIXED, SINGLE
from hubdelta.demo.sources import DOMAINS
from hubdelta.hub_server import LocalHub
from hubdelta.schemas.index import Index
from hubdelta.sql.connection import Queries, connect
from hubdelta.sql.questions import answers
from hubdelta.sql.questions.centered import centered
from hubdelta.sql.questions.promoted import domains_with_promoted

_TOKENS = 5  # of a domain's promoted tokens
_ROOT = Path(__file__).resolve().parent.parent
_TRUE = {adapter.repo_id: adapter.domains[0] for adapter in SINGLE}


def components(queries: Queries, distance: float) -> dict[str, int]:
    """Adapter → domain, its connected component at a distance."""
    found = answers.domains(queries, BASE_ID, distance).to_pylist()
    return {member: row["domain"] for row in found for member in row["members"]}


def centered_components(queries: Queries, distance: float) -> dict[str, int]:
    """The same, after subtracting what all adapters of the base share."""
    with centered(queries, BASE_ID):
        return components(queries, distance)


def density(queries: Queries) -> dict[str, int]:
    """Adapter → density cluster, without adapters that are in none."""
    found = queries.run("SELECT adapter, cluster FROM clusters WHERE base = ?", [BASE_ID])
    return {row["adapter"]: row["cluster"] for row in found.to_pylist()}


WAYS: dict[str, Callable[[Queries], dict[str, int]]] = {
    **{
        f"domains at {distance}": partial(components, distance=distance)
        for distance in (0.15, 0.2, 0.25, 0.3, 0.4)
    },
    "density clusters": density,
    **{
        f"centered, at {distance}": partial(centered_components, distance=distance)
        for distance in (0.25, 0.35, 0.45, 0.6, 0.8)
    },
}
"""Name → from the index: adapter → number of its group."""


def score(groups: Mapping[str, int]) -> dict[str, float | int]:
    """How well a grouping agrees with the true domains, over the adapters of one domain."""
    alone = {adapter: -1 - place for place, adapter in enumerate(_TRUE)}
    found = [groups.get(adapter, alone[adapter]) for adapter in _TRUE]
    return {
        "adjusted_rand": float(adjusted_rand_score(list(_TRUE.values()), found)),
        "groups": len({group for group in found if group >= 0}),
        "without_group": sum(group < 0 for group in found),
    }


def names(queries: Queries) -> dict[str, str]:
    """True domain → name of the domain that has most of its adapters."""
    found = answers.domains(queries, BASE_ID).to_pylist()
    name_of = {member: row["name"] for row in found for member in row["members"]}
    given = {
        true: Counter(name_of[adapter] for adapter in name_of if _TRUE.get(adapter) == true)
        for true in DOMAINS
    }
    return {true: counted.most_common(1)[0][0] for true, counted in given.items() if counted}


def tokens(queries: Queries) -> dict[str, str]:
    """True domain → the tokens that most of the members of its domain promote: no card needed."""
    found = domains_with_promoted(queries, answers.domains(queries, BASE_ID)).to_pylist()
    given = {}
    for true in DOMAINS:
        largest = max(found, key=lambda row: sum(_TRUE.get(m) == true for m in row["members"]))
        given[true] = ", ".join(one["token"] for one in largest["promotes"][:_TOKENS])
    return given


def true_words(domain: str) -> set[str]:
    """The words with which the demo describes only this domain."""
    described = {
        entry.name: _words(f"{entry.name} {entry.about} {entry.does}") for entry in DOMAINS.values()
    }
    return described.pop(domain).difference(*described.values())


def _words(text: str) -> set[str]:
    """Words of more than two letters, without the s of a plural."""
    return {word.removesuffix("s") for word in re.split(r"[\W_]+", text.lower()) if len(word) > 2}


@contextmanager
def _demo_index() -> Iterator[Path]:
    """The index of the demo, in a temporary folder."""
    base = build_base(_ROOT / ".build" / "demo-base")
    with tempfile.TemporaryDirectory(prefix="hubdelta-bench-") as temporary:
        folder = Path(temporary)
        place = folder / "hub" / BASE_ID
        place.parent.mkdir(parents=True)
        place.symlink_to(base)
        with LocalHub(build_hub(folder / "hub")) as hub:
            environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home")}
            for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
                environment.pop(name, None)
            command = [sys.executable, "-m", "hubdelta", "index", "--base", BASE_ID]
            command += ["--index", str(folder / "index")]
            done = subprocess.run(  # noqa: S603
                command, env=environment, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise SystemExit(done.stderr)
        yield folder / "index"


def measure(root: Path) -> dict[str, object]:
    """All figures of an index of the demo."""
    with connect(Index.open(root)) as queries:
        found = queries.run("SELECT adapter FROM adapters WHERE status = 'embedded'")
        if missing := _TRUE.keys() - set(found["adapter"].to_pylist()):
            raise SystemExit(f"not the demo's index: {root} lacks {', '.join(sorted(missing))}")
        scores = {way: score(group(queries)) for way, group in WAYS.items()}
        given, promoted = names(queries), tokens(queries)
    for way, figures in scores.items():
        print(
            f"{way:20} adjusted Rand {figures['adjusted_rand']:.3f}, {figures['groups']} groups, "
            f"{figures['without_group']} adapters in none"
        )
    right = {true: bool(true_words(true) & _words(given.get(true, ""))) for true in DOMAINS}
    without_cards = {true: bool(true_words(true) & _words(promoted[true])) for true in DOMAINS}
    for true, name in given.items():
        print(f"{true:20} {name}{'' if right[true] else '  (none of its words)'}")
        print(
            f"{'':20} promotes {promoted[true]}{'' if without_cards[true] else '  (none of them)'}"
        )
    return {
        "adapters": len(_TRUE),
        "mixed_left_out": len(MIXED),
        "ways": scores,
        "names": given,
        "share_of_names_right": sum(right.values()) / len(right),
        "promotes": promoted,
        "share_of_promoted_right": sum(without_cards.values()) / len(without_cards),
    }


def main() -> None:
    """Make or open the index, print a table, and one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--index", type=Path, help="as created by `hubdelta demo --index INDEX`")
    root = parser.parse_args().index
    if root is not None:
        figures = measure(root)
    else:
        with _demo_index() as made:
            figures = measure(made)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
