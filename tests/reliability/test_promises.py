"""docs/reliability.md names, for each promise, tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"


def named_tests() -> list[tuple[str, str]]:
    """(file, test) of every reference of the page; the test is "" where a file is named alone. A reference that begins
    with :: is of the file before it in its line."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            continue
        file = ""
        for reference in re.findall(r"`((?:tests/[\w/.]*)?(?:::\w+)?)`", line):
            path, _, test = reference.partition("::")
            file = path or file
            if reference:
                found.append((file, test))
    return found


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "test"), named_tests())
def test_it_is_there(file: str, test: str) -> None:
    path = ROOT / file
    assert path.exists(), file
    if test:
        assert test in functions_of(path), f"{file} has no {test}"


def test_every_promise_names_a_test() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| [^-]", line)]
    promises = [line for line in rows if not line.startswith("| promise")]
    assert len(promises) > 20
    for line in promises:
        assert "`tests/" in line, line
