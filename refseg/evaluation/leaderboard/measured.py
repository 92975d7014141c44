"""Numbers measured with this package: the JSON that `refseg evaluate` and `refseg score` write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from refseg.errors import DataError
from refseg.evaluation.leaderboard.published import Result

# This package's names of data sets -> the names that papers print.
DATASETS = {
    "refcoco": "RefCOCO",
    "refcoco+": "RefCOCO+",
    "refcocog": "RefCOCOg",
    "grefcoco": "gRefCOCO",
    "refclef": "ReferIt",
    "referit": "ReferIt",
    "flickr30k": "Flickr30k Entities",
    "ref-davis17": "Ref-DAVIS17",
    "ref-davis": "Ref-DAVIS17",
    "ref-youtube-vos": "YouTube-RVOS",
    "youtube-rvos": "YouTube-RVOS",
    "g-ref": "RefCOCOg",
    "unc": "RefCOCO",
    "unc+": "RefCOCO+",
}


def load_measured(paths: Iterable[str | os.PathLike[str]]) -> list[Result]:
    """Every metric of score files (JSON with `metrics`, `protocol`, `counts`); a folder stands for its *.json files.

    Values become percent, like the published ones. The system is the file's "system" or "model" entry, else the file's
    name. Raises `DataError` naming every file that is not a score.
    """
    results: list[Result] = []
    problems: list[str] = []
    for given in paths:
        path = Path(given)
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            problems.append(f"{path}: a folder without .json files")
        for file in found:
            try:
                results += read_score(file)
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise DataError("; ".join(problems))
    return results


def read_score(path: str | os.PathLike[str]) -> list[Result]:
    """The metrics of one score file. Raises `DataError` when it is none."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("protocols"), dict):
        # One run under several protocols: what is said of the run holds for each.
        about = {key: value for key, value in content.items() if key != "protocols"}
        return [
            result
            for part in content["protocols"].values()
            for result in _read_part({**about, **part} if isinstance(part, dict) else part, path)
        ]
    return _read_part(content, path)


def _read_part(content: Any, path: Path) -> list[Result]:
    """The metrics of one run under one protocol."""
    metrics = content.get("metrics") if isinstance(content, dict) else None
    protocol = content.get("protocol") if isinstance(content, dict) else None
    if not isinstance(metrics, Mapping) or not isinstance(protocol, Mapping) or "name" not in protocol:
        raise DataError(f'{path}: no "metrics" with their "protocol"; write it with refseg evaluate --json or score -o')
    bad = [name for name, value in metrics.items() if not (value is None or _is_number(value))]
    if bad:
        raise DataError(f"{path}: the metric {bad[0]} is {metrics[bad[0]]!r}, not a number")
    about = _about(content, path)
    # GRES's gIoU and classic work's mIoU are one mean; where a split has sentences without target it is called gIoU.
    counts = content.get("counts") or {}
    generalised = bool(counts.get("no_target")) or protocol.get("no_target") == "decision"
    skipped = "mIoU" if generalised else "gIoU"
    note = f"{counts['sentences']:,} sentences" if isinstance(counts.get("sentences"), int) else ""
    return [
        Result(
            metric=name,
            value=100.0 * value,
            protocol=str(protocol["name"]),
            basis="computed",
            origin="measured",
            document=path.name,
            printed_metric=name,
            printed_value=f"{100.0 * value:.2f}",
            note=note,
            **about,
        )
        for name, value in metrics.items()
        if value is not None and name != skipped
    ]


def _about(content: Mapping[str, Any], path: Path) -> dict[str, str]:
    """System, data set, partition and split, as far as the file tells them."""
    system = content.get("system") or content.get("model") or path.stem
    named = content.get("data")
    data: Mapping[str, Any] = named if isinstance(named, Mapping) else content
    dataset, split = str(data.get("dataset") or ""), str(data.get("split") or "")
    return {
        "system": Path(str(system)).name or path.stem,
        "printed": str(system),
        "dataset": DATASETS.get(dataset.lower(), dataset),
        "partition": str(data.get("split_by") or _usual_partition(DATASETS.get(dataset.lower(), ""))),
        "split": split,
    }


def _usual_partition(dataset: str) -> str:
    return {"RefCOCO": "unc", "RefCOCO+": "unc", "RefCOCOg": "umd", "gRefCOCO": "unc", "ReferIt": "berkeley"}.get(
        dataset, ""
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
