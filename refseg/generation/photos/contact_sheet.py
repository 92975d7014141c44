"""A contact sheet of expressions on their pictures, to see with one's own eyes whether they are true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from refseg.data.formats.coco import Instances, build_instance
from refseg.data.sample import Sample
from refseg.errors import DataError
from refseg.generation.photos.templates import Spoken
from refseg.generation.scenes.world import random_for
from refseg.inference.segmentation import Segmentation
from refseg.inference.visualize import contact_sheet, overlay


def templates_sheet(instances: Instances, spoken: Sequence[Spoken], count: int = 24, seed: int = 0) -> Image.Image:
    """`count` expressions of different pictures, the kinds in turn, each with its targets coloured; 6 columns."""
    rng = random_for("preview", seed)
    by_kind: dict[str, list[tuple[int, int]]] = {}
    for row, item in enumerate(spoken):
        for column, expression in enumerate(item.expressions):
            by_kind.setdefault(expression.kind, []).append((row, column))
    if not by_kind:
        raise DataError("there is no expression to show")
    for places in by_kind.values():
        rng.shuffle(places)
    chosen: list[tuple[int, int]] = []
    shown: set[int] = set()
    while len(chosen) < count and any(by_kind.values()):
        for places in by_kind.values():
            while places and places[-1][0] in shown:
                places.pop()
            if places and len(chosen) < count:
                chosen.append(places.pop())
                shown.add(chosen[-1][0])
    return contact_sheet([_tile(instances, spoken[row], column) for row, column in chosen], columns=6, width=2400)


def _tile(instances: Instances, item: Spoken, column: int) -> Image.Image:
    expression = item.expressions[column]
    size = item.photo.view.size
    mask = np.zeros(size, dtype=bool)
    boxes = []
    for target in expression.targets:
        instance, _ = build_instance(instances, instances.annotations[item.photo.ann_ids[target]])
        mask |= instance.mask(size)
        boxes.append(item.photo.view.things[target].box)
    image = Sample("", "", item.photo.image_id, size, image_path=item.path).read_image()
    none = not expression.targets
    answer = Segmentation(
        mask=mask,
        boxes=np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        no_target=none,
        no_target_score=1.0 if none else 0.0,
        score=1.0,
        text=f"{expression.text} [{expression.kind}]",
    )
    return overlay(image, answer, smallest=420, largest=420)
