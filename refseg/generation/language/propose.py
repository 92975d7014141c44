"""Candidate logical forms of each kind for a view.

A proposer only makes candidates that are worth checking; the evaluator decides. Deceptive expressions without a target
are candidates of the other kinds with one attribute changed, or candidates about another picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from refseg.generation.language import forms
from refseg.generation.language.lexicon import FAMILY_NOUNS, PEOPLE_NOUNS
from refseg.generation.language.logic import Evaluator
from refseg.palette import PAINTS

KINDS = (
    "attribute",
    "location",
    "ordinal",
    "relation",
    "comparison",
    "counting",
    "group",
    "compound",
    "exclusion",
    "no_target",
)
# How often each kind is tried; scenes that cannot carry a kind give its share to the others. Over 300 scenes of split
# train (4,800 expressions) came, in per cent: attribute 13, location 15, ordinal 9, relation 13, comparison 7,
# counting 8, group 9, compound 9, exclusion 3, no_target 14.
MIX = dict(zip(KINDS, (0.13, 0.14, 0.09, 0.13, 0.08, 0.09, 0.09, 0.09, 0.04, 0.12), strict=True))
# RefCOCO+ has no words for absolute places: location and ordinal fall out.
MIX_PLUS = {kind: share for kind, share in MIX.items() if kind not in ("location", "ordinal")}

_OPPOSITE = {
    "left": "right",
    "right": "left",
    "left_of": "right_of",
    "right_of": "left_of",
    "behind": "in_front_of",
    "in_front_of": "behind",
    "near": "far",
    "far": "near",
}


class Proposer:
    """Proposes forms about one view. `plus`: no words for absolute places (left, nearest, second from the left)."""

    def __init__(self, evaluator: Evaluator, rng: random.Random, plus: bool = False) -> None:
        self.evaluator, self.rng, self.plus = evaluator, rng, plus
        self.things = evaluator.things
        # Without depths (photographs) nothing is near, far, behind or in front; without supports nothing is on another.
        self.deep = all(thing.depth is not None for thing in self.things)
        self.stacked = all(thing.support is not None for thing in self.things)
        self.candidates = self._candidates()
        self.unique: dict[int, list[forms.Select]] = {}
        self.sets: list[tuple[forms.Select, frozenset[int]]] = []
        for form in self.candidates:
            found = evaluator.denote(form)
            if found and len(found) == 1:
                self.unique.setdefault(min(found), []).append(form)
            elif found:
                self.sets.append((form, found))
        self.colours = sorted({thing.colour for thing in self.things if thing.colour})
        self._proposers: dict[str, Callable[[], tuple[forms.Form, bool] | None]] = {
            "attribute": self._attribute,
            "location": self._location,
            "ordinal": self._ordinal,
            "relation": self._relation,
            "comparison": self._comparison,
            "counting": self._counting,
            "group": self._group,
            "compound": self._compound,
            "exclusion": self._exclusion,
        }

    def propose(self, kind: str) -> tuple[forms.Form, bool] | None:
        """(form, whether it speaks of several) of a kind with targets; None if the view has nothing for it."""
        if not self.things:
            return None
        return self._proposers[kind]()

    def _candidates(self) -> list[forms.Select]:
        """Every noun with every set of up to two attributes that some thing has."""
        found: dict[forms.Select, None] = {}
        for thing in self.things:
            nouns = [thing.category, *(name for name in thing.families if name in FAMILY_NOUNS)]
            pattern = thing.pattern if thing.pattern != "plain" else None
            traits = thing.traits or ()
            for noun in nouns:
                found[forms.Select(noun)] = None
                if thing.colour:
                    found[forms.Select(noun, thing.colour)] = None
                    if pattern:
                        found[forms.Select(noun, thing.colour, pattern)] = None
                if pattern:
                    found[forms.Select(noun, None, pattern)] = None
                for trait in traits:
                    found[forms.Select(noun, None, None, trait)] = None
                    if thing.colour:
                        found[forms.Select(noun, thing.colour, None, trait)] = None
            for form in (forms.Select("thing", thing.colour), forms.Select("thing", None, pattern)):
                if form != forms.Select("thing"):
                    found[form] = None
        return list(found)

    def _pick(self, phrases: list[forms.Select]) -> forms.Select:
        """A short one more often than a long one, a category more often than a family."""
        return self.rng.choices(phrases, weights=[_ease(form) for form in phrases])[0]

    def _single(self, index: int) -> forms.Select | None:
        unique = self.unique.get(index, ())
        phrases = [form for form in unique if form.noun != "thing" or self.rng.random() < 0.3]
        return self._pick(phrases) if phrases else None

    def _several(self, low: int = 2, thing: bool = False) -> tuple[forms.Select, frozenset[int]] | None:
        """A noun phrase that fits at least `low` things."""
        fits = [pair for pair in self.sets if len(pair[1]) >= low and (thing or pair[0].noun != "thing")]
        if not fits:
            return None
        return self.rng.choices(fits, weights=[_ease(form) for form, _ in fits])[0]

    def _attribute(self) -> tuple[forms.Form, bool] | None:
        form = self._single(self.rng.randrange(len(self.things)))
        if form is None or (_plain(form) and self.rng.random() < 0.6):
            return None
        return form, False

    def _location(self) -> tuple[forms.Form, bool] | None:
        if self.rng.random() < 0.12:  # one of its kind, and on that side
            form: forms.Select | None = self._single(self.rng.randrange(len(self.things)))
        else:
            several = self._several()
            form = several[0] if several else None
        if form is None:
            return None
        side = self.rng.choices(
            ("left", "right", "near", "far", "middle", "top", "bottom"),
            weights=(6, 6, 2.5 * self.deep, 2.5 * self.deep, 1.5, 0.6, 0.6),
        )[0]
        if side in ("left", "right") and self.rng.random() < 0.4:
            return forms.Side(form, side), False
        return forms.Extreme(form, side), False

    def _ordinal(self) -> tuple[forms.Form, bool] | None:
        several = self._several(3 if self.rng.random() < 0.8 else 2)
        if several is None:
            return None
        form, found = several
        rank = self.rng.randint(1 if self.rng.random() < 0.25 else 2, len(found))
        return forms.Nth(
            form, rank, self.rng.choices(("left", "right", "near", "far"), weights=(4, 4, self.deep, self.deep))[0]
        ), False

    def _relation(self) -> tuple[forms.Form, bool] | None:
        anchor_index = self.rng.randrange(len(self.things))
        anchor = self._single(anchor_index)
        if anchor is None:
            return None
        several = self._several() if self.rng.random() < 0.75 else None
        base = several[0] if several else self._single(self.rng.randrange(len(self.things)))
        if base is None or base.noun == "thing":
            return None
        names = ["behind", "in_front_of", "next_to", "nearest", "on"]
        on = 4.0 if any(thing.support == anchor_index for thing in self.things) else 0.2
        weights = [3.0 * self.deep, 3.0 * self.deep, 3.0, 1.5, on * self.stacked]
        if not self.plus:
            names += ["left_of", "right_of"]
            weights += [2.5, 2.5]
        form = forms.Related(base, self.rng.choices(names, weights=weights)[0], anchor)
        found = self.evaluator.denote(form)
        return form, bool(found) and len(found or ()) > 1

    def _comparison(self) -> tuple[forms.Form, bool] | None:
        several = self._several()
        if several is None:
            return None
        form, found = several
        return forms.Compare(form, self.rng.choice(("bigger", "smaller")), len(found) > 2), False

    def _counting(self) -> tuple[forms.Form, bool] | None:
        if self.plus or self.rng.random() < 0.4:
            several = self._several(2)
            return (forms.Exactly(several[0], len(several[1])), True) if several else None
        several = self._several(3)
        if several is None:
            return None
        form, found = several
        side = self.rng.choices(("left", "right", "near", "far"), weights=(3, 3, self.deep, self.deep))[0]
        return forms.First(form, self.rng.randint(2, len(found) - 1), side), True

    def _group(self) -> tuple[forms.Form, bool] | None:
        several = self._several(2, thing=True)
        if several is None:
            return None
        form = several[0]
        if not self.plus and form.noun != "thing" and self.rng.random() < 0.25:
            return forms.Side(form, self.rng.choice(("left", "right"))), True
        return form, True

    def _compound(self) -> tuple[forms.Form, bool] | None:
        count = 2 if len(self.things) < 3 or self.rng.random() < 0.8 else 3
        if len(self.things) < 2:
            return None
        picked = self.rng.sample(range(len(self.things)), count)
        shared = {self.things[index].colour for index in picked}
        if len(shared) == 1 and all(shared) and self.rng.random() < 0.5:
            nouns = [self.unique.get(index, []) for index in picked]
            plain = [next((form for form in phrases if _plain(form)), None) for phrases in nouns]
            people = {"person" in self.things[index].families for index in picked}
            if all(plain) and len(people) == 1:
                return forms.Union(tuple(form for form in plain if form), next(iter(shared))), True
        parts: list[forms.Form] = []
        for index in picked:
            part: forms.Form | None = self._single(index)
            if part is None or (not self.plus and self.rng.random() < 0.35):
                located = self._located(index)
                part = located or part
            if part is None or (isinstance(part, forms.Select) and part.noun == "thing"):
                return None
            parts.append(part)
        return forms.Union(tuple(parts)), True

    def _located(self, index: int) -> forms.Form | None:
        if self.plus:
            return None
        bases = [form for form, found in self.sets if index in found and form.noun != "thing"]
        if not bases:
            return None
        form = forms.Extreme(
            self._pick(bases), self.rng.choice(("left", "right", "near", "far") if self.deep else ("left", "right"))
        )
        return form if self.evaluator.denote(form) == {index} else None

    def _exclusion(self) -> tuple[forms.Form, bool] | None:
        several = self._several(3)
        if several is None:
            return None
        base, found = several
        out = self.rng.choice(sorted(found))
        part = self._single(out)
        if part is None or (not self.plus and self.rng.random() < 0.25):
            part_form: forms.Form | None = self._located(out) or part
        else:
            part_form = part
        if part_form is None or next(forms.selects(part_form)).noun == "thing":
            return None
        return forms.Except(base, part_form), True

    def twist(self, form: forms.Form) -> forms.Form | None:
        """The form with one attribute changed to another of this picture, or a side or relation to its opposite."""
        if isinstance(form, (forms.Side, forms.Related)) and self.rng.random() < 0.3:
            if isinstance(form, forms.Side):
                return replace(form, side=_OPPOSITE[form.side])
            return replace(form, relation=_OPPOSITE[form.relation]) if form.relation in _OPPOSITE else None
        if isinstance(form, (forms.Union, forms.Except)):
            return None
        if isinstance(form, forms.Select):
            return self._twist_select(form)
        if isinstance(form, forms.Related) and self.rng.random() < 0.3:
            return replace(form, anchor=self._twist_select(form.anchor))
        return replace(form, base=self._twist_select(form.base))

    def _twist_select(self, form: forms.Select) -> forms.Select:
        ways = ["noun", "colour", "colour"] if self.colours else ["noun"]
        if form.pattern is not None:
            ways.append("pattern")
        if form.trait is not None:
            ways.append("trait")
        way = self.rng.choice(ways)
        if way == "noun":
            nouns = sorted({thing.category for thing in self.things})
            if any("person" in thing.families for thing in self.things):
                nouns = sorted({*nouns, "man", "woman", "boy", "girl"} - {form.noun})
            twisted = replace(form, noun=self.rng.choice(nouns))
            return _plain_if_photo(twisted)
        if way == "colour":
            colours = self.colours if self.rng.random() < 0.7 else list(PAINTS)
            return replace(form, colour=self.rng.choice(colours))
        if way == "pattern":
            return replace(form, pattern=self.rng.choice(("striped", "dotted", "checked")))
        return replace(form, trait=self.rng.choice(("sitting", "standing", "hat", "waving")))

    def names_present(self, form: forms.Form) -> bool:
        """Whether every noun of the form, or a relative of it, is in the picture: what deception needs."""
        families = {family for thing in self.things for family in (thing.category, *thing.families)}
        for select in forms.selects(form):
            if select.noun == "thing":
                return False
            if select.noun not in families and not (select.noun in PEOPLE_NOUNS and "person" in families):
                return False
        return True


# How readily a family's word is used where a category's would do.
_EASE = {
    "thing": 0.5,
    "adult": 0.12,
    "animal": 0.35,
    "furniture": 0.15,
    "toy": 0.35,
    "vehicle": 0.35,
    "kid": 0.7,
    "person": 0.7,
}


def _plain_if_photo(form: forms.Select) -> forms.Select:
    """People alone sit, stand, wave and wear hats."""
    return form if form.noun in PEOPLE_NOUNS else replace(form, trait=None)


def _plain(form: forms.Select) -> bool:
    return form.colour is None and form.pattern is None and form.trait is None


def _ease(form: forms.Select) -> float:
    attributes = sum(value is not None for value in (form.colour, form.pattern, form.trait))
    weight = (1.0, 1.0, 0.35)[min(attributes, 2)]
    return weight * _EASE.get(form.noun, 1.0)
