"""Names of categories asked of photographs whether they show them or not, and everyday nouns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from refseg.data.formats.coco import read_instances
from refseg.errors import DataError
from refseg.metrics.referring import average_precision
from refseg.models.instances.classes import CLASSES, EXTRA, class_index
from refseg.models.instances.model import (
    ExpressionFeatures,
    Instances,
)
from refseg.models.instances.words import Lexicon
from refseg.studies.instance_report.expressions import View
from refseg.studies.instance_report.kept import HALVES, Half

__all__ = ["Noun", "Presence", "ask_names", "categories_of", "measure_nouns", "presence_numbers", "read_nouns"]

T_ACC = 0.9
"""Share of the names of what is there that find something, at which N_acc is read."""


def categories_of(file: Path) -> tuple[list[str], dict[int, set[str]]]:
    """The categories of a COCO-style file in order, and those that each picture (by number) shows, crowds too.

    Raises `DataError` for a file without categories that the detector knows.
    """
    content = read_instances(file)
    names = [name for _, name in sorted(content.categories.items()) if class_index(name) is not None]
    if not names:
        raise DataError(f"{file}: none of its categories is one that the detector knows")
    there: dict[int, set[str]] = {number: set() for number in content.pictures}
    for record in content.annotations.values():
        name = content.categories.get(record.get("category_id", -1))
        if record["image_id"] in there and name is not None:
            there[record["image_id"]].add(name)
    return names, there


@torch.inference_mode()
def ask_names(model: Instances, view: View, features: ExpressionFeatures, names: Sequence[str]) -> dict[str, Any]:
    """The probability of none of "the NAME" for every name, and the detector's largest probability of its class."""
    choices, _ = model.choose(view.state, features)
    none = [float(choice.no_target_logit.sigmoid()) for choice in choices]
    probabilities = view.state.proposals.class_probs
    columns = [cast(int, class_index(name)) for name in names]
    seen = probabilities[:, columns].amax(0).tolist() if len(probabilities) else [0.0] * len(names)
    return {"none": none, "seen": seen}


@dataclass(frozen=True)
class Presence:
    """N photographs and A names: a score of each name's being there, p(none) where answers are meant, and the truth."""

    score: Float[np.ndarray, "N A"]
    there: Bool[np.ndarray, "N A"]
    none: Float[np.ndarray, "N A"] | None = None
    no_target_threshold: float = 0.5

    def select(self, rows: Sequence[int]) -> Presence:
        """Some of the photographs, which may repeat."""
        none = None if self.none is None else self.none[list(rows)]
        return Presence(self.score[list(rows)], self.there[list(rows)], none, self.no_target_threshold)


def presence_numbers(presence: Presence) -> dict[str, float]:
    """AUC over all questions, N_acc where T_acc is .90, the mean over names of the average precision with which their
    score ranks the photographs, and of answers N_acc and T_acc at the model's threshold; 0 to 1."""
    score, there = presence.score, presence.there
    positive, negative = score[there], score[~there]
    if not len(positive) or not len(negative):
        return {}
    ranks = rankdata(score.ravel())[there.ravel()]
    area = (ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative))
    least = np.quantile(positive, 1 - T_ACC)
    ranked = [
        average_precision(score[:, column], there[:, column]) for column in np.flatnonzero(there.any(axis=0)).tolist()
    ]
    numbers = {
        "AUC": float(area),
        "N_acc at T_acc .90": float((negative < least).mean()),
        "ranking AP": float(np.mean(ranked)),
    }
    if presence.none is not None:
        says_none = presence.none > presence.no_target_threshold
        numbers |= {"N_acc": float(says_none[~there].mean()), "T_acc": float((~says_none)[there].mean())}
    return numbers


@dataclass(frozen=True)
class Noun:
    """A noun, its half, and the categories that a person would accept ("none": no category)."""

    text: str
    half: Half
    accepted: frozenset[str]


def read_nouns(path: Path) -> list[Noun]:
    """A file of `noun <tab> val or test <tab> categories with commas`, lines with # left out. Raises `DataError`."""
    nouns = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 3 or fields[1] not in HALVES:
            raise DataError(f"{path}:{number}: a line is a noun, val or test, and categories, with tabs between")
        accepted = frozenset(name.strip() for name in fields[2].split(","))
        unknown = accepted - {*CLASSES, "none"}
        if unknown:
            raise DataError(f"{path}:{number}: {sorted(unknown)[0]!r} is no category of the detector, and not none")
        nouns.append(Noun(fields[0].strip(), cast(Half, fields[1]), accepted))
    return nouns


def measure_nouns(model: Instances, nouns: Sequence[Noun]) -> dict[str, dict[str, Any]]:
    """Of each half how many nouns are read as an accepted category, by the lists alone and with likeness, and which
    are not.

    Where no noun of the file is of another category than COCO's, only those may be meant.
    """
    outside = any(noun.accepted & {*EXTRA} for noun in nouns)
    excluded = () if outside else EXTRA
    means = cast(Lexicon, model.chooser.means)
    whole = Lexicon(means.encoder, means.pieces, means.anchors, means.temperature, means.least, excluded)
    lists = Lexicon(excluded=excluded)
    result: dict[str, dict[str, Any]] = {}
    for half in HALVES:
        part = [noun for noun in nouns if noun.half == half]
        wrong = {noun.text: _read_as(whole, noun.text) for noun in part if not _is_right(whole, noun)}
        result[half] = {
            "nouns": len(part),
            "right": len(part) - len(wrong),
            "right by lists": sum(_is_right(lists, noun) for noun in part),
            "wrong": wrong,
        }
    return result


def _read_as(means: Callable[[str], Any], text: str) -> str:
    weights: Mapping[int, float] = dict(means(text).weights)
    return CLASSES[max(weights, key=lambda column: weights[column])] if weights else "none"


def _is_right(means: Callable[[str], Any], noun: Noun) -> bool:
    return _read_as(means, noun.text) in noun.accepted
