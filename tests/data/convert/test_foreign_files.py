"""Files as the tools themselves write them, without our sentences; and faulty ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refseg.data.convert import detect, read_any
from refseg.errors import DataError

SIZE = (20, 40)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (SIZE[1], SIZE[0]), "white").save(path)


def square(left: int, top: int, side: int) -> list[float]:
    return [float(value) for value in (left, top, left + side, top, left + side, top + side, left, top + side)]


def coco(tmp_path: Path, **extra: Any) -> Path:
    picture(tmp_path / "images" / "a.png")
    shapes = [(1, 1, square(2, 2, 6)), (2, 1, square(20, 4, 8)), (3, 2, square(30, 2, 5))]
    annotations = [
        {
            "id": key,
            "image_id": 7,
            "category_id": category,
            "bbox": [2, 2, 6, 6],
            "segmentation": [polygon],
            "iscrowd": 0,
        }
        for key, category, polygon in shapes
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({**content, **extra}))
    return path


def test_plain_coco_takes_categories_as_sentences(tmp_path: Path) -> None:
    found = read_any(coco(tmp_path))
    assert {sample.text: [item.ann_id for item in sample.objects] for sample in found} == {"dog": [1, 2], "cat": [3]}
    assert {sample.kind for sample in found} == {"category"}


def test_coco_with_texts_at_the_annotations(tmp_path: Path) -> None:
    path = coco(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][0]["text"] = "the left dog"
    content["annotations"][1]["attributes"] = {"captions": ["big dog", "animals"]}
    content["annotations"][2]["caption"] = "animals"
    path.write_text(json.dumps(content))
    texts = {sample.text: [item.ann_id for item in sample.objects] for sample in read_any(path)}
    assert texts == {"the left dog": [1], "big dog": [2], "animals": [2, 3]}


def test_faulty_coco_expressions_are_all_named(tmp_path: Path) -> None:
    records: list[Any] = [
        {"id": "good", "image_id": 7, "text": "dog", "annotation_ids": [1]},
        {"id": "empty", "image_id": 7, "text": "", "annotation_ids": [1]},
        {"id": "none", "image_id": 7, "text": "dog", "annotation_ids": []},
        {"id": "strange", "image_id": 7, "text": "dog", "annotation_ids": [44]},
        {"id": "lost", "image_id": 8, "text": "dog", "annotation_ids": [1]},
        {"id": "good", "image_id": 7, "text": "cat", "annotation_ids": [3]},
        "nonsense",
    ]
    found = read_any(coco(tmp_path, expressions=records))
    assert [sample.text for sample in found] == ["dog"]
    messages = [str(problem) for problem in found.problems]
    for index, words in enumerate(("missing or empty", "no masks", "44", "picture 8", "used before", "not a table"), 1):
        assert any(f"expressions[{index}]" in message and words in message for message in messages), words


def test_plain_yolo(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "images" / "a.png")
    labels = tmp_path / "train" / "labels" / "a.txt"
    labels.parent.mkdir()
    box = "0.05 0.1 0.2 0.1 0.2 0.4 0.05 0.4"
    labels.write_text(f"0 {box}\n1 {box}\n0 0.5 0.5 0.9 0.5 0.9 0.9\n7 {box}\n0 0.5 0.5 0.2 0.2\n0 x\n")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: ['dog', 'cat']\n")
    found = read_any(tmp_path)
    assert [(sample.text, len(sample.objects), sample.split) for sample in found] == [
        ("dog", 2, "train"),
        ("cat", 1, "train"),
    ]
    expected = np.zeros(SIZE, dtype=bool)
    expected[2:8, 2:8] = True
    np.testing.assert_array_equal(found[1].mask(), expected)
    lines = [problem.where for problem in found.problems]
    assert [line.rsplit(" ", 1)[-1] for line in lines] == ["4", "5", "6"]


def test_label_studio_polygons_rectangles_and_uploads(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    polygon = {"points": [[5, 10], [20, 10], [20, 40], [5, 40]], "polygonlabels": ["dog"]}
    rectangle = {"x": 50, "y": 50, "width": 25, "height": 25, "rotation": 0, "rectanglelabels": ["cat"]}
    regions = [
        {"id": "p", "type": "polygonlabels", "original_width": 40, "original_height": 20, "value": polygon},
        {"id": "r", "type": "rectanglelabels", "original_width": 40, "original_height": 20, "value": rectangle},
    ]
    damaged = [{**regions[0], "type": "brushlabels", "value": {"rle": [1, 2, 3], "brushlabels": ["dog"]}}]
    cancelled = {"was_cancelled": True, "result": []}
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/3/1234abcd-a.png"}, "annotations": [cancelled, {"result": regions}]},
        {"id": 2, "data": {"image": "s3://bucket/a.png", "text": "the unicorn"}, "annotations": [{"result": []}]},
        {"id": 3, "data": {"image": "a.png", "text": "dog"}, "annotations": [{"result": damaged}]},
        {"id": 4, "data": {"image": "a.png", "text": "not yet done"}, "annotations": []},
        {"id": 5, "data": {"image": "absent.png", "text": "dog"}, "annotations": [{"result": regions}]},
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    assert detect(path) == "labelstudio"
    found = read_any(path)
    assert [(sample.text, sample.no_target) for sample in found] == [
        ("dog", False),
        ("cat", False),
        ("the unicorn", True),
    ]
    expected = np.zeros(SIZE, dtype=bool)
    expected[2:8, 2:8] = True
    np.testing.assert_array_equal(found[0].mask(), expected)
    assert found[1].mask().sum() == 10 * 5
    messages = " | ".join(map(str, found.problems))
    for words in ("[2] (id 3)", "[3] (id 4)", "[4] (id 5)", "absent.png"):
        assert words in messages


def test_cvat_from_the_server(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "images" / name)
    (tmp_path / "meta.json").write_text(json.dumps({"frames": [{"name": "x/a.png"}, {"name": "b.png"}]}))
    labels = [{"id": 4, "name": "dog"}, {"id": 6, "name": "cat"}]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    shapes = [
        {"type": "polygon", "frame": 0, "label_id": 4, "points": square(2, 2, 6), "attributes": []},
        {"type": "rectangle", "frame": 0, "label_id": 4, "points": [20.0, 4.0, 28.0, 12.0], "attributes": []},
        {"type": "mask", "frame": 0, "label_id": 6, "points": [1, 2, 1, 30, 2, 31, 3], "attributes": []},
        {"type": "points", "frame": 0, "label_id": 6, "points": [1, 2], "attributes": []},
        {"type": "mask", "frame": 0, "label_id": 6, "points": [1, 2, 1, 30, 2, 99, 3], "attributes": []},
    ]
    tracked = {"type": "polygon", "frame": 1, "points": square(1, 1, 4), "outside": False}
    tracks = [{"label_id": 6, "frame": 1, "shapes": [tracked, {**tracked, "frame": 0, "outside": True}]}]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"version": 1, "tags": [], "shapes": shapes, "tracks": tracks}))
    found = read_any(path)
    assert [(sample.text, len(sample.objects)) for sample in found] == [("dog", 2), ("cat", 1), ("cat", 1)]
    expected = np.zeros(SIZE, dtype=bool)
    expected[2, 31] = expected[3, 30] = True
    np.testing.assert_array_equal(found[1].mask(), expected)
    assert ["shape 3" in str(found.problems[0]), "shape 4" in str(found.problems[1])] == [True, True]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.json", "[", "not valid JSON"),
        ("x.json", "{}", "none of the known formats"),
        ("x.json", "[]", "none of the known formats"),
        ("x.txt", "", "--from"),
        ("data.yaml", "names: [a", "not valid YAML"),
        ("data.yaml", "train: images", "names"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        read_any(tmp_path / name)


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_any(tmp_path / "absent")


def test_yolo_splits_may_be_lists_of_folders(tmp_path: Path) -> None:
    for part in ("one", "two"):
        picture(tmp_path / "images" / part / f"{part}.png")
        label = tmp_path / "labels" / part / f"{part}.txt"
        label.parent.mkdir(parents=True)
        label.write_text("0 0.05 0.1 0.2 0.1 0.2 0.4 0.05 0.4\n")
    (tmp_path / "data.yaml").write_text("train: [images/one, images/two, 5]\nval:\nnames: {0: dog}\nmosaic: 0.5\n")
    found = read_any(tmp_path)
    assert [(sample.text, sample.split) for sample in found] == [("dog", "train"), ("dog", "train")]
    assert [str(problem) for problem in found.problems] == ["data.yaml train: 5: a folder of pictures is wanted"]


def test_regions_without_a_mask_are_not_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    base = {"original_width": 40, "original_height": 20}
    polygon = {"points": [[5, 10], [20, 10], [20, 40], [5, 40]], "polygonlabels": ["dog"]}
    whole = {"id": "p", "type": "polygonlabels", "value": polygon, **base}
    ellipse = {"id": "e", "type": "ellipselabels", "value": {"x": 5, "y": 5, "radiusX": 2, "radiusY": 2}, **base}
    choice = {"id": "c", "type": "choices", "value": {"choices": ["sure"]}}
    tasks = [
        {"id": number, "data": {"image": "a.png", "text": f"dog {number}"}, "annotations": [{"result": result}]}
        for number, result in enumerate(([whole, choice], [whole, ellipse], [whole, 7], [{**whole, "value": None}]))
    ]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks))
    found = read_any(path)
    assert [sample.text for sample in found] == ["dog 0"]
    messages = " | ".join(map(str, found.problems))
    for words in ("region 'e': a 'ellipselabels' region has no mask", "region 1 is no table", "its value is no table"):
        assert words in messages


def test_cvat_records_that_are_no_tables_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "meta.json").write_text(json.dumps({"frames": [{"name": "a.png"}]}))
    shape = {"type": "polygon", "frame": 0, "label": "dog", "points": square(2, 2, 6), "attributes": []}
    content = {"version": 1, "tags": [3], "shapes": [None, shape], "tracks": ["x", {"label": "dog", "shapes": [5]}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    found = read_any(tmp_path / "annotations.json")
    assert len(found) == 1
    assert [problem.where.split(" ", 1)[1] for problem in found.problems] == [
        "shapes[0]", "tracks[0]", "a track's shapes[0]", "tags[0]",
    ]  # fmt: skip
