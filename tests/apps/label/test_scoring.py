"""Mean IoU of semantic maps: against loops over pixels, and maps of COCO files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refseg.apps.label.scoring import SemanticScore, read_category_maps
from refseg.errors import DataError, ImageError


def annotation(number: int, category: int, box: tuple[int, int, int, int], **more: Any) -> dict[str, Any]:
    """Box is x, y, width, height; the outline is the box."""
    x, y, width, height = box
    outline = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    record = {"id": number, "image_id": 5, "category_id": category, "bbox": list(box), "segmentation": outline}
    return record | more


def write(path: Path, annotations: list[dict[str, Any]], **more: Any) -> Path:
    content = {
        "images": [{"id": 5, "file_name": "train/a.jpg", "width": 20, "height": 10}],
        "categories": [{"id": 40, "name": "dog"}, {"id": 7, "name": "sofa"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content | more))
    return path


def test_mean_iou_is_that_of_counting_pixels_one_by_one() -> None:
    rng = np.random.default_rng(3)
    names = ["a", "b", "c", "d"]
    pairs = [(rng.integers(0, 5, (6, 7)), rng.integers(0, 4, (6, 7))) for _ in range(3)]  # d occurs nowhere
    score = SemanticScore(names)
    for labelled, target in pairs:
        score.add(labelled, target)
    expected = {}
    for number in range(4):
        shared = union = 0
        for labelled, target in pairs:
            for got, wanted in zip(labelled.ravel().tolist(), target.ravel().tolist(), strict=True):
                shared += got == wanted == number
                union += number in (got, wanted)
        expected[number] = shared / union
    assert score.ious() == {name: expected[number] for number, name in enumerate(names[:3], start=1)}
    told = score.to_dict()
    assert told["mean_iou"] == pytest.approx(sum(expected[number] for number in (1, 2, 3)) / 3)
    assert told["mean_iou_with_ground"] == pytest.approx(sum(expected.values()) / 4)
    assert (told["categories"], told["pictures"]) == (3, 3)


def test_smaller_annotations_lie_on_larger_ones_and_crowds_count(tmp_path: Path) -> None:
    small, large = annotation(1, 40, (2, 2, 4, 4)), annotation(2, 7, (0, 0, 10, 10))
    crowd = annotation(3, 40, (12, 0, 8, 10), iscrowd=1)
    maps = read_category_maps(write(tmp_path / "i.json", [small, large, crowd]))
    assert maps.names == ("sofa", "dog")  # in the order of their ids
    key = maps.find("elsewhere/a.jpg")
    assert key == 5
    assert maps.find("b.jpg") is None
    found = maps.map_of(key)
    wanted = np.zeros((10, 20), dtype=int)
    wanted[:, :10], wanted[2:6, 2:6], wanted[:, 12:] = 1, 2, 2
    assert (found == wanted).all()


def test_what_cannot_be_scored_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="3 x 2, annotated is 4 x 2"):
        SemanticScore(["a"]).add(np.zeros((2, 3), int), np.zeros((2, 4), int))
    twice = [{"id": 1, "name": "dog"}, {"id": 2, "name": "dog"}]
    with pytest.raises(DataError, match="the same name"):
        read_category_maps(write(tmp_path / "twice.json", [], categories=twice))
    with pytest.raises(DataError, match="categories"):
        read_category_maps(write(tmp_path / "none.json", [], categories=[]))
    pictures = [{"id": number, "file_name": f"{number}/a.jpg", "width": 2, "height": 2} for number in (1, 2)]
    with pytest.raises(DataError, match=r"2 pictures are called a\.jpg"):
        read_category_maps(write(tmp_path / "two.json", [], images=pictures)).find("a.jpg")
    assert SemanticScore(["a"]).to_dict()["mean_iou"] is None
