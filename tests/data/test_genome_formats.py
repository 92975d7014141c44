"""Visual Genome's regions and PhraseCut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refseg.data import open_dataset
from refseg.errors import DataError
from tests.support.format_files import block, table, write_phrasecut, write_visual_genome


def test_regions(tmp_path: Path) -> None:
    write_visual_genome(tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.name == "visual-genome"
    assert [(s.id, s.text, s.image_id, s.split) for s in dataset] == [
        ("100_0", "a red ball", 5, "all"),
        ("101_0", "the corner", 5, "all"),
    ]
    assert dataset[1].objects[0].bbox == (55, 35, 60, 40)  # cut at the border
    assert dataset[0].image_path == tmp_path / "visual-genome" / "VG_100K" / "5.jpg"
    assert dataset.problems == ()


def test_bad_regions_are_all_named(tmp_path: Path) -> None:
    home = write_visual_genome(tmp_path)
    content = json.loads((home / "region_descriptions.json").read_text())
    good = content[0]["regions"][0]
    content[0]["regions"] += [
        {**good, "region_id": 7, "phrase": " "},
        {**good, "region_id": 8, "x": 90},
        {**good, "region_id": "x"},
        {**good, "region_id": 9, "width": float("nan")},
        5,
    ]
    content += [{"id": 44, "regions": [good, good]}, {"regions": []}]
    table(home / "region_descriptions.json", content)
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 2
    assert [problem.where.split("json")[1] for problem in dataset.problems] == [
        *(f"[0] regions[{place}]" for place in range(2, 7)),
        "[2]",
        "[3]",
    ]
    assert sum(problem.lost for problem in dataset.problems) == 8


def test_phrasecut(tmp_path: Path) -> None:
    write_phrasecut(tmp_path)
    sample = open_dataset(tmp_path, split="val")[0]
    assert (sample.id, sample.text, sample.kind, sample.split) == ("5__7", "red balls", "attribute", "val")
    assert [item.category for item in sample.objects] == ["ball", "ball"]
    assert (sample.objects[0].mask(sample.size) == block(4, 4)).all()
    assert len(sample.objects[1].segmentation) == 2  # type: ignore[arg-type]
    assert len(open_dataset(tmp_path)) == 2
    with pytest.raises(DataError, match="no split 'train'"):
        open_dataset(tmp_path, split="train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 6}, "picture 6 is not among"),
        ({"Polygons": []}, "2 instance_boxes, but 0 entries"),
        ({"Polygons": [[[[1, 2]]], [[[1, 2], [3, 4], [5, 9]]]]}, "instance 0 has no usable outline"),
        ({"instance_boxes": [[1, 2, -3, 4], [1, 2, 3, 4]]}, "negative width"),
        ({"phrase": 5}, "phrase is text"),
    ],
)
def test_a_bad_phrase_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    home = write_phrasecut(tmp_path)
    content = json.loads((home / "refer_val.json").read_text())
    table(home / "refer_val.json", [{**content[0], **change}, content[0]])
    dataset = open_dataset(tmp_path, split="val")
    assert len(dataset) == 1
    assert words in dataset.problems[0].message
    assert dataset.problems[0].where == "refer_val.json[0]"


def test_phrasecut_numbers_are_unique_over_splits(tmp_path: Path) -> None:
    write_phrasecut(tmp_path)
    dataset = open_dataset(tmp_path)
    assert len({sample.ref_id for sample in dataset}) == len(dataset)
    numbers = [item.ann_id for sample in dataset for item in sample.objects]
    assert len(set(numbers)) == len(numbers)
    (alone,) = open_dataset(tmp_path, split="miniv")
    assert alone == next(sample for sample in dataset if sample.split == "miniv")
