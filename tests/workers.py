"""Which tests go to one worker of pytest-xdist: those that would each build the same once more."""

from xdist.scheduler import LoadScopeScheduling

_OF_THE_DEMO_INDEX = (
    *("tests/hubdelta/test_api.py", "tests/hubdelta/test_demo_index.py"),
    *("tests/hubdelta/test_derived.py", "tests/hubdelta/test_examples.py"),
    *("tests/hubdelta/test_explore.py", "tests/hubdelta/test_label.py"),
    *("tests/hubdelta/test_promotions.py", "tests/hubdelta/test_readme.py"),
    "tests/demo/test_check.py",
)

_OF_PEFT = "tests/indexer/exactness/"


class SharedFixtures(LoadScopeScheduling):
    """A file's tests go together, and so do the files that share what takes long to make.

    That is the index of the demo's Hub, and the adapters that PEFT makes of every kind.

    Not by marks, as `--dist loadgroup` would have it: pytest-xdist 3.8 writes the group into a name
    that pytest 9.2 does not read, and all marks are passed over.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file in _OF_THE_DEMO_INDEX:
            return "the demo's index"
        return _OF_PEFT if file.startswith(_OF_PEFT) else file
