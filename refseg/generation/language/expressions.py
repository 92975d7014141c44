"""Expressions about a view: proposed, checked by the evaluator, put into words. For drawings and photographs alike."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from refseg.generation.language import forms
from refseg.generation.language.grammar import Voice, say
from refseg.generation.language.logic import Evaluator
from refseg.generation.language.propose import MIX, MIX_PLUS, Proposer

_PARAPHRASE = 0.25  # how often a form is said a second time in other words
_TRIES = 24  # proposals of one kind before that kind is given up
_DECEPTION_TRIES = 40  # most deceptions turn out to mean something after all, or not to be certain
_BORROWED = 0.4  # of the deceptions, the rest has one attribute off


@dataclass(frozen=True)
class Expression:
    """An expression, the indices of the things it means (none: deceptive), its kind, and the form it says."""

    text: str
    targets: tuple[int, ...]
    kind: str
    form: forms.Form


def expressions_of(
    view: forms.View,
    rng: random.Random,
    count: int,
    *,
    plus: bool = False,
    elsewhere: forms.View | None = None,
    allowed: Callable[[forms.Form, frozenset[int]], bool] | None = None,
    mix: dict[str, float] | None = None,
    evaluator: type[Evaluator] = Evaluator,
    voice: Voice | None = None,
) -> list[Expression]:
    """Up to `count` different expressions about a view, in the proportions of `mix` as far as the view has its kinds.

    `elsewhere` is another picture of the same split, whose expressions are borrowed as deceptions; `allowed(form,
    targets)` can turn down what a split must not hold; `plus` leaves out words for absolute places.
    `evaluator` and `voice` (which must draw from `rng`) bring other rules and words than the drawn world's.
    """
    speaker = Proposer(evaluator(view), rng, plus)
    stranger = Proposer(evaluator(elsewhere), rng, plus) if elsewhere is not None and elsewhere.things else None
    mix = dict(mix or (MIX_PLUS if plus else MIX))
    said: dict[str, Expression] = {}
    dry: set[str] = set()
    while len(said) < count and len(dry) < len(mix):
        kinds = [kind for kind in mix if kind not in dry]
        kind = rng.choices(kinds, weights=[mix[kind] for kind in kinds])[0]
        for _ in range(_DECEPTION_TRIES if kind == "no_target" else _TRIES):
            proposed = _deceive(speaker, stranger, rng) if kind == "no_target" else speaker.propose(kind)
            if proposed is None:
                continue
            form, many = proposed
            found = speaker.evaluator.denote(form)
            if found is None or not _fits(found, kind, many) or not (allowed is None or allowed(form, found)):
                continue
            texts = [say(form, voice or rng, many) for _ in range(2 if rng.random() < _PARAPHRASE else 1)]
            fresh = [text for text in dict.fromkeys(texts) if text not in said]
            for text in fresh[: count - len(said)]:
                said[text] = Expression(text, tuple(sorted(found)), kind, form)
            if fresh:
                break
        else:
            dry.add(kind)
    return list(said.values())


def _fits(found: frozenset[int], kind: str, many: bool) -> bool:
    """Whether as many things are meant as the wording claims."""
    if kind == "no_target":
        return not found
    return len(found) >= 2 if many else len(found) == 1


def _deceive(speaker: Proposer, stranger: Proposer | None, rng: random.Random) -> tuple[forms.Form, bool] | None:
    """A form that sounds right here and means nothing: one attribute off, or said of another picture."""
    place = 0 if speaker.plus else 1
    kind = rng.choices(
        ("attribute", "location", "ordinal", "relation", "comparison", "counting", "group"),
        weights=(5, 3 * place, place, 4, 1, 1, 2),
    )[0]
    borrowed = stranger is not None and rng.random() < _BORROWED
    proposed = (stranger if borrowed and stranger is not None else speaker).propose(kind)
    if proposed is None:
        return None
    form, many = proposed
    if not borrowed:
        twisted = speaker.twist(form)
        if twisted is None or twisted == form:
            return None
        form = twisted
    if isinstance(form, forms.Related) and form.base == form.anchor:
        return None
    return (form, many) if speaker.names_present(form) else None
