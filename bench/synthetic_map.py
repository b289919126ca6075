"""A made-up map of any size: clusters with the sizes, names and gaps of a real base's adapters."""

import base64
import json

import numpy as np
from scipy.spatial import KDTree

_TOPICS = (
    "code python docstring", "kjv bible verses", "translation german ui", "wordnet definitions",
    "json extraction schema", "medical icd discharge", "legal contracts clauses", "sql spider",
    "math gsm8k reasoning", "finance filings sentiment", "roleplay dialogue", "chess pgn openings",
    "haiku poetry", "biology proteins", "recipes cooking", "support tickets triage", "tweets mood",
    "news summaries cnn", "korean instructions", "arabic poetry", "function-calling tools",
    "patents", "physics exams", "toxicity moderation", "travel guides", "ocr correction", "lyrics",
    "emails",
)  # fmt: skip
_AUTHORS = (
    "mlnights", "versewright", "kjaer-lab", "quantcraft", "openrecords", "tkm92", "jh-petersen",
)  # fmt: skip
_LICENSES = ("apache-2.0", "mit", "llama3.1", "cc-by-nc-4.0", "openrail", "cc-by-4.0")


def synthetic_map(count: int, domains: int, seed: int = 0) -> str:
    """The explorer's payload, JSON of format 1, of `count` adapters in about `domains` clusters."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, domains + 1) ** 0.8
    centers = _apart(rng, domains)
    group = rng.choice(domains + 1, count, p=[*(0.9 * weights / weights.sum()), 0.1])
    spread = 0.35 + 0.5 * np.sqrt(weights / weights[0])
    loose = group == domains
    group[loose] = rng.integers(domains, size=loose.sum())
    place = (
        centers[group] + rng.normal(size=(count, 2)) * (spread[group] * (1 + 3 * loose))[:, None]
    )
    order = np.argsort(-np.bincount(group[~loose], minlength=domains), kind="stable")
    rank_of = np.argsort(order)
    sizes = np.bincount(rank_of[group[~loose]], minlength=domains)
    topics = [_TOPICS[d % len(_TOPICS)].split() for d in range(domains)]
    names = [
        ", ".join(topics[d][:3]) + (f" {d // len(_TOPICS) + 1}" if d >= len(_TOPICS) else "")
        for d in order
    ]
    downloads = np.where(rng.random(count) < 0.3, 0, rng.lognormal(4, 2.4, count)).astype(int)
    authors = [_AUTHORS[a] for a in rng.integers(len(_AUTHORS), size=count)]
    adapters = [
        f"{author}/{topics[g][n % len(topics[g])]}-lora-{n}"
        for n, (author, g) in enumerate(zip(authors, group, strict=True))
    ]
    k = min(20, count - 1)
    nearest, distance = _neighbors(place, group, k)
    ranks = rng.choice(
        [4, 8, 16, 32, 64, 128, 0], count, p=[0.05, 0.25, 0.3, 0.17, 0.12, 0.06, 0.05]
    )
    columns = {
        "adapter": adapters,
        "repo_id": adapters,
        "subfolder": [""] * count,
        "revision": [f"{n:040x}" for n in range(count)],
        "x": place[:, 0].round(4).tolist(),
        "y": place[:, 1].round(4).tolist(),
        "domain": [None if out else int(rank_of[g]) for g, out in zip(group, loose, strict=True)],
        "label": [None] * count,
        "downloads": [int(d) for d in downloads],
        "likes": [int(d) for d in downloads // 90],
        "license": [
            None if n > 5 else _LICENSES[n] for n in rng.choice(8, count, p=[0.4, *[0.6 / 7] * 7])
        ],
        "rank": [int(r) or None for r in ranks],
        "alpha": [float(2 * r) or None for r in ranks],
        "signal": rng.lognormal(7, 1.6, count).round(1).tolist(),
        "norm": rng.lognormal(2, 0.5, count).round(4).tolist(),
        "adapter_type": ["LORA"] * count,
        "target_modules": [["q_proj", "k_proj", "v_proj", "o_proj"]] * count,
        "weight_bytes": rng.integers(2_000_000, 160_000_000, count).tolist(),
        "author": authors,
        "datasets": [[f"{a}/{topics[g][0]}"] for a, g in zip(authors, group, strict=True)],
        "languages": [["en"]] * count,
        "task": ["text-generation"] * count,
        "created_at": ["2026-03-02T10:00:00+00:00"] * count,
        "last_modified": ["2026-09-14T10:00:00+00:00"] * count,
        "status": ["embedded"] * count,
        "card": [f"# {name}\n\nA LoRA of the base, trained for three epochs." for name in adapters],
    }
    return json.dumps(
        {
            "format": 1,
            "base": "synthetic/base-8B",
            "recipe": "8f14e45fceea",
            "hub": "https://huggingface.co",
            "made_at": "2026-11-27T18:00:00+00:00",
            "version": "0.1.0",
            "threshold": 0.25,
            "domains": [
                {"name": name, "size": int(size)} for name, size in zip(names, sizes, strict=True)
            ],
            "columns": columns,
            "neighbors": {"k": k, "index": _base64(nearest), "distance": _base64(distance)},
        }
    )


def _apart(rng: np.random.Generator, count: int) -> np.ndarray:
    """Centers at a distance from each other: [count, 2]."""
    centers: list[np.ndarray] = []
    radius = 1.7 * np.sqrt(count)
    while len(centers) < count:
        center = rng.uniform(-radius, radius, 2)
        if all(np.linalg.norm(center - other) > 1.9 for other in centers):
            centers.append(center)
        radius *= 1.001
    return np.array(centers)


def _neighbors(place: np.ndarray, group: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest on the map, and a cosine distance that grows with theirs: [n, k] twice."""
    apart, nearest = KDTree(place).query(place, k + 1)
    apart, nearest = apart.reshape(len(place), -1)[:, 1:], nearest.reshape(len(place), -1)[:, 1:]
    distance = 0.02 + 0.35 * apart + 0.3 * (group[nearest] != group[:, None])
    order = np.argsort(distance, axis=1)
    distance = np.take_along_axis(distance, order, 1).clip(0, 1)
    return np.take_along_axis(nearest, order, 1).astype("<i4"), distance.astype("<f4")


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
