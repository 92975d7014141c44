"""`refseg compare` as people call it."""

import json

import numpy as np
import pytest

from refseg.cli.main import main
from refseg.data import rle

SIZE = (6, 8)


@pytest.fixture
def files(tmp_path):
    random = np.random.default_rng(0)
    targets, first, second = [], [], []
    for index in range(12):
        target = np.zeros(SIZE, dtype=bool)
        target[:, : 1 + index % 5] = True
        noise = random.random(SIZE) < 0.3
        about = {"text": "[bold]the left one", "kind": "position", "picture": str(index // 2)}
        targets.append({"id": f"s{index}", "mask": rle.encode(target), "no_target": False, **about})
        first.append({"id": f"s{index}", "mask": rle.encode(target ^ noise), "no_target": False})
        second.append({"id": f"s{index}", "mask": rle.encode(target), "no_target": False})
    paths = {}
    for name, lines in (("t", targets), ("a", first), ("b", second)):
        paths[name] = tmp_path / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    return paths


def test_predictions_with_targets(files, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["compare", str(files["a"]), str(files["b"]), "--targets", str(files["t"]), "--resamples", "100"]
    assert main([*words, "-o", str(out), "--top", "3"]) == 0
    text = capsys.readouterr().out
    assert "12 expressions, 6 pictures; b is better on 12, equal on 0, worse on 0" in text
    assert "[bold]the left one" in text
    found = json.loads((out / "compare.json").read_text())
    assert found["metrics"]["mIoU"]["second"] == 1.0
    assert found["metrics"]["mIoU"]["p_value"] < 0.1
    assert found["protocol"]["name"] == "native"
    lines = [json.loads(line) for line in (out / "differences.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert lines[0]["change"] == max(line["change"] for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "grec"], "a protocol of masks"),
        (["--resamples", "0"], "--resamples is at least 1"),
        (["--split", "val"], "--data ROOT, which is not given"),
        ([], "need --targets"),
    ],
)
def test_bad_words_are_one_line(files, words, message, capsys):
    assert main(["compare", str(files["a"]), str(files["b"]), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_every_bad_record_is_named(files, tmp_path, capsys):
    lines = files["a"].read_text().splitlines()
    files["a"].write_text("\n".join([*lines[:10], "{", lines[0]]) + "\n")
    assert main(["compare", str(files["a"]), str(files["b"]), "--targets", str(files["t"])]) == 2
    error = capsys.readouterr().err
    assert f"{files['a']}:11: not a line of JSON" in error


def test_runs_of_one_name_are_told_apart(files, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    copy = other / "a.jsonl"
    copy.write_bytes(files["a"].read_bytes())
    assert main(["compare", str(files["a"]), str(copy), "--targets", str(files["t"]), "--resamples", "20"]) == 0
    assert f"{tmp_path.name} -> other" in capsys.readouterr().out


def test_score_draws_plots(files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["score", "--predictions", str(files["a"]), "--targets", str(files["t"]), "--plots", str(tmp_path / "p")]
    assert main(words) == 0
    assert {file.name for file in (tmp_path / "p").iterdir()} >= {"iou-histogram.png", "by-kind.png"}
    assert main([*words[:-1], str(files["t"])]) == 2
    assert "--plots wants a folder" in capsys.readouterr().err
