"""Installed from the wheel or editable, hubdelta is found, wherever one stands."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from hubdelta.cli import hubdelta

ROOT = Path(__file__).parents[2]
IMPORT = (
    "import hubdelta, hubdelta.schemas.index, hubdelta.sql.script, hubdelta.crawler.crawl, "
    "hubdelta.indexer.plan, hubdelta.explorer.page, hubdelta.demo.base; "
    "print(hubdelta.sql.script.__file__)"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A working directory with folders of the same names as ours."""
    for name in ("schemas", "sql", "crawler", "indexer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    return tmp_path


def test_the_wheel_works_among_folders_of_the_same_names(wheel, elsewhere):
    site = elsewhere / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    subprocess.run([*install, wheel], check=True)
    # -S leaves out the editable install; what it imports else comes from the same place as ever.
    path = f"import sys; sys.path[:0] = [{str(site)!r}, {sysconfig.get_path('purelib')!r}]; "
    done = subprocess.run(
        [sys.executable, "-S", "-c", path + IMPORT], cwd=elsewhere, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site)
    for command in hubdelta.list_commands(None):
        code = f"{path}from hubdelta.cli import run; sys.exit(run([{command!r}, '--help']))"
        done = subprocess.run(
            [sys.executable, "-S", "-c", code], cwd=elsewhere, capture_output=True
        )
        assert done.returncode == 0, done.stderr


def test_the_editable_install_works_among_folders_of_the_same_names(elsewhere):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=elsewhere, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(ROOT)


def test_the_wheel_carries_its_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = [
        path.relative_to(ROOT).as_posix()
        for room in ("schemas", "crawler", "indexer", "sql", "explorer", "demo", "hubdelta")
        for path in (ROOT / room).rglob("*.py")
    ]
    for module in modules:
        assert f"hubdelta/{module.removeprefix('hubdelta/')}" in names
    assert "hubdelta/sql/neighbors.sql" in names
    assert "hubdelta/explorer/page.html" in names
    assert not [name for name in names if name.startswith("hubdelta/explorer/web")]
    assert "hubdelta/py.typed" in names
    assert sum(name.endswith("adapter_model.safetensors") for name in names) == 18
    assert sum(name.endswith(".hub.yaml") for name in names) == 18
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"hubdelta"}
    assert not [name for name in names if "test" in name.split("/")[0]]
