"""Synthetic deltas with the geometry of real ones, and the measure that shows it.

    python bench/delta_geometry.py INDEX

The vectors are SYNTHETIC: no adapter was trained for them. A hundred thousand real ones are not
available, so their geometry is taken from the demo's real deltas (`REAL`), and what those cannot
show is noted at each constant. The command measures an index of the demo, which is where
`REAL` comes from. The published silhouettes of pools of 15 adapters are .55, .65 and .65 (arXiv
2509.04442).

A synthetic delta is, times a norm, the sum of

- a direction shared by all;
- its domain's; domains have Zipf sizes, and their directions fill a few dimensions unevenly, so
  that some domains are close to each other, as German and scripture are in the demo;
- its group's: adapters of the same data with other hyperparameters;
- its own, in part of a decaying spectrum and in part isotropic;

and its coordinates are uneven, like those of a hidden state, which matters for quantization.
Some adapters belong to no domain, and some are re-uploads of the one before them.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.metrics import silhouette_score

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
_F = TypeVar("_F", np.float32, np.float64)


@dataclass(frozen=True)
class Geometry:
    """The relative positions of vectors of some domains, by their cosines.

    Attributes:
        within: mean cosine of pairs of one domain.
        between: mean cosine of pairs of two domains.
        between_spread: standard deviation of those.
        to_common: mean cosine to the mean of all unit vectors.
        silhouette: by domain, of the cosine distance clipped to [0, 1].
        own_dimensions: participation ratio (Σλ)² / Σλ² of what remains without the domains'
            means, λ being its squared singular values.
        used_coordinates: mean participation ratio of a vector's squared coordinates, over d.
    """

    within: float
    between: float
    between_spread: float
    to_common: float
    silhouette: float
    own_dimensions: float
    used_coordinates: float


REAL = Geometry(
    within=0.841,
    between=0.302,
    between_spread=0.172,
    to_common=0.648,
    silhouette=0.652,
    own_dimensions=6.1,
    used_coordinates=0.077,
)
"""Of the demo's 15 single-domain adapters, five domains of three, d = 576: see the command."""

_COMMON = REAL.between
"""Share of the shared direction in the squared norm: the mean cosine of two domains."""

_GROUP, _OWN = 0.12, 0.04
"""Shares of group and own part. Together they are what the demo's domains lack to a cosine of 1,
since its three adapters a domain are of disjoint data. The own part is a quarter of that: two of
the demo's adapters, trained again on the same data (two other seeds, half the learning rate, rank
8 on q and v), had mean cosines of .98 and .95 where splits of their domains have .90 and .83; one
that had not converged, of .70, is left out."""

_OWN_SPREAD = 1.0
"""Standard deviation of the log of an own part's share: those trained again lay between .996 and
.89."""

_AXES = 256
_DOMAIN_DECAY, _DECAY = 1.45, 1.2
"""Variance along the i-th axis is i^-1.45 for domains' directions, i^-1.2 for groups and own parts:
6 and 11 dimensions by participation ratio. They give the demo's `between_spread` and
`own_dimensions`."""

_ISOTROPIC = 0.2
"""Share of the own part that is isotropic. Ten degrees of freedom cannot determine it."""

_UNEVEN = 0.66
"""Standard deviation of the log of a coordinate's scale: gives the demo's `used_coordinates`."""

_NORM, _NORM_OF_DOMAINS, _NORM_WITHIN = 20.5, 0.28, 0.11
"""Mean norm, and standard deviations of its log between domains and within: the demo's."""

_LONE = 0.08
"""Share of adapters without a domain: assumed."""

_BURSTS, _BURST_ENDS = 0.03, 0.4
"""Chance that an adapter is uploaded again, and that each re-upload is the last: about one adapter
in fourteen is a copy. Assumed; of the demo's 29, ten are."""

_ROUNDING = 1e-4
"""Cosine distance of every second re-upload: that of an adapter merged into its base in bf16. The
others are exact."""

_GROUPS = 50
"""Groups of a domain, of Zipf sizes: assumed. Large groups of adapters that resemble each other
are what a search finds hardest."""


