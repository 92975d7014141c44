"""Flickr30k Entities: captions with phrases, phrases alone, boxes from 0, damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest

from refseg.data import open_dataset
from refseg.data.formats.flickr30k import read_boxes, read_captions
from refseg.data.sample import Problem
from refseg.errors import DataError
from tests.support.format_files import text, write_flickr30k


def test_captions_with_their_phrases(tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    train = open_dataset(tmp_path, "flickr30k", "train")
    first, second = train
    assert first.text == "A group of friends playing cards and trying to bluff each other ."
    assert [(p.text, p.kinds, p.chain, len(p.objects)) for p in first.phrases] == [
        ("A group of friends", ("people",), 1, 2),
        ("cards", ("other",), 2, 1),
        ("each other", ("notvisual",), -1, 0),
    ]
    for sample in train:
        for phrase in sample.phrases:
            assert sample.text[phrase.start : phrase.stop] == phrase.text
    # published boxes are counted from 1 and both ends are inside
    assert first.phrases[0].objects[0].bbox == (0, 0, 10, 20)
    assert first.phrases[0].objects[1].bbox == (20, 5, 30, 15)
    assert second.phrases[0].kinds == ("people", "clothing")
    assert (first.kind, second.kind) == (None, "unrelated")
    assert first.image_id == 36979
    assert first.size == (40, 60)
    # a box with two names belongs to both chains
    assert first.phrases[1].objects[0].bbox == first.phrases[0].objects[1].bbox


def test_phrases_alone(tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    phrases = open_dataset(tmp_path, "flickr30k-phrases", "train")
    assert [(sample.text, len(sample.objects)) for sample in phrases] == [
        ("A group of friends", 2),
        ("cards", 1),
        ("Several men in hats", 2),
    ]
    assert len({sample.id for sample in phrases}) == 3
    assert phrases.problem_counts() == {"no_box": 1}
    assert "2 phrases mean a scene" in str(phrases.problems[0])


def test_objects_have_boxes_but_no_masks(tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    sample = open_dataset(tmp_path, "flickr30k", "train")[0]
    assert sample.boxes().shape == (3, 4)
    with pytest.raises(DataError, match="only its box is annotated"):
        sample.mask()


def test_every_fault_is_named(tmp_path: Path) -> None:
    home = write_flickr30k(tmp_path)
    text(home / "Sentences" / "1.txt", "[/EN#1/people A man] sits [broken here\n[/EN#1/people A man] stands .\n")
    box = "<bndbox><xmin>9</xmin><ymin>1</ymin><xmax>2</xmax><ymax>x</ymax></bndbox>"
    size = "<size><width>60</width><height>40</height></size>"
    text(home / "Annotations" / "1.xml", f"<annotation>{size}<object><name>1</name>{box}</object></annotation>")
    problems: list[Problem] = []
    assert [caption.text for caption in read_captions(home / "Sentences" / "1.txt", problems)] == ["A man stands ."]
    assert read_boxes(home / "Annotations" / "1.xml", problems).chains == {}
    assert [problem.where for problem in problems] == ["1.txt:1", "1.xml object[0]"]
    text(home / "train.txt", "36979\nnot a number\n99\n")
    train = open_dataset(tmp_path, "flickr30k", "train")
    assert len(train) == 2
    assert {problem.where for problem in train.problems} == {"train.txt:2", "picture 99"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<annotation><size><width>60</width></size></annotation>", "size is not usable"),
        ("<annotation>", "not readable XML"),
        ('<!DOCTYPE a [<!ENTITY b "ha">]><annotation>&b;</annotation>', "EntitiesForbidden"),
    ],
)
def test_bad_xml_is_refused(tmp_path: Path, content: str, words: str) -> None:
    text(tmp_path / "1.xml", content)
    with pytest.raises(DataError, match=words):
        read_boxes(tmp_path / "1.xml", [])
