"""Pictures to be asked about, and what a folder of answers must hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from refseg.apps.batch.rows import read_answers
from refseg.errors import RefsegError
from refseg.inference.segmentation import Segmentation

TEXTS = ("a dog", "the red ball on the left")


def write_pictures(folder: Path, count: int) -> None:
    """p0.png, p1.png, ... of noise, in two sizes."""
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 255, (20 + index % 2, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{index}.png")


def pairs(out: Path) -> Counter[tuple[str, str]]:
    """How often each picture and expression stands in a folder of answers."""
    return Counter((Path(image).name, text) for image, text, _ in read_answers(out))


def wanted(count: int, *more: str) -> Counter[tuple[str, str]]:
    """Each once."""
    names = [*(f"p{index}.png" for index in range(count)), *more]
    return Counter((name, text) for name in names for text in TEXTS)


def alike(one: Segmentation | RefsegError, other: Segmentation) -> bool:
    """Whether two answers differ by no more than sums in another order do, which a batch of another size brings."""
    return (
        isinstance(one, Segmentation)
        and (one.text, one.no_target, one.mask.shape) == (other.text, other.no_target, other.mask.shape)
        and abs(one.no_target_score - other.no_target_score) < 1e-4
        and abs(one.score - other.score) < 1e-2
        and float((one.mask != other.mask).mean()) < 0.02
    )
