"""Which words of an expression are asked of an open vocabulary, and when a category of a closed one is meant.

    "the second crate from the left"             asks "crate", which becomes the noun of the phrase
    "the man in red next to the coffee machine"  asks "man" and "coffee machine"
    "all zebras but the middle one"              asks "zebra"

The detector's lists of nouns end at what it can find. Here every noun counts: those of `anchors.tsv`, whatever the
categories at hand are called, and other words that stand where a noun is due. Names are in the singular.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from refseg.models.instances.classes import CLASSES, PEOPLE, class_index
from refseg.models.instances.evidence import PERSON
from refseg.models.instances.expression import (
    Expression,
    Phrase,
    heard,
    parse,
)
from refseg.models.instances.nouns import read_anchors, table
from refseg.models.instances.vocabulary import (
    ACTIONS,
    COLOUR_WORDS,
    FILLERS,
    NO_PLURAL,
    PARTITIVES,
    PRONOUNS,
    SIDES,
    SIZES,
    words_in,
)
from refseg.models.instances.words import (
    SAID,
    Meaning,
    also_nouns,
    words_of,
)

__all__ = ["ANYTHING", "Asked", "Named", "ask", "category_weight", "exclusive", "normal_category", "singular"]

Means = Callable[[str], Meaning]

ANYTHING = "object"
"""What is asked where an expression names no thing ("the left one")."""
_IRREGULAR = {
    **dict.fromkeys(("people", "persons", "folks", "everyone", "everybody", "someone", "somebody"), "person"),
    **{"men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose", "feet": "foot"},
    **{"teeth": "tooth", "oxen": "ox", "cacti": "cactus", "leaves": "leaf", "shelves": "shelf"},
}
_UNCHANGED = words_in("sheep deer fish moose bison aircraft spacecraft series species")
_NO_PLURAL_END = re.compile(r"(ss|us|is|ous|news|lens|gas)$")
_LETTERS = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


@dataclass(frozen=True)
class Asked:
    """An expression whose nouns are names to ask: `names` of all its phrases, `targets` of what is meant itself."""

    expression: Expression
    names: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """The meanings of names that were asked: a column each, after those of `CLASSES`; other words mean nothing.

    `people` are names of people; they are marked as such, with a column that no candidate has.
    """

    columns: Mapping[str, int]
    people: frozenset[str]

    def __call__(self, word: str) -> Meaning:
        """As `Lexicon`."""
        if word not in self.columns:
            return Meaning(word, (), "unknown")
        marked = ((PERSON, SAID),) if word in self.people else ()
        return Meaning(word, ((self.columns[word], 1.0), *marked), "name")

    @classmethod
    def of(cls, names: Iterable[str], means: Means) -> Named:
        """Columns after those of `CLASSES`, in order."""
        columns = {name: len(CLASSES) + place for place, name in enumerate(names)}
        return cls(columns, frozenset(name for name in columns if _is_person(name, means)))


def ask(text: str, means: Means, is_word: Callable[[str], bool], categories: Iterable[str] = ()) -> Asked:
    """Read an expression with every noun as a thing that can be found.

    Args:
        means: a `Lexicon`, which tells people and wider nouns.
        is_word: as for `parse`.
        categories: normal names of a closed vocabulary, whose words are nouns, too.
    """
    known = frozenset(word for name in categories for word in name.split())

    def is_open_noun(word: str) -> bool:
        return word in known or singular(word) in known or _is_listed_noun(word)

    with also_nouns(is_open_noun):
        expression = parse(text, lambda word: is_word(word) or is_open_noun(word))
    said = _words(expression)
    names: dict[str, None] = {}
    phrases = tuple(_named(phrase, said, means, names) for phrase in expression.phrases)
    asked = {word for name in names for word in name.split()}
    placed = (*expression.placed, *(word for word in expression.words if word in asked or singular(word) in asked))
    read = replace(expression, phrases=phrases, placed=placed)
    words = heard(read)
    targets = tuple(dict.fromkeys(phrase.head or ANYTHING for phrase in phrases))
    if any(not phrase.head for phrase in phrases):
        names = {**names, ANYTHING: None}
    return Asked(replace(read, used=words.used, ignored=words.ignored, read_as=words.read_as), tuple(names), targets)


def _words(expression: Expression) -> list[str]:
    """The expression's words as the parser read them."""
    slips = dict(expression.slips)
    return [slips.get(word, word) for word in words_of(expression.text)]


def _named(phrase: Phrase, said: list[str], means: Means, names: dict[str, None], above: str = "") -> Phrase:
    """The phrase with a name to ask as its noun; the names of it and of all that it stands to are added to `names`.

    `above` is the noun of the phrase that it belongs to: of "all crates but the left one" the parser makes "one" it.
    """
    noun, many = _noun(phrase, said, means)
    many = many and not (phrase.head == above and said.count(above) < 2)
    if noun:
        names.setdefault(noun)
    relations = tuple(
        replace(link, anchors=tuple(_named(anchor, said, means, names, phrase.head) for anchor in link.anchors))
        for link in phrase.relations
    )
    excluded = None if phrase.excluded is None else _named(phrase.excluded, said, means, names, phrase.head)
    if noun:
        return replace(
            phrase, head=noun, also=(), unknown=(), many=phrase.many or many, relations=relations, excluded=excluded
        )
    return replace(phrase, head="", also=(), unknown=(), relations=relations, excluded=excluded)


