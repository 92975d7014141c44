"""Choosing alone, measured: on drawn scenes whose objects are known, and on a data set's own file of objects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refseg.cli.main import main
from refseg.generation.scenes import SceneDataset, drawn_samples
from refseg.generation.scenes.write import SceneSettings, write_scenes
from refseg.studies.oracle import measure
from tests.support.tiny_model import write_model_folder


@pytest.fixture(scope="module")
def measured() -> dict[str, tuple[int, dict[str, float | int], dict[str, float | int]]]:
    found, whole = measure(drawn_samples(SceneDataset(3, 4, size=128, split="val")))
    assert whole
    return {kind: (count, chosen, everything) for kind, count, chosen, everything in found.table()}


def test_choosing_is_better_than_taking_everything(
    measured: dict[str, tuple[int, dict[str, float | int], dict[str, float | int]]],
) -> None:
    count, chosen, everything = measured["all"]
    assert count == sum(number for kind, (number, _, _) in measured.items() if kind != "all") > 30
    assert chosen["gIoU"] > everything["gIoU"] + 0.2
    for kind in ("order", "place"):
        assert measured[kind][1]["gIoU"] > 0.8 > measured[kind][2]["gIoU"]


def test_a_folder_and_its_file_of_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scenes(tmp_path / "data", SceneSettings(3, {"val": 2}, size=128, picture="png"))
    rows, table = tmp_path / "rows.jsonl", tmp_path / "table.json"
    arguments = [
        "oracle",
        "--data",
        str(tmp_path / "data"),
        "--split",
        "val",
        "--rows",
        str(rows),
        "--json",
        str(table),
    ]
    assert main(arguments) == 0
    assert "order" in capsys.readouterr().out
    entries = json.loads(table.read_text())
    assert entries[-1]["kind"] == "all"
    assert len(rows.read_text().splitlines()) == entries[-1]["expressions"]


def test_a_model_that_does_not_choose_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = write_model_folder(tmp_path / "dense")
    assert main(["oracle", "--scenes", "1", "--model", str(dense)]) == 2
    assert "does not choose among instances" in capsys.readouterr().err
