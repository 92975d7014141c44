"""Scoring of files: predictions and targets, one JSON object a line, without a model."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from refseg.errors import DataError, RefsegError
from refseg.files import write_text
from refseg.metrics import PROTOCOLS, Protocol, Score, get_protocol, rescore, score
from refseg.metrics.counts import Row
from refseg.metrics.inputs import Located, RecordProblem, RecordsError
from refseg.metrics.scoring import finish


def score_files(
    predictions: str | os.PathLike[str],
    targets: str | os.PathLike[str],
    protocol: str | Protocol = "native",
    *,
    boundary: bool = False,
) -> Score:
    """Score two JSON-lines files; see `refseg.metrics.score`.

    Raises `RecordsError` with file, line and id of every malformed record of both files, `DataError` when a file cannot
    be read at all.
    """
    protocol = get_protocol(protocol)
    problems: list[RecordProblem] = []
    records = [read_lines(path, problems) for path in (predictions, targets)]
    if problems:
        # Records are still compared, so that everything wrong is told at once; lines that are no JSON would be reported
        # a second time as missing, which is true but no news.
        try:
            score(records[0], records[1], protocol)
        except RecordsError as error:
            problems += error.problems
        raise RecordsError(problems)
    return score(records[0], records[1], protocol, boundary=boundary)


def read_lines(path: str | os.PathLike[str], problems: list[RecordProblem]) -> list[Located]:
    """The objects of a JSON-lines file with their places; lines that cannot be read are added to `problems`."""
    path = Path(path)
    records: list[Located] = []
    try:
        with path.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    value = json.loads(line.decode("utf-8"))
                except (UnicodeDecodeError, ValueError, RecursionError) as error:
                    problems.append(RecordProblem(where, "", f"not a line of JSON: {error}"))
                    continue
                records.append(Located(where, value))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not records and not problems:
        raise DataError(f"{path}: holds no records; one JSON object a line is wanted")
    return records


def score_rows(paths: Sequence[str | os.PathLike[str]], protocol: str | Protocol) -> Score:
    """Score again the rows that `refseg evaluate --rows` saved, in one file or one a shard, without a model or masks.

    The rows' masks must have been made as the protocol makes them (threshold, resolution); the counting may differ.
    """
    protocol = get_protocol(protocol)
    problems: list[RecordProblem] = []
    rows: list[Row] = []
    seen: dict[str, str] = {}
    for entry in (entry for path in paths for entry in read_lines(path, problems)):
        value = entry.value
        identity = str(value.get("id", "")) if isinstance(value, dict) else ""
        try:
            if not isinstance(value, dict):
                raise DataError("a row is a JSON object")
            row = Row.from_dict(value)
            if row.id in seen:
                raise DataError(f"this id stands at {seen[row.id]} already")
            made = value.get("protocol")
            if made is not None and not get_protocol(made).same_masks(protocol):
                raise DataError(f"made for protocol {made!r}, whose masks are not those of {protocol.name!r}")
        except RefsegError as error:
            problems.append(RecordProblem(entry.where, identity, str(error)))
            continue
        seen[row.id] = entry.where
        rows.append(row)
    if problems:
        raise RecordsError(problems)
    return finish(rescore(rows, protocol), rows)


def all_protocols(predictions: str | os.PathLike[str], targets: str | os.PathLike[str]) -> list[Score]:
    """The same masks counted under every mask protocol: how far numbers move by counting alone."""
    return [score_files(predictions, targets, name) for name, entry in PROTOCOLS.items() if entry.task == "masks"]


def write_score(result: Score, path: str | os.PathLike[str], **more: object) -> Path:
    """Write metrics, the whole protocol, counts and breakdowns as JSON."""
    return write_text(path, json.dumps({**result.to_dict(), **more}, indent=1, allow_nan=False) + "\n")


def protocol_table(scores: Sequence[Score]) -> str:
    """Scores of the same predictions under several protocols, as a Markdown table in percent."""
    names = ["cIoU", "gIoU", "mIoU", "Pr@0.5", "Pr@0.7", "Pr@0.9", "N_acc", "T_acc"]
    if any(name not in entry for entry in scores for name in names):  # protocols of boxes have other metrics
        names = list(dict.fromkeys(name for entry in scores for name in entry))
    lines = ["| protocol | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for entry in scores:
        cells = [
            f"**{100 * value:.2f}**" if name == entry.protocol.headline else f"{100 * value:.2f}"
            for name, value in ((name, entry.get(name, math.nan)) for name in names)
        ]
        lines.append(f"| {entry.protocol.name} | " + " | ".join(cells).replace("nan", "-") + " |")
    return "\n".join(lines)
