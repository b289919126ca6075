"""Which tests go to one worker of pytest-xdist: those that would each build the same once more."""

from xdist.scheduler import LoadScopeScheduling

_OF_THE_DEMO_INDEX = tuple(
    f"tests/hubdelta/test_{name}.py"
    for name in ("api", "demo_index", "derived", "examples", "explore", "label", "readme")
)


class SharedFixtures(LoadScopeScheduling):
    """A file's tests go together, and so do the files that ask one index of the demo's Hub.

    Not by marks, as `--dist loadgroup` would have it: pytest-xdist 3.8 writes the group into a name
    that pytest 9.2 does not read, and all marks are passed over.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "the demo's index" if file in _OF_THE_DEMO_INDEX else file
