"""What rows of the catalog are of, and how the Hub says that models relate to their bases."""

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a row of the catalog is of: the closed list that `catalog.kind` holds.

    A mirror is nothing to embed: its row is how the next crawl knows it.
    """

    ADAPTER = "adapter"
    FULL = "full"
    MIRROR = "mirror"


class Relation(StrEnum):
    """How a model relates to its base, in the Hub's words (`base_model:<relation>:<base>`)."""

    ADAPTER = "adapter"
    FINETUNE = "finetune"
    QUANTIZED = "quantized"
    MERGE = "merge"


LISTED: Final = (Relation.ADAPTER, Relation.FINETUNE)
"""Relations whose listings a crawl walks, for what can be embedded."""
