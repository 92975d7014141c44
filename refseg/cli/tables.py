"""What the verbs print tables with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDTH = 2000
"""Columns of a file or a pipe, which has no width of its own: numbers and paths must not be cut there."""


def console() -> Console:
    """Standard output; nothing in it is highlighted, and tables are not cut where it is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def print_table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    title: str | None = None,
    left: int = 1,
    lines: bool = True,
) -> None:
    """Print a table; all columns but the first `left` are numbers, which stand to the right.

    Cells are text and never markup; `lines` False leaves the frame out.
    """
    from rich.table import Column, Table
    from rich.text import Text

    columns = [
        Column(Text(header), justify="left" if index < left else "right", overflow="fold")
        for index, header in enumerate(headers)
    ]
    table = Table(*columns, title=None if title is None else Text(title))
    if not lines:
        table.box, table.pad_edge, table.padding = None, False, (0, 2)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console().print(table)


def write_json(target: str | None, document: object) -> bool:
    """The `--json [FILE]` of a verb: written to FILE, printed for "-"; returns whether it was printed."""
    if target is None:
        return False
    text = json.dumps(document, indent=1, ensure_ascii=False)
    if target == "-":
        print(text)
        return True
    from refseg.files import write_text

    write_text(target, text + "\n")
    return False


def percent(value: float, spec: str = ".2f") -> str:
    """A share as a percentage without its sign, "-" where it is not defined (NaN)."""
    return "-" if value != value else f"{100 * value:{spec}}"
