"""docs/annotate.md: its table of states is the code's, and its pictures are there."""

import re
from pathlib import Path

import pytest

from refseg.apps.annotate.states import as_table

DOCS = Path(__file__).parents[3] / "docs"


def states_as_markdown() -> str:
    """The table of refseg/apps/annotate/states.py as docs/annotate.md shows it; print this to renew the page."""
    table = as_table()
    lines = ["| state | a sample is in it when |", "|---|---|"]
    lines += [f"| {state['name']} | {state['note']} |" for state in table["states"]]
    lines += ["", "| move | by | from | to | when |", "|---|---|---|---|---|"]
    for move in table["moves"]:
        reason = "; needs a reason" if move["reason"] else ""
        lines.append(
            f"| {move['name']} | {move['role']} | {move['from'] or '(new)'} | {move['to']} | {move['note']}{reason} |"
        )
    lines += ["", "| reason of a rejection | |", "|---|---|"]
    lines += [f"| {reason['name'].replace('_', ' ')} | {reason['note']} |" for reason in table["reasons"]]
    points = ", ".join(f"{name} {number}" for name, number in table["points"].items())
    lines += ["", f"Points: {points}. `accepted` goes to the author, the others to the validator."]
    return "\n".join(lines)


def test_the_pages_table_is_the_codes():
    page = (DOCS / "annotate.md").read_text()
    shown = re.search(r"<!-- states: begin -->\n(.*)\n<!-- states: end -->", page, re.DOTALL)
    assert shown is not None
    assert shown[1] == states_as_markdown()


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"images/(annotate-[\w-]+\.png)", (DOCS / "annotate.md").read_text())))
)
def test_pictures_are_there(name):
    assert (DOCS / "images" / name).read_bytes().startswith(b"\x89PNG")
