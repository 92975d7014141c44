"""What the campaign against bad input shares: a folder of good and bad files, and verbs that run in this process."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from refseg.cli.main import main
from tests.reliability.world import make_world
from tests.support.damage import is_own


class Ended(NamedTuple):
    """How a verb ended."""

    code: int
    out: str
    err: str


Call = Callable[[list[str]], Ended]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad pictures, models, data sets, recipes; no test changes it."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Call:
    """call(["segment", ...]): the verb in this process, with nobody at the keyboard. What would be a traceback is
    raised."""
    monkeypatch.setenv("REFSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setenv("COLUMNS", "200")

    def run(words: list[str]) -> Ended:
        capsys.readouterr()
        try:
            code = main(words)
        except Exception as error:
            # The type checker of the tests looks at an item of what it is handed, and hides the item's own error.
            if not is_own(error):
                raise
            print(f"refseg {words[0]}: {error.__cause__ or error.__context__}", file=sys.stderr)
            code = 2
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


@pytest.fixture
def copy_of(world: Path, tmp_path: Path) -> Callable[[str], Path]:
    """copy_of("model"): a file or folder of the world that a test may change."""

    def make(name: str) -> Path:
        source, target = world / name, tmp_path / Path(name).name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        return target

    return make
