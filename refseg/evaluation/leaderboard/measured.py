"""Numbers measured with this package: the JSON that `refseg evaluate` and `refseg score` write."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from refseg.errors import DataError
from refseg.evaluation.leaderboard.experiments import row_of_preset
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
    """Every metric of score files (JSON with `metrics`, `protocol`, `counts`). A folder stands for its *.json files or,
    where it has none, for those of the folders in it: of every run below `runs/`.

    Values become percent, like the published ones. A model that was trained by the name of a published row (the file's
    "preset") has that row's system, configuration and encoder, so that it stands beside it; otherwise the system is the
    file's "system" or "model" entry, else the file's name. Parts of a split (`breakdowns` by length and by layer) are
    numbers with a `subset`. Raises `DataError` naming every file that is not a score.
    """
    results: list[Result] = []
    problems: list[str] = []
    for given in paths:
        path = Path(given)
        found = (sorted(path.glob("*.json")) or sorted(path.glob("*/*.json"))) if path.is_dir() else [path]
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


def trained_as(info: Mapping[str, Any]) -> dict[str, str]:
    """What a score file says of how its model was trained: "preset", the data set ("trained_on"), the folder ("run");
    nothing of what a model's info does not tell."""
    recipe = (info.get("training") or {}).get("recipe") or {}
    told = {
        "preset": (recipe.get("model") or {}).get("preset"),
        "trained_on": (recipe.get("data") or {}).get("dataset"),
        "run": (recipe.get("output") or {}).get("folder"),
    }
    return {name: str(value) for name, value in told.items() if value}


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
    # GRES's gIoU and classic work's mIoU are one mean; where a split has expressions without target it is called gIoU.
    counts = content.get("counts") or {}
    generalised = bool(counts.get("no_target")) or protocol.get("no_target") == "decision"
    skipped = "mIoU" if generalised else "gIoU"
    note = f"{counts['sentences']:,} expressions" if isinstance(counts.get("sentences"), int) else ""
    subsets = {about["subset"]: metrics, **_parts(content, path)}
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
            note=note if subset == about["subset"] else "",
            **{**about, "subset": subset},
        )
        for subset, values in subsets.items()
        for name, value in values.items()
        if value is not None and name not in (skipped, "sentences")
    ]


def _parts(content: Mapping[str, Any], path: Path) -> dict[str, Mapping[str, float | int | None]]:
    """The metrics of parts of the split, by the names that the documents give them."""
    found = content.get("breakdowns") or {}
    parts = {}
    for by in ("length", "layer"):
        groups = found.get(by) or {}
        if not isinstance(groups, Mapping) or not all(isinstance(values, Mapping) for values in groups.values()):
            raise DataError(f"{path}: breakdowns.{by}: groups with their metrics are wanted")
        for name, values in groups.items():
            bad = [key for key, value in values.items() if not (value is None or _is_number(value))]
            if bad:
                raise DataError(f"{path}: breakdowns.{by}: the metric {bad[0]} is {values[bad[0]]!r}, not a number")
            # ReSTR's last group ends at the 20 words that are kept of an expression; ours has no end.
            parts[re.sub(r"^(\d+)\+ words$", r"\1-20 words", name)] = values
    return parts


def _about(content: Mapping[str, Any], path: Path) -> dict[str, str]:
    """System, data set, partition and split, as far as the file tells them."""
    system = content.get("system") or content.get("model") or path.stem
    named = content.get("data")
    data: Mapping[str, Any] = named if isinstance(named, Mapping) else content
    dataset, split = str(data.get("dataset") or ""), str(data.get("split") or "")
    row = row_of_preset(str(content.get("preset") or ""), _evaluated(content), _run(content))
    form = {"system": Path(str(system)).name or path.stem}
    if row is not None:
        form = {"system": row.system, "configuration": row.configuration, "visual_encoder": row.visual_encoder}
        form["trained_on"] = _trained_on(content, dataset)
    return {
        **form,
        "subset": "" if row is None else row.subset,
        "printed": str(system),
        "dataset": DATASETS.get(dataset.lower(), dataset),
        "partition": str(data.get("split_by") or _usual_partition(DATASETS.get(dataset.lower(), ""))),
        "split": split,
    }


def _evaluated(content: Mapping[str, Any]) -> list[str]:
    """The options of `refseg evaluate` that make another published row of the same model, as far as they were used."""
    protocol, erased = content.get("protocol") or {}, content.get("erased") or {}
    used = {
        "--protocol": protocol.get("name") if isinstance(protocol, Mapping) else None,
        "--oracle": content.get("oracle"),
        "--erase-words": erased.get("by") if isinstance(erased, Mapping) else None,
    }
    return [f"{option} {value}" for option, value in used.items() if value]


def _run(content: Mapping[str, Any]) -> str:
    """A run's folder as the recipes have it, wherever runs are kept."""
    return f"runs/{Path(str(content.get('run') or '')).name}"


def _trained_on(content: Mapping[str, Any], dataset: str) -> str:
    """The data set that a run learnt from, as the documents call it; "" where it is the one that is scored on."""
    trained = str(content.get("trained_on") or dataset)
    return "" if trained == dataset else DATASETS.get(trained.lower(), trained)


def _usual_partition(dataset: str) -> str:
    return {"RefCOCO": "unc", "RefCOCO+": "unc", "RefCOCOg": "umd", "gRefCOCO": "unc", "ReferIt": "berkeley"}.get(
        dataset, ""
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
