"""What docstrings and pages point to exists."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"`(refseg(?:\.[A-Za-z_]\w*)+)`")


def references() -> dict[str, str]:
    """Dotted names in backquotes, and one place where each stands."""
    pages = [*ROOT.glob("refseg/**/*.py"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return {name: str(page) for page in pages for name in NAME.findall(page.read_text(encoding="utf-8"))}


def found(name: str) -> bool:
    """Whether a dotted name is a module, or something inside one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def test_every_name_in_backquotes_exists() -> None:
    names = references()
    assert len(names) > 40
    missing = [f"{name} ({place})" for name, place in names.items() if not found(name)]
    assert not missing


@pytest.mark.parametrize("name", ["refseg.nowhere", "refseg.nn.losses.nothing", "refseg.types.Output.nothing"])
def test_names_that_do_not_exist_are_noticed(name: str) -> None:
    assert not found(name)


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def undefined_names(source: str) -> set[str]:
    """Names that a module reads and nowhere binds. Linters cannot look here, since shapes are not names to them."""
    bound, read = {*dir(builtins), "__file__", "__name__", "__doc__"}, set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                bound |= {(alias.asname or alias.name).partition(".")[0] for alias in names}
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.arg(arg=name):
                bound.add(name)
            case ast.Name(id=name, ctx=ast.Load()):
                read.add(name)
            case ast.Name(id=name):
                bound.add(name)
    return read - bound


@pytest.mark.parametrize("room", ["refseg", "tests", "examples"])
def test_every_name_is_bound(room: str) -> None:
    pages = [path for path in ROOT.glob(f"{room}/**/*.py") if path.name != "typing_cases.py"]
    assert not {str(page): names for page in pages if (names := undefined_names(page.read_text(encoding="utf-8")))}
