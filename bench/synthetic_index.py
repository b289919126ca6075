"""An index of synthetic adapters as left by many nightly runs: real tables, made-up rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from delta_geometry import Block, Floats, SyntheticDeltas

from hubdelta.schemas.arrow import schema_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.layout import folder_of
from hubdelta.schemas.rows import CatalogRow, Row, VectorRow

BASE = "bench/base-8b"
_RECIPE = {"base_revision": "b" * 40, "recipe_id": "bench", "probe_set": "bench"}
_FILES = (4096, 1024, 256, 64)
"""Rows of one night's file and of the next ones, over again: first nights find many adapters."""

_LICENSES = ("apache-2.0", "mit", "llama3.1", None)
_FIRST_NIGHT = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class SyntheticIndex:
    """An index that holds the first adapters of a pool.

    Attributes:
        index: the index.
        pool: where its deltas come from.
    """

    index: Index
    pool: SyntheticDeltas

    def fill(self, size: int) -> Floats:
        """Write that many adapters in files of several sizes.

        Returns:
            Their unit vectors, [size, d].
        """
        units = np.empty((size, self.pool.width), np.float32)
        start = 0
        for stop in accumulate(cycle(_FILES)):
            self.add(start, min(stop, size), into=units[start:stop])
            if stop >= size:
                return units
            start = stop
        raise AssertionError("cycle ends never")

    def add(self, start: int, stop: int, *, into: Floats | None = None) -> None:
        """Write the adapters from one number to before another as one file a table.

        Args:
            start: first number.
            stop: the number after the last.
            into: receives their unit vectors, [stop - start, d].
        """
        block = self.pool.block(start, stop)
        norms = np.linalg.norm(block.deltas, axis=1)
        if into is not None:
            np.divide(block.deltas, norms[:, None], out=into)
        random = np.random.default_rng(start)
        night = _FIRST_NIGHT + timedelta(minutes=start)
        key = {
            "repo_id": [name(number) for number in range(start, stop)],
            "subfolder": "",
            "revision": [f"{number:040x}" for number in range(start, stop)],
            "run_id": f"{night:%Y%m%dT%H%M%SZ}-bench",
        }
        self._write(CatalogRow, _catalog(block, random, night) | key, night)
        self._write(VectorRow, _vectors(block, norms, night) | key, night)

    def _write(self, row_type: type[Row], columns: Mapping[str, Any], night: datetime) -> None:
        # As Index.write does, which takes rows: so many Python objects would take minutes.
        folder = folder_of(self.index.root, row_type, BASE)
        folder.mkdir(exist_ok=True)
        path = folder / f"{night:%Y%m%dT%H%M%S.%f}-bench.parquet"
        rows = len(columns["repo_id"])
        schema = schema_of(row_type)
        arrays = [_array(columns.get(spec.name), spec, rows) for spec in schema]
        table = pa.table(arrays, schema=schema).drop_columns("base")
        pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def name(number: int) -> str:
    """The adapter of a number: `org123/adapter-000123`."""
    return f"org{number % 997:03d}/adapter-{number:06d}"


def number_of(adapter: str) -> int:
    """The number of an adapter."""
    return int(adapter.rpartition("-")[2])


def parquet_bytes(root: Path) -> int:
    """The size of all Parquet files of an index."""
    return sum(path.stat().st_size for path in root.rglob("*.parquet"))


def cache_bytes(root: Path) -> int:
    """The size of what is derived from them."""
    derived = [root / "hubdelta.duckdb", *(root / "hubdelta.deltas").iterdir()]
    return sum(path.stat().st_size for path in derived)


def _catalog(block: Block, random: np.random.Generator, night: datetime) -> dict[str, Any]:
    """Columns of the catalog; half of the adapters declare their data, as some people do."""
    rows = len(block.deltas)
    known = (block.domains >= 0) & (random.random(rows) < 0.5)
    pairs = list(zip(known.tolist(), block.domains.tolist(), block.groups.tolist(), strict=True))
    return {
        "kind": "adapter",
        "relation": "adapter",
        "canonical_base": BASE,
        "evidence": "tag",
        "weights_files": [["adapter_model.safetensors"]] * rows,
        "created_at": night,
        "last_modified": night,
        "downloads": random.geometric(0.01, rows),
        "likes": random.geometric(0.5, rows) - 1,
        "private": False,
        "disabled": False,
        "library_name": "peft",
        "license": [_LICENSES[choice] for choice in random.integers(len(_LICENSES), size=rows)],
        "datasets": [[f"data/domain{d}-{g}"] if is_known else [] for is_known, d, g in pairs],
        "languages": [["en"]] * rows,
        "tags": [["lora", *([f"subject{d}"] if is_known else [])] for is_known, d, _ in pairs],
        "crawled_at": night,
    }


def _vectors(block: Block, norms: Floats, night: datetime) -> dict[str, Any]:
    rows, width = block.deltas.shape
    return _RECIPE | {
        "probe_set_id": "bench",
        "delta": pa.ListArray.from_arrays(
            pa.array(np.arange(rows + 1, dtype=np.int32) * width), pa.array(block.deltas.ravel())
        ),
        "norm": norms.astype(np.float64),
        "signal": norms.astype(np.float64) * 1e4,
        "engine": "stacked",
        "precision": "fp16",
        "adapter_type": "LORA",
        "rank": 16,
        "alpha": 32.0,
        "target_modules": [["q_proj", "v_proj"]] * rows,
        "weight_bytes": 27_000_000,
        "embedded_at": night,
    }


def _array(
    values: Sequence[Any] | npt.NDArray[Any] | pa.Array | object, spec: pa.Field, rows: int
) -> pa.Array:
    """A column; a single value is every row's."""
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, list | np.ndarray):
        return pa.array(values, spec.type)
    return pa.array([values] * rows, spec.type)
