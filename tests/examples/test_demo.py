"""The demo with a small untrained model: what it draws, asks and writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from refseg.data.images import read_image
from tests.support.tiny_model import write_model_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    specification = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_scene_is_drawn_and_asked(demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = write_model_folder(tmp_path / "model"), tmp_path / "demo-out"
    assert demo.main(["--model", str(model), "--output", str(out), "--seed", "5"]) == 0
    image, texts, truths = demo.drawn_scene(5)
    assert len(texts) == len(demo.KINDS)
    assert sum(not truth.any() for truth in truths.values()) == 1  # one sentence means nothing here
    assert read_image(out / "scene.png").size == image.size == (480, 480)
    assert read_image(out / "contact.png").width > 1000
    records = [json.loads(path.read_text()) for path in out.glob("*.json")]
    assert {record["text"] for record in records} == set(texts)
    assert len(list(out.glob("*.overlay.png"))) == len(list(out.glob("*.mask.png"))) == len(texts)
    printed = capsys.readouterr().out
    assert all(text.split()[0] in printed for text in texts)
    assert "IoU" in printed


def test_a_picture_of_ones_own(demo: ModuleType, tmp_path: Path) -> None:
    model, out = write_model_folder(tmp_path / "model"), tmp_path / "out"
    Image.new("RGB", (50, 30)).save(tmp_path / "photo.jpg")
    demo.main([str(tmp_path / "photo.jpg"), "a dog", "--model", str(model), "--output", str(out)])
    assert json.loads((out / "photo.a-dog.json").read_text())["size"] == [30, 50]


def test_agreement_is_intersection_over_union(demo: ModuleType) -> None:
    truth = np.array([[True, True, False, False]])
    answers = [np.array([[True, False, False, False]]), truth, ~truth, np.zeros((1, 4), bool)]
    segmentations = [demo.Segmentation(mask, np.zeros((0, 4)), False, 0.0, 1.0, "it") for mask in answers]
    assert [demo.agreement(answer, truth) for answer in segmentations] == [0.5, 1.0, 0.0, 0.0]
    assert demo.agreement(segmentations[3], np.zeros((1, 4), bool)) == 1.0
