"""How adapters are written and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.keys import AdapterName

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = st.from_regex(r"[A-Za-z0-9][\w.-]{0,10}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", AdapterName("org/name")),
        ("org/name/sub/folder", AdapterName("org/name", "sub/folder")),
        ("org/name@main", AdapterName("org/name", "", "main")),
        (f"org/name/sub@{COMMIT}", AdapterName("org/name", "sub", COMMIT)),
        ("  org/name/  ", AdapterName("org/name")),
    ],
)
def test_names_are_read(text, expected):
    assert AdapterName.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "name", "org/", "org/name@", "a b/c", "org/na me", "./no-such-folder", "@main"]
)
def test_wrong_names_are_refused_in_a_line(text):
    with pytest.raises(UsageError) as error:
        AdapterName.parse(text)
    assert "\n" not in str(error.value)


def test_a_folder_is_known_by_its_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "adapter").mkdir()
    monkeypatch.chdir(tmp_path)
    name = AdapterName.parse("./adapter")
    assert name.is_local
    assert name.repo_id == (tmp_path / "adapter").as_posix()


@given(NAME, NAME, st.lists(NAME, max_size=3), st.none() | st.just(COMMIT) | NAME)
def test_what_is_written_is_read_back(org, repo, folders, revision):
    name = AdapterName(f"{org}/{repo}", "/".join(folders), revision)
    assert AdapterName.parse(str(name)) == name
