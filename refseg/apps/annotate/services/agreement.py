"""How well two people agree: Cohen's kappa (Cohen, Educational and Psychological Measurement 1960) over objects.

Whoever wrote a sentence and whoever validated it, or two who validated it, have each selected some of the picture's
objects by the same words. Each object is one judgement of either: selected, or not. Kappa is the share of judgements on
which both agree, beyond what their habits (how many objects each selects) would give by chance: 1 for the same always,
0 for chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import (
    GameSample,
    Person,
    Picture,
    SampleTarget,
    Verdict,
    VerdictTarget,
)


def pairwise(session: Session, split: str | None = None) -> list[dict[str, Any]]:
    """Agreement of each person with all others (`other` None), then of each pair; the most compared first.

    Each row has `person`, `other`, the number of `samples` that both selected for, on how many of them both selected
    the `same` objects, and `kappa` (None where it is not defined: without comparisons, or where neither ever varied).
    """
    people = {person.id: person for person in session.scalars(select(Person))}
    pairs: dict[tuple[int, int], Any] = defaultdict(lambda: np.zeros(6, dtype=np.int64))
    alone: dict[int, Any] = defaultdict(lambda: np.zeros(6, dtype=np.int64))
    for objects, selections in _selections(session, split):
        for (one, first), (other, second) in combinations(sorted(selections.items()), 2):
            counts = _counts(first, second, objects)
            pairs[one, other] += counts
            alone[one] += counts
            alone[other] += counts[[0, 1, 2, 4, 3, 5]]
    rows = [_row(people[one], None, counts) for one, counts in sorted(alone.items())]
    rows += [_row(people[one], people[other], counts) for (one, other), counts in sorted(pairs.items())]
    return sorted(rows, key=lambda row: (row["other"] is not None, -row["samples"]))


def kappa(both: int, first: int, second: int, neither: int) -> float | None:
    """Cohen's kappa of two people's yes and no: how often both said yes, only the first, only the second, neither."""
    total = both + first + second + neither
    if not total:
        return None
    chance = ((both + first) * (both + second) + (second + neither) * (first + neither)) / total**2
    if chance == 1:
        return None
    return float(((both + neither) / total - chance) / (1 - chance))


def _selections(session: Session, split: str | None) -> Iterable[tuple[int, dict[int, frozenset[int]]]]:
    """For each sample with a selection beside its author's: the number of objects, and each person's selection."""
    wanted = (
        select(Verdict.id, Verdict.validator_id, GameSample.id, GameSample.author_id, Picture.objects)
        .join(GameSample, GameSample.id == Verdict.sample_id)
        .join(Picture, Picture.id == GameSample.picture_id)
        .where(Verdict.result != "rejected")
        .order_by(GameSample.id, Verdict.id)
    )
    if split is not None:
        wanted = wanted.where(GameSample.split == split)
    meant, chosen = defaultdict(set), defaultdict(set)
    for sample, item in session.execute(select(SampleTarget.sample_id, SampleTarget.object_id)):
        meant[sample].add(item)
    for verdict, item in session.execute(select(VerdictTarget.verdict_id, VerdictTarget.object_id)):
        chosen[verdict].add(item)
    found: dict[int, tuple[int, dict[int, frozenset[int]]]] = {}
    for verdict, validator, sample, author, objects in session.execute(wanted):
        _, selections = found.setdefault(sample, (objects, {author: frozenset(meant[sample])}))
        selections[validator] = frozenset(chosen[verdict])
    return found.values()


def _counts(first: frozenset[int], second: frozenset[int], objects: int) -> Any:
    both = len(first & second)
    one, other = len(first) - both, len(second) - both
    # Masks that were removed since may be among the selected ones.
    return np.array([1, first == second, both, one, other, max(0, objects - both - one - other)])


def _row(person: Person, other: Person | None, counts: Any) -> dict[str, Any]:
    samples, same, *cells = (int(count) for count in counts)
    return {"person": person, "other": other, "samples": samples, "same": same, "kappa": kappa(*cells)}
