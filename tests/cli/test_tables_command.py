"""`refseg tables --run`: a table made on a small copy of the data, with its numbers beside the published ones."""

from __future__ import annotations

from pathlib import Path

from refseg.cli.main import main
from tests.support.small_runs import small, write_data

RECIPES = Path(__file__).parents[2] / "recipes"


def test_a_table_is_made_row_by_row(tmp_path: Path, monkeypatch, capsys) -> None:
    """Fields of a transformer do not fit the row of convolutions, which is named while the other is made."""
    write_data(tmp_path)
    (tmp_path / "recipes").symlink_to(RECIPES, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    words = [*small("vlt-paper-refcoco"), "training.steps=1", "evaluation.every=1"]
    words = ["tables", "thesis table 4.1", "--run", "--data", str(tmp_path), *words]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert (
        "not made: refseg train recipes/vlt-paper-refcoco.toml --preset 'vlt: table 4.1: 7 conv layers'" in printed.err
    )
    file = tmp_path / "runs" / "vlt-paper-refcoco" / "refcoco-testB-vlt.json"
    made = file.stat().st_mtime_ns
    line = next(line for line in printed.out.splitlines() if line.startswith("VLT ") and "IoU 65.24" in line)
    assert line.count("Pr@0.5 ") == 2  # published and measured
    assert main(words) == 1
    assert file.stat().st_mtime_ns == made  # what is there is left as it is


def test_run_wants_a_table(capsys) -> None:
    assert main(["tables", "--run"]) == 2
    assert "--run wants a table" in capsys.readouterr().err
    assert main(["tables"]) == 0
    assert "thesis figure 4.13" in capsys.readouterr().out
    assert main(["tables", "gres table 6"]) == 0
