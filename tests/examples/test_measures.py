"""The two small scripts of the model card: baselines without a sentence, and intervals by kind."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from refseg.cli.main import main as refseg_main
from refseg.errors import DataError
from refseg.metrics.counts import Row

EXAMPLES = Path(__file__).parents[2] / "examples"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def row(number: int, text: str, overlap: int, kind: str, **changes: object) -> Row:
    values = {
        "id": str(number), "intersection": overlap, "union": 10, "prediction_area": overlap, "target_area": 10,
        "size": (8, 8), "no_target": False, "predicted_no_target": False, "picture": str(number % 5), "text": text,
        "kind": kind, "targets": 1, "category": "tvmonitor",
    }  # fmt: skip
    return Row.from_dict({**values, **changes})


def test_intervals_hold_the_mean_and_bare_names_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    intervals = script("intervals")
    rows = [row(number, "the tv" if number % 2 else "the left tv", number, "attribute") for number in range(10)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each.to_dict()) + "\n" for each in rows))
    assert intervals.main([str(path)]) == 0
    assert "0.450 [" in capsys.readouterr().out
    assert intervals.main([str(path), "--bare"]) == 0
    said = capsys.readouterr().out
    assert "0.500 [" in said  # 1, 3, 5, 7, 9 tenths
    assert " 5 " in said
    assert not intervals.is_bare(row(0, "the tv", 5, "group", targets=2))
    path.write_text('{"id": 1}\n')
    with pytest.raises(DataError, match=r"row 1: no|not rows"):
        intervals.main([str(path)])


def test_baselines_of_drawn_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baselines = script("baselines")
    words = ["data", "scenes", str(tmp_path / "drawn"), "--train", "0", "--val", "2", "--test", "0", "--size", "96"]
    assert refseg_main([*words, "--seed", "3"]) == 0
    capsys.readouterr()
    assert baselines.main([str(tmp_path / "drawn"), "--dataset", "scenes", "--split", "val"]) == 0
    said = capsys.readouterr().out
    centre, oracle = (float(line.rsplit(" ", 1)[1]) for line in said.splitlines()[1:])
    assert 0 < centre < 1
    assert 0 < oracle < 1


def test_the_middle_is_a_quarter_and_overlap_is_that_of_sets() -> None:
    baselines = script("baselines")
    middle = baselines.middle((40, 80))
    assert middle.mean() == 0.25
    assert middle[10:30, 20:60].all()
    assert baselines.overlap(middle, middle) == 1
    assert baselines.overlap(middle, np.zeros_like(middle)) == 0
    assert baselines.overlap(middle, np.ones_like(middle)) == 0.25
