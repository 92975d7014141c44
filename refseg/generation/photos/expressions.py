"""Expressions about one photograph: the drawn scenes' kinds, held to what annotations and pixels make certain."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from refseg.generation.language import forms
from refseg.generation.language.expressions import Expression, expressions_of
from refseg.generation.language.grammar import Voice, say
from refseg.generation.language.lexicon import PEOPLE_NOUNS, PhotoWords, countability, has_side_in_name, look_alikes
from refseg.generation.language.logic import overlap
from refseg.generation.photos.attributes import PhotoView
from refseg.generation.photos.evaluator import PhotoEvaluator

_INDEFINITE = 0.12  # how often one thing gets "a": "a woman in red"
_MOST_TOGETHER = 8  # targets of one expression
_SALIENT_SHARE = 0.04  # of the picture, for the biggest of a kind of which others may not be annotated
_SUPERLATIVE_WORDINGS = 2  # of one: "the largest coat" in four wordings teaches no more than in two
_MOST_DENIED = 5  # "the ninth chair" of a picture with three is not a mistake that people make
_SALIENT_RATIO = 2.5  # over the second biggest that is annotated


def photo_expressions(
    photo: PhotoView,
    rng: random.Random,
    count: int,
    *,
    plus: bool = False,
    elsewhere: forms.View | None = None,
    traits: frozenset[str] = frozenset(),
    mix: dict[str, float] | None = None,
) -> list[Expression]:
    """Up to `count` different expressions about a picture; fewer where less is certain, none about an empty one.

    Args:
        photo: the picture's things; where its annotations are not exhaustive, only superlatives of plainly the biggest
            thing of a kind are said.
        plus: no words for absolute places.
        elsewhere: another picture of the same split, whose expressions may be borrowed as deceptions.
        traits: all traits that the annotation file records anywhere; a deception uses no others.
        mix: how often each kind is tried (`refseg.generation.language.propose.MIX`).
    """
    if not photo.view.things:
        return []
    present = {thing.category for thing in photo.view.things} | set(photo.view.open)
    voice = Voice(rng, PhotoWords(rng, present), garments=False, indefinite=_INDEFINITE)
    if not photo.exhaustive:
        return _superlatives(photo, voice, count)
    rules = _Rules(photo, traits)
    return expressions_of(
        photo.view,
        rng,
        count,
        plus=plus,
        elsewhere=elsewhere,
        allowed=rules.allow,
        mix=mix,
        evaluator=PhotoEvaluator,
        voice=voice,
    )


class _Rules:
    """What may be said about one photograph besides being certain to the evaluator."""

    def __init__(self, photo: PhotoView, traits: frozenset[str]) -> None:
        self.photo = photo
        self.traits = traits
        self.evaluator = PhotoEvaluator(photo.view)
        things = tuple(replace(thing, category=look_alikes(thing.category)) for thing in photo.view.things)
        self.blurred = PhotoEvaluator(replace(photo.view, things=things, open=frozenset({"thing"})))

    def allow(self, form: forms.Form, found: frozenset[int]) -> bool:
        """Whether a form with a certain meaning is a good expression about this picture."""
        if not found <= self.photo.eligible or len(found) > _MOST_TOGETHER:
            return False
        if not all(self._speakable(part) for part in _parts(form)):
            return False
        return bool(found) or self._deceives(form)

    def _speakable(self, form: forms.Form) -> bool:
        nouns = [select.noun for select in forms.selects(form)]
        places = isinstance(form, (forms.Extreme, forms.Side, forms.Nth, forms.First)) or (
            isinstance(form, forms.Related) and form.relation in ("left_of", "right_of")
        )
        if places and any(has_side_in_name(noun) for noun in nouns):
            return False
        masses = [countability(noun) == "mass" for noun in nouns]
        if any(masses):
            # "Hair" is neither counted nor compared; one patch of it may be named or stand beside something.
            single = self.evaluator.denote(form)
            if not isinstance(form, (forms.Select, forms.Related)) or (
                masses[0] and (single is None or len(single) != 1)
            ):
                return False
        if isinstance(form, forms.Select):
            return True
        if isinstance(form, forms.Related):
            anchors = self.evaluator.denote(form.anchor)
            if anchors is not None and not anchors <= self.photo.eligible:
                return False
        if isinstance(form, forms.Compare) and form.base.noun not in {
            thing.category for thing in self.photo.view.things
        }:
            return False  # of animals of different kinds nobody compares the size in the picture
        # Who counts or ranks must see all that are counted.
        base = self.evaluator.denote(next(forms.selects(form)))
        return base is None or (base <= self.photo.eligible and len(base) <= _MOST_TOGETHER)

    def _deceives(self, form: forms.Form) -> bool:
        """Whether an expression without target stays so if things are taken for what they look like."""
        if (
            isinstance(form, forms.Related)
            and form.base.noun == form.anchor.noun
            and form.anchor == forms.Select(form.anchor.noun)
        ):
            return False  # "the brown bed beside the bed"
        if getattr(form, "rank", 0) > _MOST_DENIED or getattr(form, "count", 0) > _MOST_DENIED:
            return False
        for select in forms.selects(form):
            if select.trait is not None and select.trait not in self.traits:
                return False
            if select.noun not in PEOPLE_NOUNS and select.noun in ("animal", "vehicle") and select.colour is None:
                return False
        blurred = _map_nouns(form)
        return self.blurred.denote(blurred) == frozenset()


def _parts(form: forms.Form) -> list[forms.Form]:
    """A form and those inside it that are said by themselves."""
    if isinstance(form, forms.Union):
        return [form, *form.parts] if all(isinstance(part, forms.Select) for part in form.parts) else list(form.parts)
    if isinstance(form, forms.Except):
        return [form, form.excluded]
    return [form]


def _map_nouns(form: forms.Form) -> forms.Form:
    """The form with each noun replaced by the word for all that look alike."""
    if isinstance(form, forms.Select):
        return replace(form, noun=look_alikes(form.noun))
    if isinstance(form, forms.Union):
        return replace(form, parts=tuple(_map_nouns(part) for part in form.parts))
    changes: dict[str, Any] = {"base": _map_nouns(form.base)}
    if isinstance(form, forms.Related):
        changes["anchor"] = _map_nouns(form.anchor)
    if isinstance(form, forms.Except):
        changes["excluded"] = _map_nouns(form.excluded)
    return replace(form, **changes)


def _superlatives(photo: PhotoView, voice: Voice, count: int) -> list[Expression]:
    """What is safe where objects may be missing from the annotations: the plainly biggest thing of a category.

    What annotators leave out is small or far away, so the biggest annotated thing is the biggest one if it is large in
    the picture and the second biggest is much smaller.
    """
    height, width = photo.view.size
    things = photo.view.things
    singles: list[tuple[int, forms.Compare]] = []
    for name in sorted({thing.category for thing in things}):
        if countability(name) == "mass" or name not in photo.view.open:
            continue
        members = sorted(
            (index for index, thing in enumerate(things) if thing.category == name),
            key=lambda index: -things[index].area,
        )
        first = members[0]
        if first not in photo.eligible or things[first].area < _SALIENT_SHARE * height * width:
            continue
        if len(members) > 1 and things[first].area < _SALIENT_RATIO * things[members[1]].area:
            continue
        singles.append((first, forms.Compare(forms.Select(name), "bigger", True)))
        if things[first].colour:
            singles.append((first, forms.Compare(forms.Select(name, things[first].colour), "bigger", True)))
    said: dict[str, Expression] = {}
    for _ in range(4 * count):
        if not singles or len(said) >= count:
            break
        index, single = voice.choice(singles)
        targets: tuple[int, ...] = (index,)
        form: forms.Form = single
        kind = "comparison"
        if len(singles) > 1 and voice.random() < 0.3:
            other_index, other = voice.choice(singles)
            if single.base.noun == other.base.noun or overlap(things[index], things[other_index]) > 0.5:
                continue
            form, targets, kind = forms.Union((single, other)), tuple(sorted((index, other_index))), "compound"
        if sum(expression.form == form for expression in said.values()) >= _SUPERLATIVE_WORDINGS:
            continue
        text = say(form, voice, kind == "compound")
        said.setdefault(text, Expression(text, targets, kind, form))
    return list(said.values())
