"""What the detector tells the referring model: instances of one picture, or of several with padding.

Letters in the shapes: K proposals, N pictures, C channels of a RoI feature, M side of a mask (28), A the classes of
`refseg.models.instances.classes.CLASSES` (80 COCO categories, then others), 11 colour names of `COLOURS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from refseg.models.instances.classes import CLASSES

__all__ = ["CLASSES", "COLOURS", "FEATURE_DIM", "MASK_SIZE", "ProposalBatch", "ProposalSource", "Proposals", "collate"]

COLOURS = ("black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
"""Columns of `Proposals.colours`."""
MASK_SIZE = 28
"""Side of the coarse mask that every proposal has; finer ones are made for chosen proposals only."""
FEATURE_DIM = 288
"""Channels of a RoI feature: the detector's pyramid (96) at strides 8, 16 and 32, averaged over the box."""


@dataclass(frozen=True)
class Proposals:
    """Instances that a detector proposes in one picture, best score first.

    boxes: x0 y0 x1 y1, 0 to 1 of the picture's width and height, x0 < x1, y0 < y1.
    scores: 0 to 1, the largest class probability.
    class_probs: independent probabilities (sigmoids) in the order of `CLASSES`.
    features: RoI features. A source without them (another detector) gives K x 0.
    colours: share of the pixels inside the coarse mask that have each of `COLOURS`; a row adds up to 1.
    mask_logits: in the frame of the box, > 0 is the instance; the pixel grid covers the box (cell centres at
        (i + 0.5) / M of the box).
    size: (height, width) of the picture in pixels; aspect ratios need it.
    drawn: 0 to 1, whether the picture looks drawn. Colours of drawn things are plain: one that is not there counts
        for more.
    """

    boxes: Float[Tensor, "K 4"]
    scores: Float[Tensor, " K"]
    class_probs: Float[Tensor, "K A"]
    features: Float[Tensor, "K C"]
    colours: Float[Tensor, "K 11"]
    mask_logits: Float[Tensor, "K M M"]
    size: tuple[int, int]
    drawn: float = 0.0

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, index: Tensor | Sequence[int]) -> Proposals:
        """The proposals of an index (K',) or of a boolean mask (K,), in that order."""
        # An empty list would become a tensor of floats.
        index = torch.as_tensor(index if len(index) else [], dtype=None if len(index) else torch.long)
        return self._with(lambda value: value[index])

    def float(self) -> Proposals:
        """The same in 32 bits (the cache keeps 16)."""
        return self._with(lambda value: value.float())

    def _with(self, change: Callable[[Tensor], Tensor]) -> Proposals:
        plain = ("size", "drawn")
        tensors = {item.name: change(getattr(self, item.name)) for item in fields(self) if item.name not in plain}
        return Proposals(**tensors, size=self.size, drawn=self.drawn)


@dataclass(frozen=True)
class ProposalBatch:
    """Proposals of N pictures, padded to the largest K; `mask` is True where a proposal is real, the rest is zero.

    `sizes` are the pictures' (height, width).
    """

    boxes: Float[Tensor, "N K 4"]
    scores: Float[Tensor, "N K"]
    class_probs: Float[Tensor, "N K A"]
    features: Float[Tensor, "N K C"]
    colours: Float[Tensor, "N K 11"]
    mask_logits: Float[Tensor, "N K M M"]
    sizes: Float[Tensor, "N 2"]
    mask: Bool[Tensor, "N K"]

    def __len__(self) -> int:
        return len(self.boxes)


def collate(pictures: Sequence[Proposals]) -> ProposalBatch:
    """Proposals of several pictures as one padded batch in 32 bits; a picture may have none."""
    longest = max(1, *(len(item) for item in pictures))
    padded: dict[str, Tensor] = {}
    for name in ("boxes", "scores", "class_probs", "features", "colours", "mask_logits"):
        first: Tensor = getattr(pictures[0], name)
        padded[name] = torch.zeros(len(pictures), longest, *first.shape[1:], device=first.device)
        for row, item in enumerate(pictures):
            padded[name][row, : len(item)] = getattr(item, name)
    counts = torch.tensor([len(item) for item in pictures], device=padded["boxes"].device)
    mask = torch.arange(longest, device=counts.device)[None] < counts[:, None]
    sizes = torch.tensor([item.size for item in pictures], dtype=torch.float32, device=counts.device)
    return ProposalBatch(**padded, sizes=sizes, mask=mask)


@runtime_checkable
class ProposalSource(Protocol):
    """Whatever finds instances: the detector here, a foundation model, a file of detections."""

    def propose(self, image: UInt8[np.ndarray, "H W 3"]) -> Proposals:
        """Instances of an RGB picture."""
        ...

    def masks(self, image: UInt8[np.ndarray, "H W 3"], proposals: Proposals) -> Bool[np.ndarray, "K H W"]:
        """Fine masks of (chosen) proposals at the picture's own size."""
        ...
