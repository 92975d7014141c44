"""What needs no sentence: the mean IoU of always answering the picture's middle, or its largest annotated object.

    python examples/baselines.py DIR --dataset refcoco --split val --split testA --split testB

The second is an oracle: it is told the outlines of all objects that the data set's instances.json has. Where that file
holds little but what sentences are about, as in a small part of a data set, it says nothing. Sentences without target
count 0 here, as an answer is always given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import refseg
from refseg.data import open_dataset
from refseg.data.formats.coco import Instances, build_instance, read_instances

MIDDLE = 0.25  # of each side is left out at each edge


def middle(size: tuple[int, int]) -> NDArray[np.bool_]:
    """The middle quarter of a picture of (height, width)."""
    mask = np.zeros(size, dtype=bool)
    top, left = round(size[0] * MIDDLE), round(size[1] * MIDDLE)
    mask[top : size[0] - top, left : size[1] - left] = True
    return mask


def largest(instances: Instances, image_id: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The largest annotated object of a picture; nothing where none is annotated."""
    best = np.zeros(size, dtype=bool)
    for record in instances.annotations.values():
        if record["image_id"] == image_id:
            instance, _ = build_instance(instances, record)
            if instance.segmentation is not None and not instance.crowd:
                mask = instance.mask(size)
                best = mask if mask.sum() > best.sum() else best
    return best


def overlap(answer: NDArray[np.bool_], meant: NDArray[np.bool_]) -> float:
    """Intersection over union; 0 where both are empty."""
    union = int((answer | meant).sum())
    return int((answer & meant).sum()) / union if union else 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Print both numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of the data set, or the one above")
    parser.add_argument("--dataset", default="refcoco")
    parser.add_argument("--split", action="append", required=True, help="may be repeated")
    arguments = parser.parse_args(argv)
    centre, oracle = [], []
    for split in arguments.split:
        dataset = open_dataset(arguments.root, arguments.dataset, split)
        assert dataset.root is not None
        instances = read_instances(Path(dataset.root) / "instances.json")
        found: dict[int, NDArray[np.bool_]] = {}
        for sample in dataset:
            meant = sample.mask()
            if sample.image_id not in found:
                found[sample.image_id] = largest(instances, sample.image_id, sample.size)
            centre.append(overlap(middle(sample.size), meant))
            oracle.append(overlap(found[sample.image_id], meant))
    print(f"{len(centre)} sentences")
    print(f"always the middle quarter: mIoU {np.mean(centre):.3f}")
    print(f"always the largest annotated object: mIoU {np.mean(oracle):.3f}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except refseg.RefsegError as error:
        sys.exit(f"baselines: {error}")
