"""How adapters are written and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.keys import AdapterName, folder_meant

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


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("org/name", AdapterName("org/name")),
        ("org/name/", AdapterName("org/name")),
        ("org/name?library=peft#usage", AdapterName("org/name")),
        ("org/name/tree/main", AdapterName("org/name")),
        ("org/name/tree/main/", AdapterName("org/name")),
        ("org/name/tree/main/sub/folder", AdapterName("org/name", "sub/folder")),
        ("org/name/tree/main/step%2010", AdapterName("org/name", "step 10")),
        (f"org/name/tree/{COMMIT}/sub", AdapterName("org/name", "sub", COMMIT)),
        ("org/name/tree/refs%2Fpr%2F1", AdapterName("org/name", "", "refs/pr/1")),
        ("org/name/blob/main/README.md", AdapterName("org/name")),
        ("org/name/blob/v1/sub/adapter_config.json", AdapterName("org/name", "sub", "v1")),
        ("org/name/resolve/main/adapter_model.safetensors", AdapterName("org/name")),
        ("org/name/discussions/3", AdapterName("org/name")),
        ("org/name/commits/main", AdapterName("org/name")),
    ],
)
def test_the_url_of_a_page_names_its_adapter(page, expected):
    for place in ("https://huggingface.co/", "http://hub.example:8080/"):
        assert AdapterName.parse(place + page) == expected


@pytest.mark.parametrize("page", ["", "org", "datasets/org/name", "spaces/org/name"])
def test_a_page_that_is_no_models_is_refused(page):
    with pytest.raises(UsageError, match="is not the page of a model: write org/name"):
        AdapterName.parse(f"https://huggingface.co/{page}")


def test_a_folder_that_was_perhaps_meant_is_asked_after(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert folder_meant("org/name") == "did you mean the folder ./org/name?"
    assert folder_meant("org/other") == folder_meant("./org") == folder_meant("") == ""
    assert folder_meant("a\0b") == folder_meant("x" * 5000) == ""
    with pytest.raises(UsageError, match=r"not an adapter: did you mean the folder \./org\?"):
        AdapterName.parse("org")
    with pytest.raises(UsageError, match=r"not a base model: did you mean the folder \./org\?"):
        AdapterName.parse_base("org")
    with pytest.raises(UsageError, match="not a base model: write org/name"):
        AdapterName.parse_base("org/name/sub")


def test_a_folder_is_known_by_its_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "adapter").mkdir()
    monkeypatch.chdir(tmp_path)
    name = AdapterName.parse("./adapter")
    assert name.is_local
    assert name.repo_id == (tmp_path / "adapter").as_posix()


@pytest.mark.slow
@given(NAME, NAME, st.lists(NAME, max_size=3), st.none() | st.just(COMMIT) | NAME)
def test_what_is_written_is_read_back(org, repo, folders, revision):
    name = AdapterName(f"{org}/{repo}", "/".join(folders), revision)
    assert AdapterName.parse(str(name)) == name
