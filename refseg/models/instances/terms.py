"""The terms that evidence is made of: fit to a noun, colour shares, soft ranks, deviations, margins."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from refseg.models.instances.classes import CLASSES, PEOPLE
from refseg.models.instances.expression import Phrase
from refseg.models.instances.geometry import SOFT, Layout
from refseg.models.instances.types import COLOURS
from refseg.models.instances.vocabulary import COLOUR_WORDS
from refseg.models.instances.words import Meaning

__all__ = [
    "PERSON",
    "TINY",
    "axis_of",
    "colour_share",
    "counts_among",
    "margins",
    "noun_fit",
    "number",
    "soft_rank",
    "spread_of",
    "standardised",
]

PEOPLE_INDEX = [CLASSES.index(name) for name in PEOPLE]
PERSON = CLASSES.index("person")
TINY = 1e-3


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
