"""`refseg results` as people call it."""

import csv
import json

import numpy as np
import pytest

from refseg.cli.main import main
from refseg.evaluation.score import write_score
from refseg.metrics import score


def test_a_data_set_is_shown_as_a_table(capsys):
    assert main(["results", "--dataset", "grefcoco", "--split", "val"]) == 0
    text = capsys.readouterr().out
    assert "63.60" in text
    assert "56.37" in text
    assert "test" not in text


def test_mixing_measures_needs_a_word(capsys):
    words = ["results", "--dataset", "refcoco", "--split", "val", "--metric", "IoU"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "not one measure" in error
    assert error.count("\n") == 1
    assert main([*words, "--mix-iou"]) == 0
    text = capsys.readouterr().out
    assert "73.82 cIoU" in text
    assert "67.52 mIoU" in text
    assert main([*words[:-1], "cIoU"]) == 0
    assert "67.52" not in capsys.readouterr().out


def test_measured_numbers_stand_next_to_published_ones(tmp_path, capsys):
    mask = np.eye(4, dtype=bool)
    scored = score([{"mask": mask}], [{"mask": mask, "no_target": False}], "lavt")
    about = {"model": "mini", "data": {"dataset": "refcoco", "split": "val"}}
    write_score(scored, tmp_path / "mini.json", **about)
    words = ["results", "--dataset", "refcoco", "--split", "val", "--metric", "cIoU", "--markdown"]
    assert main([*words, "--measured", str(tmp_path / "mini.json"), "--sources"]) == 0
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[-1] == "| mini | measured here, lavt |  | 100.00 |"
    assert "mini.json: measured here" in text
    assert "- measured under lavt, published under" in text


def test_csv_and_plot_are_written(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["results", "--dataset", "gRefCOCO", "--split", "testA", "--metric", "gIoU"]
    assert main([*words, "--csv", str(tmp_path / "o.csv"), "--plot", str(tmp_path / "o.svg")]) == 0
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert {row["metric"] for row in rows} == {"gIoU"}
    assert b"<svg" in (tmp_path / "o.svg").read_bytes()
    assert main([*words[:-2], "--plot", str(tmp_path / "p.png")]) == 2
    assert "draws one column" in capsys.readouterr().err
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--system", "Rela2"], "did you mean"),
        (["--dataset", "RefCOCO", "--metric", "J"], "no number matches"),
        (["--measured", "gone.json"], "gone.json: cannot be read"),
        (["--csv", "."], "is a folder"),
    ],
)
def test_bad_words_are_one_line(words, message, capsys):
    assert main(["results", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_disagreements_are_listed_with_their_sources(capsys):
    assert main(["results", "--disagreements", "--system", "RRN"]) == 0
    text = capsys.readouterr().out
    assert "53.95 (LTS, CVPR 2021, Table 1, ReSTR, CVPR 2022, Table 1); 53.93" in text


def test_json_of_nothing_is_refused(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}))
    assert main(["results", "--measured", str(tmp_path)]) == 2
    assert "a.json" in capsys.readouterr().err
