"""Rows of an index with sensible values, of which a test names only what it is about."""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from hubdelta.schemas.rows import CatalogRow, FailureRow, VectorRow

_KEY = {"base": "org/base", "repo_id": "a/b", "subfolder": "", "revision": "0" * 40, "run_id": "r"}
_THEN = datetime(2026, 11, 1, tzinfo=UTC)


def catalog_row(**changes: Any) -> CatalogRow:
    """An ordinary adapter as an ordinary crawl shows it."""
    return CatalogRow(
        **_KEY
        | {
            "kind": "adapter",
            "relation": "adapter",
            "canonical_base": changes.get("base", "org/base"),
            "evidence": "tag",
            "declared_base": None,
            "via": None,
            "weights_files": ["adapter_model.safetensors"],
            "author": "a",
            "created_at": _THEN,
            "last_modified": _THEN,
            "downloads": 0,
            "likes": 0,
            "gated": None,
            "private": False,
            "disabled": False,
            "library_name": "peft",
            "pipeline_tag": None,
            "task_type": "CAUSAL_LM",
            "license": None,
            "datasets": [],
            "languages": [],
            "tags": [],
            "vanished_at": None,
            "crawled_at": _THEN,
        }
        | changes
    )


def vector_row(**changes: Any) -> VectorRow:
    """A vector of length one."""
    return VectorRow(
        **_KEY
        | {
            "base_revision": "b" * 40,
            "recipe_id": "recipe",
            "probe_set": "alpaca-5",
            "probe_set_id": "probes",
            "delta": np.array([1.0, 0.0], np.float32),
            "norm": 1.0,
            "signal": 1000.0,
            "engine": "reference",
            "precision": "fp32",
            "adapter_type": "LORA",
            "rank": 8,
            "alpha": 16.0,
            "target_modules": ["q_proj"],
            "weight_bytes": 1,
            "embedded_at": _THEN,
        }
        | changes
    )


def failure_row(**changes: Any) -> FailureRow:
    """A first attempt that failed."""
    return FailureRow(
        **_KEY
        | {
            "reason": "network",
            "message": "no answer",
            "attempt": 1,
            "failed_at": _THEN,
            "due_at": None,
        }
        | changes
    )
