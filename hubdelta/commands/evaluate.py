"""`hubdelta evaluate`: how well Delta Activations and other spaces tell labeled adapters apart."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hubdelta.commands.options import IndexFolder, OneBase, Wait
from hubdelta.evaluation.spaces import DELTA, SENTENCE_MODEL, SPACES
from hubdelta.schemas.errors import UsageError
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.output import Output

if TYPE_CHECKING:
    from hubdelta.evaluation.evaluate import Evaluation, SpaceScores
    from hubdelta.evaluation.scores import Interval
    from hubdelta.terminal.screen import Screen

logger = logging.getLogger(__name__)

EXAMPLES: Final = """\
hubdelta evaluate --labels labels.csv
hubdelta evaluate --label-pattern '(?P<label>json|german|wordnet|kjv)'
hubdelta evaluate --labels labels.csv --spaces delta,weights,update,pca"""


def command(
    *,
    base: OneBase = None,
    labels: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(
            "--labels",
            metavar="FILE.csv",
            show_default="those that `hubdelta label` stored",
            help="Labels, as columns adapter,label; - is standard input.",
        ),
    ] = None,
    label_pattern: Annotated[
        str | None,
        typer.Option(
            "--label-pattern",
            metavar="REGEX",
            help="Read labels from names: a regular expression with a group (?P<label>...).",
        ),
    ] = None,
    spaces: Annotated[
        str,
        typer.Option(
            "--spaces",
            metavar="LIST",
            help=f"What to compare: all, or some of {','.join(SPACES)}.",
        ),
    ] = DELTA,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FOLDER", help="Draw the scores and the spaces as PNG and SVG."
        ),
    ] = None,
    sentence_model: Annotated[
        str,
        typer.Option(
            "--sentence-model",
            metavar="ORG/NAME",
            help="What embeds answers in the space outputs; or a local folder, as ./FOLDER.",
        ),
    ] = SENTENCE_MODEL,
    index_path: IndexFolder = DEFAULT_INDEX,
    output: Output,
    wait: Wait = False,
) -> int:
    """Score how well Delta Activations, and other spaces, tell labeled adapters apart.

    A row for each space: silhouette with its 95% bootstrap interval, for the distance clip(1 - cos,
    0, 1) and for (1 - cos)/2; retrieval, the share of adapters whose nearest neighbor has the same
    label; rand, the adjusted Rand index of groups joined at the default distance; what it took.
    Labels of one adapter alone are dropped.

    delta: what the index holds. weights: LoRA's factors, flattened. update: the change of the
    weights, s·B·A. pca: of weights. salient: a mask of the 1% of weights that change most. outputs:
    greedy answers to the probes, embedded by a sentence model. promoted: the change of every
    token's logit.

    All but delta and promoted fetch the weights of the labeled adapters again, and outputs also
    runs the base. The index keeps what was computed, so that only new adapters are computed the
    next time.
    """
    from hubdelta.evaluation.spaces import chosen
    from hubdelta.exit_codes import EXIT_SOME_FAILED
    from hubdelta.jobs.evaluation import EvaluationRequest, run_evaluation
    from hubdelta.jobs.labels import read_labels
    from hubdelta.schemas.files import make_folder
    from hubdelta.schemas.index import Index
    from hubdelta.settings import require_extra
    from hubdelta.terminal.progress import show_counts

    if labels is not None and label_pattern is not None:
        raise UsageError("--labels or --label-pattern: leave out one of the two")
    wanted = chosen([part.strip() for part in spaces.split(",") if part.strip()])
    index = Index.open(index_path)
    given = None
    if labels is not None:
        read = read_labels(labels, labels.name)
        given = {adapter: label for adapter, label in read.items() if label is not None}
    request = EvaluationRequest(
        base=base,
        spaces=wanted,
        labels=given,
        labels_from="the index" if labels is None else labels.name,
        pattern=label_pattern,
        sentence_model=sentence_model,
        wait=wait,
    )
    if plot is not None:
        require_extra("hubdelta evaluate --plot", "evaluate")
        make_folder(plot)
    with show_counts() as on_progress:
        found = run_evaluation(index, request, on_progress)
    if plot is not None:
        from hubdelta.evaluation.pictures import draw

        for path in draw(found.evaluation.spaces, plot):
            logger.info("wrote %s", path)
    output.answer(_for_programs(found.evaluation), lambda screen: _show(found.evaluation, screen))
    return EXIT_SOME_FAILED if found.unknown else 0


def _for_programs(evaluation: "Evaluation") -> dict[str, Any]:
    """The answer as JSON: without the similarities."""
    from hubdelta.evaluation.evaluate import table_of
    from hubdelta.terminal.screen import rows_of

    return {
        "base": evaluation.base,
        "labels": evaluation.labeled.labels,
        "alone": evaluation.labeled.alone,
        "computed": evaluation.computed,
        "spaces": rows_of(table_of(evaluation)),
    }


def _show(evaluation: "Evaluation", screen: "Screen") -> None:
    import pyarrow as pa

    from hubdelta.schemas.words import counted

    labeled = evaluation.labeled
    table = pa.Table.from_pylist([_row(one) for one in evaluation.spaces])
    labels = counted(len(set(labeled.labels.values())), "label")
    screen.line(f"{evaluation.base}: {counted(len(labeled.labels), 'adapter')} of {labels}")
    if labeled.alone:
        dropped = ", ".join(f"{label} ({name})" for name, label in labeled.alone.items())
        screen.line(f"dropped, of one adapter alone: {dropped}")
    screen.table(table, counts="space", optional=["fetched", "seconds", "dimension"])
    if [one.space for one in evaluation.spaces] == [DELTA]:
        size = f"{evaluation.weight_bytes / 1e6:,.1f} MB"
        screen.note(f"--spaces all compares others, and fetches {size} of weights")
    for one in evaluation.spaces:
        screen.note(f"{one.space}: {one.about}")
        for group in one.left_out:
            kind = f"{group.adapter_type} adapter"
            screen.line(f"{one.space} leaves out {counted(len(group.adapters), kind)}: {group.why}")


def _row(one: "SpaceScores") -> dict[str, Any]:
    scores = one.scores
    return {
        "space": one.space,
        "adapters": len(one.adapters),
        "dimension": one.dimension,
        "silhouette": _written(scores.silhouette) if scores else None,
        "(1-cos)/2": _written(scores.silhouette_halved) if scores else None,
        "retrieval": _fixed(scores.retrieval, 2) if scores else None,
        "rand": _fixed(scores.rand_index, 2) if scores else None,
        "seconds": _fixed(one.seconds, 1),
        "fetched": f"{one.fetched_bytes / 1e6:,.1f} MB",
    }


def _written(interval: "Interval") -> str:
    """As in: 0.652 [0.60,0.71]; without spaces in the interval, where a cell would wrap."""
    return f"{_fixed(interval.value, 3)} [{_fixed(interval.low, 2)},{_fixed(interval.high, 2)}]"


def _fixed(value: float, decimals: int) -> str:
    """A number with so many decimals; zero without a sign."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"
