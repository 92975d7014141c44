"""The derived formats: MDETR's, SeqTR's and SimREC's JSON, Hugging Face parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refseg.data import open_dataset, rle
from refseg.data.formats.parquet import ParquetPicture
from refseg.errors import DataError, ImageError
from tests.support.format_files import (
    block,
    parquet,
    picture,
    picture_bytes,
    table,
    write_mdetr,
    write_parquet,
    write_seqtr,
    write_simrec,
)
from tests.support.published_files import square


def test_mdetr(tmp_path: Path) -> None:
    write_mdetr(tmp_path)
    dataset = open_dataset(tmp_path, "refcoco")
    assert dataset.split_by == "mdetr"
    first, second = dataset
    assert (first.id, first.ref_id, first.sent_id, first.image_id, first.split) == ("700_10", 700, 10, 1, "val")
    assert (first.text, second.text) == ("the ball", "red one")
    assert first.objects[0].category == "ball"
    assert first.objects[0].segmentation is None
    assert (second.mask() == block(4, 4)).all()


def test_mdetr_without_objects_and_with_phrases(tmp_path: Path) -> None:
    write_mdetr(tmp_path)
    assert [sample.no_target for sample in open_dataset(tmp_path, "grefcoco")] == [False, True]
    sample = open_dataset(tmp_path, "flickr30k")[0]
    assert [(phrase.text, len(phrase.objects)) for phrase in sample.phrases] == [("A man", 1), ("a dog", 2)]
    assert [item.bbox for item in sample.phrases[1].objects] == [(20, 4, 25, 9), (30, 4, 35, 9)]


def test_mdetr_faults(tmp_path: Path) -> None:
    home = write_mdetr(tmp_path)
    path = home / "finetune_refcoco_val.json"
    content = json.loads(path.read_text())
    content["images"] += [
        {"id": 12, "caption": "x"},
        5,
        {**content["images"][0], "id": 13, "caption": "", "height": 40},
    ]
    content["annotations"] += [{"image_id": "x"}, {**content["annotations"][0], "image_id": 11, "iscrowd": 1}]
    table(path, content)
    dataset = open_dataset(tmp_path, "refcoco")
    assert len(dataset) == 2
    assert [len(sample.objects) for sample in dataset] == [1, 1]  # crowds are left out
    assert len(dataset.problems) == 4
    content["annotations"] = 5
    table(path, content)
    with pytest.raises(DataError, match='"annotations" is missing or not a list'):
        open_dataset(tmp_path, "refcoco")


def test_seqtr(tmp_path: Path) -> None:
    dataset = open_dataset(write_seqtr(tmp_path))
    assert (dataset.name, dataset.split_by) == ("refcoco+", "seqtr-unc")
    assert [(sample.text, sample.split) for sample in dataset] == [
        ("the ball", "train"), ("red one", "train"), ("round", "val"),
    ]  # fmt: skip
    assert all((sample.mask() == block(4, 4)).all() for sample in dataset)
    assert len({sample.id for sample in dataset}) == 3


def test_simrec(tmp_path: Path) -> None:
    write_simrec(tmp_path)
    dataset = open_dataset(tmp_path / "anns")
    assert (dataset.name, dataset.split_by) == ("refcoco", "simrec")
    assert [sample.id for sample in dataset] == ["77_0", "77_1", "77_2"]
    assert [(s.ref_id, s.objects[0].category, s.split) for s in dataset] == [
        (77, "sports ball", "train"), (77, "sports ball", "train"), (77, "sports ball", "testA"),
    ]  # fmt: skip
    assert dataset[0].size == (40, 60)  # from the picture
    assert (dataset[0].mask() == block(4, 4)).all()
    assert len(open_dataset(tmp_path, split="testA")) == 1
    (tmp_path / "masks" / "refcoco" / "77.npy").unlink()
    with pytest.raises(DataError, match="the mask's file is missing"):
        open_dataset(tmp_path)


def test_split_lists_faults(tmp_path: Path) -> None:
    root = write_seqtr(tmp_path)
    path = root / "refcocoplus-unc" / "instances.json"
    content = json.loads(path.read_text())
    good = content["val"][0]
    content["val"] += [
        {**good, "mask": {"size": [4, 4], "counts": [16]}},
        {**good, "bbox": [1, 2, 3]},
        {**good, "expressions": []},
        {**good, "expressions": ["fine", 7]},
        {**good, "image_id": 99},
    ]
    content["extra"] = 5
    table(path, content)
    dataset = open_dataset(root, split="val")
    assert [sample.text for sample in dataset] == ["round", "fine"]
    assert dataset.problem_counts() == {"bad_record": 5, "missing_picture": 1}


def test_parquet_keeps_its_pictures(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.split_by, len(dataset)) == ("refcoco", "parquet", 6)
    for index, sample in enumerate(dataset):
        pixels = np.random.default_rng(index // 2 + 1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        assert (np.asarray(sample.read_image()) == pixels).all()
        assert sample.image_id == index // 2 + 1
        assert (sample.mask() == block(4, 4)).all()
    assert [sample.text for sample in dataset][:2] == ["the ball", "red one"]
    assert dataset.by_picture() == {1: [0, 1], 2: [2, 3], 3: [4, 5]}


def _rows(layout: str) -> list[dict[str, Any]]:
    image = {"bytes": picture_bytes(1), "path": None}
    info = {"height": 40, "width": 60, "file_name": "COCO_train2014_000000000001.jpg", "id": 1}
    about = {"id": 5, "image_id": 1, "bbox": [4.0, 4.0, 10.0, 10.0], "segmentation": [square(4, 4, 10)], "iscrowd": 0}
    texts = [{"raw": "The Ball", "sent": "the ball", "sent_id": 31, "tokens": ["the", "ball"]}]
    ref = {"ref_id": 9, "ann_id": 5, "image_id": 1, "split": "testA", "sentences": texts}
    if layout == "pictures":
        sample = {"id": 9, "image_id": 1, "category": "ball", "sentences": ["The Ball"], "bbox": about["bbox"]}
        return [
            {"image": image, "image_id": 1, "file_name": "x", "samples": [{**sample, "mask": rle.encode(block(4, 4))}]}
        ]
    if layout == "benchmark":
        return [{"image": image, "image_info": info, "ref_list": [{"ann_info": about, "ref_info": ref}]}]
    return [
        {
            **ref, "sentences": str(texts), "anns": json.dumps([about]), "image_info": json.dumps(info),
            "image_path": "coco/train2014/COCO_train2014_000000000001.jpg", "bbox": [4.0, 4.0, 14.0, 14.0],
        }
    ]  # fmt: skip


@pytest.mark.parametrize("layout", ["pictures", "benchmark", "referents"])
def test_parquet_layouts(tmp_path: Path, layout: str) -> None:
    parquet(tmp_path / "refcoco_unc_testA-00000-of-00001-0fb54818acaacb16.parquet", _rows(layout))
    picture(tmp_path / "train2014" / "COCO_train2014_000000000001.jpg", 1)
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.split_by) == ("refcoco", "parquet-unc")
    (sample,) = dataset
    assert (sample.text, sample.split, sample.image_id, sample.ref_id) == ("The Ball", "testA", 1, 9)
    assert (sample.mask() == block(4, 4)).all()
    assert sample.read_image().size == (60, 40)


def test_parquet_faults(tmp_path: Path) -> None:
    home = write_parquet(tmp_path)
    path = home / "data" / "val-00000-of-00001.parquet"
    rows = [
        {"image": {"bytes": b"junk"}, "answer": ["x"], "bbox": [1.0, 2.0, 3.0, 4.0]},
        {"image": {"bytes": picture_bytes(1)}, "answer": [""], "bbox": [1.0, 2.0, 3.0, 4.0]},
        {"image": {"bytes": picture_bytes(1)}, "answer": ["x"], "bbox": [1.0, 2.0, 3.0]},
        {"image": {"bytes": picture_bytes(1)}, "answer": ["x"], "bbox": [1.0, 2.0, 3.0, 4.0]},
    ]
    parquet(path, rows)
    dataset = open_dataset(tmp_path)
    assert [(problem.where, problem.lost) for problem in dataset.problems] == [
        (f"{path.name} row {number}", 1) for number in range(3)
    ]
    assert dataset[0].objects[0].segmentation is None
    with pytest.raises(ImageError, match="row 40"):
        ParquetPicture(path, 40).read()
    parquet(path, [{"a": 1}])
    with pytest.raises(DataError, match="no known layout"):
        open_dataset(tmp_path)
    path.write_bytes(b"junk")
    with pytest.raises(DataError, match="not a readable parquet file"):
        open_dataset(tmp_path)


def test_mdetr_merged_boxes_are_a_form_of_their_own(tmp_path: Path) -> None:
    home = write_mdetr(tmp_path)
    path = home / "final_flickr_separateGT_train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [content["annotations"][0], {**content["annotations"][1], "bbox": [20, 4, 15, 5]}]
    table(home / "final_flickr_mergedGT_train.json", content)
    apart, merged = (open_dataset(tmp_path, "flickr30k", split_by=maker) for maker in ("mdetr", "mdetr-merged"))
    assert (len(apart), len(merged)) == (1, 1)
    assert [len(phrase.objects) for phrase in apart[0].phrases] == [1, 2]
    assert [len(phrase.objects) for phrase in merged[0].phrases] == [1, 1]
    assert merged[0].phrases[1].objects[0].bbox == (20, 4, 35, 9)


def test_parquet_pages_that_are_damaged_are_told(tmp_path: Path) -> None:
    home = write_parquet(tmp_path)
    (path,) = home.rglob("*.parquet")
    whole, faults = path.read_bytes(), 0
    for place in range(40, len(whole) - 400, 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            list(open_dataset(home))
        except DataError as error:
            faults += "get it again" in str(error)
    assert faults
