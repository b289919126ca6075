"""What catalog rows describe, and how models relate to their bases in the Hub's words."""

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a catalog row describes: the closed list of values of `catalog.kind`.

    A mirror is not embedded: its row lets the next crawl recognize it.
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
"""Relations whose listings a crawl walks, since their models can be embedded."""
