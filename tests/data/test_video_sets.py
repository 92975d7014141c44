"""Ref-YouTube-VOS, MeViS and Ref-DAVIS17: clips, frames as samples, masks by palette and by encoding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refseg.data import open_dataset, rle
from refseg.data.formats.clips import Clip
from refseg.data.sample import Problem
from refseg.errors import DataError
from refseg.evaluation.score import score_files
from refseg.metrics.video import region_similarity
from tests.support.format_files import block, table, write_davis, write_mevis, write_youtube


def open_clips(root: Path, split: str | None = None) -> tuple[list[Clip], list[Problem]]:
    dataset = open_dataset(root, split=split)
    return dataset.samples.clips, list(dataset.problems)


def test_youtube(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    clips, problems = open_clips(tmp_path, split="train")
    assert problems == []
    dog, cat = clips
    assert (dog.id, dog.text, dog.category, dog.size, len(dog.frames)) == ("abc_0", "a dog runs", "dog", (40, 60), 3)
    target = dog.target()
    assert target.shape == (3, 40, 60)
    assert all((target[frame] == block(4, 4 + 10 * frame)).all() for frame in range(3))
    assert [int(mask.sum()) for mask in cat.target()] == [0, 100, 100]


def test_frames_are_samples(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    dataset = open_dataset(tmp_path, split="train")
    assert [sample.id for sample in dataset][:4] == ["abc_0/00000", "abc_0/00005", "abc_0/00010", "abc_1/00000"]
    assert [sample.no_target for sample in dataset] == [False, False, False, True, False, False]
    assert dataset[1].objects[0].bbox == (14, 4, 24, 14)
    assert dataset.texts() == [sample.text for sample in dataset]
    # both sentences about a frame share its picture, without a mask being read
    groups = dataset.by_picture()
    assert list(groups.values()) == [[0, 3], [1, 4], [2, 5]]
    assert all(dataset[index].image_id == key for key, indices in groups.items() for index in indices)


def test_hidden_masks_are_not_empty_masks(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    hidden = open_dataset(tmp_path, split="valid")
    assert hidden.problem_counts() == {"no_masks": 1}
    assert (hidden[0].no_target, hidden[0].objects) == (False, ())
    clips, _ = open_clips(tmp_path, split="valid")
    with pytest.raises(DataError, match="not published"):
        clips[0].target()


def test_mevis(tmp_path: Path) -> None:
    write_mevis(tmp_path)
    clips, problems = open_clips(tmp_path)
    assert problems == []
    birds, none = clips
    assert birds.objects == (0, 1)
    assert (birds.target()[0] == (block(4, 4) | block(20, 30))).all()
    assert (birds.target()[1] == block(20, 40)).all()
    assert not none.target().any()
    assert [sample.no_target for sample in open_dataset(tmp_path)] == [False, False, True, True]


def test_mevis_without_some_frames_keeps_masks_in_step(tmp_path: Path) -> None:
    home = write_mevis(tmp_path)
    (home / "valid_u" / "JPEGImages" / "v1" / "00000.jpg").unlink()
    clips, problems = open_clips(tmp_path)
    assert "1 of 2 frames are not there, the first is 00000" in str(problems[0])
    assert (clips[0].target()[0] == block(20, 40)).all()


def test_mevis_faults(tmp_path: Path) -> None:
    home = write_mevis(tmp_path) / "valid_u"
    masks = json.loads((home / "mask_dict.json").read_text())
    masks |= {"12": [{"size": [4, 4], "counts": "junk!"}], "x": [], "13": 5}
    table(home / "mask_dict.json", masks)
    content = json.loads((home / "meta_expressions.json").read_text())
    video = content["videos"]["v1"]
    video["expressions"] |= {
        "2": {"exp": "x", "obj_id": [1], "anno_id": [12]},
        "3": {"exp": "", "obj_id": [], "anno_id": []},
        "4": {"exp": "y", "obj_id": ["one"]},
    }
    content["videos"]["v2"] = {"frames": 5}
    table(home / "meta_expressions.json", content)
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 4
    assert dataset.problem_counts() == {"bad_record": 6, "unknown_object": 1}


def test_davis(tmp_path: Path) -> None:
    write_davis(tmp_path)
    clips, problems = open_clips(tmp_path, split="val")
    assert problems == []
    assert [(clip.objects, clip.kind) for clip in clips] == [
        ((number,), f"annotator {annotator}, {source}")
        for number in (1, 2)
        for annotator in (1, 2)
        for source in ("first frame", "full video")
    ]
    assert [clip.text for clip in clips][:4] == [f"a car, café {n}" for n in ("1", "1_full_video", "2", "2_full_video")]
    assert clips[4].category == "person"
    assert (clips[4].target()[1] == block(25, 30)).all()
    assert len({clip.id for clip in clips}) == 8


def test_davis_faults(tmp_path: Path) -> None:
    home = write_davis(tmp_path)
    texts = home / "davis_text_annotations"
    (texts / "Davis17_annot2.txt").unlink()
    (texts / "Davis17_annot1.txt").write_text('clasic-car 1 "misspelt"\nno number here\nbear 1 ""\n')
    clips, problems = open_clips(tmp_path)
    assert [(problem.kind, problem.where) for problem in problems] == [
        ("bad_record", "Davis17_annot1.txt:2"),
        ("bad_record", "Davis17_annot1.txt:3"),
        ("missing_file", "Davis17_annot2.txt"),
    ]
    assert "misspelt" in [clip.text for clip in clips if clip.video == "classic-car"]
    with pytest.raises(DataError, match="no split 'test'"):
        open_clips(tmp_path, split="test")


def test_frames_score_as_clips(tmp_path: Path) -> None:
    """Frame by frame predictions, written as any sample's, are joined to clips by their ids."""
    write_youtube(tmp_path)
    clip = open_clips(tmp_path, split="train")[0][0]
    target = clip.target()
    said = np.roll(target, 3, axis=2)
    lines: dict[str, list[str]] = {"said": [], "meant": []}
    for name, masks in (("said", said), ("meant", target)):
        for frame, mask in enumerate(masks):
            record = {"id": clip.sample(frame).id, "mask": rle.encode(mask), "no_target": False}
            lines[name].append(json.dumps(record))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines[name]) + "\n")
    score = score_files(tmp_path / "said.jsonl", tmp_path / "meant.jsonl", protocol="davis")
    wanted = region_similarity(said, target)[1:-1].mean()
    assert any(abs(value - wanted) < 1e-9 for value in score.values())
