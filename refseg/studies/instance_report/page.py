"""The report as a page of Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from refseg.studies.instance_report.boxes import LISTS
from refseg.studies.instance_report.summary import LOSSES

__all__ = ["to_markdown"]

Row = Sequence[str]


def to_markdown(document: Mapping[str, Any], command: str) -> str:
    """The page of `Report.document`; `command` is what made it."""
    parts = [
        f"# {document['model']}: measured",
        f"```\n{command}\n```",
        "Protocol `native`, thresholds as stored with the model. A picture belongs to the half val where the SHA-256 "
        "of its file's name is even, to test otherwise. In brackets: 95 % intervals over pictures.",
    ]
    if document["referring"]:
        parts += _referring(document["referring"])
    if document["photographs"]:
        parts += _photographs(document["photographs"])
    if "nouns" in document:
        parts += ["## Everyday nouns", _nouns(document["nouns"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _referring(sets: Mapping[str, Any]) -> list[str]:
    halves = [(name, half, numbers) for name, found in sets.items() for half, numbers in found.items()]
    measured = [(name, half, numbers) for name, half, numbers in halves if numbers["expressions"]]
    shown = ("gIoU", "mIoU_target", "Pr@0.5", "T_acc", "N_acc", "GREC F1", "boxes right")
    answers = [
        (
            name,
            half,
            f"{numbers['expressions']:,} / {numbers['pictures']:,}",
            *(_interval(numbers.get(metric)) for metric in shown),
        )
        for name, half, numbers in measured
    ]
    steps = ("now", "words", "choice", "masks", "proposals")
    losses = [
        (
            name,
            half,
            *(_interval(numbers["losses"][step]) for step in steps),
            *(_number(numbers["losses"][f"lost by {loss}"][0]) for loss in LOSSES),
        )
        for name, half, numbers in measured
        if "losses" in numbers
    ]
    boxes = [
        (
            name,
            half,
            *(
                _interval(numbers[metric])
                for metric in ("targets with a proposal", "misread", "boxes right", "boxes right with words right")
            ),
        )
        for name, half, numbers in measured
    ]
    objects = [
        (
            name,
            half,
            "all" if numbers["annotated objects"]["whole"] else "only those that an expression is about",
            *(_number(numbers["annotated objects"][metric]) for metric in ("gIoU", "mIoU_target", "N_acc", "T_acc")),
        )
        for name, half, numbers in measured
        if "annotated objects" in numbers
    ]
    kinds = [
        (name, half, kind, f"{row['expressions']:,}", *(_number(row.get(metric)) for metric in ("gIoU", "Pr@0.5")))
        for name, half, numbers in measured
        for kind, row in numbers.get("by kind", {}).items()
    ]
    instances = [
        (name, half, count, f"{row['expressions']:,}", _number(row["number right"]), _number(row["boxes right"]))
        for name, half, numbers in measured
        for count, row in numbers["instances"].items()
    ]
    none = [
        (
            name,
            half,
            _number(numbers["none"]["error"]),
            _number(numbers["none"].get("error after a map fitted on val")),
            _bins(numbers["none"]["bins"]),
        )
        for name, half, numbers in measured
        if "none" in numbers
    ]
    return [
        "## Referring expressions",
        _table(("set", "half", "expressions / pictures", *shown), answers),
        "### Where it is lost",
        "Mean IoU over the expressions with targets: as answered; with the noun read as the targets' category; with "
        "the proposal of the best box for each target; with masks made in true boxes; and the union of proposals that "
        "fits best. Each loss is the step between two of them, the last one that to 1.",
        _table(
            ("set", "half", "now", "words right", "choice right", "true boxes", "best union of proposals", *LOSSES),
            losses,
        ),
        _table(
            ("set", "half", "targets with a proposal", "noun misread", "boxes right", "the same with words right"),
            boxes,
        ),
        "### Over the annotated objects" if objects else "",
        "Detected: what is annotated, and nothing else." if objects else "",
        _table(("set", "half", "objects", "gIoU", "mIoU_target", "N_acc", "T_acc"), objects),
        "### By kind" if kinds else "",
        _table(("set", "half", "kind", "expressions", "gIoU", "Pr@0.5"), kinds),
        "### As many instances as are meant",
        _table(("set", "half", "targets", "expressions", "number right", "boxes right"), instances),
        "### Reliability of none" if none else "",
        _table(("set", "half", "error", "after a map fitted on val", _BINS), none),
    ]


def _photographs(sets: Mapping[str, Any]) -> list[str]:
    parts = [
        (name, half, numbers)
        for name, found in sets.items()
        for half, entry in found.items()
        for half, numbers in ((half, entry), *((f"{half}, {key}", entry[key]) for key in _apart(entry)))
        if numbers["pictures"]
    ]
    precision = [
        (name, half, f"{numbers['pictures']:,}", listed, *(_number(numbers["AP"][listed][key]) for key in _AP))
        for name, half, numbers in parts
        for listed in LISTS
    ]
    masks = [
        (name, half, f"{numbers['objects']:,}", *(_interval(value) for value in numbers["masks"].values()))
        for name, half, numbers in parts
    ]
    shown = ("AUC", "N_acc at T_acc .90", "ranking AP", "N_acc", "T_acc")
    asked = [
        (name, half, who, *(_interval(numbers[key].get(metric)) for metric in shown))
        for name, half, numbers in parts
        for key, who in (("names", "answers"), ("names by the detector alone", "the detector alone"))
        if key in numbers
    ]
    none = [
        (
            name,
            half,
            _number(numbers["none"]["error"]),
            _number(numbers["none"].get("error after a map fitted on val")),
            _bins(numbers["none"]["bins"]),
        )
        for name, half, numbers in parts
        if "none" in numbers
    ]
    return [
        "## Boxes of the detector",
        _table(("photographs", "half", "pictures", "boxes of", *_AP), precision),
        "## Masks in true boxes",
        _table(("photographs", "half", "objects", "IoU", "boundary IoU", "an ellipse", "the filled box"), masks),
        "## Names of categories" if asked else "",
        _table(("photographs", "half", "score of", *shown), asked),
        _table(("photographs", "half", "error of p(none)", "after a map fitted on val", _BINS), none),
    ]


_AP = ("AP", "AP50", "AP75", "AR100")
_BINS = "stated: share that is none (questions)"


def _apart(entry: Mapping[str, Any]) -> list[str]:
    """Parts of the photographs that have numbers of their own."""
    return [key for key, value in entry.items() if isinstance(value, Mapping) and "pictures" in value]


def _nouns(nouns: Mapping[str, Any]) -> str:
    rows = [
        (
            half,
            str(found["nouns"]),
            _number(found["right"] / found["nouns"]),
            _number(found["right by lists"] / found["nouns"]),
            ", ".join(f"{noun} ({read})" for noun, read in found["wrong"].items()),
        )
        for half, found in nouns.items()
        if found["nouns"]
    ]
    return _table(("half", "nouns", "read right", "by lists alone", "read wrong (as)"), rows)


def _bins(bins: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(f"{each['stated']:.2f}: {each['none']:.2f} ({each['questions']:,})" for each in bins)


def _interval(value: Sequence[float | None] | None) -> str:
    if value is None or value[0] is None:
        return ""
    if value[1] is None:
        return _number(value[0])
    return f"{_number(value[0])} [{_number(value[1])}, {_number(value[2])}]"


def _number(value: float | None) -> str:
    """Three places, without the zero before the point."""
    if value is None:
        return ""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def _table(header: Row, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