def _noun(phrase: Phrase, said: list[str], means: Means) -> tuple[str, bool]:
    """What is asked for a phrase, "" where it names nothing, and whether it is a plural."""
    head = phrase.head
    if head and head not in PRONOUNS and not (head in PARTITIVES and not means(head).known):
        if _is_person(singular(head), means):
            return singular(head), False
        words = [*_before(head, said, {*phrase.unknown, *phrase.also}), *head.split()]
    elif phrase.unknown:
        words = _last_run(phrase.unknown, said)
    elif phrase.traits and not head:
        words = phrase.traits[-1].split()
    else:
        return "", False
    name = " ".join([*words[:-1], singular(words[-1])])
    return name, name != " ".join(words)


def _before(head: str, said: list[str], belongs: set[str]) -> list[str]:
    """The words right before a noun that are a part of its name ("coffee machine", "polar bear")."""
    parts = head.split()
    for at in range(len(said) - len(parts) + 1):
        if said[at : at + len(parts)] == parts:
            first = at
            while first > 0 and said[first - 1] in belongs and not _describes(said[first - 1]):
                first -= 1
            if first < at:
                return said[first:at]
    return []


def _last_run(unknown: tuple[str, ...], said: list[str]) -> list[str]:
    """The first words of a phrase that stand together and may be its noun."""
    rest = list(unknown)
    for at, word in enumerate(said):
        if word == rest[0]:
            end = at
            while end < len(said) and said[end] in rest:
                end += 1
            return said[at:end]
    return rest[:1]


def _describes(word: str) -> bool:
    return (
        word in FILLERS or word in ACTIONS or word in COLOUR_WORDS or word in SIDES or word in SIZES or word in PRONOUNS
    )


@lru_cache(maxsize=8192)
def _is_listed_noun(word: str) -> bool:
    """Whether a single word is a noun that the lists know, found by the detector or not."""
    if len(word) < 3 or not word.isalpha() or _describes(word):
        return False
    return word in read_anchors() or singular(word) in read_anchors()


def _is_person(name: str, means: Means) -> bool:
    return any(index == PERSON and share >= SAID for index, share in means(name).weights)


@lru_cache(maxsize=8192)
def singular(noun: str) -> str:
    """The singular of a noun or of a compound's last word; nouns without a plural of their own stay."""
    front, space, last = noun.rpartition(" ")
    if last in _IRREGULAR:
        return front + space + _IRREGULAR[last]
    if (
        last in NO_PLURAL
        or last in _UNCHANGED
        or not last.endswith("s")
        or len(last) < 4
        or _NO_PLURAL_END.search(last)
    ):
        return noun
    guesses = [last[:-1]]
    for end, instead in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", "")):
        if last.endswith(end):
            guesses.append(last.removesuffix(end) + instead)
    known = (guess for guess in guesses if guess in table() or guess in read_anchors())
    plain = last.endswith(("ches", "shes", "sses", "xes", "zes"))
    rule = guesses[1] if last.endswith("ies") else last[:-2] if plain else last[:-1]
    return front + space + next(known, rule)


def normal_category(name: str) -> str:
    """A category's name as people write it: "traffic_light", "Traffic-Light" and "TrafficLight" are "traffic light"."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"\([^)]*\)", " ", name))
    return " ".join(_LETTERS.findall(text.lower()))


def category_weight(name: str, category: str, means: Means, also: Iterable[str] = ()) -> float:
    """How far a thing of a category is what a name asks for, 0 to 1.

    Args:
        name: as in `Asked.names`.
        category: as `normal_category` gives it.
        also: normal names of what a thing of it is besides (COCO's supercategory).
    """
    kind = singular(category)
    if name in (ANYTHING, category, kind, *map(singular, also)):
        return 1.0
    wanted = dict(means(name).weights)
    shares = [share for index, share in wanted.items() if index in _classes_of(category, means)]
    if kind in PEOPLE and any(CLASSES[index] in PEOPLE for index in wanted):
        # A woman is a person, and no man for it.
        return wanted.get(CLASSES.index(kind), 0.0)
    if shares:
        return max(shares)
    if name.endswith(f" {kind}") or kind.endswith(f" {name}"):
        return SAID
    return 0.0


def _classes_of(category: str, means: Means) -> frozenset[int]:
    """Columns of `CLASSES` that every thing of a category is."""
    index = class_index(category)
    if index is None:
        meaning = means(category)
        certain = meaning.how in ("name", "said")
        return frozenset(index for index, share in meaning.weights if certain and share >= SAID)
    return frozenset((index, PERSON)) if CLASSES[index] in PEOPLE else frozenset((index,))


def exclusive(one: str, other: str, means: Means) -> bool:
    """Whether nothing is both: neither name is the wider one ("horse" and "zebra"; not "dog" and "animal")."""
    if one == other or ANYTHING in (one, other) or one.endswith(f" {other}") or other.endswith(f" {one}"):
        return False
    first, second = (_meant(means(name)) for name in (one, other))
    return not first or not second or not (first <= second or second <= first)


def _meant(meaning: Meaning) -> set[int]:
    """The classes of most weight: "dog" is a dog before it is a hot dog."""
    most = max((share for _, share in meaning.weights), default=0.0)
    return {index for index, share in meaning.weights if share == most}
