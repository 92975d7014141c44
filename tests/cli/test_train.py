"""`refseg train` as people meet it: one line for a mistake, exit code 2, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from refseg.cli.main import main

RECIPE = Path(__file__).parents[2] / "recipes" / "rela-mini-scenes.toml"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.toml"], "nowhere.toml"),
        ([str(RECIPE), "training.stepps=3"], "did you mean 'steps'"),
        ([str(RECIPE), "model.widht=3"], "widht"),
        ([str(RECIPE), "data.root=nowhere"], "nowhere"),
        ([str(RECIPE), "rate"], "key=value"),
        ([str(RECIPE), "--resume"], "no run to resume"),
        ([str(RECIPE), "data.pictures_per_batch=3", "training.accumulation=2"], "cannot be shared evenly"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1
    assert message in printed[0]
    assert list(tmp_path.iterdir()) == []


def test_show_prints_a_recipe_that_reads_back(tmp_path, capsys):
    assert main(["train", str(RECIPE), "training.steps=7", "--show"]) == 0
    text = capsys.readouterr().out
    assert "steps = 7" in text
    (tmp_path / "again.toml").write_text(text)
    assert main(["train", str(tmp_path / "again.toml"), "--show"]) == 0
    assert capsys.readouterr().out == text
