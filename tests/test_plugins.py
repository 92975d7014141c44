"""Another package's system, format, protocol and metric are known to the plain command, by its entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from refseg import plugins
from refseg.plugins import Table

SOURCE = Path(__file__).parents[1] / "examples" / "own_system.py"

MORE = '''
"""What the package adds beside its system."""
import json
from dataclasses import replace

import numpy as np

from refseg.data import Instance, Sample
from refseg.data.source import DatasetFiles, Format
from refseg.metrics import get_protocol

STRICT = replace(get_protocol("native"), name="half-strict", title="at .55 and .85", precision_levels=(0.55, 0.85))


def small_share(rows, protocol):
    return sum(row.target_area < 32 * 32 for row in rows) / len(rows)


def find(folder):
    path = folder / "harbour.json"
    return [DatasetFiles(FORMAT, "harbour", "doe", path, (folder,))] if path.is_file() else []


def read(files, options, problems):
    for number, (text, name, corner) in enumerate(json.loads(files.main.read_text())):
        square = np.array([corner, corner, corner + 10, corner, corner + 10, corner + 10, corner, corner + 10.0])
        boat = Instance(number, "boat", (corner, corner, corner + 10.0, corner + 10.0), [square])
        yield Sample(str(number), text, number, (40, 60), (boat,), image_path=files.main.parent / name, split="val")


FORMAT = Format("harbour", find, read)
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package as pip installs it: modules, and a dist-info folder with its entry points."""
    site = tmp_path / "site"
    (site / "mine").mkdir(parents=True)
    (site / "mine" / "__init__.py").write_text("")
    text = SOURCE.read_text()
    registered = 'MODELS["filter"] = '
    assert registered in text
    (site / "mine" / "system.py").write_text(text.replace(registered, "SYSTEM = "))
    (site / "mine" / "more.py").write_text(MORE)
    (site / "mine" / "broken.py").write_text("raise RuntimeError('not today')")
    info = site / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[refseg.systems]\nfilter = mine.system:SYSTEM\nother = mine.broken:SYSTEM\nwrong = mine.more:STRICT\n"
        "[refseg.formats]\nharbour = mine.more:FORMAT\n"
        "[refseg.protocols]\nhalf-strict = mine.more:STRICT\n"
        "[refseg.metrics]\nsmall_share = mine.more:small_share\n"
    )
    return site


def refseg(site: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    if site is not None:
        environment["PYTHONPATH"] = f"{site}{os.pathsep}{Path(__file__).parents[1]}"
    command = [sys.executable, "-m", "refseg", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)


def test_the_plain_command_knows_what_an_installed_package_adds(package: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fields = ["training.steps=1", "data.pool=0", "data.vocabulary_pictures=3", "data.workers=0", "evaluation.every=1"]
    fields += ["evaluation.pictures=2", "evaluation.protocol=half-strict", "evaluation.metric=small_share"]
    trained = refseg(package, "train", str(SOURCE.with_suffix(".toml")), *fields, f"output.folder={run}")
    assert trained.returncode == 0, trained.stderr
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 40), "blue").save(data / name)
    (data / "harbour.json").write_text(json.dumps([["the left boat", "a.png", 3.0], ["the boat", "b.png", 20.0]]))
    evaluated = refseg(
        package, "evaluate", "--model", str(run / "final"), "--data", str(data), "--split", "val",
        "--protocol", "native,half-strict", "--json", str(tmp_path / "out.json"),
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    assert "other of mine (refseg.systems) cannot be loaded: RuntimeError: not today" in evaluated.stderr
    assert "wrong of mine (refseg.systems) is a Protocol, which is not one" in evaluated.stderr
    found = json.loads((tmp_path / "out.json").read_text())["protocols"]
    # Two protocols with other levels: each with its own, and no result is lost.
    assert {"Pr@0.5", "small_share"} <= found["native"]["metrics"].keys()
    assert {"Pr@0.55", "Pr@0.85", "small_share"} <= found["half-strict"]["metrics"].keys()
    assert "Pr@0.85" in evaluated.stdout
    assert "Pr@0.5" in evaluated.stdout


def test_a_table_is_filled_when_it_is_asked_for_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def found(group: str, accepts: object) -> dict[str, int]:
        asked.append(group)
        return {"b": 2, "a": 9}

    monkeypatch.setattr(plugins, "found", found)
    table: Table[int] = Table({"a": 1}, "refseg.numbers", lambda thing: isinstance(thing, int))
    assert table["a"] == 1
    assert "a" in table
    assert table.get("a") == 1
    assert not asked
    assert table["b"] == 2
    assert table.get("c", 5) == 5
    with pytest.raises(KeyError):
        table["c"]
    assert asked == ["refseg.numbers"]
    assert list(table) == ["a", "b"]
    assert (len(table), [*table.keys()], [*table.values()], [*table.items()]) == (
        2, ["a", "b"], [1, 2], [("a", 1), ("b", 2)])  # fmt: skip
