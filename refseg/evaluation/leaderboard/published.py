"""The published numbers of the papers that this package implements, as data: every table, as printed.

`published/<document>.csv` holds one number a line, in the paper's own unit and with its last digit; the same number in
two tables is two lines. What a paper calls "IoU" is told by `published/measures.csv`, with the ground for saying so:

stated    the document names cumulative or mean IoU
code      the authors' evaluation computes it
lineage   taken from the line of work that the system belongs to, because the document is silent
recalled  general knowledge, not read in the source
unknown   nobody can tell from the documents at hand: the measure is "IoU?"
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

IOU_MEASURES = ("cIoU", "mIoU", "IoU?")
_COPIED = (
    *("table", "system", "printed", "configuration", "visual_encoder", "text_encoder", "trained_on"),
    *("dataset", "partition", "split", "subset", "unit", "note"),
)
BASES = ("stated", "code", "lineage", "recalled", "unknown", "computed")


@dataclass(frozen=True)
class Result:
    """One number: whose, on what, by which measure, and where it stands.

    system, configuration: the system, and what differs from its main form ("" = nothing; ablations say what).
    visual_encoder, text_encoder, trained_on: "" where the source does not say; trained_on "" = the data set itself.
    dataset, partition, split, subset: "RefCOCOg", "umd", "val", and a part of the split such as "6-7 words" ("" = all).
    metric: cIoU, mIoU, gIoU, IoU?, Pr@0.5, N_acc, T_acc, Acc@0.5 (boxes), J, F, J&F, pointing, parameters, MACs, ...
    value, unit: as printed ("%", "M", "G", "MB", "s"); `printed_value` keeps the digits.
    printed, printed_metric: the system's and the metric's name in the source.
    basis: why `metric` is what it is, see the module. protocol: the protocol of this package that scores this way.
    origin: "own" (the authors about their system), "quoted" (about another's), "rerun" (another's system run anew),
    "recalled" (nobody looked it up), "measured" (with this package). document, table: where it stands; note: remarks.
    """

    system: str
    metric: str
    value: float
    dataset: str = ""
    split: str = ""
    configuration: str = ""
    visual_encoder: str = ""
    text_encoder: str = ""
    trained_on: str = ""
    partition: str = ""
    subset: str = ""
    unit: str = "%"
    protocol: str = ""
    basis: str = "stated"
    origin: str = "own"
    document: str = ""
    table: str = ""
    printed: str = ""
    printed_metric: str = ""
    printed_value: str = ""
    note: str = ""

    @property
    def source(self) -> str:
        """Document and table in words: "GRES, CVPR 2023, Table 5"."""
        known = documents().get(self.document)
        return ", ".join(part for part in (known["cite"] if known else self.document, self.table) if part)

    @property
    def is_iou(self) -> bool:
        """Whether the source may call this number just "IoU"."""
        return self.metric in IOU_MEASURES

    def form(self) -> tuple[str, str, str]:
        """System, configuration and, where a system comes with several, its visual encoder."""
        several = self.system in _SEVERAL_ENCODERS
        return (self.system, self.configuration, self.visual_encoder if several else "")

    def question(self) -> tuple[str, ...]:
        """What two numbers must share to answer the same question: everything but who measured and where it stands."""
        return (*self.form(), self.trained_on, *self.place(), self.metric)

    def place(self) -> tuple[str, str, str, str]:
        """Data set, partition, split and subset."""
        return (self.dataset, self.partition, self.split, self.subset)

    def to_dict(self) -> dict[str, Any]:
        """Every field and the source in words, for CSV and JSON."""
        return {**asdict(self), "source": self.source}


@cache
def documents() -> dict[str, dict[str, str]]:
    """Title, authors, venue and short form of the documents, by the key that `Result.document` holds."""
    return json.loads(_folder().joinpath("documents.json").read_text(encoding="utf-8"))


@cache
def load_published() -> tuple[Result, ...]:
    """Every published number, document by document, in the order of its tables."""
    measures = {(row["system"], row["visual_encoder"]): row for row in _read("measures")}
    results = []
    for document in documents():
        for row in _read(document):
            measure = measures.get((row["system"], row["visual_encoder"])) or measures.get((row["system"], ""))
            metric, basis = _measure(row, measure)
            results.append(
                Result(
                    **{key: row[key] for key in _COPIED},
                    metric=metric,
                    value=float(row["value"]),
                    protocol=_protocol(row, metric, measure),
                    basis=basis,
                    origin=row["by"],
                    document=document,
                    printed_metric=row["metric"],
                    printed_value=row["value"],
                )
            )
    return tuple(results)


def disagreements(results: Iterable[Result] | None = None) -> list[list[Result]]:
    """Numbers for the same question that differ from source to source, each with all of its sources.

    A system run anew by others is another question, and so is a number that nobody looked up.
    """
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in load_published() if results is None else results:
        if result.origin in ("own", "quoted"):
            groups.setdefault(result.question(), []).append(result)
    return [group for group in groups.values() if len({result.value for result in group}) > 1]


# Systems of which documents report several visual encoders; of the others, documents name the one encoder differently.
_SEVERAL_ENCODERS = ("CRIS", "ISFP", "LTS", "M3Att", "ReLA", "RefTR", "ReSTR", "VLT")


def _measure(row: dict[str, str], measure: dict[str, str] | None) -> tuple[str, str]:
    """The metric that a printed one is, and on which ground."""
    metric = row["metric"]
    if metric not in ("IoU", "cIoU", "mIoU"):
        return metric, "stated"
    # Who ran the system says what was computed; a quoted number keeps its own source's measure, whatever the heading.
    if metric != "IoU" and (row["by"] in ("own", "rerun") or measure is None):
        return metric, "stated"
    if measure is None:
        return "IoU?", "unknown"
    return measure["measure"], measure["basis"]


def _protocol(row: dict[str, str], metric: str, measure: dict[str, str] | None) -> str:
    """The protocol of this package that fits, "" where none does."""
    if metric in ("J", "F", "J&F"):
        return {"Ref-DAVIS17": "ref-davis17", "YouTube-RVOS": "youtube-vos"}.get(row["dataset"], "")
    if row["unit"] != "%" or metric.startswith("attention") or metric == "pointing":
        return ""
    if metric == "Acc@0.5":
        return "reftr" if row["system"] == "RefTR" else ""
    if row["dataset"] == "gRefCOCO":
        # The paper clears small masks of one-stage systems that have no no-target head of their own.
        headless = row["by"] == "rerun" and row["system"] not in ("ReLA", "MAttNet")
        return "rela-50px" if headless or "50 pixels" in row["configuration"] else "rela"
    return measure["protocol"] if measure else ""


def _folder() -> Any:
    return files("refseg.evaluation.leaderboard").joinpath("published")


def published_text(name: str) -> str:
    """The text of `published/<name>.csv`."""
    return _folder().joinpath(f"{name}.csv").read_text(encoding="utf-8")


def _read(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(published_text(name).splitlines()))


def as_fraction(result: Result) -> float:
    """The value as this package states metrics, 0 to 1; nan for what is no share."""
    return result.value / 100 if result.unit == "%" else math.nan
