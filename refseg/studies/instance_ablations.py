"""What each part of the system `instances` is worth: its parts switched off one by one, over the same proposals.

Counted are decisions, not masks: an answer is right where the boxes of its instances match those of the targets one to
one at an IoU of .5, or where nothing is meant and nothing is answered. Proposals are computed once a picture and kept
(`instance_report.kept`); every row answers every expression from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from refseg.data.sample import Sample
from refseg.errors import ConfigError
from refseg.inference.predictor import load
from refseg.metrics.grounding import box_iou
from refseg.models.instances.chooser import Choice
from refseg.models.instances.expression import Expression, parse
from refseg.models.instances.model import Instances, is_spelled
from refseg.models.instances.words import Lexicon
from refseg.studies.instance_report.expressions import Examiner
from refseg.studies.instance_report.kept import KeptProposals, half_of
from refseg.studies.photographs import ScoredSet
from refseg.training.instances.recipe import chooser_weights

__all__ = ["ROWS", "Row", "ablate", "measure", "to_markdown"]

Update = Callable[[int, int, str], None]
FOUND = 0.5


@dataclass(frozen=True)
class Row:
    """A line of the table: switches of `ChooserConfig` that are off, whether nouns are read by the lists alone, whether
    the weights are the rules' whatever was learnt, and a file of other ones (`chooser.safetensors` of the stages)."""

    name: str
    off: tuple[str, ...] = ()
    lists_alone: bool = False
    rules: bool = False
    weights: Path | None = None


ROWS = (
    Row("all"),
    Row("without language pretraining", lists_alone=True),
    Row("without geometry", off=("places", "relations")),
    Row("without places, order and size", off=("places",)),
    Row("places in the picture, not among what is meant", off=("relative",)),
    Row("without relations", off=("relations",)),
    Row("without colours", off=("colours",)),
    Row("rules instead of the weights", rules=True),
    Row("the noun alone", off=("places", "relations", "colours")),
)


def measure(
    model: str,
    sets: Sequence[ScoredSet],
    folder: Path,
    half: Literal["val", "test", "both"] = "val",
    rows: Sequence[Row] = ROWS,
    update: Update | None = None,
) -> dict[str, Any]:
    """Numbers of every row on every set, as plain JSON: {set: {"expressions", "pictures", "rows": {name: numbers}}}.

    Numbers are `right` (share of all), `right_target`, `T_acc`, and `N_acc` (None without no-target expressions).
    Raises `ConfigError` for another system than `instances` (`Examiner`), and what opening the sets and reading weights
    raises.
    """
    examiner = Examiner(load(model, device="cpu"))
    examiner.model.proposer = KeptProposals(examiner.model.proposer, folder)  # type: ignore[assignment]
    opened = [(scored, _samples(scored, half)) for scored in sets]
    result = {}
    for scored, samples in opened:
        decisions = _decisions(examiner, samples, rows, update or (lambda *_: None), scored.name)
        result[scored.name] = {
            "expressions": len(samples),
            "pictures": len({sample.image_path for sample in samples}),
            "rows": {row.name: _numbers(decisions[row.name]) for row in rows},
        }
    return {"model": model, "half": half, "sets": result}


@contextmanager
def ablate(model: Instances, row: Row) -> Iterator[Instances]:
    """The model with a row's parts off; it is as before afterwards."""
    chooser = model.chooser
    config, means, weights = chooser.config, chooser.means, chooser.weights.detach().clone()
    try:
        chooser.config = replace(config, **dict.fromkeys(row.off, False))
        if row.lists_alone:
            chooser.means = Lexicon()
        if row.rules:
            with torch.no_grad():
                chooser.weights.copy_(chooser.rules)
        if row.weights is not None:
            with torch.no_grad():
                chooser.weights.copy_(chooser_weights(row.weights))
        yield model
    finally:
        chooser.config, chooser.means = config, means
        with torch.no_grad():
            chooser.weights.copy_(weights)


