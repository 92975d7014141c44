"""Numbers of some pictures from their lines: means with 95 % intervals over pictures, reliability, and losses.

Expressions about one picture go together: intervals draw pictures (percentile bootstrap), not expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize

from refseg.metrics import Row, breakdown
from refseg.metrics.bootstrap import confidence_interval
from refseg.metrics.referring import calibration_error

__all__ = [
    "BINS",
    "LOSSES",
    "interval",
    "mean_interval",
    "recalibrated",
    "referring_numbers",
    "reliability",
]

BINS = 10
RESAMPLES = 1000
LOSSES = ("words", "choosing", "boxes", "masks")
_STEPS = ("now", "words", "choice", "masks")

Number = list[float]
"""Value, and the borders of its 95 % interval."""
Records = Sequence[Mapping[str, Any]]


def interval(count: int, value: Callable[[Sequence[int]], float], resamples: int = RESAMPLES) -> Number:
    """A number of `count` pictures with its interval; `value` takes their places, which may repeat."""
    random = np.random.default_rng(0)
    drawn = [value(random.integers(0, count, count).tolist()) for _ in range(resamples)]
    low, high = np.nanquantile(drawn, (0.025, 0.975)) if count else (np.nan, np.nan)
    return [value(range(count)), float(low), float(high)]


def mean_interval(groups: Sequence[Sequence[float]]) -> Number:
    """The mean of all values of all pictures, with its interval; `groups` has a list a picture."""
    kept = [values for values in groups if values]
    if not kept:
        return [float("nan")] * 3
    sums, counts = (np.array([total(values) for values in kept], dtype=np.float64) for total in (sum, len))
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(kept), (RESAMPLES, len(kept)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975))
    return [float(sums.sum() / counts.sum()), float(low), float(high)]


def referring_numbers(pictures: Mapping[str, Records]) -> dict[str, Any]:
    """Everything about a set's expressions; `pictures` are the records of each picture (`Examiner.examine`)."""
    groups = list(pictures.values())
    every = [record for records in groups for record in records]
    numbers: dict[str, Any] = {"expressions": len(every), "pictures": len(groups)}
    if not every:
        return numbers
    targets = [[record for record in records if not record["no_target"]] for records in groups]
    rows = [Row.from_dict(record["row"]) for record in every if record["row"] is not None]
    if rows:
        names = ["gIoU", "cIoU", "mIoU_target", "Pr@0.5"]
        for name in names:
            found = confidence_interval(rows, name, resamples=RESAMPLES)
            numbers[name] = [found.value, found.low, found.high]
        numbers["by kind"] = _kinds(rows)
        numbers["losses"] = _losses(targets)
    none = [[record for record in records if record["no_target"]] for records in groups]
    numbers["T_acc"] = _share(targets, lambda record: not record["none"])
    numbers["N_acc"] = _share(none, lambda record: record["none"])
    numbers["GREC F1"] = _share(groups, lambda record: record["grec"])
    numbers["boxes right"] = _share(targets, lambda record: record["exact"])
    numbers["boxes right with words right"] = _share(targets, lambda record: record["words_exact"])
    numbers["targets with a proposal"] = mean_interval([[r["reached"] for r in records] for records in targets])
    numbers["misread"] = _share(targets, lambda record: record["misread"])
    numbers["instances"] = _instances([record for records in targets for record in records])
    scores = np.array([record["none_score"] for record in every])
    truth = np.array([record["no_target"] for record in every])
    if truth.any() and not truth.all():
        numbers["none"] = reliability(scores, truth)
    return numbers


def _share(groups: Sequence[Records], is_right: Callable[[Mapping[str, Any]], bool]) -> Number:
    return mean_interval([[float(is_right(record)) for record in records] for records in groups])


def _kinds(rows: Sequence[Row]) -> dict[str, dict[str, float | int]]:
    found = breakdown(rows, "kind", "native")
    names = ("gIoU", "Pr@0.5", "N_acc", "T_acc")
    return {
        kind: {"expressions": numbers["sentences"], **{name: numbers[name] for name in names if name in numbers}}
        for kind, numbers in found.items()
    }


def _losses(targets: Sequence[Records]) -> dict[str, Number]:
    """Mean IoU over the expressions with targets, of each step, and what is lost between them (they add up to 1)."""
    steps = [
        [
            {"now": _value(record), **{name: record[name] for name in (*_STEPS[1:], "proposals")}}
            for record in records
            if record["row"] is not None
        ]
        for records in targets
    ]
    found = {name: mean_interval([[step[name] for step in part] for part in steps]) for name in (*_STEPS, "proposals")}
    for name, (less, more) in zip(LOSSES[:3], pairwise(_STEPS), strict=True):
        found[f"lost by {name}"] = mean_interval([[step[more] - step[less] for step in part] for part in steps])
    found["lost by masks"] = mean_interval([[1 - step["masks"] for step in part] for part in steps])
    return found


def _value(record: Mapping[str, Any]) -> float:
    row = record["row"]
    return 0.0 if record["none"] or not row["union"] else row["intersection"] / row["union"]


def _instances(records: Records) -> dict[str, Any]:
    """How often as many instances are answered as are meant, by how many are meant; "all"."""
    found: dict[str, Any] = {}
    groups: dict[str, list[Mapping[str, Any]]] = {"all": list(records)}
    for record in records:
        groups.setdefault(str(record["targets"]) if record["targets"] < 4 else "4+", []).append(record)
    for name, part in sorted(groups.items()):
        found[name] = {
            "expressions": len(part),
            "number right": float(np.mean([record["instances"] == record["targets"] for record in part])),
            "boxes right": float(np.mean([record["exact"] for record in part])),
        }
    return found


def reliability(scores: Float[np.ndarray, " N"], truth: Bool[np.ndarray, " N"]) -> dict[str, Any]:
    """Expected calibration error over `BINS` bins of equal width, and of each bin its borders, questions, mean
    probability, and the share that truly has no target."""
    index = np.clip(np.ceil(scores * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for number in range(BINS):
        inside = index == number
        if inside.any():
            bins.append(
                {
                    "from": number / BINS,
                    "to": (number + 1) / BINS,
                    "questions": int(inside.sum()),
                    "stated": float(scores[inside].mean()),
                    "none": float(truth[inside].mean()),
                }
            )
    return {"error": calibration_error(scores, truth, BINS), "bins": bins}


def recalibrated(
    scores: Float[np.ndarray, " N"],
    truth: Bool[np.ndarray, " N"],
    others: Float[np.ndarray, " M"],
) -> Float[np.ndarray, " M"]:
    """Probabilities of `others` after the logistic map a logit + b that fits `scores` and `truth` best.

    Platt, Probabilistic outputs for support vector machines, 1999; fitted on one half, it says on the other how much
    of the calibration error one map of two numbers would mend.
    """
    logits, further = (np.log(part / (1 - part)) for part in (scores.clip(1e-6, 1 - 1e-6), others.clip(1e-6, 1 - 1e-6)))
    signs = np.where(truth, 1.0, -1.0)

    def loss(weights: Float[np.ndarray, " 2"]) -> float:
        return float(np.logaddexp(0, -signs * (weights[0] * logits + weights[1])).mean() + 1e-4 * (weights**2).sum())

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return 1 / (1 + np.exp(-(slope * further + offset)))
