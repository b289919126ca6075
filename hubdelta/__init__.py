"""hubdelta: every model finetuned from a base on the Hugging Face Hub, embedded by what it does.

`hubdelta.open_index()` asks an index from Python.

api.py          what Python can ask
cli.py          the command line: its commands, and how errors become a line and an exit code
exit_codes.py, hints.py     these codes; which option helps with which error
settings.py     what the environment says
commands/       a module for each command
jobs/           runs that write to the index
terminal/       what a person sees and types
"""

TYPE_CHECKING = False  # as type checkers know it; `typing` itself takes a while to load
if TYPE_CHECKING:
    from hubdelta.api import OpenIndex, open_index

    __version__: str

__all__ = ["OpenIndex", "__version__", "open_index"]


def __getattr__(name: str) -> object:
    """What is loaded when it is first used: the command line and its completion cannot wait."""
    if name == "__version__":
        from importlib.metadata import version

        return version("hubdelta")
    if name in __all__:
        from hubdelta import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
