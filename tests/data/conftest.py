"""Small data sets in the published files' format, written anew for each test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refseg.data import rle
from tests.support.published_files import SIZE, annotation, referent, sentence, square, write_dataset, write_pictures


@pytest.fixture
def refcoco(tmp_path: Path) -> Path:
    """A root with refcoco/: two pictures, a polygon and an encoded object, four sentences in two splits."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[20:30, 30:50] = True
    write_pictures(tmp_path, [1, 2])
    write_dataset(
        tmp_path,
        "refcoco",
        "refs(unc).p",
        [
            referent(7, 1, 100, "train", [sentence(0, "The left Ball"), sentence(1, "red one")]),
            referent(8, 2, 101, "val", [sentence(2, "ball on the right"), sentence(3, "it")]),
        ],
        [annotation(100, 1), annotation(101, 2, bbox=[30, 20, 20, 10], segmentation=rle.encode(mask))],
    )
    return tmp_path


@pytest.fixture
def grefcoco(tmp_path: Path) -> Path:
    """A root with grefcoco/: one, several and no target, a crowd, a referent without sentences, kinds."""
    write_pictures(tmp_path, [1, 2])
    write_dataset(
        tmp_path,
        "grefcoco",
        "grefs(unc).json",
        [
            referent(0, 1, [100], "train", [sentence(0, "left ball", kind="location")]),
            referent(1, 1, [100, 101, 102], "train", [sentence(1, "all balls", kind="group")]),
            referent(2, 1, [-1], "train", [sentence(2, "the blue cat", kind="no_target")]),
            referent(3, 2, [103], "val", [sentence(3, "the ball")]),
            referent(4, 2, [103], "val", []),
        ],
        [
            annotation(100, 1),
            annotation(101, 1, left=30),
            annotation(102, 1, iscrowd=1),
            annotation(103, 2, segmentation=[square(2, 2, 8), [1.0, 2.0, 3.0, 4.0]]),
        ],
    )
    return tmp_path
