"""The views and macros of an index as SQL files, loaded in the order given in `script.py`.

`$NAME` as the default of a macro's parameter is a constant of schemas/defaults.py, filled in by
`script.py`.
"""

from importlib import resources

_FOLDER = resources.files(__package__)


def text_of(name: str) -> str:
    """The text of one of the files here.

    Args:
        name: such as `neighbors.sql`.
    """
    return (_FOLDER / name).read_text("utf-8")
