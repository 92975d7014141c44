"""English for logical forms: noun phrases and the sentences around them.

`say` writes one of many wordings; which one is up to the random numbers. Wordings keep to what the form claims: "on the
left" is said of `Side` alone, "leftmost" of `Extreme`, and a conjunct that ends in modifiers comes before bare ones, so
that "the woman in red and the man" is not read as two people in red.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from refseg.generation.language import forms
from refseg.generation.language.lexicon import PEOPLE_NOUNS, article, number_word, ordinal, word_for

T = TypeVar("T")
_PATTERN_NOUNS = {"striped": "stripes", "dotted": "dots", "checked": "checks"}
_PATTERN_WORDS = {
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "checkered"),
}


@dataclass(frozen=True)
class Voice:
    """How forms are put into words: random numbers, and what may be claimed of the pictures that are spoken about.

    `noun(name, many, counted)` gives a word for a category or family; `counted` is False where nothing but the bare
    noun stands ("the skis", but "the left pair of skis"); None for the drawn world's own words. `garments`: a colour
    of a person may be called the colour of a shirt. `indefinite` is how often one thing gets "a" instead of "the".
    """

    rng: random.Random
    noun: Callable[[str, bool, bool], str] | None = None
    garments: bool = True
    indefinite: float = 0.0

    def random(self) -> float:
        """A random number below 1."""
        return self.rng.random()

    def choice(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return self.rng.choice(choices)

    def word(self, name: str, many: bool, counted: bool = True) -> str:
        """A word for a category or family, in the plural if `many`."""
        return word_for(name, self.rng, many) if self.noun is None else self.noun(name, many, counted)


def say(form: forms.Form, voice: Voice | random.Random, many: bool = False) -> str:
    """One expression for the form; `many` if it means several things (plural nouns)."""
    return _SAY[type(form)](form, voice if isinstance(voice, Voice) else Voice(voice), many)


def _maybe_the(voice: Voice, words: str, chance: float = 0.5) -> str:
    return f"the {words}" if voice.random() < chance else words


def _phrase(
    form: forms.Select, voice: Voice, many: bool, noun: str | None = None, counted: bool = True
) -> tuple[str, str]:
    """(what stands up to and including the noun, what follows it) of a noun phrase without article."""
    word = noun if noun is not None else voice.word(form.noun, many, counted)
    before: list[str] = []
    after: list[str] = []
    pattern = voice.choice(_PATTERN_WORDS[form.pattern]) if form.pattern in _PATTERN_WORDS else form.pattern
    if form.noun in PEOPLE_NOUNS:
        if form.pattern is not None:
            looks = f"{pattern} {form.colour}" if form.colour else f"{pattern}"
            choices = [f"in {article(looks + ' shirt')}", f"wearing {article(looks + ' top')}", f"in the {looks} shirt"]
            if many:
                choices = [f"in {looks} shirts", f"wearing {looks} clothes"]
            if not form.colour:
                choices.append(f"wearing {_PATTERN_NOUNS.get(form.pattern, form.pattern)}")
            after.append(voice.choice(choices))
        elif form.colour is not None:
            choices = [f"in {form.colour}", f"in {form.colour}", f"wearing {form.colour}", f"dressed in {form.colour}"]
            if not many and voice.garments:
                choices += [f"in the {form.colour} shirt", f"with the {form.colour} top"]
            after.append(voice.choice(choices))
        if form.trait in ("sitting", "standing", "waving"):
            if voice.random() < 0.5:
                before.append(form.trait)
            else:
                tails = {"sitting": ("sitting down", "sitting"), "standing": ("standing", "standing up")}
                verb = "are" if many else "is"
                after.append(voice.choice((*tails.get(form.trait, ("waving",)), f"who {verb} {form.trait}")))
        elif form.trait == "hat":
            after.append(
                voice.choice(("with hats", "wearing hats") if many else ("with a hat", "wearing a hat", "with the hat"))
            )
        elif form.trait is not None:
            after.append(f"who {'are' if many else 'is'} {form.trait}")
    else:
        if form.pattern is not None and form.colour is not None:
            if voice.random() < 0.3 and form.pattern in _PATTERN_NOUNS:
                before.append(form.colour)
                after.append(f"with {_PATTERN_NOUNS[form.pattern]}")
            else:
                before += [f"{pattern}", form.colour]
        elif form.pattern is not None:
            if voice.random() < 0.25 and form.pattern in _PATTERN_NOUNS:
                after.append(f"with {_PATTERN_NOUNS[form.pattern]}")
            else:
                before.append(f"{pattern}")
        elif form.colour is not None:
            before.append(form.colour)
        if form.trait is not None:
            after.append(f"that {'are' if many else 'is'} {form.trait}")
    return " ".join([*before, word]), " ".join(after)


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _say_select(form: forms.Select, voice: Voice, many: bool) -> str:
    plain = form.colour is None and form.pattern is None and form.trait is None
    if many and form.noun == "person" and voice.random() < 0.4:
        who = voice.choice(("everyone", "everybody"))
        if plain:
            return voice.choice((who, f"{who} here"))
        _, after = _phrase(forms.Select("person", form.colour, form.pattern, None), voice, False, who)
        pose = {"hat": "with a hat"}.get(form.trait or "", form.trait or "")
        return _join(who, after, pose)
    if many and form.noun == "thing":
        looks = _join(form.pattern or "", form.colour or "")
        return voice.choice(
            (f"all {looks} things", f"everything {looks}", f"everything that is {looks}", f"all the {looks} objects")
        )
    if many:
        if voice.random() < 0.2:
            front, after = _phrase(form, voice, False)
            return _join(voice.choice(("every", "each")), front, after)
        front, after = _phrase(form, voice, True)
        return _join(voice.choice(("all", "all the", "all of the", "the", "")), front, after)
    indefinite = voice.indefinite > 0 and voice.random() < voice.indefinite
    front, after = _phrase(form, voice, False, counted=indefinite)
    return article(_join(front, after)) if indefinite else _maybe_the(voice, _join(front, after))


_EXTREME: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "left": (
        ("left", "leftmost", "far left", "left-hand"),
        ("on the far left", "furthest left", "furthest to the left"),
    ),
    "right": (
        ("right", "rightmost", "far right", "right-hand"),
        ("on the far right", "furthest right", "furthest to the right"),
    ),
    "top": (("top", "topmost"), ("at the top", "highest up")),
    "bottom": (("bottom", "lowest"), ("at the bottom", "lowest down")),
    "near": (
        ("closest", "nearest", "front"),
        ("closest to us", "closest to the camera", "in the front", "nearest to us"),
    ),
    "far": (("farthest", "furthest", "back"), ("furthest away", "in the back", "farthest from us", "farthest back")),
    "middle": (("middle", "center"), ("in the middle", "in the center")),
}


def _say_extreme(form: forms.Extreme, voice: Voice, many: bool) -> str:
    front, after = _phrase(form.base, voice, False)
    before, behind = _EXTREME[form.side]
    if voice.random() < 0.55:
        return _maybe_the(voice, _join(voice.choice(before), front, after))
    return _maybe_the(voice, _join(front, after, voice.choice(behind)))


def _say_side(form: forms.Side, voice: Voice, many: bool) -> str:
    front, after = _phrase(form.base, voice, many)
    where = voice.choice((f"on the {form.side}", f"on {form.side}", f"on the {form.side} side", f"to the {form.side}"))
    words = _join(front, after, where)
    if many and voice.random() < 0.5:
        return f"{voice.choice(('all', 'all the'))} {words}"
    return _maybe_the(voice, words)


_FROM = {
    "left": ("from the left", "from left"),
    "right": ("from the right", "from right"),
    "near": ("from the front",),
    "far": ("from the back",),
}


def _say_nth(form: forms.Nth, voice: Voice, many: bool) -> str:
    front, after = _phrase(form.base, voice, False)
    rank = ordinal(form.rank, digits=voice.random() < 0.3)
    where = voice.choice(_FROM[form.side])
    if voice.random() < 0.15 and not after:
        return _join(front, "number", number_word(form.rank), where)
    return _maybe_the(voice, _join(rank, front, after, where))


def _say_first(form: forms.First, voice: Voice, many: bool) -> str:
    front, after = _phrase(form.base, voice, True)
    count = number_word(form.count)
    before = {"left": "leftmost", "right": "rightmost", "near": "closest", "far": "farthest"}[form.side]
    behind = {
        "left": ("on the far left", "furthest to the left"),
        "right": ("on the far right", "furthest to the right"),
        "near": ("closest to us", "in the front"),
        "far": ("furthest away", "in the back"),
    }[form.side]
    if voice.random() < 0.4:
        return _maybe_the(voice, _join(*voice.choice(((count, before), (before, count))), front, after))
    return _maybe_the(voice, _join(count, front, after, voice.choice(behind)))


def _say_exactly(form: forms.Exactly, voice: Voice, many: bool) -> str:
    front, after = _phrase(form.base, voice, True)
    words = _join(front, after)
    count = number_word(form.count)
    if form.count == 2 and voice.random() < 0.4:
        return f"{voice.choice(('both', 'both of the', 'both the'))} {words}"
    whole = ("the ", "") if form.count == 2 else ("the ", "", "all ", "all of the ")
    return f"{voice.choice(whole)}{count} {words}"


_RELATIONS = {
    "left_of": ("to the left of", "left of", "on the left of"),
    "right_of": ("to the right of", "right of", "on the right of"),
    "behind": ("behind", "behind", "in back of"),
    "in_front_of": ("in front of",),
    "next_to": ("next to", "beside", "right by"),
    "on": ("on", "on top of", "sitting on"),
    "nearest": ("closest to", "nearest to", "nearest"),
}


def _say_related(form: forms.Related, voice: Voice, many: bool) -> str:
    front, after = _phrase(form.base, voice, many)
    link = voice.choice(_RELATIONS[form.relation])
    other_front, other_after = _phrase(form.anchor, voice, False, counted=False)
    other = _maybe_the(voice, _join(other_front, other_after), 0.8)
    words = _join(front, after, link, other)
    if many and voice.random() < 0.4:
        return f"all {words}"
    return _maybe_the(voice, words)


def _say_compare(form: forms.Compare, voice: Voice, many: bool) -> str:
    front, after = _phrase(form.base, voice, False)
    word = voice.choice(("bigger", "larger") if form.quality == "bigger" else ("smaller",))
    if form.several:
        word = voice.choice(("biggest", "largest") if form.quality == "bigger" else ("smallest", "tiniest"))
    if voice.random() < 0.15 and not after and not form.several:
        return _maybe_the(voice, f"{front} that is {word}")
    return _maybe_the(voice, _join(word, front, after))


def _say_union(form: forms.Union, voice: Voice, many: bool) -> str:
    if form.shared is not None:
        people = all(isinstance(part, forms.Select) and part.noun in PEOPLE_NOUNS for part in form.parts)
        things = [say(part, voice) for part in form.parts]
        both = "both" if len(things) == 2 else "all"
        tail = (
            voice.choice((f"{both} in {form.shared}", f"{both} wearing {form.shared}"))
            if people
            else f"{both} {form.shared}"
        )
        return f"{_list(things)}, {tail}" if voice.random() < 0.5 else f"{_list(things)} {tail}"
    said = [(say(part, voice), part) for part in form.parts]
    # Modifiers at the end of the last conjunct could be heard of the others too: let the longest tails come first.
    said.sort(key=lambda pair: not _ends_modified(pair[1]))
    things = [words for words, _ in said]
    if voice.random() < 0.12 and len(things) == 2:
        return f"{things[0]} {voice.choice(('as well as', 'along with', 'plus'))} {things[1]}"
    return _list(things)


def _list(things: list[str]) -> str:
    if len(things) == 2:
        return f"{things[0]} and {things[1]}"
    return f"{', '.join(things[:-1])} and {things[-1]}"


def _ends_modified(form: forms.Form) -> bool:
    if isinstance(form, forms.Select):
        return form.noun in PEOPLE_NOUNS and (form.colour or form.pattern or form.trait) is not None
    return True


def _say_except(form: forms.Except, voice: Voice, many: bool) -> str:
    if form.base.noun == "person" and voice.random() < 0.5 and form.base == forms.Select("person"):
        whole = voice.choice(("everyone", "everybody", "all of them"))
        whole = whole if whole != "all of them" else "all the people"
    else:
        front, after = _phrase(form.base, voice, True)
        whole = _join(voice.choice(("all", "all the", "all of the")), front, after)
    but = voice.choice(("except", "except", "except for", "but", "other than", "apart from"))
    inner = form.excluded
    if isinstance(inner, forms.Select) and inner.noun == form.base.noun and voice.random() < 0.6:
        front, after = _phrase(inner, voice, False, "one")
        return f"{whole} {but} the {_join(front, after)}"
    rest = say(inner, voice)
    return f"{whole} {but} {rest if rest.startswith('the ') else 'the ' + rest}"


_SAY: dict[type, Callable[..., str]] = {
    forms.Select: _say_select,
    forms.Extreme: _say_extreme,
    forms.Side: _say_side,
    forms.Nth: _say_nth,
    forms.First: _say_first,
    forms.Exactly: _say_exactly,
    forms.Related: _say_related,
    forms.Compare: _say_compare,
    forms.Union: _say_union,
    forms.Except: _say_except,
}
