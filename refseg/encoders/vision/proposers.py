"""Instances from elsewhere: what a foundation model, or a file of detections, must offer to be reasoned over.

expression -> parse -> names to ask ("zebra") -> InstanceProposer.propose -> Detections, one entry a name
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from refseg.errors import RefsegError

__all__ = ["Detections", "InstanceProposer"]


@dataclass(frozen=True)
class Detections:
    """Instances of one name in one picture, in any order; N may be 0.

    boxes: x0 y0 x1 y1 in pixels of the picture that was encoded, x0 < x1, y0 < y1; they may reach beyond its edges.
    scores: 0 to 1.
    masks: at that picture's size; None where the proposer has boxes alone.
    labels: what each is called; None where it is the name that was asked.
    """

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    masks: Bool[Tensor, "N H W"] | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        masks = count if self.masks is None else len(self.masks)
        labels = count if self.labels is None else len(self.labels)
        if self.boxes.shape != (count, 4) or self.scores.shape != (count,) or masks != count or labels != count:
            raise RefsegError(
                f"detections: boxes {tuple(self.boxes.shape)}, scores {tuple(self.scores.shape)}, {masks} masks and "
                f"{labels} labels do not belong together"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls) -> Detections:
        """Nothing was found."""
        return cls(torch.zeros(0, 4), torch.zeros(0))


@runtime_checkable
class InstanceProposer(Protocol):
    """Whatever gives the instances of names: a segmenter or detector of an open vocabulary, or stored detections.

    A proposer that is a `torch.nn.Module` is moved to the device that the model runs on. One of a closed vocabulary may
    have `categories`, their normal names, and any may have `least_score`: the score at which a thing is as likely there
    as not (the detector's own otherwise, 0.15).
    """

    def encode_picture(self, picture: Image.Image, /) -> object:
        """What no name changes of an RGB picture, computed once for all names."""

    def propose(self, encoded: object, names: Sequence[str], /) -> list[Detections]:
        """Instances of each name (singular nouns such as "zebra", "espresso machine"), one entry a name, in order."""
