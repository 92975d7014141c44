"""`refseg label`: what is written, bad pictures, bad lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.cli.main import main


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("one", "two"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / folder / "a.png")
    (tmp_path / "list.txt").write_text("red ball\ndog\n")
    return tmp_path


def run(pictures: Path, model: Path, *more: str) -> int:
    words = [str(pictures / "photos"), "--phrases", str(pictures / "list.txt"), "-o", str(pictures / "out")]
    return main(["label", *words, "--model", str(model), "--device", "cpu", *more])


def test_maps_and_annotations_agree(pictures: Path, model_folder: Path) -> None:
    assert run(pictures, model_folder, "--no-target-threshold", "1") == 0
    out = pictures / "out"
    content = json.loads((out / "annotations.json").read_text())
    assert [entry["name"] for entry in content["categories"]] == ["red ball", "dog"]
    # Two pictures of one name do not overwrite each other.
    assert [entry["semantic_map"] for entry in content["images"]] == ["semantic/a.png", "semantic/a-2.png"]
    for image in content["images"]:
        semantic = np.asarray(Image.open(out / image["semantic_map"]))
        instances = np.asarray(Image.open(out / image["instances_map"]))
        own = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        assert semantic.shape == (40, 50)
        assert len(np.unique(instances)) - (instances == 0).any() == len(own)
        for number, entry in enumerate(own, start=1):
            assert (instances == number).sum() == entry["area"]
            assert (semantic[instances == number] == entry["category_id"]).all()
    assert sorted(path.name for path in out.iterdir()) == ["annotations.json", "instances", "semantic"]


def test_bad_picture_is_told_and_passed_over(
    pictures: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "photos" / "one" / "a.png").write_bytes(b"\x89PNG\r\n")
    assert run(pictures, model_folder) == 1
    assert "1 of 2 pictures" in capsys.readouterr().err
    line = json.loads((pictures / "out" / "errors.jsonl").read_text())
    assert line["image"].endswith("one/a.png")
    assert len(json.loads((pictures / "out" / "annotations.json").read_text())["images"]) == 1


def test_nothing_is_written_where_nothing_can_be(
    pictures: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (pictures / "photos").glob("*/*.png"):
        path.write_bytes(b"no picture")
    assert run(pictures, model_folder) == 2
    assert "not a picture" in capsys.readouterr().err
    assert not (pictures / "out" / "annotations.json").exists()
    (pictures / "list.txt").write_text("")
    assert run(pictures, model_folder) == 2
    assert "no phrase in it" in capsys.readouterr().err
    assert run(pictures, model_folder, "--template", "all") == 2


def test_maps_are_scored_by_a_coco_file(pictures: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (50, 40)).save(pictures / "photos" / "two" / "b.png")
    (pictures / "photos" / "one" / "a.png").unlink()
    outline = [[10, 10, 30, 10, 30, 30, 10, 30]]
    content = {
        "images": [{"id": 3, "file_name": "a.png", "width": 50, "height": 40}],
        "categories": [{"id": 2, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 3, "category_id": 2, "segmentation": outline, "bbox": [10, 10, 20, 20]}],
    }
    coco = pictures / "instances.json"
    coco.write_text(json.dumps(content))
    words = ["label", str(pictures / "photos"), "--model", str(model_folder), "--device", "cpu"]
    words += ["-o", str(pictures / "out"), "--no-target-threshold", "1"]
    assert main([*words, "--coco", str(coco)]) == 0
    said = capsys.readouterr()
    assert "1 of 2 pictures have no record" in said.err
    score = json.loads((pictures / "out" / "iou.json").read_text())
    labelled = np.asarray(Image.open(pictures / "out" / "semantic" / "a.png")) == 1
    target = np.zeros((40, 50), dtype=bool)
    target[10:30, 10:30] = True
    assert score["iou"] == {"dog": (labelled & target).sum() / (labelled | target).sum()}
    assert f"mean IoU {score['mean_iou']:.3f}" in said.out
    assert not (pictures / "out" / "semantic" / "b.png").exists()

    content["images"][0]["file_name"] = "c.png"
    coco.write_text(json.dumps(content))
    assert main([*words, "--coco", str(coco)]) == 2
    assert "no record of a.png" in capsys.readouterr().err
    assert main(words) == 2
    assert "--phrases FILE or by --coco FILE" in capsys.readouterr().err
