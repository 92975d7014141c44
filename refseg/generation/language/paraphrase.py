"""Paraphrases: the short, careless way in which people refer to things, with the same targets.

People who were asked for expressions write "left guy", "2nd from right", "cat closest to us", "red shirt", and mistype.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from refseg.generation.language.lexicon import EVERYDAY, FILLERS, HYPERNYMS, PARAPHRASES, PERSON_PARAPHRASES, plural
from refseg.palette import COLOR_WORDS

_MIRRORED = {
    "left": "right",
    "right": "left",
    "leftmost": "rightmost",
    "rightmost": "leftmost",
    "lefthand": "righthand",
}
_MIRRORED |= {"righthand": "lefthand", "lhs": "rhs", "rhs": "lhs"}

_COLOURS = "|".join(COLOR_WORDS)
_PLACES: tuple[tuple[re.Pattern[str], Sequence[str]], ...] = tuple(
    (re.compile(pattern), choices)
    for pattern, choices in (
        (
            r"^(?P<x>.+?) (?:on|to) (?:the )?(?P<s>left|right)$",
            (r"\g<s> \g<x>", r"\g<x> \g<s>", r"\g<x> on \g<s>", r"\g<x> \g<s> side", r"\g<x> on the \g<s> side"),
        ),
        (
            r"^(?P<s>left|right) (?P<x>.+)$",
            (r"\g<x> \g<s>", r"\g<x> on \g<s>", r"\g<x> on the \g<s>", r"\g<x> to the \g<s>", r"\g<s> side \g<x>"),
        ),
        (
            r"^(?P<s>left|right)most (?P<x>.+)$",
            (
                r"far \g<s> \g<x>",
                r"\g<x> far \g<s>",
                r"\g<x> on far \g<s>",
                r"\g<x> all the way to the \g<s>",
                r"\g<s> most \g<x>",
                r"\g<x> furthest \g<s>",
                r"very \g<s> \g<x>",
            ),
        ),
        (
            r"^(?P<x>.+?) (?:on|to) the far (?P<s>left|right)$",
            (r"far \g<s> \g<x>", r"\g<x> far \g<s>", r"\g<s> most \g<x>", r"\g<x> at far \g<s>"),
        ),
        (
            r"^(?:closest|nearest) (?P<x>.+)$",
            (
                r"\g<x> closest to us",
                r"front \g<x>",
                r"\g<x> in front",
                r"\g<x> nearest camera",
                r"\g<x> up front",
                r"\g<x> in foreground",
                r"close \g<x>",
            ),
        ),
        (
            r"^(?:farthest|furthest) (?P<x>.+)$",
            (r"back \g<x>", r"\g<x> in back", r"\g<x> in the background", r"\g<x> way in back", r"far \g<x>"),
        ),
        (
            r"^(?P<x>.+?) in the (?:middle|center|centre)$",
            (r"middle \g<x>", r"center \g<x>", r"\g<x> in middle", r"\g<x> in center", r"\g<x> middle"),
        ),
        (r"^(?:middle|center) (?P<x>.+)$", (r"\g<x> in middle", r"\g<x> in the center", r"centre \g<x>")),
        (
            r"^top (?P<x>.+)$",
            (r"upper \g<x>", r"\g<x> on top", r"\g<x> at top", r"highest \g<x>", r"\g<x> top"),
        ),
        (
            r"^bottom (?P<x>.+)$",
            (r"lower \g<x>", r"\g<x> on bottom", r"\g<x> at the bottom", r"lowest \g<x>", r"\g<x> bottom"),
        ),
    )
)
_NUMBERED = re.compile(r"^(?P<x>\w+(?: \w+)?) number (?P<n>two|three|four) from (?P<r>.+)$")
_ORDER = {"two": "2nd", "three": "3rd", "four": "4th"}
_DRESSED = re.compile(rf"^(?P<x>\w+) (?:in|wearing|dressed in) (?P<c>{_COLOURS})(?P<r>.*)$")
_DRESSES = (
    r"\g<x> in \g<c> shirt\g<r>",
    r"\g<c> shirt \g<x>\g<r>",
    r"\g<c> \g<x>\g<r>",
    r"\g<x> in \g<c> top\g<r>",
    r"\g<x> with \g<c> shirt\g<r>",
    r"\g<x> with \g<c> jacket\g<r>",
    r"\g<x> \g<c> shirt\g<r>",
    r"\g<x> w/ \g<c> shirt\g<r>",
    r"\g<x> in the \g<c>\g<r>",
    r"\g<x> wearing \g<c>\g<r>",
)
_WEARS = re.compile(r" who (?:is|are) (?P<v>wearing|carrying) (?P<a>an? )?(?P<w>\w+)")
_WEARINGS = (r" in \g<w>", r" with \g<w>", r" \g<v> \g<a>\g<w>", r" with \g<a>\g<w>", r" \g<v> \g<w>")
_ASKS = ("find ", "show me ", "select ", "the ", "segment ", "where is ", "please find ", "look for ")
_TAILS = (" please", " in the picture", " in the photo", " in this image", " here", " in the scene")


def _names() -> dict[str, tuple[str, bool]]:
    """Categories by what an expression says for them: their names and plurals, and whether it is the plural."""
    names = {form: (name, form != name) for name in EVERYDAY for form in (plural(name), name)}
    return names | {"people": ("person", True)}


_NAMES = _names()
_NAMED = re.compile(rf"\b(?:{'|'.join(sorted(_NAMES, key=len, reverse=True))})\b")


def _everyday(text: str, rng: random.Random, alone: bool) -> str:
    """Categories' names in the words that people use; where the picture has no other category (`alone`), also a wider
    noun, or one that says nothing."""
    chosen: dict[str, str] = {}

    def said(found: re.Match[str]) -> str:
        name, several = _NAMES[found[0]]
        if name not in chosen:
            wider = [word for word, names in HYPERNYMS.items() if name in names]
            words: Sequence[str] = EVERYDAY[name]
            if alone and rng.random() < 0.2:
                words = wider + list(FILLERS) if rng.random() < 0.6 else FILLERS
            chosen[name] = rng.choice(words)
        return plural(chosen[name]) if several else chosen[name]

    return _NAMED.sub(said, text)


def mirror_words(text: str) -> str:
    """What is true of the picture's mirror image: every left is a right and the other way round."""
    return re.sub(r"[A-Za-z]+", lambda found: _MIRRORED.get(found[0].lower(), found[0]), text)


