"""Pictures of an evaluation: silhouettes of each label, and t-SNE of each space, side by side.

Colors are those of M. Okabe and K. Ito (Color Universal Design, 2008), which color-blind people
tell apart; hatches and markers tell the labels apart in black and white.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from hubdelta.evaluation.evaluate import SpaceScores
from hubdelta.schemas.files import opened_output

_COLORS: Final = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999"),
)
_MARKERS: Final = "os^vDPX*<>phd"
_HATCHES: Final = ("//", "..", "xx", "--", "\\\\", "oo", "++", "||", "**", "", "O.", "/o", "x-")
_INK: Final = "#222222"

_FORMATS: Final = ("png", "svg")
_COLUMNS: Final = 3
_PANEL: Final = 3.2  # inches
_LONGEST: Final = 28  # characters of a label that are shown

_PERPLEXITY: Final = 2 / 15
"""Of t-SNE, for each adapter: 2 for the 15 of the paper's pools, and at most 30."""

_SEED: Final = 0

_STYLE: Any = {
    "text.parse_math": False,  # labels are a user's
    "svg.hashsalt": "hubdelta",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "hatch.linewidth": 0.6,
}


class _Look(NamedTuple):
    """How one label is drawn."""

    color: str
    marker: str
    hatch: str


def draw(spaces: Sequence[SpaceScores], folder: Path) -> list[Path]:
    """Draw the spaces that have scores, as PNG and SVG.

    Args:
        spaces: the spaces.
        folder: where the pictures go; made if it is missing.

    Returns:
        The files.

    Raises:
        OutputError: they cannot be written.
    """
    scored = [space for space in spaces if space.scores is not None]
    looks = _looks(sorted({label for space in scored for label in space.labels}))
    files = []
    with mpl.rc_context(_STYLE):
        for name, picture in (
            ("silhouettes", _silhouettes(scored, looks)),
            ("tsne", _tsne(scored, looks)),
        ):
            for form in _FORMATS:
                path = folder / f"{name}.{form}"
                metadata = {"Date": None} if form == "svg" else {"Software": None}
                with opened_output(path) as file:
                    picture.savefig(file, format=form, dpi=150, metadata=metadata)
                files.append(path)
    return files


def plane(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adapters in a plane by t-SNE, the same each time [n, 2].

    L. van der Maaten and G. Hinton, Visualizing data using t-SNE, JMLR 9, 2008; on the distances of
    vectors of length one, √(2 - 2 cos).

    Args:
        cosines: similarity of each pair [n, n].
    """
    n = len(cosines)
    distances = np.sqrt(np.clip(2 - 2 * cosines, 0, None))
    np.fill_diagonal(distances, 0)
    perplexity = min(max(2.0, n * _PERPLEXITY), 30.0, n - 1.0)
    laid_out: NDArray[np.float64] = TSNE(
        perplexity=perplexity, metric="precomputed", init="random", random_state=_SEED
    ).fit_transform(distances)
    return laid_out


def _silhouettes(spaces: Sequence[SpaceScores], looks: dict[str, _Look]) -> Figure:
    """A panel for each space: a bar for each label; the mean as a line, its interval as a band."""
    width = max(_PANEL, 0.7 + 0.3 * len(looks))
    with _panels(spaces, width, legend=len(looks)) as (figure, axes):
        for axis, space in zip(axes, spaces, strict=False):
            scores = space.scores
            if scores is None:
                continue
            for place, (label, look) in enumerate(looks.items()):
                height = scores.by_label.get(label)
                if height is None:
                    axis.text(place, 0, "none", ha="center", va="bottom", rotation=90, color=_INK)
                    continue
                axis.bar(place, height, 0.8, color=look.color, hatch=look.hatch, edgecolor=_INK)
            mean = scores.silhouette
            axis.axhspan(mean.low, mean.high, color="#DDDDDD", linewidth=0, zorder=0)
            axis.axhline(mean.value, color=_INK, linestyle="--", linewidth=1)
            axis.axhline(0, color=_INK, linewidth=0.8)
            axis.set_title(f"{space.space}: {mean.value:.3f}")
            axis.set_xticks([])
            axis.set_xlim(-0.6, len(looks) - 0.4)
        low = min(min(space.scores.by_label.values()) for space in spaces if space.scores)
        axes[0].set_ylim(min(-0.1, low - 0.05), 1)
        for axis in axes[::_COLUMNS]:
            axis.set_ylabel("silhouette")
        bars = [
            mpl.patches.Patch(facecolor=look.color, hatch=look.hatch, edgecolor=_INK)
            for look in looks.values()
        ]
        _legend(figure, bars, looks)
    return figure


def _tsne(spaces: Sequence[SpaceScores], looks: dict[str, _Look]) -> Figure:
    """A panel for each space: a point for each adapter, marked by its label."""
    with _panels(spaces, _PANEL, legend=len(looks), share=False) as (figure, axes):
        for axis, space in zip(axes, spaces, strict=False):
            xy, labels = plane(space.cosines), np.array(space.labels)
            size = 60 if len(labels) <= 100 else 20
            for label, look in looks.items():
                own = xy[labels == label]
                axis.scatter(
                    own[:, 0],
                    own[:, 1],
                    s=size,
                    c=look.color,
                    marker=look.marker,
                    edgecolors=_INK,
                    linewidths=0.7,
                )
            axis.set_title(space.space)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.margins(0.1)
        marks = [
            Line2D([], [], marker=look.marker, color=look.color, markeredgecolor=_INK, linestyle="")
            for look in looks.values()
        ]
        _legend(figure, marks, looks)
    return figure


@contextmanager
def _panels(
    spaces: Sequence[SpaceScores], width: float, *, legend: int, share: bool = True
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with a panel for each space and room for a legend below."""
    columns = min(_COLUMNS, len(spaces))
    rows = ceil(len(spaces) / columns)
    below = 0.3 + 0.25 * ceil(legend / _legend_columns(columns * width))
    figure = Figure(figsize=(columns * width, rows * _PANEL * 0.9 + below), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=share, squeeze=False).ravel().tolist()
    for unused in axes[len(spaces) :]:
        unused.set_axis_off()
    yield figure, axes


def _legend(figure: Figure, handles: Sequence[Any], looks: dict[str, _Look]) -> None:
    names = [label if len(label) <= _LONGEST else f"{label[:_LONGEST]}…" for label in looks]
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=_legend_columns(figure.get_figwidth()),
        frameon=False,
    )


def _legend_columns(width: float) -> int:
    """How many names stand beside each other in a width [inches]."""
    return max(1, int(width / 1.9))


def _looks(labels: Sequence[str]) -> dict[str, _Look]:
    colors, markers, hatches = (cycle(one) for one in (_COLORS, _MARKERS, _HATCHES))
    looks = map(_Look._make, zip(colors, markers, hatches, strict=False))
    return dict(zip(labels, islice(looks, len(labels)), strict=True))
