"""`refseg edit`: what is written for each background, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refseg.inference.predictor
from refseg.cli.main import main
from tests.support.clips import Redness, segmenter_of, square


@pytest.fixture(autouse=True)
def finds_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refseg.inference.predictor, "load", lambda model, device: segmenter_of(Redness()))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    square((30, 24), side=20, ground=90).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(photo: Path, output: str, *more: str) -> int:
    return main(["edit", str(photo), "the red thing", "-o", str(photo.parent / output), *more])


def test_backgrounds(photo: Path) -> None:
    pytest.importorskip("pymatting")
    Image.new("RGB", (10, 10), (0, 0, 200)).save(photo.parent / "sky.png")
    assert run(photo, "cut.png") == 0
    cut = np.asarray(Image.open(photo.parent / "cut.png"))
    assert cut.shape == (48, 64, 4)
    assert cut[24, 30, 3] == 255
    assert cut[2, 2].tolist() == [0, 0, 0, 0]
    for background, corner in (("white", (255, 255, 255)), (str(photo.parent / "sky.png"), (0, 0, 200))):
        assert run(photo, "new.png", "--background", background) == 0
        made = np.asarray(Image.open(photo.parent / "new.png"))
        assert made[2, 2].tolist() == list(corner)
        assert made[24, 30, 0] > 200
    assert run(photo, "blurred.jpg", "--background", "blur") == 0


def test_erase_takes_the_thing_away(photo: Path) -> None:
    assert run(photo, "gone.png", "--erase") == 0
    gone = np.asarray(Image.open(photo.parent / "gone.png")).astype(int)
    assert np.abs(gone - 90).max() < 12


def test_what_is_refused(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for output, more, message in (
        ("a.gif", (), "-o ends with .png"),
        ("a.jpg", (), "JPEG has no transparency"),
        ("a.png", ("--background", "whit"), "no file, no colour"),
        ("a.png", ("--erase", "--background", "blur"), "exclude each other"),
    ):
        assert run(photo, output, *more) == 2
        assert message in capsys.readouterr().err
        assert not (photo.parent / output).exists()


def test_none_writes_nothing(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 48)).save(photo)
    assert run(photo, "a.png") == 1
    assert "was not found" in capsys.readouterr().err
    assert not (photo.parent / "a.png").exists()
