"""A demo Hub around a base that is built already."""

from pathlib import Path

from hubdelta.demo.awkward import build_hub
from hubdelta.demo.base import BASE_ID


def make_hub(folder: Path, base: Path) -> Path:
    """Build a Hub with a link in the base's place."""
    place = folder / BASE_ID
    place.parent.mkdir(parents=True)
    place.symlink_to(base)
    return build_hub(folder)
