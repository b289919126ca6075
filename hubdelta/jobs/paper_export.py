"""Exporting the vectors of a base as the files of the paper's release."""

from pathlib import Path

import numpy as np

from hubdelta.evaluation.labels import split
from hubdelta.evaluation.members import Family, read_deltas, read_family, the_base
from hubdelta.evaluation.paper_files import PaperFiles
from hubdelta.evaluation.scores import score
from hubdelta.evaluation.similarity import cosines
from hubdelta.jobs.evaluation import stored_labels
from hubdelta.schemas.files import opened_output
from hubdelta.schemas.index import Index
from hubdelta.sql.connection import Queries, connect


def export_paper(index: Index, base: str | None, out: Path, summary: Path) -> int:
    """Write the files of the paper's release, of all comparable vectors of a base.

    Args:
        index: an index.
        base: the base; None if the index has only one.
        out: the npz.
        summary: the JSON.

    Returns:
        How many adapters there are.

    Raises:
        QueryError: the index has no such base, or no comparable vector.
        OutputError: a file cannot be written.
    """
    with connect(index) as queries:
        family = read_family(queries, the_base(queries, base))
        names = list(family.members)
        files = PaperFiles(
            base=family.base,
            model_family=family.model_type,
            models=names,
            embeddings=read_deltas(queries, family, names).astype(np.float32),
            silhouette=_silhouette(queries, family),
            probe_set=family.probe_set,
            prompts=family.prompts,
        )
    with opened_output(out) as file:
        files.write_npz(file)
    with opened_output(summary) as file:
        files.write_summary(file)
    return len(names)


def _silhouette(queries: Queries, family: Family) -> float | None:
    """Of the labels that the index has; None if they cannot be scored."""
    found, _ = split(stored_labels(queries, family))
    if len(set(found.values())) < 2:
        return None
    deltas = read_deltas(queries, family, list(found))
    return score(cosines(deltas @ deltas.T), list(found.values())).silhouette.value
