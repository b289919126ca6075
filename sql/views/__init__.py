"""The views and macros of an index, as SQL that is read in the order that `script.py` gives.

`$NAME` as the default of a macro's parameter stands for a constant of schemas/defaults.py, which
`script.py` fills in.
"""

from importlib import resources

_FOLDER = resources.files(__package__)


def text_of(name: str) -> str:
    """The text of one of the files here.

    Args:
        name: such as `neighbors.sql`.
    """
    return (_FOLDER / name).read_text("utf-8")
