"""The weights that ship: what they are, that they find plain things, and that they say none to what means nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refseg
from refseg.cli.main import main
from refseg.generation.scenes import generate
from refseg.inference import DEFAULT_MODEL
from refseg.inference.checkpoint import PACKAGED

FOLDER = PACKAGED / DEFAULT_MODEL


@pytest.fixture(scope="module")
def segmenter() -> refseg.Segmenter:
    return refseg.load(device="cpu")


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    return Image.fromarray(generate(20303, 0, size=320, sentences=4, split="val").image)


def test_they_are_small_and_tell_no_tales_of_other_machines() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 40e6
    text = (FOLDER / "config.json").read_text(encoding="utf-8")
    assert "/tmp" not in text
    assert "/work" not in text
    info = json.loads(text)["info"]
    assert 0 < info["threshold"] < 1
    assert 0 < info["no_target_threshold"] < 1
    assert info["calibration"]["sentences"] > 100


def test_nobody_says_which_model_and_gets_this_one(segmenter: refseg.Segmenter) -> None:
    assert DEFAULT_MODEL in refseg.list_models()
    assert segmenter.late_fusion
    assert segmenter.model.config.input.size == 320


@pytest.mark.parametrize(
    "text",
    [
        "asdf",
        "qwrtz plmk",
        "it",
        "what is this?",
        "hier ist eine Katze",
        "左边的猫",
        "Ωμέγα",
    ],
)
def test_a_sentence_without_content_means_nothing(segmenter: refseg.Segmenter, scene: Image.Image, text: str) -> None:
    answer = segmenter(scene, text)
    assert answer.no_target
    assert not answer.mask.any()
    assert answer.score == 0
    assert "the answer is none" in answer.extra["remarks"][-1]


@pytest.mark.parametrize(
    "text",
    [
        *("the parliament", "a violin", "the algorithm of the government", "the dentist's tax", "three penguins"),
        *("der Hund auf der linken Seite", "la gatta nera", "il cane"),
    ],
)
def test_what_it_does_not_know_is_none_or_doubtful(segmenter: refseg.Segmenter, scene: Image.Image, text: str) -> None:
    for picture in (scene, Image.new("RGB", (320, 240), (120, 140, 160))):
        answer = segmenter(picture, text)
        assert answer.no_target or answer.score < 0.75


def test_a_slip_of_the_pen_changes_nothing(segmenter: refseg.Segmenter, scene: Image.Image) -> None:
    one, other = segmenter(scene, ["the elephant on the left", "the elepahnt on the left"])
    np.testing.assert_array_equal(one.mask, other.mask)
    assert one.no_target_score == pytest.approx(other.no_target_score, abs=1e-6)


def test_the_command_says_why_it_found_nothing(
    scene: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.save(tmp_path / "scene.png")
    assert main(["segment", str(tmp_path / "scene.png"), "it", "asdf", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "no word of the sentence names or describes anything" in said
    assert "the model knows no word of the sentence" in said
