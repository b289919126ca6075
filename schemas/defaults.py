"""Default counts and distances of queries.

Macros, functions and options take these. Distances are cosine distances, 1 - cos, from 0 to 2.
"""

from typing import Final

NEIGHBORS: Final = 10
"""How many of the nearest, or most unusual, adapters to return."""

DISTANCE: Final = 0.25
"""The largest distance at which adapters count as neighbors."""

DUPLICATE_DISTANCE: Final = 0.01
"""The largest distance at which adapters count as duplicates."""

LARGEST_DISTANCE: Final = 2
"""The distance between opposite vectors."""

VOTERS: Final = 5
"""How many labeled neighbors vote on a suggested label."""
