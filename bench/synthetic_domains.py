"""Do domains hold as a pool grows? Clusters and linkage on synthetic pools of known domains.

    python bench/synthetic_domains.py [--sizes 30,300,3000,20000] [--first-seed 500] [--drawn 12000]

The pools are SYNTHETIC: `SyntheticDeltas` of delta_geometry.py, with 3√n domains of Zipf's sizes,
adapters of no domain, and re-uploads. Their domains spread as the demo's do, half as much ("tight")
or as much again ("loose"). The score is the adjusted Rand index (scikit-learn's); an adapter in no
domain counts as a domain of its own, in the truth as well. Beside it stand two bounds that know
the truth: linkage at the distance that is best for each pool, and each adapter given to the nearest
of the true directions of domains, or to none beyond the distance that is best. No default was
chosen on seeds from 500 on. A night is 1% of the largest pool that joins the rest. The last line is
one JSON object.
"""

import argparse
import json
import os
import resource
import sys
import time
from typing import Any

# Before numpy is loaded: threads that spin while they wait slow a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from delta_geometry import Floats, Integers, SyntheticDeltas
from sklearn.metrics import adjusted_rand_score

from hubdelta.vectors.density import cluster
from hubdelta.vectors.linkage import Linkage, link, relink

_SPREADS = {"tight": 0.5, "demo": 1.0, "loose": 2.0}
_LINKAGE = 0.25  # the distance at which linkage is asked for, as `hubdelta domains --distance`
_CUTS = 30  # distances among which the best one is sought
_MOST_DRAWS, _LEAST_DRAWS = 100, 2


def main() -> None:
    """Print a line for each size and spread, then how long the largest takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=_sizes, default=(30, 300, 3000, 20_000), metavar="LIST")
    parser.add_argument("--width", type=int, default=512, help="dimensions")
    parser.add_argument("--first-seed", type=int, default=500)
    parser.add_argument(
        "--drawn", type=int, default=12_000, help="adapters drawn in all, a size; about"
    )
    options = parser.parse_args()
    pools = []
    for size in options.sizes:
        draws = min(max(options.drawn // size, _LEAST_DRAWS), _MOST_DRAWS)
        seeds = range(options.first_seed, options.first_seed + draws)
        for spread in _SPREADS:
            figures = _score(size, options.width, spread, seeds)
            pools.append(figures)
            sys.stdout.write(", ".join(f"{k} {v}" for k, v in figures.items()) + "\n")
            sys.stdout.flush()
    night = _night(max(options.sizes), options.width, options.first_seed)
    sys.stdout.write(", ".join(f"{k} {v}" for k, v in night.items()) + "\n")
    sys.stdout.write(json.dumps({"pools": pools, "night": night}) + "\n")


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _pool(size: int, width: int, spread: str, seed: int) -> tuple[Floats, Integers, Floats]:
    """Unit vectors [n, d], the domain of each [n], -1 for none, and their directions [k, d]."""
    pool = SyntheticDeltas(size, width, seed, _SPREADS[spread])
    block = pool.block(0, size)
    units = block.deltas / np.linalg.norm(block.deltas, axis=1, keepdims=True)
    return units, block.domains, pool.directions()


def _score(size: int, width: int, spread: str, seeds: range) -> dict[str, Any]:
    default, linkage, best_linkage, directions = [], [], [], []
    nowhere, truly_nowhere = [], []
    for seed in seeds:
        units, truth, centers = _pool(size, width, spread, seed)
        tree = link(units)
        labels, true = cluster(tree).labels, _apart(truth)
        default.append(adjusted_rand_score(true, _apart(labels)))
        linkage.append(adjusted_rand_score(true, _components(tree, _LINKAGE)))
        best_linkage.append(
            max(adjusted_rand_score(true, _components(tree, d)) for d in _cuts(tree.gap[1:]))
        )
        cosines = units @ centers.T
        distance, nearest = 1 - cosines.max(axis=1), cosines.argmax(axis=1)
        directions.append(
            max(
                adjusted_rand_score(true, _apart(np.where(distance > d, -1, nearest)))
                for d in _cuts(distance)
            )
        )
        nowhere.append(float((labels < 0).mean()))
        truly_nowhere.append(float((truth < 0).mean()))
    return {
        "adapters": size,
        "spread": spread,
        "draws": len(seeds),
        "default": round(float(np.mean(default)), 3),
        "least": round(min(default), 3),
        "linkage": round(float(np.mean(linkage)), 3),
        "best_linkage": round(float(np.mean(best_linkage)), 3),
        "true_directions": round(float(np.mean(directions)), 3),
        "in_no_domain": round(float(np.mean(nowhere)), 3),
        "truly_in_none": round(float(np.mean(truly_nowhere)), 3),
    }


def _night(size: int, width: int, seed: int) -> dict[str, Any]:
    """Seconds of a refresh from nothing, and of one to which 1% of the pool is new."""
    units, _, _ = _pool(size, width, "demo", seed)
    before = size - max(size // 100, 1)
    started = time.perf_counter()
    tree = link(units[:before])
    linked = time.perf_counter()
    grown = relink(tree, np.arange(before), units)
    relinked = time.perf_counter()
    cluster(grown)
    clustered = time.perf_counter()
    return {
        "adapters": size,
        "new": size - before,
        "tree_s": round(linked - started, 2),
        "new_in_tree_s": round(relinked - linked, 2),
        "clusters_s": round(clustered - relinked, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _apart(labels: Integers) -> Integers:
    """The same, with each one in no domain in one of its own."""
    return np.where(labels < 0, -1 - np.arange(len(labels)), labels)


def _cuts(distances: Floats) -> Floats:
    """Some of the distances, the same share of all between any two [at most _CUTS]."""
    return np.unique(np.quantile(distances, np.linspace(0, 1, _CUTS))).astype(np.float32)


def _components(tree: Linkage, distance: float) -> Integers:
    component = np.empty(len(tree.order), np.int64)
    component[tree.order] = np.cumsum(tree.gap > distance) - 1
    return component


if __name__ == "__main__":
    main()
