"""One noun phrase without links: every word by its list, and the head among its nouns."""

from __future__ import annotations

from dataclasses import replace

from refseg.models.instances.nouns import table
from refseg.models.instances.structure import Notes, Phrase, Place, Rank
from refseg.models.instances.vocabulary import (
    BODY_SIDES,
    COLOUR_WORDS,
    FILLERS,
    NOT_PLACES_AFTER,
    NUMBERS,
    ORDINALS,
    PARTITIVES,
    PARTS,
    PATTERNS,
    PICTURE,
    PRONOUNS,
    QUANTIFIERS,
    SIDES,
    SIZES,
    STRONG,
)
from refseg.models.instances.words import HOUR, is_noun, is_plural, is_trait, noun_in

__all__ = ["simple_phrase"]

_AFTER_ADVERB = frozenset(("in", "over", "alone", "around", "the", "about", "by", "dressed", ""))
_TOPS = frozenset(("tank", "crop", "halter", "counter", "stove", "a"))


def simple_phrase(words: list[str], notes: Notes) -> Phrase:
    """A phrase without links: every word by its list, nouns by their groups."""
    places: list[Place] = []
    colours: list[str] = []
    size, rank, count, many = "", 0, 0, False
    groups: list[list[str]] = [[]]
    unknown: list[str] = []
    skip_side = False
    for at, word in enumerate(words):
        following = words[at + 1] if at + 1 < len(words) else ""
        before = words[at - 1] if at else ""
        phrase_two = f"{before} {word}"
        if word.startswith(HOUR) and word[len(HOUR) :].isdigit():
            places.append(Place("clock", hour=int(word[len(HOUR) :])))
            notes.used.append(word)
        elif word == "all" and (following == "you" or (groups[0] and following in _AFTER_ADVERB)):
            continue  # "man all in black", "all you see"
        elif word in QUANTIFIERS:
            many = True
            count = 2 if word == "both" else count
            notes.used.append(word)
            if word in ("everyone", "everybody"):
                groups[-1].append(word)
        elif word in ORDINALS and _is_rank(words, at):
            rank = ORDINALS[word]
            notes.used.append(word)
        elif word in NUMBERS:
            if before == "number":
                rank = NUMBERS[word]
            else:
                count, many = NUMBERS[word], True
            notes.used.append(word)
        elif word in SIDES and not skip_side:
            if _is_place(words, at):
                strong = before in STRONG or (word.endswith(("most", "est")) and SIDES[word] in ("left", "right"))
                strong = strong or (
                    before == "the" and at >= 2 and words[at - 2] in ("to", "furthest", "farthest", "way")
                )
                if places and before in ("farthest", "furthest") and SIDES[word] in ("left", "right"):
                    places.pop()  # "furthest left" is no depth
                places.append(Place(SIDES[word], strong, half=following in ("side", "hand")))
                notes.used.append(word)
            elif word in table() and word not in ("back", "front"):
                groups[-1].append(word)
        elif word in STRONG and following in SIDES:
            continue
        elif word == "far":
            places.append(Place("far"))
            notes.used.append(word)
        elif (
            word in COLOUR_WORDS
            and not (word == "orange" and not _names(words[at + 1 :]) and not groups[0])
            and not (phrase_two in table() and groups[-1][-1:] == [before])  # "the traffic light"
        ):
            if word in ("dark", "light", "bright") and following in COLOUR_WORDS:
                continue
            colours.append(word)
            if groups[-1]:
                groups.append([])
        elif word in SIZES and not (word == "baby" and not noun_in(words[at + 1 :])):
            size = size or word
            if groups[-1]:
                groups.append([])
        elif phrase_two in table() and before and groups[-1] and groups[-1][-1] == before:
            groups[-1][-1] = phrase_two
        elif is_noun(word):
            groups[-1].append(word)
        elif word in FILLERS or word == "," or word in PICTURE:
            if word == "," and groups[-1]:
                groups.append([])
        elif f"{word} {following}" in table():
            groups[-1].append(word)  # first word of a two-word name
        else:
            unknown.append(word)
            if groups[-1]:
                groups.append([])
    return _with_nouns(
        [group for group in groups if group],
        unknown,
        words,
        notes,
        Phrase(
            colours=tuple(colours),
            size=size,
            places=tuple(dict.fromkeys(places)),
            rank=Rank(rank, _rank_side(words, places)) if rank else None,
            count=count,
            many=many,
        ),
    )


def _names(words: list[str]) -> bool:
    """Whether something is named that a colour before it is said of; a top is, at the end."""
    return noun_in(words) or words[-1:] == ["top"]


def _is_rank(words: list[str], at: int) -> bool:
    """An ordinal orders; "second" at the end too ("the second")."""
    return not (words[at] == "second" and at + 1 < len(words) and words[at + 1] == "hand")


def _rank_side(words: list[str], places: list[Place]) -> str:
    for place in places:
        if place.side in ("left", "right", "top", "bottom", "near", "far"):
            return place.side
    return "left"


def _is_place(words: list[str], at: int) -> bool:
    """Whether a word of a side places the thing, and does not tell of its body or where it looks."""
    before = words[at - 1] if at else ""
    following = words[at + 1] if at + 1 < len(words) else ""
    word = words[at]
    if word in ("l", "r") and not (at == 0 or at == len(words) - 1):
        return False
    if before in NOT_PLACES_AFTER:
        return False
    if word in ("left", "right") and following in BODY_SIDES:
        return False
    if word in ("left", "right") and following in ("hand", "hands"):
        third = words[at + 2] if at + 2 < len(words) else ""
        named = bool(third) and (is_noun(third) or third in ("side", "corner", "picture", "most"))
        return named or before in SIDES or at + 2 == len(words)
    if word == "back" and (
        following in ("to", "turned", "facing", "of", "is", "end", "pack", "seat") or before in ("with", "s")
    ):
        return False
    if word in ("upper", "lower") and (following in PARTS or following in ("half", "part")):
        return False
    if word == "top" and (before in COLOUR_WORDS or before in PATTERNS or before in _TOPS):
        return False
    return not (word == "right" and following in ("next", "by", "beside", "behind", "there", "here"))


def _with_nouns(groups: list[list[str]], unknown: list[str], words: list[str], notes: Notes, phrase: Phrase) -> Phrase:
    """Choose the head among groups of adjacent nouns: the last noun of the first group with a thing in it; garments and
    parts are traits of what else is named."""
    things = [group for group in groups if any(not is_trait(noun) for noun in group)]
    traits = [noun for group in groups for noun in group if is_trait(noun)]
    if not things:
        head = traits[-1] if traits else ""
        many = phrase.many or (phrase.count > 1)
        return replace(phrase, head=head, traits=tuple(traits[:-1]), many=many, unknown=tuple(unknown))
    group = [noun for noun in things[0] if not is_trait(noun)]
    head = group[-1]
    if head in PRONOUNS and len(group) > 1:
        head = group[-2]
    if head in PARTITIVES and len(group) > 1:
        head, group = group[-2], group[:-1]
    also = [noun for noun in group[:-1] if noun != head] + [
        noun for other in things[1:] for noun in other if not is_trait(noun) and noun != head
    ]
    many = phrase.many or is_plural(head)
    if head in ("family", "crowd", "group", "team", "couple"):
        many = True
    singular_said = any(word in ("a", "an", "one", "each", "every") for word in words[:1])
    if singular_said and not phrase.count and words[0] in ("a", "an"):
        many = many and is_plural(head)
    return replace(phrase, head=head, also=tuple(also), traits=tuple(traits), many=many, unknown=tuple(unknown))
