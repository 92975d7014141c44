"""Choosing results, refusing comparisons that compare nothing, and laying the rest out as a table.

Cumulative IoU weighs an expression by its object's size and mean IoU does not; on RefCOCO they differ by several points
for one and the same model. So numbers that papers print as "IoU" stand in one column only where they are the same
measure, or where somebody said that they want them mixed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches

from refseg.errors import RefsegError, did_you_mean
from refseg.evaluation.leaderboard.measured import DATASETS
from refseg.evaluation.leaderboard.published import IOU_MEASURES, Result

_PLACES = ("gRefCOCO", "RefCOCO", "RefCOCO+", "RefCOCOg", "ReferIt")
_SPLITS = ("val", "test", "testA", "testB")
_METRICS = (*IOU_MEASURES, "IoU", "gIoU")
BASIS_MARKS = {"stated": "", "computed": "", "code": "", "lineage": "~", "recalled": "~", "unknown": "?"}


class MixedMeasuresError(RefsegError):
    """Numbers of different measures were about to be compared."""


def select(
    results: Iterable[Result],
    *,
    system: str | Sequence[str] | None = None,
    dataset: str | None = None,
    split: str | None = None,
    partition: str | None = None,
    metric: str | None = None,
    protocol: str | None = None,
    ablations: bool = False,
    subsets: bool = False,
    second_hand: bool = False,
) -> list[Result]:
    """The results that match every filter; names are compared without regard to case, hyphens and spaces.

    metric: "IoU" takes every measure that papers print as IoU (see `Board`). ablations: also other configurations than
    a system's main one; those of measured results, and what they stand beside, are always there. subsets: also parts of
    splits (expression lengths). second_hand: also what nobody looked up.
    Raises `RefsegError` when a filter's value does not occur at all.
    """
    results = list(results)
    systems = [system] if isinstance(system, str) else list(system or [])
    wanted = {_plain(name) for name in systems}
    for name in systems:
        _known("system", name, {result.system for result in results})
    for key, value in (("dataset", dataset), ("split", split), ("partition", partition), ("protocol", protocol)):
        if value is not None:
            _known(key, value, {getattr(result, key) for result in results if getattr(result, key)})
    if metric is not None and _plain(metric) != "iou":
        _known("metric", metric, {result.metric for result in results})
    chosen = []
    measured = {result.form() for result in results if result.origin == "measured"}
    for result in results:
        keep = (
            (not wanted or _plain(result.system) in wanted)
            and _same(dataset, result.dataset)
            and _same(split, result.split)
            and _same(partition, result.partition)
            and _same(protocol, result.protocol)
            and (
                metric is None or _plain(metric) == _plain(result.metric) or (_plain(metric) == "iou" and result.is_iou)
            )
            and (ablations or result.configuration in ("", *_MAIN_FORMS) or result.form() in measured)
            and (subsets or not result.subset)
            and (second_hand or result.document != "recalled")
        )
        if keep:
            chosen.append(result)
    return chosen


# Configurations that are a version of a system rather than an ablation of it.
_MAIN_FORMS = ("ICCV 2021", "pre-trained on Visual Genome", "released weights")


@dataclass
class Board:
    """Results as rows (a system in one form) and columns (data set, split, metric).

    Equal numbers from several sources share a cell; unequal ones stand side by side. `mix_iou` puts every measure of
    IoU into one column, each value with its measure; without it they have columns of their own, and asking for "IoU"
    as one metric raises `MixedMeasuresError`.
    """

    results: list[Result]
    mix_iou: bool = False
    rows: list[tuple[str, ...]] = field(init=False)
    columns: list[tuple[str, ...]] = field(init=False)
    cells: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Result]] = field(init=False)

    def __post_init__(self) -> None:
        self.cells = {}
        for result in self.results:
            self.cells.setdefault((self.row_of(result), self.column_of(result)), []).append(result)
        self._published = {row for row, _ in self.cells}
        self.columns = sorted({column for _, column in self.cells}, key=_column_order)
        self.rows = sorted(dict.fromkeys(row for row, _ in self.cells), key=self._row_order)

    def row_of(self, result: Result) -> tuple[str, ...]:
        """System, configuration, visual encoder; who ran it where the authors did not, trained on what, protocol."""
        ran = {"measured": "measured here", "rerun": "run anew"}.get(result.origin, "")
        trained = f"trained on {result.trained_on}" if result.trained_on else ""
        return (*result.form(), trained, ran, result.protocol if result.origin == "measured" else "")

    def column_of(self, result: Result) -> tuple[str, ...]:
        """Data set, partition, split, subset, metric."""
        return (*result.place(), "IoU" if self.mix_iou and result.is_iou else result.metric)

    def check(self) -> None:
        """Raises `MixedMeasuresError` when these IoU numbers are of several measures and mixing was not asked for."""
        measures: dict[str, list[str]] = {}
        for result in self.results:
            if result.is_iou and result.system not in measures.setdefault(result.metric, []):
                measures[result.metric].append(result.system)
        if len(measures) > 1 and not self.mix_iou:
            named = "; ".join(f"{measure}: {', '.join(systems)}" for measure, systems in sorted(measures.items()))
            raise MixedMeasuresError(
                f'these "IoU" numbers are not one measure ({named}); choose --metric cIoU or --metric mIoU, or say '
                "--mix-iou to see them together, each with its measure"
            )

    def ranked(self, column: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The rows that have this column, best first. Raises `MixedMeasuresError` where that would mix measures."""
        if self.mix_iou and column[-1] == "IoU":
            raise MixedMeasuresError(
                "mean and cumulative IoU have no common order; choose --metric cIoU or --metric mIoU"
            )
        having = [row for row in self.rows if (row, column) in self.cells]
        lower = column[-1] in ("parameters", "MACs", "training memory", "training time")
        return sorted(having, key=lambda row: self.cells[row, column][0].value, reverse=not lower)

    def text(self, row: tuple[str, ...], column: tuple[str, ...]) -> str:
        """A cell in words: values that differ apart by "/", "~" where the measure is inferred, "?" where unknown."""
        found = self.cells.get((row, column), [])
        texts = []
        for result in found:
            mark = BASIS_MARKS[result.basis] if result.is_iou else ""
            name = f" {result.metric}" if self.mix_iou and result.is_iou else ""
            texts.append(f"{result.printed_value or format(result.value, '.2f')}{mark}{name}")
        return " / ".join(dict.fromkeys(texts))

    def table(self) -> list[list[str]]:
        """Header and rows as text, for the terminal and for Markdown."""
        lines = [["system", "form", "encoder", *(column_name(column) for column in self.columns)]]
        for row in self.rows:
            form = ", ".join(part for part in (row[1], *row[3:]) if part)
            lines.append([row[0], form, self._encoder(row), *(self.text(row, column) for column in self.columns)])
        return lines

    def remarks(self) -> list[str]:
        """What a reader must know about these numbers: inferred measures, headings that mislead, other protocols."""
        remarks = []
        iou = [result for result in self.results if result.is_iou]
        for basis, words in (
            ("lineage", "~ the source says only IoU; the measure is that of its line of work"),
            ("recalled", "~ the measure is general knowledge, not read in the source"),
            ("unknown", "? the source says only IoU, and nothing tells which"),
        ):
            systems = dict.fromkeys(result.system for result in iou if result.basis == basis)
            if systems:
                remarks.append(f"{words}: {', '.join(systems)}")
        headed = {
            (r.source, r.printed_metric, r.system): r.metric for r in iou if r.printed_metric not in ("IoU", r.metric)
        }
        for source, printed in dict.fromkeys((source, printed) for source, printed, _ in headed):
            misled = [system for found, _, system in headed if found == source]
            remarks.append(
                f"{source} heads these {printed}, but their own evaluation computes otherwise: {', '.join(misled)}"
            )
        measured = dict.fromkeys(r.protocol for r in self.results if r.origin == "measured")
        published = dict.fromkeys(r.protocol for r in self.results if r.origin != "measured" and r.protocol)
        for name in measured:
            others = [other for other in published if other != name]
            if others:
                remarks.append(
                    f"measured under {name}, published under {', '.join(others)}: "
                    "evaluate again with --protocol to compare"
                )
        return remarks

    def markdown(self) -> str:
        """The table as Markdown."""
        header, *lines = [[cell.replace("|", "\\|") for cell in line] for line in self.table()]
        rule = ["---"] * 3 + ["---:"] * (len(header) - 3)
        return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines)) + "\n"

    def _encoder(self, row: tuple[str, ...]) -> str:
        """The visual encoder as the sources name it; several names stand side by side."""
        names = [r.visual_encoder for (found, _), cell in self.cells.items() if found == row for r in cell]
        return " / ".join(dict.fromkeys(name for name in names if name))

    def _row_order(self, row: tuple[str, ...]) -> tuple:
        """Rows with the same first column together, by its value; what was measured here stands below its published
        row, or last where there is none."""
        here = "measured here" in row
        published = [(*row[:4], ran, "") for ran in ("", "run anew")] if here else []
        key = next((other for other in published if other in self._published), row)
        first = next(i for i, column in enumerate(self.columns) if (key, column) in self.cells)
        return ("measured here" in key, first, self.cells[key, self.columns[first]][0].value, key, here)


