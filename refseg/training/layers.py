"""A recipe in layers: a file, the files that it extends, a row of a paper's tables, another data set, assignments.

    recipes/vlt-paper-swin-refcoco.toml     extends = "vlt-paper-refcoco.toml", then what differs
    --preset "vlt: table 4.3: 4 queries"    the model of that row
    --data refcoco+                         another data set, by a name of `leaderboard.experiments.DATA`

A later layer's fields stand before an earlier one's. A number of steps and the same in epochs say one thing: the later
of the two holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refseg.config import read_toml
from refseg.errors import ConfigError, did_you_mean

__all__ = ["drop_twins", "lay", "named", "read_layers"]

EXTENDS = "extends"
_MOST = 8
"""Files in a row that extend one another."""
_TWINS = (
    ("training.steps", "training.epochs"),
    ("schedule.milestones", "schedule.milestone_epochs"),
    ("schedule.warmup_steps", "schedule.warmup_epochs"),
    ("evaluation.every", "evaluation.every_epochs"),
)
"""Fields of which a layer that has the one takes the other out of those below."""


def read_layers(path: str | Path, below: int = 0) -> dict[str, Any]:
    """The values of a TOML file on those of the file that its `extends` names (beside it), and so on.

    Raises `ConfigError` that names the file: unreadable, no such file, or files that extend one another in a ring.
    """
    path = Path(path)
    if below > _MOST:
        raise ConfigError(f"{path}: {EXTENDS}: more than {_MOST} files in a row; do they extend one another?")
    values = read_toml(path)
    base = values.pop(EXTENDS, None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: {EXTENDS}: the name of one recipe beside it is wanted, not {base!r}")
    if not (path.parent / base).is_file():
        there = sorted(entry.name for entry in path.parent.glob("*.toml"))
        raise ConfigError(f"{path}: {EXTENDS}: no file {base!r} beside it; {did_you_mean(base, there)}")
    return lay(read_layers(path.parent / base, below + 1), values)


def lay(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `layer` in it, tables field by field and lists whole."""
    result = drop_twins(base, layer)
    for key, value in layer.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = lay(result[key], value) if both else value
    return result


def drop_twins(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """`base` without what `layer` says in another unit."""
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in base.items()}
    for pair in _TWINS:
        for one, other in (pair, pair[::-1]):
            table, _, field = other.partition(".")
            if _has(layer, one) and not _has(layer, other) and isinstance(result.get(table), dict):
                result[table].pop(field, None)
    return result


def named(values: Mapping[str, Any], preset: str | None, data: str | None) -> dict[str, Any]:
    """`values` with another model and another data set. A run's folder is called after both, and so is the run whose
    weights it begins with, where it carries the data set's name."""
    from refseg.evaluation.leaderboard.experiments import data_set, renamed, slug

    own = str(values.get("data", {}).get("dataset", ""))
    folder = str(values.get("output", {}).get("folder", "runs/train"))
    layer: dict[str, Any] = {}
    if data is not None:
        chosen = data_set(data)
        layer["data"] = {"dataset": chosen.dataset, "split_by": chosen.split_by, "split": None}
        layer["evaluation"] = {"dataset": None, "split_by": None}
        start = str(values.get("pretrained", {}).get("model", ""))
        if own and start:
            layer["pretrained"] = {"model": renamed(start, own, data)}
        folder = renamed(folder, own, data) if own and own in folder else f"{folder}-{data}"
    if preset is not None:
        layer["model"] = {"preset": preset}
        parent = folder.rpartition("/")[0]
        folder = f"{parent}/" * bool(parent) + "-".join(filter(None, (slug(preset), data or own)))
    result = lay(values, {**layer, "output": {"folder": folder}} if layer else {})
    for table in ("data", "evaluation"):
        if isinstance(result.get(table), dict):
            result[table] = {key: value for key, value in result[table].items() if value is not None}
    return result


def _has(values: Mapping[str, Any], field: str) -> bool:
    table, _, name = field.partition(".")
    return isinstance(values.get(table), Mapping) and name in values[table]
