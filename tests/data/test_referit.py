"""RefCLEF: UNC's format with several encodings an object and shared test splits; text_objseg's with .mat masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refseg.data import open_dataset, rle
from refseg.data.masks import MaskFile
from refseg.errors import DataError
from tests.support.format_files import block, picture, table, write_referit
from tests.support.published_files import annotation, referent, sentence, write_dataset


@pytest.fixture
def refclef(tmp_path: Path) -> Path:
    """UNC's format: RLE in lists, pictures in the SAIAPR folders, a record of two test splits."""
    refs = [
        referent(0, 1, 100, "train", [sentence(0, "the tree")]),
        referent(1, 2, 101, "testAB", [sentence(1, "the sky")]),
        referent(2, 2, 102, "testC", [sentence(2, "the sea")]),
    ]
    parts = [rle.encode(block(4, 4)), rle.encode(block(20, 30))]
    annotations = [
        annotation(100, 1, segmentation=parts),
        annotation(101, 2, segmentation=parts[:1]),
        annotation(102, 2, segmentation=parts[1:]),
    ]
    home = write_dataset(tmp_path, "refclef", "refs(unc).p", refs, annotations)
    (home / "refs(berkeley).p").write_bytes((home / "refs(unc).p").read_bytes())
    picture(tmp_path / "images" / "saiapr_tc-12" / "00" / "images" / "1.jpg", 1)
    picture(tmp_path / "images" / "saiapr_tc-12" / "2.jpg", 2)
    # a COCO picture of the same number is another picture
    picture(tmp_path / "images" / "train2014" / "COCO_train2014_000000000001.jpg", 3)
    instances = home / "instances.json"
    instances.write_text(instances.read_text().replace("COCO_train2014_00000000000", ""))
    return tmp_path


def test_unc(refclef: Path) -> None:
    dataset = open_dataset(refclef)
    assert (dataset.name, dataset.split_by, len(dataset)) == ("refclef", "unc", 3)
    assert (dataset[0].mask() == (block(4, 4) | block(20, 30))).all()
    assert dataset[0].image_path == refclef / "images" / "saiapr_tc-12" / "00" / "images" / "1.jpg"
    assert dataset[1].image_path == refclef / "images" / "saiapr_tc-12" / "2.jpg"
    assert open_dataset(refclef, split_by="berkeley").split_by == "berkeley"


@pytest.mark.parametrize(
    ("split", "texts"),
    [
        ("testA", ["the sky"]),
        ("testB", ["the sky"]),
        ("testC", ["the sea"]),
        ("test", ["the sky", "the sea"]),
        ("testAB", ["the sky"]),
        ("train", ["the tree"]),
    ],
)
def test_splits_that_share_records(refclef: Path, split: str, texts: list[str]) -> None:
    assert [sample.text for sample in open_dataset(refclef, split=split)] == texts


def test_mat_masks(tmp_path: Path) -> None:
    write_referit(tmp_path)
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.split_by) == ("refclef", "referit")
    assert [(s.id, s.text, s.split) for s in dataset] == [
        ("25_1_0", "the tree", "train"),
        ("25_1_1", "big tree left", "train"),
        ("26_2_0", "sky", "test"),
    ]
    assert (dataset[0].mask() == block(4, 4)).all()  # 0 is the region
    assert (dataset[2].mask() == block(20, 30)).all()
    assert [sample.id for sample in open_dataset(tmp_path, split="trainval")] == ["25_1_0", "25_1_1", "26_2_0"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    home = write_referit(tmp_path)
    (home / "mask" / "25_1.mat").unlink()
    (home / "images" / "26.jpg").unlink()
    table(home / "referit_query_train.json", {"25_1": ["the tree", ""], "30": ["x"], "31_1": ["y"]})
    dataset = open_dataset(tmp_path)
    assert dataset.problem_counts() == {"bad_record": 3, "no_outline": 1, "missing_picture": 1}
    assert [sample.text for sample in dataset] == ["the tree"]
    with pytest.raises(DataError, match="only its box"):
        dataset[0].mask()
    # without the picture, its size is the recorded one
    unseen = open_dataset(tmp_path, split="test", need_pictures=False)[0]
    assert (unseen.size, unseen.image_path) == ((40, 60), None)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.mat", b"junk" * 40, "cannot be read"),
        ("a.npy", b"\x93NUMPY\x01\x00junk", "cannot be read"),
        ("a.png", b"\x89PNG\r\n\x1a\njunk", "cannot be read"),
        ("a.txt", b"", "a mask is read from"),
        ("gone.png", None, "missing"),
    ],
)
def test_damaged_mask_files(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        MaskFile(tmp_path / name).read((4, 4))


def test_mask_files_hold_one_plane_of_the_pictures_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(4))
    assert MaskFile(tmp_path / "a.npy", None).read((4, 4)).sum() == 4
    with pytest.raises(DataError, match=r"the mask is \(4, 4\)"):
        MaskFile(tmp_path / "a.npy").read((4, 5))
    np.save(tmp_path / "b.npy", np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match="one plane"):
        MaskFile(tmp_path / "b.npy").read((2, 2))
    np.save(tmp_path / "c.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        MaskFile(tmp_path / "c.npy").read((1, 1))


def test_boxes_hold_their_last_row_and_column(tmp_path: Path) -> None:
    write_referit(tmp_path)
    for sample in open_dataset(tmp_path):
        rows, columns = np.nonzero(sample.mask())
        assert sample.objects[0].bbox == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_regions_of_the_first_release(tmp_path: Path) -> None:
    home = write_referit(tmp_path)
    table(home / "referit_bbox.json", {"25_1.png": [4, 4, 13, 13], "26_2.png": [30, 20, 39, 29]})
    table(home / "referit_query_test.json", {"26_2.png": ["sky"]})
    (sample,) = open_dataset(tmp_path, split="test")
    assert (sample.id, sample.objects[0].bbox, sample.mask().sum()) == ("26_2_0", (30, 20, 40, 30), 100)


def test_a_region_with_an_endless_number_is_named(tmp_path: Path) -> None:
    home = write_referit(tmp_path)
    name = "26_" + "9" * 30
    table(home / "referit_query_test.json", {"26_2": ["sky"], name: ["x"]})
    table(home / "referit_bbox.json", {"25_1": [4, 4, 13, 13], "26_2": [30, 20, 39, 29], name: [0, 0, 1, 1]})
    dataset = open_dataset(tmp_path, split="test")
    assert len(dataset) == 1
    assert "region is an integer" in dataset.problems[0].message