@dataclass(frozen=True)
class Block:
    """Consecutive adapters.

    Attributes:
        deltas: [adapters, d].
        domains: number of each one's domain, -1 for none, [adapters].
        groups: number of its group in the domain, [adapters].
        copies: whether it is a re-upload, [adapters].
    """

    deltas: Floats
    domains: Integers
    groups: Integers
    copies: npt.NDArray[np.bool_]


class SyntheticDeltas:
    """A pool of deltas; the same seed, size and width give the same ones.

    Args:
        size: adapters for which it is made; it has 3√size domains, and can be asked for more.
        width: d, the length of a vector.
        seed: of everything random.
        spread: of a domain, over the demo's: factor of the shares of group and own part.
    """

    def __init__(self, size: int, width: int, seed: int = 0, spread: float = 1.0) -> None:
        random = np.random.default_rng([seed])
        self.width = width
        self._group, self._own = spread * _GROUP, spread * _OWN
        self._domain = 1 - _COMMON - self._group - self._own
        self._seed = seed
        scale = np.exp(_UNEVEN * random.standard_normal(width))
        self._scale = (scale / np.linalg.norm(scale)).astype(np.float32)
        self._common = self._directions(random, 1)[0]
        self._domain_axes = self._directions(random, _AXES)
        self._own_axes = self._directions(random, _AXES)
        count = round(3 * size**0.5)
        self._domains = _unit(_coefficients(random, count, _DOMAIN_DECAY))
        self._groups = _coefficients(random, count * _GROUPS, _DECAY).reshape(count, _GROUPS, _AXES)
        self._log_norms = np.log(_NORM) + _NORM_OF_DOMAINS * random.standard_normal(count)

    def block(self, start: int, stop: int) -> Block:
        """The adapters from `start` to before `stop`; other bounds give other adapters."""
        random = np.random.default_rng([self._seed, start, stop])
        count = stop - start
        domains = _zipf(random, len(self._domains), count)
        groups = _zipf(random, _GROUPS, count)
        lone = random.random(count) < _LONE
        coefficients = self._domains[domains]
        coefficients[lone] = _unit(_coefficients(random, int(lone.sum()), _DOMAIN_DECAY))
        deltas = _COMMON**0.5 * self._common + self._domain**0.5 * coefficients @ self._domain_axes
        shares = self._own * np.exp(_OWN_SPREAD * random.standard_normal((count, 1), np.float32))
        sizes = np.sqrt(shares / np.exp(_OWN_SPREAD**2 / 2))
        own = (1 - _ISOTROPIC) ** 0.5 * sizes * _coefficients(random, count, _DECAY)
        deltas += (self._group**0.5 * self._groups[domains, groups] + own) @ self._own_axes
        deltas += _ISOTROPIC**0.5 * sizes * self._directions(random, count)
        spread = _NORM_WITHIN * random.standard_normal(count)
        norms = np.exp(self._log_norms[domains] + spread).astype(np.float32)
        deltas = _unit(deltas) * norms[:, None]
        originals = _originals(random, count)
        copies = originals != np.arange(count)
        deltas = deltas[originals]
        rounded = np.flatnonzero(copies)[::2]
        noise = (2 * _ROUNDING) ** 0.5 * self._directions(random, len(rounded))
        deltas[rounded] += noise * np.linalg.norm(deltas[rounded], axis=1, keepdims=True)
        domains = np.where(lone, -1, domains)
        return Block(deltas, domains[originals], groups[originals], copies)

    def directions(self) -> Floats:
        """The direction shared by a domain's adapters, of unit length, [domains, d]."""
        own = self._domain**0.5 * self._domains @ self._domain_axes
        return _unit(_COMMON**0.5 * self._common + own)

    def _directions(self, random: np.random.Generator, count: int) -> Floats:
        """Random vectors of about unit length, [count, d]."""
        vectors: Floats = random.standard_normal((count, self.width), np.float32)
        vectors *= self._scale
        return vectors


