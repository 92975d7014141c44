"""The tables of docs/protocols.md."""

import json
from pathlib import Path

import pytest

from refseg.errors import DataError
from refseg.metrics import PROTOCOLS, score
from refseg.metrics.protocol_table import fill, main, results_table, rules_table, worked_table

PAGE = Path(__file__).parent.parent.parent / "docs" / "protocols.md"


def test_the_page_shows_the_protocols_as_they_are():
    """Refresh with: python -m refseg.metrics.protocol_table --write docs/protocols.md"""
    text = PAGE.read_text(encoding="utf-8")
    assert fill(text, "rules", rules_table()) == text
    assert fill(text, "worked", worked_table()) == text


def test_every_protocol_has_its_row():
    rows = rules_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(PROTOCOLS)
    assert "p > 0.35, probabilities resized, bicubic" in rules_table()


def test_results_are_shown_in_percent_with_the_headline_in_bold(tmp_path, capsys):
    mask = [[1, 1], [0, 0]]
    document = {
        "protocols": {name: score([{"mask": mask}], [{"mask": mask}], name).to_dict() for name in ("lavt", "rela")}
    }
    lines = results_table(document).splitlines()
    assert lines[2] == "| `lavt` | **100.00** | 100.00 | 100.00 | 100.00 | 100.00 | 100.00 | - | 100.00 |"
    assert lines[3] == "| `rela` | 100.00 | **100.00** | 100.00 | 100.00 | 100.00 | 100.00 | 0.00 | 0.00 |"
    path, page = tmp_path / "all.json", tmp_path / "page.md"
    path.write_text(json.dumps(document))
    markers = [f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in ("rules", "worked", "differences")]
    page.write_text("a\n" + markers[0] + "b\n" + markers[1] + markers[2])
    assert main(["--results", str(path), "--write", str(page)]) == 0
    written = page.read_text()
    assert "old" not in written
    assert lines[3] in written
    assert written.startswith("a\n")
    assert main(["--results", str(path)]) == 0
    assert lines[2] in capsys.readouterr().out


def test_wrong_files_get_one_line(tmp_path, capsys):
    with pytest.raises(DataError, match="several protocols"):
        results_table({"metrics": {}})
    page = tmp_path / "page.md"
    page.write_text("no markers")
    for words in (["--write", page], ["--write", tmp_path / "gone.md"], ["--results", page]):
        assert main(list(map(str, words))) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
