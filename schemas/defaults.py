"""What a question means where it does not say how many, or how far.

Macros, functions and options take these. Distances are cosine distances, 1 - cos, from 0 to 2.
"""

from typing import Final

NEIGHBORS: Final = 10
"""How many of the nearest, or of the oddest, adapters an answer has."""

DISTANCE: Final = 0.25
"""Up to which distance adapters are near each other."""

DUPLICATE_DISTANCE: Final = 0.01
"""Up to which distance adapters do almost the same."""

LARGEST_DISTANCE: Final = 2
"""That of opposite vectors."""

VOTERS: Final = 5
"""How many labeled neighbors vote on a suggested label."""
