"""Masked contrastive learning between the samples of a batch (thesis, section 4.2.5).

Expressions that mean one object should give the same mask features F_m, those that mean another object of the image
other ones. A word that the queries look at much is masked, and the features of what is left are drawn to the whole
expression's too, so that no single word decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from refseg.config import Config, NonNegativeFloat, NonNegativeInt, PositiveFloat, Probability

__all__ = ["InterSampleConfig", "contrastive_loss", "select_word"]


@dataclass(frozen=True)
class InterSampleConfig(Config):
    """Learning between samples (section 4.2.5, tables 4.5 and 4.6). What the text leaves open says so."""

    kind: Literal["none", "cl", "mcl"] = "mcl"
    """cl: the features F_m of expressions about one object are drawn together, those about other objects of the picture
    driven apart. mcl: expressions of which a word is masked are drawn together too."""
    weight: NonNegativeFloat = 0.1
    """Of the loss beside the mask's; not in the text."""
    temperature: PositiveFloat = 0.1
    """tau of equation 4.8; not in the text."""
    least_words: NonNegativeInt = 3
    """N_m: longer expressions have a word masked; the number is not in the text."""
    word_select: Literal["random", "threshold", "probability"] = "probability"
    """Which word: any, any with an attention above `threshold`, or by the softmax of the attentions (p_m)."""
    threshold: NonNegativeFloat = 1.0
    """theta on a word's attention summed over the queries; not in the text."""
    anchors: Literal["first", "all"] = "first"
    """The batch's first expression is the initial sample, as in figure 4.11, or every expression is one in its turn,
    for batches in which every picture has several expressions."""
    compose: bool = True
    """Whether training composes batches as figure 4.11 does: an initial sample, others of its object, others of its
    picture, and the rest from other pictures. Otherwise batches are as the recipe's [data] says."""
    same_object: NonNegativeInt = 8
    """N_SO: most further expressions of the initial sample's object; the text takes all there are, about 3."""
    other_object: Probability = 0.1
    """N_DO: most expressions about other objects of that picture, as a share of the batch (figure 4.13 has its best
    there)."""
    frames: NonNegativeInt = 0
    """For video: how many frames before and after may also give the expressions about other objects; 2 in table 4.8. In
    a clip (`data.frames`) those of the middle frame, in frames that are learnt one by one those of their folder."""


def select_word(
    attention: Float[Tensor, "B Q L"], mask: Bool[Tensor, "B L"], config: InterSampleConfig
) -> Int[Tensor, " B"]:
    """Which word of each expression is masked, drawn as `word_select` says from A_qd (`attention`); -1 where none is,
    since the expression has `least_words` words or fewer."""
    with torch.no_grad():
        weights = attention.float().sum(dim=1)
        if config.word_select == "probability":
            chances = weights.masked_fill(~mask, float("-inf")).softmax(dim=-1)
        elif config.word_select == "random":
            chances = mask.float()
        else:
            above = mask & (weights > config.threshold)
            # An expression whose attention is spread evenly may have no word above the threshold.
            chances = torch.where(above.any(dim=1, keepdim=True), above, mask).float()
        long = mask.sum(dim=1) > config.least_words
        chances = torch.where(long[:, None], chances, torch.ones_like(chances))
        return torch.where(long, torch.multinomial(chances, 1)[:, 0], -1)


def contrastive_loss(
    features: Float[Tensor, "B D"],
    objects: Int[Tensor, " B"],
    pictures: Int[Tensor, " B"],
    temperature: float,
    masked: Float[Tensor, "B D"] | None = None,
    is_masked: Bool[Tensor, " B"] | None = None,
    anchors: Literal["first", "all"] = "all",
    frames: int = 1,
    reach: int = 0,
) -> Float[Tensor, ""]:
    """Equation 4.8, averaged over the initial samples that have something to be drawn to; 0 where none has.

    `features` are the flattened F_m, `objects` equal for expressions about the same objects of the same image,
    `pictures` the image's number. `masked` are the features of expressions with a masked word, of which `is_masked`
    says where they exist; they are further positive samples of their expression and of those about the same objects.

    Of clips, `frames` successive rows are those of one expression, and `pictures` may be the same in all of them:
    samples of the same objects are then of the same frame, those of others at most `reach` frames away (section 4.3.5),
    and the first initial sample is the middle frame of the first clip.
    """
    count = len(features)
    directions = F.normalize(features, dim=-1)
    scores = directions @ directions.T / temperature
    same = (objects[:, None] == objects[None]) & ~torch.eye(count, dtype=torch.bool, device=objects.device)
    others = (pictures[:, None] == pictures[None]) & (objects[:, None] != objects[None])
    place = torch.arange(count, device=objects.device) % frames
    distance = (place[:, None] - place[None]).abs()
    same, others = same & (distance == 0), others & (distance <= reach)
    if masked is not None and is_masked is not None:
        drawn = directions @ F.normalize(masked, dim=-1).T / temperature
        positives = torch.cat([scores, drawn], dim=1)
        alike = (objects[:, None] == objects[None]) & (distance == 0)
        is_positive = torch.cat([same, alike & is_masked[None]], dim=1)
    else:
        positives, is_positive = scores, same
    # The log of the sum over the negatives, and with each positive in turn. Minus infinity has no gradient.
    against = scores.masked_fill(~others, -1e9).logsumexp(dim=1, keepdim=True)
    terms = torch.logaddexp(against, positives) - positives
    numbers = is_positive.sum(dim=1)
    losses = terms.masked_fill(~is_positive, 0.0).sum(dim=1) / numbers.clamp(min=1)
    chosen = numbers > 0
    if anchors == "first":
        chosen = chosen & (torch.arange(count, device=chosen.device) == frames // 2)
    return losses.masked_fill(~chosen, 0.0).sum() / chosen.sum().clamp(min=1)
