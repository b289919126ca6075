"""Installed from the wheel or editable, hubdelta is found, wherever one stands."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import optional
import pytest

from hubdelta.cli import hubdelta, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
IMPORT = (
    "import hubdelta, hubdelta.schemas.index, hubdelta.sql.script, hubdelta.crawler.crawl, "
    "hubdelta.indexer.pipeline.plan, hubdelta.explorer.page, hubdelta.demo.base; "
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
    commands = hubdelta.list_commands(None)
    code = f"print([run([command, '--help']) for command in {commands}], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"{path}from hubdelta.cli import run; {code}"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
    )
    assert done.stderr == f"{[0] * len(commands)}\n"


def test_the_editable_install_works_among_folders_of_the_same_names(elsewhere):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=elsewhere, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(ROOT)


def test_the_wheel_carries_its_data_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        str(Path(folder, name).relative_to(ROOT))
        for folder, _, names in os.walk(ROOT / "hubdelta", followlinks=True)
        if "__init__.py" in names
        for name in names
        if name.endswith(".py")
    }
    assert {name for name in names if name.endswith(".py")} == modules
    others = {name for name in names - modules if ".dist-info/" not in name}
    views = {f"hubdelta/sql/views/{path.name}" for path in (ROOT / "sql/views").glob("*.sql")}
    assert others == views | {"hubdelta/py.typed", "hubdelta/explorer/page.html"}


def test_the_demo_of_an_installed_package_says_that_it_needs_a_clone(monkeypatch, capsys, tmp_path):
    optional.skip_without("torch")  # what the demonstration needs, it says first
    monkeypatch.setattr("hubdelta.demo.awkward_files.COMMITTED", tmp_path / "nowhere")
    assert run(["demo", "--index", str(tmp_path / "index")]) == 2
    assert "run `make demo` in a clone" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
