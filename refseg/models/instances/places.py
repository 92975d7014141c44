"""Evidence of places, order and size among what fits a noun."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from refseg.models.instances.evidence import (
    TINY,
    Layout,
    axis_of,
    number,
    soft_rank,
    spread_of,
    standardised,
)
from refseg.models.instances.expression import Phrase, Place
from refseg.models.instances.vocabulary import SIZES

__all__ = ["Among", "PlaceEvidence", "direction_of_hour", "place_evidence"]

_MILD = ("little", "lil", "baby", "main", "large", "huge", "big")
"""Sizes that describe more than they compare."""


@dataclass(frozen=True)
class Among:
    """What K proposals are placed among: shares of what fits the noun, members, and members beyond doubt (0 to 1)."""

    layout: Layout
    soft: Float[Tensor, " K"]
    member: Float[Tensor, " K"]
    sure: Float[Tensor, " K"]


@dataclass(frozen=True)
class PlaceEvidence:
    """`evidence` (K,), log plausibility of halves of the picture (K,), no-target evidence (), and its reasons."""

    evidence: Float[Tensor, " K"]
    absolute: Float[Tensor, " K"]
    missing: Float[Tensor, ""]
    reasons: list[str]


def direction_of_hour(hour: int) -> tuple[float, float]:
    """(x, y) of an hour on a clock face in the middle of the picture, length 1."""
    angle = 2 * math.pi * hour / 12
    return math.sin(angle), -math.cos(angle)


def place_evidence(phrase: Phrase, around: Among, weight: dict[str, Tensor]) -> PlaceEvidence:
    """Everything that a phrase says of place, order and size; `weight` by name of `evidence.RULES`."""
    layout, soft, member = around.layout, around.soft, around.member
    evidence = torch.zeros_like(soft)
    absolute = torch.zeros_like(soft)
    missing = soft.new_zeros(())
    reasons: list[str] = []
    root = layout.area.sqrt()
    for place in phrase.places:
        evidence = evidence + _place(place, around, weight, len(phrase.places))
        if place.half and not place.strong:
            beyond = (layout.x - layout.middle[0]) * (1 if place.side == "right" else -1)
            absolute = absolute + F.logsigmoid((beyond + 0.02) / 0.03)
            evidence = evidence + weight["half"] * F.logsigmoid((beyond + 0.05) / 0.06).clamp(min=-3)
            if number(member.sum()) < 1.5 and not phrase.rank:
                missing = (
                    missing + weight["none_side"] * torch.sigmoid((-beyond[int(member.argmax())] - 0.12) / 0.03) * 3
                )
    if phrase.rank is not None:
        values, sign = axis_of(phrase.rank.side, layout)
        rank = soft_rank(sign * values, member)
        off = (rank - (phrase.rank.number - 1)).abs()
        evidence = evidence - weight["rank"] * off.clamp(max=3) + 2 * member.clamp(min=0.02).log()
        short = (phrase.rank.number - 0.4 - member.sum()).clamp(min=0)
        missing = missing + weight["none_short"] * short
        if number(short) > 0.5:
            reasons.append(f"there are fewer than {phrase.rank.number} of them")
    if phrase.size:
        kind = SIZES[phrase.size]
        values = {"tall": layout.height, "short": -layout.height, "wide": layout.width, "thin": -layout.width}.get(
            kind, root if kind == "big" else -root
        )
        # A "little girl" is a girl before she is little.
        strength = 0.4 if phrase.size in _MILD else 1.0
        evidence = evidence + strength * weight["size"] * standardised(values, soft)
        beyond = soft_rank(values, around.sure, 0.004).clamp(max=2)
        evidence = evidence - (strength == 1.0) * weight["outermost"] * beyond
        if kind in ("small", "short", "thin"):
            evidence = evidence - weight["area"] * (layout.area + TINY).log()
    return PlaceEvidence(evidence, absolute, missing, reasons)


def _place(place: Place, around: Among, weight: dict[str, Tensor], several: int) -> Float[Tensor, " K"]:
    """Evidence of one of a phrase's `several` places."""
    layout, soft, member = around.layout, around.soft, around.member
    if place.side == "clock":
        right, down = direction_of_hour(place.hour)
        values = (layout.x - layout.middle[0]) * right + (layout.y - layout.middle[1]) * down
        return weight["clock"] * standardised(values, soft)
    if place.side == "middle":
        spread = spread_of(layout.x, soft), spread_of(layout.y, soft)
        values = layout.x if spread[0] >= 0.5 * spread[1] else layout.y
        rank = soft_rank(values, member)
        centre = (member.sum() - 1).clamp(min=0) / 2
        off = (rank - centre).abs().clamp(max=2)
        central = (layout.x - layout.middle[0]).abs() + 0.4 * (layout.y - layout.middle[1]).abs()
        relative = standardised(values, soft).abs() + 0.5 * off * (centre > 0.3)
        return -weight["middle"] * relative - weight["centre"] * (central / 0.15).clamp(max=3)
    if place.side == "edge":
        return weight["edge"] * (0.1 + layout.cut).log()
    values, sign = axis_of(place.side, layout)
    name = {"left": "left_right", "right": "left_right", "top": "vertical", "bottom": "vertical"}.get(
        place.side, place.side
    )
    evidence = weight[name] * standardised(sign * values, soft)
    if place.side in ("near", "far"):
        size = layout.area.sqrt() * (1 if place.side == "near" else -1)
        evidence = evidence + weight[f"{place.side}_size"] * standardised(size, soft)
    if several == 1:
        rank = soft_rank(sign * values, around.sure)
        name = "near_outermost" if place.side in ("near", "far") else "outermost"
        evidence = evidence - weight[name] * rank.clamp(max=5)
    return evidence
