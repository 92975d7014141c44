"""What a picture's largest class probabilities alone say of an expression: a bound for searching collections.

Every term of a phrase's no-target logit but the noun's is 0 or more (`Chooser`), and a proposal's fit to a noun is at
most the largest over the noun's classes of weight x probability. So a picture's no-target logit is at least

    none_bias - none_fit log((f + TINY) / least_score)      f: the largest of weight x largest probability

which needs one number a class and no proposal; of phrases joined by "and" the smallest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from refseg.models.instances.chooser import Candidates, Chooser
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.evidence import (
    lay_out,
    number,
)
from refseg.models.instances.expression import Expression, Phrase
from refseg.models.instances.types import COLOURS

__all__ = ["PhraseSummary", "summarise"]


@dataclass(frozen=True)
class PhraseSummary:
    """What a phrase asks of the classes of a picture."""

    weights: tuple[tuple[int, float], ...]
    """Columns of `CLASSES` with weights, 0 to 1; empty where anything fits, or no class is meant."""
    constant: float | None
    """The no-target logit of a noun that means no class, whatever the picture shows; None for others."""
    colours: tuple[str, ...]
    """Colour words said of it."""
    anchors: tuple[PhraseSummary, ...]
    """What it stands to ("with a red bag")."""


def summarise(chooser: Chooser, expression: Expression) -> tuple[PhraseSummary, ...]:
    """The phrases of an expression; one of them being there is enough for an answer."""
    with torch.no_grad():
        return tuple(_summarise(chooser, phrase) for phrase in expression.phrases)


def _summarise(chooser: Chooser, phrase: Phrase) -> PhraseSummary:
    weight = dict(zip(chooser.names, chooser.weights.unbind(0), strict=True))
    anchors = tuple(
        _summarise(chooser, anchor) for link in phrase.relations if not link.negated for anchor in link.anchors
    )
    colours = tuple(phrase.colours) if chooser.config.colours else ()
    meaning = chooser.meaning(phrase)
    if meaning is not None and not meaning.known:
        # The penalty of such a noun depends on the words alone.
        nothing = Candidates(
            chooser.weights.new_zeros(1, len(CLASSES)),
            chooser.weights.new_zeros(1, len(COLOURS)),
            lay_out(chooser.weights.new_tensor([[0.0, 0.0, 1.0, 1.0]]), (1, 1)),
        )
        return PhraseSummary((), number(chooser._fit(phrase, nothing, weight)[2]), colours, anchors)
    if meaning is None:
        return PhraseSummary((), None, colours, anchors)
    weights = dict(meaning.weights)
    for noun in phrase.also:
        for column, share in chooser.means(noun).weights:
            weights[column] = max(weights.get(column, 0.0), number(weight["also"]) * share)
    return PhraseSummary(tuple(sorted(weights.items())), None, colours, anchors)
