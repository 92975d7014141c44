"""Annotated pictures: splits and what is left out; boundary bands and AP on answers that are known."""

import json

import numpy as np
import pytest

from refseg.data.formats.coco import read_instances
from refseg.errors import DataError
from refseg.models.instances.classes import SECOND
from refseg.training.instances.annotated import known_classes, picture_keys, read_annotated, read_splits, second_index
from refseg.training.instances.judge import Detections, average_precision, boundary_band, ellipse, iou
from tests.support.instance_pictures import painted, two_discs, write_coco


def test_crowds_are_left_out_and_subsets_are_sources(tmp_path):
    image, masks = painted((40, 60), [((20, 20), 9, (255, 0, 0)), ((20, 40), 9, (0, 0, 255))])
    objects = [("cat", masks[0], False), ("cat", masks[1], True)]
    files = write_coco(tmp_path, [("a.png", image, objects, {"subset": "cats", "exhaustive": False})], ("cat",))
    (picture,) = read_annotated("photos", *files)
    assert (picture.key, picture.source, picture.split) == ("photos/1", "photos/cats", "train")
    assert not picture.exhaustive
    assert len(picture.instances) == 1
    assert (picture.masks()[0] == masks[0]).all()
    assert (picture.image() == image).all()


def test_splits_and_pictures_to_leave_out(tmp_path):
    image, masks = painted((40, 60), [((20, 20), 9, (255, 0, 0))])
    objects = [("cat", masks[0], False)]
    records = [
        ("COCO_train2014_000000000009.png", image, objects, {"split2017": "val"}),
        ("b.png", image, objects, {"coco_id": 25, "split2017": "train"}),
        ("c.png", image, objects, {"original_name": "train2017/000000000030.jpg"}),
    ]
    files = write_coco(tmp_path, records, ("cat",))
    assert picture_keys(read_instances(files[0])) == {1: "9", 2: "25", 3: "30"}
    by_field = read_annotated("coco", *files, split_field="split2017", without=["30"])
    assert [picture.split for picture in by_field] == ["val2017", "train", "without"]
    (tmp_path / "splits.json").write_text(json.dumps({"1": "train", "2": "test"}))
    by_table = read_annotated("coco", *files, splits=read_splits(tmp_path / "splits.json"))
    assert [picture.split for picture in by_table] == ["train", "test", "unassigned"]
    (tmp_path / "splits.json").write_text(json.dumps({"images": [{"id": 3, "split": "val"}, {"id": 4}]}))
    assert read_splits(tmp_path / "splits.json") == {3: "val"}


def test_damaged_input_is_named(tmp_path):
    (tmp_path / "splits.json").write_text("[1")
    with pytest.raises(DataError, match=r"splits\.json"):
        read_splits(tmp_path / "splits.json")
    files = two_discs(tmp_path, 1)
    (files[1] / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png"):
        read_annotated("made", *files)


def test_sources_are_silent_on_garments_they_do_not_annotate(tmp_path):
    image, masks = painted((40, 60), [((20, 20), 9, (255, 0, 0))])
    pictures = []
    for source, category in (("coco", "cat"), ("worn", "hair"), ("scenes", "dog")):
        records = [("a.png", image, [(category, masks[0], False)], {})]
        pictures += read_annotated(source, *write_coco(tmp_path / source, records, (category,)))
    known = known_classes(pictures)
    hair, tiger, dog = SECOND.index("hair"), SECOND.index("tiger"), SECOND.index("drawn dog")
    assert not known["coco"][hair]
    assert known["worn"][hair]
    assert known["coco"][tiger]
    assert known["coco"][dog]
    assert known["scenes"].all()
    assert second_index("dog", drawn=True) == dog
    assert second_index("dog", drawn=False) is None
    assert second_index("tiger", drawn=False) == tiger
    assert second_index("no such thing", drawn=False) is None


def test_a_band_against_distances():
    mask = np.zeros((40, 60), bool)
    mask[5:30, 10:50] = True
    mask[0:5, 20:30] = True
    band = boundary_band(mask, 3 / np.hypot(40, 60))
    for row in range(40):
        for column in range(60):
            near = False
            for r in range(row - 3, row + 4):
                for c in range(column - 3, column + 4):
                    near |= not (0 <= r < 40 and 0 <= c < 60) or not mask[r, c]
            assert band[row, column] == (mask[row, column] and near)


def test_ellipse_and_iou():
    inside = ellipse((10.0, 20.0, 50.0, 40.0), (60, 80))
    assert inside.sum() == pytest.approx(np.pi * 20 * 10, rel=0.02)
    assert not inside[:20].any()
    assert iou(inside, inside) == 1.0
    assert iou(inside, ~inside) == 0.0
    assert iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1.0


def test_average_precision_of_known_answers(tmp_path):
    pictures = read_annotated("made", *two_discs(tmp_path, 4))
    boxes = [np.array([item.bbox for item in picture.instances]) for picture in pictures]
    exact = [Detections(box, np.array([0.9, 0.8]), ("cat", "hair")) for box in boxes]
    assert average_precision(exact, pictures, ("cat", "hair"))["AP"] == pytest.approx(1.0)
    swapped = [Detections(box, np.array([0.9, 0.8]), ("hair", "cat")) for box in boxes]
    assert average_precision(swapped, pictures, ("cat", "hair"))["AP50"] < 0.2
    # One of two categories is never found.
    half = [Detections(box[:1], np.array([0.9]), ("cat",)) for box in boxes]
    assert average_precision(half, pictures, ("cat", "hair"))["AP"] == pytest.approx(0.5)
    nothing = [Detections(np.zeros((0, 4)), np.zeros(0), ())] * 4
    assert average_precision(nothing, pictures, ("cat",))["AP"] == 0.0
    assert np.isnan(average_precision(exact, pictures, ("zebra",))["AP"])
