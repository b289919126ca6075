"""Querying an index from Python: the questions of the command line, answered with tables.

The examples run on the demo's index, which `make demo` creates in `./hubdelta-index`.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hubdelta.schemas.defaults import DISTANCE, DUPLICATE_DISTANCE, NEIGHBORS, VOTERS
from hubdelta.schemas.errors import MissingPackageError, SeveralBasesError, UsageError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.sql.connection import Queries, connect
from hubdelta.sql.questions import answers
from hubdelta.sql.questions.centered import centered
from hubdelta.sql.questions.status import IndexStatus, bases, check_base, status
from hubdelta.sql.questions.vectors import vectors

Frames = Literal["arrow", "pandas", "polars"]

Frame = Any
"""A pyarrow.Table, pandas.DataFrame or polars.DataFrame, as chosen in `open_index`."""


def open_index(
    path: str | os.PathLike[str] | None = None, *, frames: Frames = "arrow"
) -> "OpenIndex":
    """Open an index for queries.

    Its cache is brought up to date first. What runs write later is not seen.

    Args:
        path: the index's directory; HUBDELTA_INDEX by default, or else `./hubdelta-index`.
        frames: the type of answers: Arrow tables, or data frames of pandas or polars, which must
            then be installed.

    Raises:
        NoIndexError: there is no index at the path.
        NewerIndexError: a newer hubdelta wrote it.
        MissingPackageError: pandas or polars is not installed.
        UsageError: an unknown value of `frames`.

    >>> import hubdelta
    >>> index = hubdelta.open_index()
    >>> index.similar("mlnights/lora-test-3", k=2)["adapter"].to_pylist()
    ['graphsmiths/smollm2-135m-networkx-coder', 'silent-sam/run-17']
    >>> index.close()
    """
    _check_frames(frames)
    place = Path(path or os.environ.get("HUBDELTA_INDEX") or DEFAULT_INDEX).expanduser()
    return OpenIndex(connect(Index.open(place)), frames)


class OpenIndex:
    """An open index, made by `open_index`. For one thread at a time.

    Adapters are named `org/name[/subfolder][@revision]`, by the URLs of their pages, or by the
    paths of embedded local folders. Distance is cosine distance, 1 - cos, from 0 to 2. Each answer
    is a table, or a data frame if `open_index` was asked for them.

    >>> with hubdelta.open_index() as index:
    ...     index.similarity("mlnights/lora-test-3", "silent-sam/run-17") > 0.9
    True
    """

    def __init__(self, queries: Queries, frames: Frames) -> None:
        self._queries = queries
        self._frames = frames

    def __enter__(self) -> "OpenIndex":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"hubdelta.open_index({str(self._queries.index.root)!r}, frames={self._frames!r})"

    def close(self) -> None:
        """Close the index."""
        self._queries.close()

    def similar(self, adapter: str, k: int = NEIGHBORS) -> Frame:
        """The k adapters most similar to one, nearest first.

        Returns:
            adapter, similarity, distance, signal, downloads, license, datasets, base, repo_id,
            subfolder, revision.

        Raises:
            QueryError: the adapter has no vector that can be compared; the message says why.
            UsageError: k is not a positive integer.

        >>> found = index.similar("mlnights/lora-test-3", k=3)
        >>> found["adapter"].to_pylist()[0]
        'graphsmiths/smollm2-135m-networkx-coder'
        """
        return self._framed(answers.similar(self._queries, _named(adapter), k))

    def within(self, adapter: str, distance: float = DISTANCE) -> Frame:
        """The adapters within a distance of one, nearest first.

        Returns:
            The columns of `similar`.

        Raises:
            QueryError: as `similar`.
            UsageError: the distance is out of range.

        >>> len(index.within("mlnights/lora-test-3", 0.15))
        4
        """
        return self._framed(answers.within(self._queries, _named(adapter), distance))

    def similarity(self, a: str, b: str) -> float | None:
        """The cosine of two adapters in their latest common recipe; None if they have none.

        Raises:
            QueryError: the index does not know one of them.

        >>> round(index.similarity("mlnights/lora-test-3", "mlnights/lora-test-5"), 1)
        0.4
        """
        return answers.similarity(self._queries, _named(a), _named(b))

    def between(self, a: str, b: str, k: int = NEIGHBORS) -> Frame:
        """The k adapters most similar to the sum of two, perhaps trained on the data of both.

        Returns:
            The columns of `similar`, and to_a and to_b, the cosines to each.

        Raises:
            QueryError: they have no sum; the message says why.
            UsageError: k is not a positive integer.

        >>> code, json = "jh-petersen/docstring2code-lora", "openrecords/iso-codes-json-lora"
        >>> index.between(code, json, k=1)["adapter"].to_pylist()
        ['graphsmiths/smollm2-135m-code-and-json']
        """
        return self._framed(answers.between(self._queries, _named(a), _named(b), k))

    def compare(self, a: str, b: str) -> answers.Comparison:
        """Two adapters side by side: their distance, shared neighbors, and properties.

        Its `shared` and `properties` are tables, or data frames.

        Raises:
            QueryError: the index does not know one of them.

        >>> both = index.compare("mlnights/lora-test-3", "mlnights/lora-test-5")
        >>> both.obstacle, len(both.shared)
        (None, 0)
        """
        found = answers.compare(self._queries, _named(a), _named(b))
        return replace(
            found, shared=self._framed(found.shared), properties=self._framed(found.properties)
        )

    def domains(
        self, base: str | None = None, distance: float | None = None, *, center: bool = False
    ) -> Frame:
        """The domains: groups of adapters that behave alike.

        Args:
            base: the base; None for every base.
            distance: join adapters by chains of steps up to this distance; None for the domains
                that the last run found, whose numbers persist: density clusters or, with fewer
                than 40 adapters, linkage at a distance that depends on the pool.
            center: first subtract what all adapters of a base share; distances become larger.

        Returns:
            domain, name, size, central, members, base, method; largest of a base first.

        Raises:
            QueryError: the index has no such base; or centering needs its cache, which cannot be
                written.
            UsageError: the distance is out of range, or `center` is given without one.

        >>> sum(size >= 4 for size in index.domains()["size"].to_pylist())
        5
        """
        if center and distance is None:
            raise UsageError("centered domains need a distance, such as 0.35")
        with centered(self._queries, base) if center else nullcontext():
            return self._framed(answers.domains(self._queries, base, distance))

    def domain_terms(self, base: str | None = None, distance: float | None = None) -> Frame:
        """The evidence for the domains' names.

        Args:
            base: as for `domains`.
            distance: as for `domains`.

        Returns:
            base, domain, term, source (label, dataset, tag, name or card), inside and outside (how
            many adapters have it), weight, place.

        Raises:
            QueryError: the index has no such base.

        >>> index.domain_terms()["place"].to_pylist()[0]
        1
        """
        return self._framed(answers.domain_terms(self._queries, base, distance))

    def duplicates(self, base: str | None = None, distance: float = DUPLICATE_DISTANCE) -> Frame:
        """Pairs of adapters that are nearly identical, nearest first.

        Returns:
            a, b, similarity, distance, base.

        Raises:
            QueryError: the index has no such base.
            UsageError: the distance is out of range.

        >>> index.duplicates().slice(0, 1).select(["a", "b"]).to_pylist()
        [{'a': 'annika-w/german-final', 'b': 'annika-w/smollm2-135m-de'}]
        """
        return self._framed(answers.duplicates(self._queries, base, distance))

    def outliers(self, base: str | None = None, k: int = NEIGHBORS) -> Frame:
        """The k adapters whose nearest other one is farthest away, farthest first.

        Returns:
            adapter, nearest, distance, signal, norm, adapter_type, downloads, license, datasets,
            base, repo_id, subfolder, revision.

        Raises:
            QueryError: the index has no such base.
            UsageError: k is not a positive integer.

        >>> len(index.outliers(k=3))
        3
        """
        return self._framed(answers.outliers(self._queries, base, k))

    def new_since(self, since: str | date | datetime) -> Frame:
        """The adapters that are new, updated or first embedded since a day or time.

        Args:
            since: in UTC unless it has a time zone; text in any form that DuckDB reads.

        Returns:
            adapter, base, change, status, reason, seen_at, embedded_at, cluster, signal, downloads,
            license, datasets, author; the newest first.

        Raises:
            QueryError: the text is not a time.

        >>> len(index.new_since("2999-01-01"))
        0
        """
        return self._framed(answers.new_since(self._queries, since))

    def suggestions(
        self, base: str | None = None, k: int = VOTERS, distance: float = DISTANCE
    ) -> Frame:
        """Labels for unlabeled adapters, from their nearest labeled neighbors.

        Returns:
            adapter, label, confidence, votes, nearest, distance, base; the most confident first.

        Raises:
            QueryError: the index has no such base.
            UsageError: k is less than 1, or the distance out of range.

        >>> len(index.suggestions())  # none of the demo's adapters has a label
        0
        """
        return self._framed(answers.suggestions(self._queries, base, k, distance))

    def evaluate(
        self,
        base: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        label_pattern: str | None = None,
        spaces: Sequence[str] = ("delta",),
        sentence_model: str | None = None,
    ) -> Frame:
        """How well Delta Activations, and other spaces, tell labeled adapters apart.

        All spaces but delta store in the index what they compute, and fetch what they need through
        the Hub that HF_ENDPOINT names: the base for promoted, the weights of the labeled adapters
        for the others.

        Args:
            base: the base; None if the index has only one.
            labels: adapter → label; None for those that `hubdelta label` stored.
            label_pattern: in place of labels, a regular expression over the names with a group
                `(?P<label>...)`.
            spaces: some of delta, weights, update, pca, salient, outputs, promoted; or all.
            sentence_model: what embeds answers in outputs, ORG/NAME or a local folder;
                sentence-transformers/all-MiniLM-L6-v2 by default.

        Returns:
            A row for each space: space, adapters, dimension; silhouette and silhouette_halved, with
            distance clip(1 - cos, 0, 1) and (1 - cos) / 2, each with the ends of its 95% interval
            as _low and _high; retrieval, rand_index, seconds, fetched_bytes, by_label, left_out,
            about.

        Raises:
            QueryError: the index has no such base, or no comparable vector.
            UsageError: labels that cannot be scored, a wrong pattern, an unknown space.
            MissingExtraError: a space needs torch, which is not installed.
            IndexBusyError: another run holds the index.
            HubError: nothing can be fetched now.

        >>> scores = index.evaluate(label_pattern="(?P<label>json|wordnet|kjv)")
        >>> scores["space"].to_pylist(), scores["silhouette"][0].as_py() > 0.3
        (['delta'], True)
        """
        from hubdelta.evaluation.evaluate import table_of
        from hubdelta.evaluation.spaces import SENTENCE_MODEL, chosen
        from hubdelta.jobs.evaluation import EvaluationRequest, run_evaluation

        if labels is not None and label_pattern is not None:
            raise UsageError("labels or label_pattern: leave out one of the two")
        request = EvaluationRequest(
            base=base,
            spaces=chosen(spaces),
            labels=labels,
            labels_from="the index" if labels is None else "the mapping",
            pattern=label_pattern,
            sentence_model=sentence_model or SENTENCE_MODEL,
        )
        found = run_evaluation(self._queries.index, request, lambda doing, done, total: None)
        return self._framed(table_of(found.evaluation))

    def status(self, base: str | None = None) -> IndexStatus:
        """What the index knows of each base, what is missing, and its size; runs are a frame.

        Raises:
            QueryError: the index has no such base.

        >>> (only,) = index.status().bases
        >>> only.base, only.failed["gated"]
        ('HuggingFaceTB/SmolLM2-135M-Instruct', 1)
        """
        found = status(self._queries, base)
        return replace(found, runs=self._framed(found.runs))

    def adapters(self) -> Frame:
        """The newest revision of each adapter of each base, with everything known about it.

        Returns:
            The columns of the view `adapters`.

        >>> sorted(set(index.adapters()["kind"].to_pylist()))
        ['adapter', 'full']
        """
        return self._framed(self._queries.run("FROM adapters ORDER BY base, adapter"))

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Frame:
        """The answer to a read-only query of the views and macros.

        Args:
            query: one statement.
            parameters: values of `?` or `$name` in it.

        Raises:
            QueryError: it is wrong, or not allowed on a read-only connection.

        >>> query = "SELECT max(downloads) AS most FROM adapters WHERE license = ?"
        >>> index.sql(query, ["apache-2.0"]).to_pylist()
        [{'most': 2210}]
        """
        return self._framed(self._queries.run(query, parameters))

    def vectors(self, base: str | None = None) -> tuple[list[str], npt.NDArray[np.float32]]:
        """All comparable vectors of a base, as one matrix.

        They are of the latest recipe; none is zero or mere noise.

        Args:
            base: the base; None if the index has only one.

        Returns:
            The adapters, sorted, and [adapters, hidden] as computed, not normalized [hidden-state
            units].

        Raises:
            QueryError: the index has no such base.
            UsageError: no base is given, and the index has several.

        >>> names, matrix = index.vectors()
        >>> len(names) == len(matrix), matrix.shape[1], matrix.dtype
        (True, 576, dtype('float32'))
        """
        if base is None:
            known = bases(self._queries)
            if len(known) != 1:
                raise SeveralBasesError(known) if known else UsageError("the index is empty")
            (base,) = known
        check_base(self._queries, base)
        return vectors(self._queries, base)

    def _framed(self, table: pa.Table) -> Frame:
        if self._frames == "pandas":
            return table.to_pandas(maps_as_pydicts="lossy")
        if self._frames == "polars":
            import polars

            return polars.from_arrow(table)
        return table


def _named(adapter: str | os.PathLike[str]) -> AdapterName:
    return AdapterName.parse(os.fspath(adapter), must_exist=False)


def _check_frames(frames: str) -> None:
    if frames not in {"arrow", "pandas", "polars"}:
        raise UsageError(f"no frames {frames!r}: one of arrow, pandas, polars")
    if frames == "arrow":
        return
    try:
        import_module(frames)
    except ImportError as error:
        raise MissingPackageError(f"frames={frames!r}", frames) from error