def is_right(boxes: Float[np.ndarray, "k 4"], targets: Float[np.ndarray, "T 4"]) -> bool:
    """Whether boxes match targets one to one at an IoU of .5; both may be empty."""
    if len(boxes) != len(targets) or not len(boxes):
        return len(boxes) == len(targets)
    overlap = box_iou(boxes, targets) >= FOUND
    return bool(overlap[linear_sum_assignment(~overlap)].all())


def _samples(scored: ScoredSet, half: str) -> list[Sample]:
    parts = [replace(scored, split=split or None).open() for split in (scored.split or "").split("+")]
    every = [sample for part in parts for sample in part]
    kept = [s for s in every if s.image_path is not None and half in ("both", half_of(s.image_path.name))]
    if not kept:
        raise ConfigError(f"{scored.name}: no picture is in the half {half}")
    return kept


@torch.inference_mode()
def _decisions(
    examiner: Examiner,
    samples: Sequence[Sample],
    rows: Sequence[Row],
    update: Update,
    name: str,
) -> dict[str, list[tuple[bool, bool, bool]]]:
    """Of each row and expression: whether something is meant, whether something is answered, whether that is right."""
    model, none = examiner.model, examiner.segmenter.thresholds.no_target
    least = float(np.log(none / (1 - none)))
    groups: dict[Any, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.image_path, []).append(sample)
    found: dict[str, list[tuple[bool, bool, bool]]] = {row.name: [] for row in rows}
    for done, group in enumerate(groups.values(), 1):
        view = examiner.view(group[0])
        boxes = view.boxes()
        read: list[tuple[Expression, Float[np.ndarray, "T 4"]]] = [
            (parse(sample.text, is_spelled), np.asarray(sample.boxes(), dtype=np.float64).reshape(-1, 4))
            for sample in group
        ]
        for row in rows:
            with ablate(model, row):
                for expression, targets in read:
                    choice = model.chooser(expression, view.state.candidates)
                    chosen = boxes[_chosen(choice, least, model.config.max_masks)]
                    found[row.name].append((bool(len(targets)), bool(len(chosen)), is_right(chosen, targets)))
        update(done, len(groups), name)
    return found


def _chosen(choice: Choice, least: float, most: int) -> list[int]:
    if float(choice.no_target_logit) > least:
        return []
    order = choice.logits.argsort(descending=True, stable=True).tolist()
    return [row for row in order if float(choice.logits[row]) > 0][:most]


def _numbers(rows: Sequence[tuple[bool, bool, bool]]) -> dict[str, float | None]:
    meant, answered, right = (np.array(column, dtype=bool) for column in zip(*rows, strict=True))

    def share(values: np.ndarray) -> float | None:
        return float(values.mean()) if len(values) else None

    return {
        "right": share(right),
        "right_target": share(right[meant]),
        "T_acc": share(answered[meant]),
        "N_acc": share(~answered[~meant]),
    }


def to_markdown(document: Mapping[str, Any]) -> str:
    """The table: a line a row, of each set the share of right answers, T_acc, and N_acc where it has one."""
    sets: Mapping[str, Any] = document["sets"]
    head, shown = ["part"], []
    for name, numbers in sets.items():
        some = next(iter(numbers["rows"].values()))
        metrics = [metric for metric in ("right", "T_acc", "N_acc") if some[metric] is not None]
        head += [f"{name}: {metrics[0]}", *metrics[1:]]
        shown += [(name, metric) for metric in metrics]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in next(iter(sets.values()))["rows"]:
        cells = [f"{sets[name]['rows'][row][metric]:.3f}".replace("0.", ".", 1) for name, metric in shown]
        lines.append("| " + " | ".join([row, *cells]) + " |")
    counts = [f"{name} {entry['expressions']:,} / {entry['pictures']:,}" for name, entry in sets.items()]
    return "\n".join([*lines, "", f"Expressions / pictures, half {document['half']}: {'; '.join(counts)}."]) + "\n"
