"""The things of pictures that two-stage models choose among: annotated ones, or a file of detections."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from refseg.data.sample import Instance, Sample
from refseg.types import Regions

__all__ = ["annotated_regions", "things_of"]

_WORD = re.compile(r"[^\W_]+")


def things_of(samples: Sequence[Sample]) -> list[Instance]:
    """The annotated things of one picture, from samples about it: its surroundings where they are known, otherwise the
    targets of the samples; each once, in order."""
    around = next((sample.surroundings for sample in samples if sample.surroundings), ())
    spoken = (item for sample in samples for item in sample.objects)
    return list({(item.ann_id, item.bbox): item for item in (*around, *(() if around else spoken))}.values())


def annotated_regions(samples: Sequence[Sample], image_index: Sequence[int]) -> Regions:
    """The annotated things of N pictures; `image_index` gives the picture of each sample.

    Attributes of a thing are its tags, and the words of expressions here that mean it and nothing else (MAttNet takes
    them from a data set's expressions, too).
    """
    count = max(image_index) + 1
    boxes, labels, attributes = [], [], []
    for number in range(count):
        own = [sample for sample, index in zip(samples, image_index, strict=True) if index == number]
        things = things_of(own)
        height, width = own[0].size
        corners = torch.tensor([item.bbox for item in things], dtype=torch.float32).view(-1, 4)
        boxes.append((corners / torch.tensor([width, height] * 2)).clamp(0, 1))
        labels.append([item.category for item in things])
        said: dict[tuple[int, tuple[float, ...]], dict[str, None]] = {}
        for sample in own:
            if len(sample.objects) == 1:
                words = said.setdefault((sample.objects[0].ann_id, sample.objects[0].bbox), {})
                words |= dict.fromkeys(_WORD.findall(sample.text.lower()))
        attributes.append(
            [tuple(dict.fromkeys((*item.tags, *said.get((item.ann_id, item.bbox), ())))) for item in things]
        )
    return Regions(boxes, labels, attributes)