def column_name(column: tuple[str, ...]) -> str:
    """ "RefCOCOg umd val, 6-7 words: cIoU"; the partition is told where a data set has several."""
    dataset, partition, split, subset, metric = column
    place = " ".join(part for part in (dataset, partition if dataset == "RefCOCOg" else "", split) if part)
    place += f", {subset}" if subset else ""
    return f"{place}: {metric}" if place else metric


def to_csv(results: Iterable[Result]) -> str:
    """One number a line, with every field and the source in words."""
    names = [*(item.name for item in fields(Result)), "source"]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(result.to_dict() for result in results)
    return out.getvalue()


def _column_order(column: tuple[str, ...]) -> tuple:
    dataset, partition, split, subset, metric = column
    place = _PLACES.index(dataset) if dataset in _PLACES else len(_PLACES)
    turn = _SPLITS.index(split) if split in _SPLITS else len(_SPLITS)
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", subset) if part]
    measure = _METRICS.index(metric) if metric in _METRICS else len(_METRICS)
    return (place, dataset, partition != "umd", partition, turn, parts, measure, metric)


def _plain(name: str) -> str:
    """A name without case, spaces, hyphens and underscores; this package's names of data sets are the papers'."""
    return re.sub(r"[\s_-]", "", DATASETS.get(name.lower(), name)).lower()


def _same(wanted: str | None, found: str) -> bool:
    return wanted is None or _plain(wanted) == _plain(found)


def _known(key: str, value: str, choices: set[str]) -> None:
    if _plain(value) not in {_plain(choice) for choice in choices}:
        # Spelt as the nearest in lower case, so that "lavtt" finds LAVT.
        spelt = next((c for c in sorted(choices) if get_close_matches(_plain(value), [_plain(c)], 1, 0.7)), value)
        raise RefsegError(f"--{key} {value!r} does not occur in the results; {did_you_mean(spelt, sorted(choices))}")
