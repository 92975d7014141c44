"""The README tells no tales: its commands parse, its names exist, its links lead somewhere, its Python runs."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refseg
from tests.support.command_line import parse
from tests.support.tiny_model import write_model_folder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```(\w*)\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
PYTHON = [block for language, block in BLOCKS if language == "python"]
LINES = [line.strip() for language, block in BLOCKS if not language for line in block.splitlines() if line.strip()]
COMMANDS = [line for line in LINES if line.startswith("refseg ")]


def test_the_readme_has_what_it_should() -> None:
    assert len(PYTHON) == 2
    assert len(COMMANDS) >= 10
    assert {line.split()[1] for line in LINES if line.startswith("make ")} == {"demo", "test"}
    assert len(PYTHON[0].strip().splitlines()) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    _, *words = shlex.split(command, comments=True)
    parse(words)
    for word in words:
        if word.endswith(".toml"):
            assert (ROOT / word).is_file()


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/citations.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    for target in targets:
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    (tmp_path / "demo-out").mkdir()
    for name in ("demo-out/scene.png", "photo.jpg", "a.jpg", "b.jpg", "street.jpg"):
        Image.fromarray(pixels).save(tmp_path / name)
    folder = write_model_folder(tmp_path / "small")
    load = refseg.load
    monkeypatch.setattr(refseg, "load", lambda *_: load(folder))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in PYTHON:
        ast.parse(block)
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "mask.png").is_file()
    assert "the red car" in capsys.readouterr().out


def test_the_systems_have_the_numbers_of_the_page() -> None:
    """The last column of the systems table is docs/results/scenes.json's, for what has been trained, and empty else."""
    systems = json.loads((ROOT / "docs" / "results" / "scenes.json").read_text(encoding="utf-8"))["systems"]
    rows = re.findall(r"^\| \[[^]]+\]\(refseg/models/(\w+)/README\.md\) \|.*\| *([\d. ]*)\|$", README, re.MULTILINE)
    assert len(rows) == 11
    assert {name: number.strip() for name, number in rows} == {
        name: f"{systems[name]['gIoU']:.1f}" if name in systems else "" for name, _ in rows
    }
    assert {name for name in systems if name != "restr-resnet"} <= {name for name, _ in rows}
