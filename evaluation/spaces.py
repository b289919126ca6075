"""The spaces that are compared: what each is, what it needs, and where its definition comes from.

The paper (arXiv 2509.04442) compares its Delta Activations with four other embeddings and publishes
code for none of them. Where it leaves a definition open, `about` says which one is used here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hubdelta.schemas.errors import UsageError

DELTA: Final = "delta"
WEIGHTS: Final = "weights"
UPDATE: Final = "update"
PCA: Final = "pca"
SALIENT: Final = "salient"
OUTPUTS: Final = "outputs"
PROMOTED: Final = "promoted"


@dataclass(frozen=True)
class Space:
    """An embedding space.

    Attributes:
        name: as `--spaces` takes it.
        about: its definition, in a sentence.
        stored: the space whose rows it is computed from, if the index keeps any.
    """

    name: str
    about: str
    stored: str | None


_ALL: Final = (
    Space(
        DELTA,
        "the Delta Activation that the index holds",
        None,
    ),
    Space(
        WEIGHTS,
        "LoRA's factors A and B of all linear layers, flattened and concatenated; zeros where an "
        "adapter lacks a layer, or has a smaller rank",
        WEIGHTS,
    ),
    Space(
        UPDATE,
        "the change of the weights, s·B·A of all linear layers, with s = alpha/r or, for rsLoRA, "
        "alpha/√r; its inner products come from the factors",
        UPDATE,
    ),
    Space(
        PCA,
        "all principal components of `weights` over the adapters that are compared, centered",
        WEIGHTS,
    ),
    Space(
        SALIENT,
        "a mask over all weights of the model: the 1% that change most, |s·B·A| above a threshold "
        "found from 2^20 samples; similarity is the cosine of masks",
        SALIENT,
    ),
    Space(
        OUTPUTS,
        "greedy answers to the probes, embedded by a sentence model, each of length one, averaged",
        OUTPUTS,
    ),
    Space(
        PROMOTED,
        "the change of every token's logit by the Delta Activation, through the base's output "
        "layer, less the mean of all tokens",
        PROMOTED,
    ),
)

SENTENCE_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
"""What embeds answers, unless another is named."""

SPACES: Final = {space.name: space for space in _ALL}
"""The spaces by name, in the order of the paper's table."""


def chosen(names: Sequence[str]) -> tuple[Space, ...]:
    """Spaces by name, in the table's order; `all` stands for every one.

    Raises:
        UsageError: there is no such space, or none is named.
    """
    unknown = [name for name in names if name not in SPACES and name != "all"]
    if unknown or not names:
        what = f"no space {unknown[0]!r}" if unknown else "no space is named"
        raise UsageError(f"{what}: all, or some of {', '.join(SPACES)}")
    return tuple(space for space in _ALL if "all" in names or space.name in names)
