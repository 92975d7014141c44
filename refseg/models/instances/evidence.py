"""What evidence is made of: how boxes lie in a picture, fit to a noun, colour shares, soft ranks, deviations, margins.

A `Layout` is computed once a picture for all expressions about it. Its lengths are fractions of the picture's longer
side, so that a square stays one; x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refseg.models.instances.classes import CLASSES, PEOPLE
from refseg.models.instances.structure import Phrase
from refseg.models.instances.types import COLOURS
from refseg.models.instances.vocabulary import COLOUR_WORDS
from refseg.models.instances.words import Meaning

__all__ = [
    "PERSON", "RULES", "SOFT", "TINY", "Evaluated", "Layout", "axis_of", "colour_share", "counts_among", "lay_out",
    "margins", "noun_fit", "number", "soft_rank", "spread_of", "standardised",
]  # fmt: skip

SOFT = 0.02
"""Width of the step from left to right and the like, where two centres are as good as level."""
SAME_IOU, INSIDE = 0.6, 0.85
"""Boxes of two proposals of one thing: their IoU, or the share of the less certain one that lies in the other."""
PEOPLE_INDEX = [CLASSES.index(name) for name in PEOPLE]
PERSON = CLASSES.index("person")
TINY = 1e-3

RULES: dict[str, float] = {
    "fit": 1.0,
    "area": 0.5,
    "also": 0.3,
    "left_right": 1.0,
    "vertical": 1.0,
    "middle": 1.2,
    "centre": 1.0,
    "near": 0.8,
    "near_size": 0.7,
    "far": 0.8,
    "far_size": 0.0,
    "clock": 1.0,
    "edge": 1.0,
    "outermost": 0.7,
    "near_outermost": 1.2,
    "rank": 3.0,
    "size": 0.7,
    "colour": 1.0,
    "trait_colour": 0.8,
    "relation": 1.0,
    "half": 0.5,
    "none_fit": 1.5,
    "none_bias": 0.0,
    "none_colour": 1.6,
    "none_trait_colour": 0.7,
    "none_drawn_colour": 1.4,
    "none_short": 8.0,
    "none_relation": 0.7,
    "none_side": 1.0,
    "member": 0.45,
    "least_member": 0.2,
}
"""Weights of the evidence before any training, by name: the symbolic chooser."""


@dataclass(frozen=True)
class Layout:
    """Boxes of K proposals in the picture's own proportions, and how they lie to each other."""

    x: Float[Tensor, " K"]
    """Centres."""
    y: Float[Tensor, " K"]
    width: Float[Tensor, " K"]
    height: Float[Tensor, " K"]
    foot: Float[Tensor, " K"]
    """Lower edges."""
    area: Float[Tensor, " K"]
    """As a share of the picture."""
    middle: tuple[float, float]
    """The picture's centre."""
    cut: Float[Tensor, " K"]
    """0 to 1: how closely a box reaches an edge of the picture, so that the thing may be cut off there."""
    iou: Float[Tensor, "K K"]
    inside: Float[Tensor, "K K"]
    """[i, j]: the share of box i that lies in box j."""
    gap: Float[Tensor, "K K"]
    """Distance between the boxes' edges, 0 where they overlap."""
    apart: Float[Tensor, "K K"]
    """Distance between the centres."""
    across: Float[Tensor, "K K"]
    """Overlap of the boxes' x ranges as a share of the narrower one."""

    def __len__(self) -> int:
        return len(self.x)

    def doubles(self, fit: Float[Tensor, " K"]) -> Bool[Tensor, " K"]:
        """Proposals of a thing that a better fitting one shows already."""
        # NumPy: these are many steps on a few numbers.
        values, area, iou, inside = (each.cpu().numpy() for each in (fit, self.area, self.iou, self.inside))
        order = np.argsort(-values, kind="stable")
        # What fits hardly at all counts for nothing, shown twice or not.
        order = order[values[order] > 0.03 * values[order[:1]]]
        both = np.ix_(order, order)
        values, area = values[order], area[order]
        less = values[:, None] < 0.6 * values
        large = area[:, None] > 0.15 * area
        same = (iou[both] > SAME_IOU) | ((inside[both] > INSIDE) & less & large)
        kept = np.zeros(len(order), dtype=bool)
        for row in range(len(order)):  # greedy: what is suppressed itself suppresses nothing
            kept[row] = not same[row, kept].any()
        found = np.zeros(len(fit), dtype=bool)
        found[order[~kept]] = True
        return torch.from_numpy(found).to(fit.device)


@dataclass
class Evaluated:
    """A phrase over the proposals."""

    fit: Tensor
    member: Tensor
    """0 to 1: how plainly each proposal is a thing of the noun, shown by no better proposal."""
    evidence: Tensor
    absolute: Tensor
    """Log plausibility of what is said of it besides the noun, not relative to others (at most about 0)."""
    penalty: Tensor
    """Of no target."""
    mismatch: Tensor
    """The part of it that is not for the noun: colours, ranks and numbers that are not there."""
    labels: Tensor
    reasons: list[str]


