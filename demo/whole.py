"""Creating folders atomically."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def appear(place: Path, fill: Callable[[Path], None]) -> Path:
    """Create a folder with what `fill` writes into it, unless it exists already.

    It is filled under a temporary dotted name beside its final one and then renamed, so an
    interrupted run leaves nothing that looks finished; of two concurrent runs, one uses the other's
    result.
    """
    if is_filled(place):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        fill(building)
        building.chmod(0o755)
        try:
            building.rename(place)
        except OSError:
            if not is_filled(place):
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return place


def is_filled(place: Path) -> bool:
    """Whether there is a folder with something in it."""
    return place.is_dir() and any(place.iterdir())
