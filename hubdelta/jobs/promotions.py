"""Updating the table `promotions`: which tokens new adapters make more and less likely."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb
import numpy as np
import numpy.typing as npt

from hubdelta.schemas.errors import HubdeltaError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import BaseRow, PromotionRow

if TYPE_CHECKING:
    from hubdelta.sql.cache.families import VectorFamily
    from hubdelta.sql.cache.flat_deltas import Deltas

logger = logging.getLogger(__name__)

_SHOWN: Final = 10  # tokens of an adapter, of each sign
_CANDIDATES: Final = 100  # those among which whole words are preferred
_ROWS: Final = 512  # deltas at a time, and rows of a file
_GROWTH: Final = 2  # rows of a pool that has grown by this factor since are made anew


def refresh_promotions(
    index: Index, base: str, *, recipe_id: str, base_folder: Path, run_id: str
) -> None:
    """Find the tokens of adapters that have no row yet, and write them.

    The pool's mean is subtracted. It moves with every adapter, so all rows are made anew once the
    pool has doubled. A base whose output layer cannot be read gets none.

    Args:
        index: held for writing.
        base: the base.
        recipe_id: the recipe.
        base_folder: a transformers folder of the base, with weights and tokenizer.
        run_id: goes into each row.

    Raises:
        IndexWriteError: no space, no permission.
        KeyboardInterrupt: Ctrl-C stopped it.
    """
    from hubdelta.indexer.base_structure import LOADING_ERRORS
    from hubdelta.sql.cache import cache
    from hubdelta.sql.cache.contents import UNUSABLE
    from hubdelta.sql.cache.families import read_family
    from hubdelta.sql.stoppable import interruptible

    with duckdb.connect() as database:
        try:
            with interruptible(), ExitStack() as stack:
                attached = cache.attach(database, index, linked=False)
                if attached is None:
                    return
                stack.callback(attached.close)
                family = read_family(database, base, recipe_id)
                lacking = _lacking(index, family)
                if not lacking:
                    return
                rows = _rows(index, family, attached.contents.deltas, lacking, base_folder, run_id)
        except (OSError, HubdeltaError, *LOADING_ERRORS, *UNUSABLE) as error:
            logger.warning("what adapters of %s promote is not up to date: %s", base, error)
            return
    for start in range(0, len(rows), _ROWS):
        index.write(rows[start : start + _ROWS], base=base)


def _lacking(index: Index, family: "VectorFamily") -> list[int]:
    """Places in the family of the adapters whose rows are missing or too old."""
    columns = ["recipe_id", "adapter", "revision", "pool", "read_at"]
    table = index.read(PromotionRow, base=family.base, columns=columns).sort_by("read_at")
    known = {
        row["adapter"]: (row["revision"], row["pool"])
        for row in table.to_pylist()
        if row["recipe_id"] == family.recipe_id
    }
    size = len(family.adapters)
    return [
        place
        for place, (name, revision) in enumerate(
            zip(family.adapters, family.revisions, strict=True)
        )
        if name not in known or known[name][0] != revision or size >= _GROWTH * known[name][1]
    ]


def _rows(
    index: Index,
    family: "VectorFamily",
    deltas: "Deltas",
    places: Sequence[int],
    base_folder: Path,
    run_id: str,
) -> list[PromotionRow]:
    import torch

    from hubdelta.indexer.engines.unembedding import Unembedding
    from hubdelta.indexer.token_names import TokenNames
    from hubdelta.sql.cache.flat_deltas import checked

    def read(wanted: "npt.NDArray[np.intp]") -> npt.NDArray[np.float32]:
        return checked(deltas, family.hidden, family.slots[wanted], family.folds[wanted])

    every = np.arange(len(family.adapters))
    blocks = (every[start : start + _ROWS] for start in range(0, len(every), _ROWS))
    mean = sum(read(block).sum(0, dtype=np.float64) for block in blocks) / len(every)
    center = torch.from_numpy(np.asarray(mean, np.float32))
    states = torch.from_numpy(base_states(index, family.base, family.recipe_id))
    layer, names = Unembedding(base_folder), TokenNames(base_folder)
    rows = []
    for start in range(0, len(places), _ROWS):
        block = np.asarray(places[start : start + _ROWS])
        found = layer.extremes(torch.from_numpy(read(block).copy()), center, states, k=_CANDIDATES)
        for row, place in enumerate(block):
            best, worst = (
                names.chosen(one.tokens[row].tolist(), one.changes[row].tolist(), _SHOWN)
                for one in found
            )
            rows.append(
                PromotionRow(
                    base=family.base,
                    recipe_id=family.recipe_id,
                    adapter=family.adapters[place],
                    revision=family.revisions[place],
                    promotes=[token.name for token in best if token.value > 0],
                    promotes_by=[token.value for token in best if token.value > 0],
                    suppresses=[token.name for token in worst if token.value < 0],
                    suppresses_by=[token.value for token in worst if token.value < 0],
                    pool=len(every),
                    read_at=datetime.now(UTC),
                    run_id=run_id,
                )
            )
    return rows


def base_states(index: Index, base: str, recipe_id: str) -> npt.NDArray[np.float32]:
    """The base's own hidden states for the probes, [probes, hidden].

    Raises:
        HubdeltaError: the index does not have them.
    """
    table = index.read(BaseRow, base=base, columns=["recipe_id", "activations"])
    for row in table.to_pylist():
        if row["recipe_id"] == recipe_id:
            return np.asarray(row["activations"], np.float32)
    raise HubdeltaError("the base's own hidden states are not in the index")