def lay_out(boxes: Float[Tensor, "K 4"], size: tuple[int, int]) -> Layout:
    """The layout of boxes x0 y0 x1 y1 (0 to 1) in a picture of `size` (height, width)."""
    height, width = float(size[0]), float(size[1])
    longer = max(height, width, 1.0)
    scale = boxes.new_tensor([width / longer, height / longer] * 2)
    placed = boxes.float() * scale
    x0, y0, x1, y1 = placed.unbind(1)
    wide, high = (x1 - x0).clamp(min=1e-4), (y1 - y0).clamp(min=1e-4)
    across = torch.minimum(x1[:, None], x1) - torch.maximum(x0[:, None], x0)
    down = torch.minimum(y1[:, None], y1) - torch.maximum(y0[:, None], y0)
    shared = across.clamp(min=0) * down.clamp(min=0)
    areas = wide * high
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    to_edge = torch.stack([x0, y0, scale[0] - x1, scale[1] - y1]).clamp(min=0).amin(0)
    return Layout(
        x=x,
        y=y,
        width=wide,
        height=high,
        foot=y1,
        area=areas / (scale[0] * scale[1]),
        middle=(float(scale[0]) / 2, float(scale[1]) / 2),
        cut=(1 - to_edge / SOFT).clamp(min=0),
        iou=shared / (areas[:, None] + areas - shared),
        inside=shared / areas[:, None],
        gap=torch.hypot((-across).clamp(min=0), (-down).clamp(min=0)),
        apart=torch.hypot(x[:, None] - x, y[:, None] - y),
        across=across.clamp(min=0) / torch.minimum(wide[:, None], wide),
    )


def number(value: Tensor) -> float:
    """A scalar without its gradient."""
    return float(value.detach())


def noun_fit(meaning: Meaning, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The best of the meaning's classes, weighted, and which. Of "man" and the like persons are found by "person" and
    told apart by how much more like a man than like a woman, a boy or a girl the detector finds them, where it can."""
    indices, shares, wanted = _tensors(meaning)
    fit, place = (probabilities[:, indices] * shares).max(1)
    labels = indices[place]
    if wanted is not None:
        among = probabilities[:, PEOPLE_INDEX].amax(1)
        fit = fit * (probabilities[:, wanted].amax(1) + 0.1) / (among + 0.1)
    return fit, labels


@lru_cache(maxsize=1024)
def _tensors(meaning: Meaning) -> tuple[Tensor, Tensor, list[int] | None]:
    """A meaning's classes and weights, and which of them tell people apart."""
    indices = [index for index, _ in meaning.weights]
    wanted = [index for index in indices if index in PEOPLE_INDEX]
    with torch.inference_mode(False):
        shares = torch.tensor([share for _, share in meaning.weights])
        return torch.tensor(indices), shares, wanted if wanted and PERSON in indices else None


def colour_share(words: tuple[str, ...], colours: Tensor) -> Tensor:
    """How much each proposal shows what the colour words ask for (0 to 1); of several the mean."""
    shown = []
    for word in dict.fromkeys(words):
        shares = colours.new_tensor([COLOUR_WORDS[word].get(name, 0.0) for name in COLOURS])
        shown.append((colours * shares).sum(1).clamp(max=1))
    return torch.stack(shown).mean(0)


def counts_among(phrase: Phrase) -> bool:
    return phrase.rank is not None or phrase.many or bool(phrase.places) or bool(phrase.size)


def axis_of(side: str, layout: Layout) -> tuple[Tensor, float]:
    """Values and the sign with which they grow towards a side."""
    if side in ("left", "right"):
        return layout.x, 1.0 if side == "right" else -1.0
    if side in ("top", "bottom"):
        return layout.y, 1.0 if side == "bottom" else -1.0
    return layout.foot, 1.0 if side == "near" else -1.0


def soft_rank(values: Tensor, member: Tensor, soft: float = SOFT / 4) -> Tensor:
    """How many members have a larger value: 0 for the largest."""
    beyond = torch.sigmoid((values[None, :] - values[:, None]) / soft)
    beyond = beyond * (1 - torch.eye(len(values), device=values.device))
    return (beyond * member[None, :]).sum(1)


def spread_of(values: Tensor, share: Tensor) -> float:
    total = share.sum().clamp(min=TINY)
    mean = (share * values).sum() / total
    return number(((share * (values - mean).square()).sum() / total).sqrt())


def standardised(values: Tensor, share: Tensor) -> Tensor:
    """Standard deviations from the mean of what fits (weights `share`), at most 2."""
    total = share.sum().clamp(min=TINY)
    mean = (share * values).sum() / total
    spread = ((share * (values - mean).square()).sum() / total + 1e-3).sqrt()
    return ((values - mean) / spread).clamp(-2, 2)


def margins(evidence: Tensor, count: int) -> Tensor:
    """Logits above 0 for the `count` of most evidence: how far each lies above the best of the others, or below the
    last of the chosen."""
    total = len(evidence)
    if count >= total:
        return torch.ones_like(evidence)
    order = evidence.argsort(descending=True, stable=True)
    last, next_ = evidence[order[count - 1]], evidence[order[count]]
    torch.full_like(evidence, 0.0)
    chosen = torch.zeros_like(evidence, dtype=torch.bool)
    chosen[order[:count]] = True
    return torch.where(chosen, evidence - next_ + 1e-4, evidence - last - 1e-4)
