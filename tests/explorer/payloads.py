"""Payloads of the explorer's page, small enough to know by heart."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

K = 3

_DEFAULTS: dict[str, Any] = {
    "subfolder": "",
    "revision": "0123456789abcdef0123456789abcdef01234567",
    "domain": None,
    "label": None,
    "downloads": 0,
    "likes": None,
    "license": None,
    "rank": 8,
    "alpha": 16.0,
    "signal": 1000.0,
    "norm": 2.0,
    "adapter_type": "LORA",
    "target_modules": ["q_proj", "v_proj"],
    "weight_bytes": 3_000_000,
    "author": None,
    "datasets": [],
    "languages": [],
    "task": None,
    "created_at": None,
    "last_modified": None,
    "status": "embedded",
    "promotes": [],
    "card": None,
}

VILLAGE = (
    {"adapter": "poets/psalms", "x": 0, "y": 0, "domain": 0, "downloads": 900, "license": "mit"},
    {"adapter": "poets/kings", "x": 1, "y": 0, "domain": 0, "license": "mit", "rank": 16},
    {"adapter": "coders/python", "x": 0, "y": 4, "domain": 1, "datasets": ["graphs/networkx"]},
    {"adapter": "coders/rust", "x": 4, "y": 4, "domain": 1, "license": "apache-2.0",
     "author": "Ferris"},
    {"adapter": "lost/odd-one", "x": 4, "y": 0, "signal": 12.0, "rank": None, "downloads": None},
)  # fmt: skip
"""Two domains of two, and one adapter that is doubtful and alone."""

NEAR = {
    0: [(1, 0.05), (2, 0.4), (4, 0.9)],
    1: [(0, 0.05), (2, 0.3), (3, 0.6)],
    2: [(3, 0.2), (1, 0.3), (0, 0.4)],
    3: [(2, 0.2), (1, 0.6)],
    4: [(0, 0.9)],
}

DOMAINS = (
    {"number": 4, "name": "kjv, bible, verses", "size": 2},
    {"number": 2, "name": "code, python", "size": 2},
)


def payload(
    adapters: tuple[dict[str, Any], ...] = VILLAGE,
    neighbors: dict[int, list[tuple[int, float]]] = NEAR,
    domains: tuple[dict[str, Any], ...] = DOMAINS,
    **top: Any,
) -> str:
    """JSON of format 1; what an adapter does not say is a default, its repository its name."""
    rows = [{**_DEFAULTS, "repo_id": row["adapter"], **row} for row in adapters]
    names = ["adapter", "repo_id", "x", "y", *_DEFAULTS]
    index, distance = [], []
    for row in range(len(rows)):
        near = neighbors.get(row, [])
        index += [other for other, _ in near] + [-1] * (K - len(near))
        distance += [apart for _, apart in near] + [0.0] * (K - len(near))
    return json.dumps(
        {
            "format": 1,
            "base": "meta-llama/Llama-3.1-8B",
            "recipe": "8f14e45fceea",
            "hub": "https://huggingface.co",
            "made_at": "2026-11-27T18:00:00+00:00",
            "version": "0.1.0",
            "threshold": 0.25,
            "domains": domains,
            "columns": {name: [row[name] for row in rows] for name in names},
            "neighbors": {
                "k": K,
                "index": _base64("i", index),
                "distance": _base64("f", distance),
            },
            **top,
        },
        ensure_ascii=False,
    )


def _base64(kind: str, values: list[Any]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}{kind}", *values)).decode()
