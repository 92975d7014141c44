"""Labels: overlaps resolved as the rules say, maps, COCO, Detections, lists of phrases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.apps.label.labels import (
    LabelConfig,
    LabelledImage,
    LabelledInstance,
    label,
    palette_of,
    read_phrases,
    resolve,
)
from refseg.data.rle import decode
from refseg.errors import ConfigError, RefsegError
from refseg.inference.segmentation import Instance
from tests.support.clips import Redness, segmenter_of, square


def found(
    score: float, phrase: int, *spans: tuple[int, int, int, int], size: tuple[int, int] = (20, 20)
) -> LabelledInstance:
    """Spans are top, left, bottom, right."""
    mask = np.zeros(size, dtype=bool)
    for top, left, bottom, right in spans:
        mask[top:bottom, left:right] = True
    return LabelledInstance(Instance.from_mask(mask, score, str(phrase)), phrase)


def drawn(entries: list[LabelledInstance]) -> np.ndarray:
    return LabelledImage(["a", "b", "c", "d"], (20, 20), tuple(entries)).semantic_map()


def test_one_thing_found_by_two_phrases_is_labelled_once_by_the_better() -> None:
    kept = resolve([found(0.6, 0, (0, 0, 10, 10)), found(0.9, 1, (0, 0, 10, 9))])
    assert [entry.phrase for entry in kept] == [1]


def test_of_equal_scores_the_phrase_that_more_surely_means_something_counts() -> None:
    dog, hot_dog = found(0.6, 0, (0, 0, 10, 10)), found(0.6, 1, (0, 0, 10, 10))
    for entries in ([dog, hot_dog], [hot_dog, dog]):
        told = [replace(entry, no_target_score=0.2 - 0.1 * entry.phrase) for entry in entries]
        assert [entry.phrase for entry in resolve(told)] == [1]


def test_higher_score_takes_the_pixels_of_a_partial_overlap() -> None:
    kept = resolve([found(0.6, 0, (0, 0, 10, 10)), found(0.9, 1, (0, 7, 10, 17))])
    assert [entry.phrase for entry in kept] == [1, 0]
    labels = drawn(kept)
    assert (labels[:10, 7:17] == 2).all()
    assert (labels[:10, :7] == 1).all()
    # The masks are what the map shows; boxes stay the whole thing's.
    assert kept[1].instance.region.sum() == 70
    assert kept[1].instance.box.tolist() == [0, 0, 10, 10]


def test_part_lies_on_its_whole_whatever_the_scores() -> None:
    labels = drawn(resolve([found(0.9, 0, (0, 0, 20, 20)), found(0.3, 1, (5, 5, 10, 10)), found(0.2, 2, (6, 6, 8, 8))]))
    assert labels[0, 0] == 1
    assert labels[5, 5] == 2
    assert labels[7, 7] == 3


def test_what_is_mostly_covered_is_dropped_and_gives_its_pixels_back() -> None:
    weak, middle, best = found(0.3, 0, (0, 0, 10, 10)), found(0.5, 1, (0, 4, 10, 18)), found(0.9, 2, (0, 8, 10, 20))
    # The middle one keeps 4 of 14 columns: too little. Then the weak one is whole again.
    labels = drawn(resolve([weak, middle, best]))
    assert (labels[:10, :10] == np.where(np.arange(10) < 8, 1, 3)).all()
    assert not (labels == 2).any()


def test_resolved_masks_never_overlap() -> None:
    rng = np.random.default_rng(0)
    entries = []
    for number in range(12):
        top, left = rng.integers(0, 14, 2).tolist()
        high, wide = rng.integers(3, 12, 2).tolist()
        entries.append(found(float(rng.uniform()), number % 4, (top, left, min(20, top + high), min(20, left + wide))))
    kept = resolve(entries)
    assert 1 < len(kept) <= 12
    assert sum(entry.instance.mask.astype(int) for entry in kept).max() == 1
    assert [entry.instance.score for entry in kept] == sorted((entry.instance.score for entry in kept), reverse=True)
    assert resolve([]) == []


def test_maps_coco_and_detections() -> None:
    image = LabelledImage(
        ["cat", "dog"],
        (20, 20),
        (found(0.9, 1, (0, 0, 5, 5)), found(0.8, 1, (10, 10, 15, 20)), found(0.7, 0, (6, 0, 8, 8))),
    )
    assert set(np.unique(image.semantic_map())) == {0, 1, 2}
    assert image.instance_map()[12, 12] == 2
    annotations = image.to_coco(image_id=7, first_id=3)
    assert [entry["id"] for entry in annotations] == [3, 4, 5]
    assert [entry["category_id"] for entry in annotations] == [2, 2, 1]
    assert annotations[1]["bbox"] == [10, 10, 10, 5]
    assert np.array_equal(decode(annotations[1]["segmentation"]), image.instance_map() == 2)
    pytest.importorskip("supervision")
    detections = image.to_supervision()
    assert detections.data["class_name"].tolist() == ["dog", "dog", "cat"]
    assert detections.class_id.tolist() == [1, 1, 0]
    assert len(LabelledImage(["a"], (5, 5), ()).to_supervision()) == 0


def test_label_asks_for_each_phrase_with_the_template() -> None:
    segmenter = segmenter_of(Redness())
    asked: list[str] = []
    read = segmenter.tokenizer
    segmenter.tokenizer = lambda texts: (asked.extend(texts), read(texts))[1]  # type: ignore[func-returns-value]
    made = label(segmenter, square((20, 24)), ["red", "thing"], LabelConfig(template="every {}", at_once=1))
    assert asked == ["every red", "every thing"]
    # Both phrases find the one thing: it is labelled once.
    assert len(made.instances) == 1
    assert made.instances[0].instance.region.sum() == 256
    assert made.instances[0].instance.label == "red"
    nothing = label(segmenter, Image.new("RGB", (64, 48)), ["red"])
    assert nothing.instances == ()
    assert not nothing.semantic_map().any()
    with pytest.raises(RefsegError, match="no phrase"):
        label(segmenter, square((20, 24)), [])


def test_phrases_are_read_and_bad_lists_told(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("dog\n# animals\n\n red  car \ndog\n", encoding="utf-8")
    assert read_phrases(path) == ["dog", "red car"]
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "program").write_bytes(b"\x7fELF\xff\xfe\x80")
    for name, message in (
        ("absent.txt", "no such file"),
        ("empty.txt", "no phrase in it"),
        ("program", "not a text file in UTF-8"),
    ):
        with pytest.raises(RefsegError, match=message):
            read_phrases(tmp_path / name)
    with pytest.raises(ConfigError, match="stands once where the phrase is put"):
        LabelConfig(template="all")


def test_palette_tells_neighbours_apart() -> None:
    colours = np.array(palette_of(300)).reshape(-1, 3)
    assert len(colours) == 256
    assert colours[0].tolist() == [0, 0, 0]
    assert np.abs(np.diff(colours[1:40], axis=0)).sum(axis=1).min() > 60
