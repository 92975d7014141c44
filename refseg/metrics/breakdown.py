"""Scores of parts: rows grouped by what is known of the expression, each group counted like the whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from refseg.errors import ConfigError, did_you_mean
from refseg.metrics.counts import Row
from refseg.metrics.protocols import Protocol, get_protocol
from refseg.metrics.referring import Accumulator

# ReSTR, table 2: words of an expression, as groups of about equal size on each data set; the last group is open.
LENGTH_GROUPS: dict[str, tuple[int, ...]] = {
    "refcoco": (1, 3, 4, 6),
    "refcoco+": (1, 3, 4, 6),
    "refcocog": (1, 6, 8, 11),
    "refclef": (1, 2, 3, 5),
}
DEFAULT_LENGTHS = (1, 3, 6, 11, 21)

WORDS: dict[str, frozenset[str]] = {
    "left / right": frozenset({"left", "right", "leftmost", "rightmost"}),
    "front / back": frozenset({"front", "behind", "back", "background", "foreground"}),
    "number": frozenset({"two", "three", "four", "five", "both", "all", "every", "everyone"}),
    "ordinal": frozenset({"first", "second", "third", "fourth", "last"}),
    "except / not": frozenset({"except", "not", "without", "but", "excluding", "no"}),
    "and": frozenset({"and"}),
    "size": frozenset(
        {"big", "bigger", "biggest", "large", "larger", "small", "smaller", "smallest", "tall", "taller"}
    ),
}

# COCO's borders between small, medium and large objects, in pixels of area.
AREAS = ((32**2, "small (under 32 x 32)"), (96**2, "medium (under 96 x 96)"))


def word_list(text: str) -> list[str]:
    """The words of an expression, lower case, without punctuation."""
    return re.findall(r"\w+(?:'\w+)?", text.lower())


def length_group(row: Row) -> str | None:
    """ "3-5 words": the group of the expression's length on its data set; None without an expression."""
    count = len(word_list(row.text))
    if not count:
        return None
    starts = LENGTH_GROUPS.get(row.dataset or "", DEFAULT_LENGTHS)
    index = max(i for i, start in enumerate(starts) if count >= start)
    if index == len(starts) - 1:
        return f"{starts[index]}+ words"
    last = starts[index + 1] - 1
    return f"{starts[index]} words" if last == starts[index] else f"{starts[index]}-{last} words"


def _targets(row: Row) -> str | None:
    if row.no_target:
        return "0"
    if row.targets is None:
        return None
    return str(row.targets) if row.targets < 4 else "4+"


def _area(row: Row) -> str | None:
    if row.no_target:
        return None
    return next((name for limit, name in AREAS if row.target_area < limit), "large")


BREAKDOWNS: dict[str, Callable[[Row], str | None]] = {
    "kind": lambda row: row.kind,
    "targets": _targets,
    "length": length_group,
    "area": _area,
    "category": lambda row: row.category,
    "split": lambda row: row.split,
    "dataset": lambda row: row.dataset,
}


def breakdown(
    rows: Iterable[Row | Mapping[str, Any]], by: str, protocol: str | Protocol = "native"
) -> dict[str, dict[str, float | int]]:
    """Group -> metrics and `sentences`, groups in natural order. Rows of which `by` is not known are left out.

    `by` is a key of `BREAKDOWNS`, or "words": expressions that hold a word of each list of `WORDS` (groups overlap).
    """
    if by not in BREAKDOWNS and by != "words":
        raise ConfigError(f"{by!r} is not a breakdown; {did_you_mean(by, [*BREAKDOWNS, 'words'])}")
    # What a source prints where no expression is without target is for whole splits: in a group it would be false.
    protocol = replace(get_protocol(protocol), accuracy_without_no_target=None)
    groups: dict[str, Accumulator] = {}
    for entry in rows:
        row = entry if isinstance(entry, Row) else Row.from_dict(entry)
        for name in _groups_of(row, by):
            groups.setdefault(name, Accumulator(protocol)).update(row)
    return {
        name: {"sentences": groups[name].sentences, **groups[name].compute()} for name in sorted(groups, key=_natural)
    }


def _groups_of(row: Row, by: str) -> list[str]:
    if by != "words":
        name = BREAKDOWNS[by](row)
        return [] if name is None else [name]
    present = set(word_list(row.text))
    return [name for name, words in WORDS.items() if words & present]


def breakdowns(rows: list[Row], protocol: str | Protocol = "native") -> dict[str, dict[str, dict[str, float | int]]]:
    """Every breakdown that splits these rows; by kind, targets and length also where all rows are of one group."""
    found = {by: breakdown(rows, by, protocol) for by in (*BREAKDOWNS, "words")}
    always = ("kind", "targets", "length")
    return {by: groups for by, groups in found.items() if len(groups) > 1 or (groups and by in always)}


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which "3-5 words" stands before "11+ words" and small before large."""
    sizes = ("small", "medium", "large")
    if name.split(" ")[0] in sizes:
        return [(0, sizes.index(name.split(" ")[0]), "")]
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]
