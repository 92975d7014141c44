"""refseg explain on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.cli.main import main


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_expressions_and_models_side_by_side(model_folder: Path, photo: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    command = ["explain", str(photo), "-o", str(out), "--device", "cpu", "--panels", "1", "--model", str(model_folder)]
    assert main([*command, "the red ball", "a dog"]) == 0
    names = {path.name for path in out.iterdir()}
    assert {"photo.the-red-ball.png", "photo.a-dog.png", "photo.the-red-ball.minimap.png"} <= names
    assert {"photo.the-red-ball.json", "photo.the-red-ball.npz", "photo.answers.png"} <= names
    assert str(out / "photo.answers.png") in capsys.readouterr().out
    twin = tmp_path / "twin"
    twin.symlink_to(model_folder)
    assert main([*command, "a dog", "--model", str(twin)]) == 0
    assert {"photo.a-dog.tiny.png", "photo.a-dog.twin.png"} <= {path.name for path in out.iterdir()}


def test_the_right_mask_is_shown_beside(model_folder: Path, photo: Path, tmp_path: Path) -> None:
    Image.new("L", (70, 50), 255).save(tmp_path / "right.png")
    command = ["explain", str(photo), "the red ball", "-o", str(tmp_path / "out"), "--model", str(model_folder)]
    assert main([*command, "--device", "cpu", "--panels", "1", "--target", str(tmp_path / "right.png")]) == 0
    with Image.open(tmp_path / "out" / "photo.answers.png") as sheet:
        assert sheet.width > sheet.height  # two tiles beside one another


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["PHOTO"], "no expression"),
        (["a dog"], "no picture"),
        (["PHOTO", "a dog", "--panels", "0"], "--panels"),
        (["PHOTO", "a dog", "--target", "PHOTO.missing.png"], "missing"),
        (["PHOTO", "a dog", "--target", "SMALL"], "give a mask of the picture's size"),
        (["PHOTO", "a dog", "-o", "PHOTO"], "is a file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    model_folder: Path, photo: Path, tmp_path: Path, words: list[str], message: str, capsys
) -> None:
    Image.new("L", (7, 5)).save(tmp_path / "small.png")
    known = {"PHOTO": str(photo), "SMALL": str(tmp_path / "small.png"), "PHOTO.missing.png": "missing.png"}
    out = tmp_path / "out"
    arguments = ["-o", str(out), "--model", str(model_folder), *(known.get(word, word) for word in words)]
    assert main(["explain", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert not out.exists()
