"""Who shares what in a batch: sentences about the same objects, and sentences about the same picture."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from refseg.data.sample import Sample

__all__ = ["group_numbers"]


def group_numbers(
    samples: Sequence[Sample], pictures: Sequence[Hashable], by: Literal["picture", "folder"]
) -> Int[Tensor, "B 2"]:
    """A number for the objects that each sentence means and one for its picture, as `Targets.groups` has them.

    `pictures` are what tells the samples' pictures apart. With "folder" pictures of one folder count as one, as the
    frames of a video, whose objects keep their numbers from frame to frame.
    """
    first: dict[Hashable, int] = {}
    rows = []
    for number, (sample, key) in enumerate(zip(samples, pictures, strict=True)):
        picture = sample.image_path.parent if by == "folder" and sample.image_path is not None else key
        meant: Hashable = frozenset(item.ann_id for item in sample.objects) or number
        rows.append([first.setdefault(entry, number) for entry in ((picture, meant), (picture, None))])
    return torch.tensor(rows)
