"""Statistics of a data set, counted by hand on small ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refseg.cli.main import main
from refseg.data import open_dataset
from refseg.data.stats import describe, words_of
from tests.support.format_files import write_davis, write_phrasecut, write_visual_genome


def test_words() -> None:
    assert words_of("The man's T-shirt, 2nd from left... - (blue)!") == [
        "the",
        "man's",
        "t-shirt",
        "2nd",
        "from",
        "left",
        "blue",
    ]
    assert words_of("??") == []


def test_refcoco(refcoco: Path) -> None:
    stats = describe(open_dataset(refcoco))
    assert (stats.sentences, stats.pictures, stats.objects, stats.referents) == (4, 2, 2, 2)
    # "The left Ball", "red one", "ball on the right", "it"
    assert stats.words.histogram == {"1": 1, "2": 1, "3": 1, "4": 1}
    assert (stats.words.mean, stats.words.median, stats.words.largest) == (2.5, 2.5, 4)
    assert stats.vocabulary == 8
    assert stats.once == 6
    assert stats.frequent_words["the"] == stats.frequent_words["ball"] == 2
    assert stats.targets.histogram == {"1": 4}
    assert stats.splits == {"train": 2, "val": 2}
    assert stats.categories == {"ball": 2}
    assert stats.sentences_per_picture.histogram == {"2": 2}
    # a square of 10 x 10 and a block of 20 x 10 in pictures of 40 x 60
    assert stats.area.smallest == pytest.approx(100 / 2400)
    assert stats.area.largest == pytest.approx(200 / 2400)
    assert stats.area.histogram == {"0.01-0.05": 2, "0.05-0.1": 2}


def test_grefcoco(grefcoco: Path) -> None:
    stats = describe(open_dataset(grefcoco))
    assert stats.targets.histogram == {"0": 1, "1": 2, "2": 1}
    assert stats.kinds == {"location": 1, "group": 1, "no_target": 1}
    assert stats.problems == {"no_sentences": 1, "crowd": 1, "bad_polygon": 1}


def test_boxes_polygons_and_videos(tmp_path: Path) -> None:
    regions = describe(open_dataset(write_visual_genome(tmp_path / "a")))
    assert regions.boxes_only == 2
    assert regions.area.smallest == pytest.approx(25 / 2400)
    phrases = describe(open_dataset(write_phrasecut(tmp_path / "b"), split="val"))
    # a square of 100 and two triangles of 50 and 40
    assert phrases.area.mean == pytest.approx((100 + 50 + 40) / 2400)
    clips = describe(open_dataset(write_davis(tmp_path / "c")))
    assert (clips.sentences, clips.pictures, clips.objects) == (12, 2, 3)
    assert clips.kinds["annotator 1, first frame"] == 3


def test_the_command(refcoco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", str(refcoco), "--split", "val"]) == 0
    text = capsys.readouterr().out
    for words in ("expressions", "words an expression: mean 2.5", "categories: ball 1", "area of the targets"):
        assert words in text
    out = tmp_path / "stats.json"
    assert main(["data", "stats", str(refcoco), "--json", str(out)]) == 0
    capsys.readouterr()
    assert main(["data", "stats", str(refcoco), "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out) == json.loads(out.read_text()) == describe(open_dataset(refcoco)).to_dict()
    )
    assert main(["data", "stats", str(refcoco / "gone")]) == 2
