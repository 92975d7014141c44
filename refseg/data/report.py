"""What checking a data folder finds: counts by split and problems, beside what was published. No torch in this file."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from refseg.data.catalog import SplitCounts, published
from refseg.data.sample import Problem

_SPLITS = ("train", "trainval", "val", "valid", "valid_u", "test", "testA", "testB", "testC")


@dataclass
class Counts:
    """What one split holds. `usable` sentences can be trained on and scored; `published` is their number in print."""

    expressions: int = 0
    usable: int = 0
    referents: int = 0
    pictures: int = 0
    objects: int = 0
    one_target: int = 0
    several_targets: int = 0
    no_target: int = 0
    published: int | None = None
    verdict: str = ""
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass
class DatasetReport:
    """One data set: its files, counts by split, problems; `error` when a file could not be read at all."""

    name: str
    split_by: str
    refs: str
    splits: dict[str, Counts] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    pictures_found: int = 0
    pictures_missing: int = 0
    note: str = ""
    error: str = ""

    @property
    def usable(self) -> int:
        """Sentences that can be used."""
        return sum(counts.usable for counts in self.splits.values())


@dataclass
class Report:
    """A checked folder."""

    root: str
    datasets: list[DatasetReport]

    @property
    def usable(self) -> bool:
        """Whether any sentence can be used."""
        return any(dataset.usable for dataset in self.datasets)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values, all problems included."""
        plain = asdict(self)
        plain["usable"] = self.usable
        for entry, dataset in zip(plain["datasets"], self.datasets, strict=True):
            entry["usable"] = dataset.usable
            entry["problem_counts"] = dict(Counter(problem.kind for problem in dataset.problems).most_common())
        return plain


def against_published(report: DatasetReport) -> DatasetReport:
    """The report with the published counts beside its own, splits in their usual order."""
    entry = published(report.name, report.split_by)
    if entry is not None:
        report.note = entry.note
        for split, numbers in entry.splits.items():
            _compare(report.splits.setdefault(split, Counts()), numbers)
    report.splits = dict(sorted(report.splits.items(), key=lambda item: _split_order(item[0])))
    return report


def _split_order(split: str) -> tuple[int, str]:
    return (_SPLITS.index(split) if split in _SPLITS else len(_SPLITS), split)


def _compare(counts: Counts, numbers: SplitCounts) -> None:
    counts.published = numbers.expressions
    if numbers.expressions is None:
        return
    if counts.expressions == numbers.expressions:
        counts.verdict = "complete"
    elif counts.expressions == 0:
        counts.verdict = "absent"
    elif counts.expressions < numbers.expressions:
        counts.verdict = f"{100 * counts.expressions / numbers.expressions:.3g} %"
    else:
        counts.verdict = f"{counts.expressions - numbers.expressions} too many"
