"""The wheel and the sdist hold all that the package needs: built, installed elsewhere, asked a picture."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built from a copy of the tracked files (a build leaves files behind)."""
    copy = tmp_path_factory.mktemp("source")
    tracked = run("git", "ls-files", "-z", cwd=ROOT).split("\0") if (ROOT / ".git").exists() else []
    if not tracked:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked):
        source, target = ROOT / name, copy / name
        if source.is_file() and not name.startswith(("tests/", "docs/")):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist", cwd=copy)
    return copy / "dist"


def ask(python: Path, folder: Path) -> None:
    """`refseg segment` in that environment, outside of the checkout."""
    Image.fromarray(np.full((120, 160, 3), 200, np.uint8)).save(folder / "photo.png")
    code = "import sys; from refseg.cli.main import main; sys.exit(main(sys.argv[1:]))"
    run(python, "-c", code, "segment", "photo.png", "the dog", "-o", "out", "--format", "mask,json", cwd=folder)
    assert {path.suffix for path in (folder / "out").iterdir()} == {".png", ".json", ".csv"}
    where = run(python, "-c", "import refseg; print(refseg.__file__)", cwd=folder)
    assert Path(where.strip()).is_relative_to(python.parents[1])


def test_both_hold_every_file_of_the_package(dist: Path) -> None:
    wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    wanted = {name for name in run("git", "ls-files", "refseg", cwd=ROOT).splitlines() if (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        missing = wanted - set(archive.namelist())
    assert not missing, sorted(missing)
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert not wanted - held
    assert not any(name.startswith("tests/") for name in held)


def test_the_wheel_answers_in_an_environment_of_its_own(dist: Path, tmp_path: Path) -> None:
    """The wheel is installed anew; what it depends on is seen through a path file, which spares the download."""
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", next(dist.glob("*.whl")), cwd=tmp_path)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ask(python, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_wheel_installs_with_all_it_needs(dist: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    wheel = next(dist.glob("*.whl"))
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    ask(python, tmp_path)
