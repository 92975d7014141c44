"""The weights that ship: what they are, that they find plain things, and that they say none to what means nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refseg
from refseg.cli.main import main
from refseg.errors import RefsegError
from refseg.generation.scenes import generate
from refseg.inference import DEFAULT_MODEL
from refseg.inference.locate import PACKAGED
from refseg.training.recipe import read_recipe

FOLDER = PACKAGED / "rela-photo"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def segmenter() -> refseg.Segmenter:
    return refseg.load("rela-photo", device="cpu")


@pytest.fixture(scope="module")
def default() -> refseg.Segmenter:
    return refseg.load(device="cpu")


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    return Image.fromarray(generate(20303, 0, size=320, sentences=4, split="val").image)


def test_all_that_ships_is_small() -> None:
    assert refseg.list_models() == ["instances", "rela-photo"]
    folders = [path for path in PACKAGED.iterdir() if path.is_dir()]
    assert sorted(path.name for path in folders) == refseg.list_models()
    files = [path for path in PACKAGED.rglob("*") if path.is_file()]
    assert {path.parent for path in files} == set(folders)
    assert sum(path.stat().st_size for path in files) < 40e6


def test_no_tales_of_other_machines() -> None:
    text = (FOLDER / "config.json").read_text(encoding="utf-8")
    assert "/tmp" not in text
    assert "/work" not in text
    info = json.loads(text)["info"]
    assert 0 < info["threshold"] < 1
    assert 0 < info["no_target_threshold"] < 1
    assert info["calibration"]["sentences"] > 100


def test_nobody_says_which_model_and_gets_this_one(default: refseg.Segmenter) -> None:
    assert DEFAULT_MODEL in refseg.list_models()
    assert default.late_fusion
    assert type(default.model).__name__ == "Instances"


def test_weights_that_are_no_longer_shipped_say_what_there_is_instead(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RefsegError, match="rela-mini: these weights are no longer shipped") as caught:
        refseg.load("rela-mini", device="cpu")
    said = str(caught.value)
    assert all(name in said for name in refseg.list_models())
    [recipe] = re.findall(r"refseg train (\S+\.toml)", said)
    assert read_recipe(ROOT / recipe).model_name == "rela-mini", "the preset stays, and the recipe trains it"
    assert main(["evaluate", "--model", "rela-mini", "--data", "scenes"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        *("asdf", "qwrtz plmk", "it", "what is this?", "hier ist eine Katze", "左边的猫", "Ωμέγα", "a violin"),
        *("the dentist's tax", "three penguins", "der Hund auf der linken Seite", "la gatta nera", "il cane"),
    ],
)
def test_the_default_finds_nothing_in_what_it_does_not_know(
    default: refseg.Segmenter, scene: Image.Image, text: str
) -> None:
    for picture in (scene, Image.new("RGB", (320, 240), (120, 140, 160))):
        answer = default(picture, text)
        assert answer.no_target
        assert not answer.mask.any()
        assert answer.extra["remarks"], "it says why"


def test_the_default_finds_plain_things_as_instances(default: refseg.Segmenter) -> None:
    scores = []
    for number in range(6):
        drawn = generate(20303, number, size=320, sentences=16, split="val")
        kept = default.encode(Image.fromarray(drawn.image))
        for entry in drawn.expressions:
            if entry.kind in ("attribute", "location", "comparison", "relation"):
                answer, wanted = kept.ask(entry.text), drawn.mask(entry)
                scores.append((answer.mask & wanted).sum() / (answer.mask | wanted).sum())
                assert all(instance.label for instance in answer.instances)
    assert len(scores) >= 15
    assert np.mean(scores) > 0.5


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
    assert (
        main(
            ["segment", str(tmp_path / "scene.png"), "it", "asdf", "--model", "rela-photo", "-o", str(tmp_path / "out")]
        )
        == 0
    )
    said = capsys.readouterr().err
    assert "no word of the expression names or describes anything" in said
    assert "the model knows no word of the expression" in said


def test_the_command_says_what_the_default_does_not_know(
    scene: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.save(tmp_path / "scene.png")
    assert main(["segment", str(tmp_path / "scene.png"), "a violin", "-o", str(tmp_path / "out")]) == 0
    assert "“violin” is none of the things that the detector knows" in capsys.readouterr().err