def mistype(text: str, rng: random.Random) -> str:
    """One slip in a word of four letters or more: two letters change places, or one is left out or doubled."""
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not long:
        return text
    place = rng.choice(long)
    word = words[place]
    at = rng.randrange(1, len(word) - 1)
    slips = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at : at + 1] + word[at:],
    )
    words[place] = rng.choice(slips)
    return " ".join(words)


def _tail(rng: random.Random, words: Sequence[str]) -> str:
    """Something that a thing has or is near to, as people add it: with it an expression means what it meant."""
    word, colour = rng.choice(words), rng.choice(COLOR_WORDS)
    if rng.random() < 0.15:
        word = "".join(rng.choices("abcdefghijklmnoprstuvwz", k=rng.randint(4, 8)))
    return rng.choice(
        (
            f" with {word}",
            f" near {word}",
            f" holding a {word}",
            f" by the {word}",
            f" {word}",
            f" with a {colour} {word}",
            f" {colour} {word}",
            f" wearing {word}",
            f" looking at {word}",
            f" that is {word}",
            f" with {rng.choice(words)} {word}",
        )
    )


def paraphrase(
    text: str,
    rng: random.Random,
    *,
    photograph: bool = True,
    alone: bool = False,
    others: Sequence[str] = (),
    slips: float = 0.06,
) -> str:
    """The expression in other words; each step is taken at random, none changes the targets.

    Args:
        photograph: categories are called what people call them (`lexicon.EVERYDAY`), and words for people stand for
            each other; not in drawn scenes, which tell men, women and kids apart.
        alone: every object of the picture is of the expression's category, so that the noun itself may be left out.
        others: words that may be put in as something a thing is near to or has, which changes nothing of what is meant
            as long as one thing is.
        slips: share of expressions that are mistyped.
    """
    text = text.lower().strip().rstrip(".")
    bare = re.sub(r"\b(?:the|a|an)\b ?", "", text).strip() or text
    if rng.random() < 0.6:
        text = re.sub(r"^(?:the|an?) ", "", text)
    stem = re.sub(r"^(?:the|an?) ", "", text)
    if " and " not in text and "," not in text and rng.random() < 0.6:
        for pattern, choices in _PLACES:
            if pattern.match(stem):
                text = pattern.sub(rng.choice(choices), stem)
                break
        found = _NUMBERED.match(stem)
        if found:
            text = f"{_ORDER[found['n']]} {found['x']} from {found['r']}"
        stem = re.sub(r"^(?:the|an?) ", "", text)
        if _DRESSED.match(stem):
            text = _DRESSED.sub(rng.choice(_DRESSES), stem)
    text = _WEARS.sub(lambda found: found.expand(rng.choice(_WEARINGS)).replace("  ", " "), text)
    if photograph and rng.random() < 0.5:
        text = _everyday(text, rng, alone)
    table = PARAPHRASES | PERSON_PARAPHRASES if photograph else PARAPHRASES
    said: dict[str, str] = {}
    if rng.random() < 0.6:
        text = re.sub(
            r"[a-z]+",
            lambda word: said.setdefault(word[0], rng.choice(table[word[0]])) if word[0] in table else word[0],
            text,
        )
    if (
        alone
        and rng.random() < 0.25
        and re.fullmatch(r"(?:far |very )?(?:left|right|middle|top|bottom|front|back) \w+", text)
    ):
        text = text.rsplit(" ", 1)[0] + rng.choice(("", "", " one"))
    if others and rng.random() < 0.15 and len(bare.split()) < 5:
        text += _tail(rng, others)
    if rng.random() < 0.05:
        text = rng.choice(_ASKS) + text
    elif rng.random() < 0.04:
        text += rng.choice(_TAILS)
    if rng.random() < slips:
        text = mistype(text, rng)
    return " ".join(text.split())