def measure(deltas: npt.ArrayLike, labels: npt.ArrayLike) -> Geometry:
    """The geometry of some vectors.

    Args:
        deltas: [adapters, d], none of them zero.
        labels: the domain of each, [adapters]; every domain has at least two.
    """
    units, labels = _unit(np.asarray(deltas, np.float64)), np.asarray(labels)
    cosines = units @ units.T
    same = labels[:, None] == labels
    others = ~np.eye(len(labels), dtype=bool)
    common = units.mean(axis=0)
    distances = np.clip(1 - cosines, 0, 1) * others
    own = np.concatenate(
        [units[labels == label] - units[labels == label].mean(axis=0) for label in set(labels)]
    )
    energies = np.linalg.svd(own, compute_uv=False) ** 2
    return Geometry(
        within=float(cosines[same & others].mean()),
        between=float(cosines[~same].mean()),
        between_spread=float(cosines[~same].std()),
        to_common=float((units @ common).mean() / np.linalg.norm(common)),
        silhouette=float(silhouette_score(distances, labels, metric="precomputed")),
        own_dimensions=float(energies.sum() ** 2 / (energies**2).sum()),
        used_coordinates=float((1 / (units**4).sum(axis=1)).mean() / units.shape[1]),
    )


def mean_geometry(block: Block, draws: int, seed: int = 0) -> Geometry:
    """The mean over draws of what `REAL` is one of: five domains, three groups' adapters of each.

    Domains with three groups are equally likely; re-uploads are left out.
    """
    random = np.random.default_rng(seed)
    places = np.flatnonzero((block.domains >= 0) & ~block.copies)
    found: list[Geometry] = []
    while len(found) < draws:
        places = random.permutation(places)
        pairs = np.stack([block.domains[places], block.groups[places]])
        firsts = places[np.unique(pairs, axis=1, return_index=True)[1]]  # of each group
        domains, groups = np.unique(block.domains[firsts], return_counts=True)
        chosen = np.concatenate(
            [
                random.choice(firsts[block.domains[firsts] == domain], 3, replace=False)
                for domain in random.choice(domains[groups >= 3], 5, replace=False)
            ]
        )
        found.append(measure(block.deltas[chosen], block.domains[chosen]))
    return Geometry(
        *(float(np.mean([getattr(one, spec.name) for one in found])) for spec in fields(Geometry))
    )


def _coefficients(random: np.random.Generator, count: int, decay: float) -> Floats:
    """Coefficients of random vectors of a decaying spectrum, of unit length on average."""
    variances = np.arange(1, _AXES + 1, dtype=np.float64) ** -decay
    deviations = np.sqrt(variances / variances.sum()).astype(np.float32)
    drawn: Floats = random.standard_normal((count, _AXES), np.float32) * deviations
    return drawn


def _zipf(random: np.random.Generator, kinds: int, count: int) -> Integers:
    weights = 1 / np.arange(1, kinds + 1)
    return random.choice(kinds, count, p=weights / weights.sum())


def _originals(random: np.random.Generator, count: int) -> Integers:
    """Which adapter each is an upload of: itself, or the first of its burst."""
    originals = np.arange(count)
    for start in np.flatnonzero(random.random(count) < _BURSTS):
        originals[start + 1 : start + 1 + random.geometric(_BURST_ENDS)] = originals[start]
    return originals


def _unit(vectors: npt.NDArray[_F]) -> npt.NDArray[_F]:
    unit: npt.NDArray[_F] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def main() -> None:
    """Measure an index of the demo."""
    from hubdelta.demo.base import BASE_ID
    from hubdelta.demo.pool import SINGLE
    from hubdelta.schemas.index import Index
    from hubdelta.schemas.rows import VectorRow

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("index", type=Path, help="as created by `hubdelta demo --index INDEX`")
    vectors = Index.open(parser.parse_args().index).read(
        VectorRow, base=BASE_ID, columns=["repo_id", "delta"]
    )
    deltas = dict(zip(vectors["repo_id"].to_pylist(), vectors["delta"].to_pylist(), strict=True))
    found = measure(
        [deltas[adapter.repo_id] for adapter in SINGLE], [adapter.domains[0] for adapter in SINGLE]
    )
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main()
