"""The generic format: reading, writing, and every fault named with line and id."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refseg.data import open_dataset, rle
from refseg.data.formats.jsonl import read_jsonl, record_of, write_jsonl
from refseg.errors import DataError, RefsegError

SIZE = (20, 30)


def mask(left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    found = np.zeros(SIZE, dtype=bool)
    found[top:bottom, left:right] = True
    return rle.encode(found)


def good(key: str = "a", **fields: Any) -> dict[str, Any]:
    record = {"id": key, "image": "images/1.png", "text": "left dog", "masks": [mask(2, 3, 8, 9)], "split": "train"}
    return {**record, **fields}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("1.png", "2.png"):
        Image.new("RGB", (SIZE[1], SIZE[0]), "white").save(tmp_path / "images" / name)
    return tmp_path


def write(folder: Path, *records: Any) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records))
    return path


def test_open_dataset_reads_it(folder: Path) -> None:
    two = good("b", image="images/2.png", masks=[], no_target=True, text="the cat", split="val", kind="no_target")
    many = good("c", masks=[mask(2, 3, 8, 9), mask(10, 3, 15, 9)], boxes=[[2, 3, 8, 9], [10, 3.5, 15, 9]])
    data = open_dataset(write(folder, good(), two, many))
    first, none, several = data
    assert (first.id, first.text, first.split, first.size, first.dataset) == ("a", "left dog", "train", SIZE, "data")
    assert first.objects[0].bbox == (2.0, 3.0, 8.0, 9.0)
    assert first.mask().sum() == 36
    assert none.no_target
    assert none.kind == "no_target"
    assert none.size == SIZE  # from the picture
    assert [item.bbox for item in several.objects] == [(2.0, 3.0, 8.0, 9.0), (10.0, 3.5, 15.0, 9.0)]
    # The same mask of the same picture is the same object.
    assert several.objects[0].ann_id == first.objects[0].ann_id != several.objects[1].ann_id
    assert data.by_picture() == {first.image_id: [0, 2], none.image_id: [1]}
    assert [sample.id for sample in open_dataset(folder / "data.jsonl", split="val")] == ["b"]
    assert first.read_image().size == (30, 20)


def test_what_is_written_is_read_again(folder: Path) -> None:
    first = read_jsonl(write(folder, good(categories=["dog"], ann_ids=[7], ref_id=3, sent_id=4, image_id=11, kind="x")))
    path = folder / "again.jsonl"
    assert write_jsonl(path, [record_of(sample, "images/1.png") for sample in first]) == 1
    (again,) = read_jsonl(path, name="data")
    assert again == first[0]
    assert again.objects[0].segmentation == first[0].objects[0].segmentation


BAD: dict[str, tuple[Any, str]] = {
    "not JSON": ("{", "not valid JSON"),
    "a list": ("[1]", "the record is array"),
    "no text": (good(text=""), "text is empty"),
    "no masks": (good(masks=[]), "no masks"),
    "masks missing": ({"image": "images/1.png", "text": "dog"}, "no masks"),
    "masks and none": (good(no_target=True), "no_target is true, but there are 1 masks"),
    "wrong total": (good(masks=[{"size": [20, 30], "counts": [5, 5]}]), "add up to 10"),
    "other picture": (
        good(masks=[rle.encode(np.ones((7, 9), dtype=bool))]),
        "a mask of 7 x 9, but the picture is 20 x 30",
    ),
    "foreign character": (good(masks=[{"size": [20, 30], "counts": "\x7f!"}]), "masks[0]"),
    "negative box": (good(boxes=[[-4, 3, 8, 9]]), "below 0"),
    "box turned": (good(boxes=[[8, 3, 2, 9]]), "is not x1 y1 x2 y2"),
    "box outside": (good(boxes=[[2, 3, 80, 9]]), "lies outside"),
    "box count": (good(boxes=[]), "0 boxes for 1 masks"),
    "NaN": (json.dumps(good(boxes=[[0, 0, 0, 0]])).replace("[0, 0, 0, 0]", "[NaN, 0, 1, 1]"), "finite"),
    "picture missing": (good(image="images/9.png"), "was not found"),
    "picture outside": (good(image="../1.png"), "leads out of the folder"),
    "picture absolute": (good(image="/etc/hosts"), "leads out of the folder"),
    "other number": (good(image="images/2.png", image_id=1), "belongs to another picture"),
    "duplicate": (good("a"), "used before, at line 1"),
}


def test_every_fault_is_named_with_line_and_id_all_at_once(folder: Path) -> None:
    records = [record if isinstance(record, str) else {**record, "id": key} for key, (record, _) in BAD.items()]
    records[-1] = good("a")
    data = read_jsonl(write(folder, good("a"), *records))
    assert [sample.id for sample in data] == ["a"]
    for number, (key, (record, expected)) in enumerate(BAD.items(), 2):
        found = [str(problem) for problem in data.problems if f"data.jsonl line {number} " in problem.where]
        assert any(expected in text for text in found), (key, found)
        if isinstance(record, dict) and key != "duplicate":
            assert f"(id {key})" in found[0]
    assert sum(problem.lost for problem in data.problems) == len(BAD)


@pytest.mark.parametrize(
    "fields", [{"text": "a dog \ud83d"}, {"split": "\udc00"}, {"kind": "\ud800"}, {"categories": ["\ud800"]}]
)
def test_half_of_a_surrogate_pair_is_a_fault(folder: Path, fields: dict[str, Any]) -> None:
    dataset = read_jsonl(write(folder, good("a"), good("b", **fields), good("c", text="\ud83d\ude00 dog")))
    assert [sample.text for sample in dataset] == ["left dog", "\N{GRINNING FACE} dog"]
    (problem,) = dataset.problems
    assert "surrogate" in problem.message


def test_a_folder_is_read_by_its_file(folder: Path) -> None:
    write(folder, good("a"), good("b"))
    assert len(open_dataset(folder)) == 2


def test_nothing_usable_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="no usable record"):
        read_jsonl(write(folder, "{"))
    with pytest.raises(DataError, match=r"no split 'test'.*train"):
        open_dataset(write(folder, good()), split="test")
    with pytest.raises(DataError, match="cannot be read"):
        read_jsonl(folder / "absent.jsonl")


def test_writing_refuses_what_reading_would(folder: Path) -> None:
    with pytest.raises(DataError, match="text is empty"):
        write_jsonl(folder / "x.jsonl", [good(text="")])
    assert not (folder / "x.jsonl").exists()


def test_damaged_files_never_crash(folder: Path) -> None:
    content = bytearray(write(folder, good(), good("b", boxes=[[2, 3, 8, 9]]), good("c")).read_bytes())
    rng = random.Random(0)
    path = folder / "damaged.jsonl"
    for _ in range(150):
        damaged = bytearray(content[: rng.randrange(1, len(content))] if rng.random() < 0.3 else content)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            for sample in read_jsonl(path):
                sample.mask()
        except RefsegError:
            pass
