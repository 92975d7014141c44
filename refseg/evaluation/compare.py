"""Two runs on the same expressions: is one better, by how much, on what kind of them, and where do they differ most.

Everything follows from rows (`refseg.metrics.Row`), so rows that `refseg evaluate --rows` saved are enough; predictions
with their targets do as well, and are what pictures need.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from refseg.errors import DataError
from refseg.metrics import Protocol, Row, Score, breakdowns, get_protocol, score
from refseg.metrics.bootstrap import Comparison, compare
from refseg.metrics.inputs import Located, RecordProblem, RecordsError
from refseg.metrics.referring import judge, precision_name

SHOWN_LEVELS = (0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Run:
    """One system's rows, and its predictions by id where they were given (for pictures)."""

    name: str
    rows: list[Row]
    predictions: dict[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """An expression under both runs: IoU as the protocol counts it, and whether the answer was none. change: second -
    first."""

    id: str
    text: str
    kind: str | None
    picture: str | None
    no_target: bool
    first: float
    second: float
    first_says_none: bool
    second_says_none: bool

    @property
    def change(self) -> float:
        return self.second - self.first


@dataclass(frozen=True)
class Report:
    """What `compare_runs` found: `metrics` by name, `groups` by breakdown and group, `differences` largest first."""

    names: tuple[str, str]
    protocol: Protocol
    sentences: int
    pictures: int
    metrics: dict[str, Comparison]
    groups: dict[str, dict[str, dict[str, Any]]]
    differences: list[Difference]

    @property
    def wins(self) -> tuple[int, int, int]:
        """On how many expressions the second run is better, equal, worse."""
        changes = [difference.change for difference in self.differences]
        better, worse = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
        return better, len(changes) - better - worse, worse

    @property
    def no_target_decisions(self) -> tuple[int, int]:
        """On how many no-target decisions only the second run gets right, and only the first."""
        return (
            sum(d.second_says_none == d.no_target != d.first_says_none for d in self.differences),
            sum(d.first_says_none == d.no_target != d.second_says_none for d in self.differences),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is undefined is null."""
        better, equal, worse = self.wins
        return {
            "first": self.names[0],
            "second": self.names[1],
            "protocol": self.protocol.to_dict(),
            "counts": {
                "sentences": self.sentences,
                "pictures": self.pictures,
                "second_better": better,
                "equal": equal,
                "second_worse": worse,
            },
            "metrics": {name: _plain(asdict(comparison)) for name, comparison in self.metrics.items()},
            "groups": _plain(self.groups),
            "differences": [{**asdict(difference), "change": difference.change} for difference in self.differences],
        }


def load_run(
    path: str | os.PathLike[str],
    protocol: str | Protocol = "native",
    targets: Sequence[object] | None = None,
    name: str | None = None,
) -> Run:
    """A run from a JSON-lines file: rows of `refseg evaluate --rows`, or predictions, which need `targets`.

    `targets` are records as in `refseg.metrics.score` takes them (lines of a target file, or samples of a data set).
    Raises `RecordsError` with every malformed record, `DataError` when the file is neither or targets are missing.
    """
    from refseg.evaluation.score import read_lines, score_rows

    path, protocol = Path(path), get_protocol(protocol)
    if protocol.task != "masks":
        raise DataError(f"runs are compared under a protocol of masks, not {protocol.name} ({protocol.task})")
    problems: list[RecordProblem] = []
    records = read_lines(path, problems)
    if problems:
        raise RecordsError(problems)
    if _holds(records, "intersection"):
        return Run(name or path.stem, _rows(score_rows([path], protocol)))
    if not _holds(records, "mask"):
        raise DataError(f"{path}: neither rows (refseg evaluate --rows) nor predictions (id, mask, no_target)")
    if targets is None:
        raise DataError(f"{path}: holds predictions, which need --targets T.jsonl or --data ROOT")
    scored = score(records, targets, protocol)
    found = {str(row["id"]): entry.value for row, entry in zip(scored.rows, _ordered(records, scored), strict=True)}
    return Run(name or path.stem, _rows(scored), found)


def protocol_of(paths: Iterable[str | os.PathLike[str]]) -> str:
    """The protocol that the files' lines name, "native" where they name none. Raises `DataError` where they differ."""
    from refseg.evaluation.score import read_lines

    named: dict[str, str] = {}
    for path in paths:
        for entry in read_lines(path, []):
            if isinstance(entry.value, dict) and entry.value.get("protocol") is not None:
                named.setdefault(str(entry.value["protocol"]), entry.where)
    if len(named) > 1:
        protocols = ", ".join(f"{name} ({where})" for name, where in named.items())
        raise DataError(f"the runs were made for several protocols: {protocols}; evaluate them again under one")
    return next(iter(named), "native")


def compare_runs(
    first: Run,
    second: Run,
    protocol: str | Protocol = "native",
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Report:
    """Compare two runs expression by expression, with intervals and p-values by resampling pictures.

    Raises `DataError` when the runs do not hold the same expressions with the same targets.
    """
    protocol = get_protocol(protocol)
    metrics = {
        metric: compare(first.rows, second.rows, metric, protocol, confidence, resamples, seed)
        for metric in _metrics(first.rows, protocol)
    }
    others = {row.id: row for row in second.rows}
    differences = [_difference(row, others[row.id], protocol) for row in first.rows]
    differences.sort(key=lambda entry: (-abs(entry.change), entry.id))
    groups = breakdowns(first.rows, protocol), breakdowns([others[row.id] for row in first.rows], protocol)
    return Report(
        (first.name, second.name),
        protocol,
        len(first.rows),
        len({row.picture if row.picture is not None else f"row {row.id}" for row in first.rows}),
        metrics,
        {by: _group_changes(found, groups[1].get(by, {})) for by, found in groups[0].items()},
        differences,
    )


def _metrics(rows: Iterable[Row], protocol: Protocol) -> list[str]:
    """The metrics that these rows have something to count for."""
    kept = [row for row in rows if not (row.no_target and protocol.sentences == "with_target")]
    without, with_target = any(row.no_target for row in kept), any(not row.no_target for row in kept)
    names = ["cIoU", "gIoU" if without else "mIoU"]
    if with_target:
        names += [precision_name(level) for level in protocol.precision_levels if round(level, 6) in SHOWN_LEVELS]
        names.append("T_acc")
    return names + (["N_acc"] if without else [])


def _difference(one: Row, two: Row, protocol: Protocol) -> Difference:
    first, second = judge(one, protocol), judge(two, protocol)
    return Difference(
        one.id, one.text, one.kind, one.picture, one.no_target,
        first.value, second.value, first.says_none, second.says_none,
    )  # fmt: skip


def _group_changes(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Group -> expressions and, per metric, [first, second, second - first]."""
    result: dict[str, dict[str, Any]] = {}
    for group, metrics in first.items():
        other = second.get(group, {})
        result[group] = {"sentences": metrics["sentences"]} | {
            name: [value, other[name], other[name] - value]
            for name, value in metrics.items()
            if name != "sentences" and name in other
        }
    return result


def _holds(records: Sequence[Located], key: str) -> bool:
    return any(isinstance(entry.value, dict) and key in entry.value for entry in records)


def _rows(scored: Score) -> list[Row]:
    return [Row.from_dict(row) for row in scored.rows]


def _ordered(records: Sequence[Located], scored: Score) -> list[Located]:
    """The prediction of each scored row: by id where records have one, else by place."""
    by_id = {str(entry.value["id"]): entry for entry in records if entry.value.get("id") is not None}
    return [by_id[str(row["id"])] for row in scored.rows] if by_id else list(records)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
