"""What the runs of a study say: metrics with intervals over pictures, and of each claim whether it is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from refseg.metrics.bootstrap import compare, confidence_interval
from refseg.metrics.counts import Row
from refseg.studies.claims import Claim

__all__ = ["NEGLIGIBLE", "Outcome", "equal_time", "percent_metrics", "value_of", "weigh"]

NEGLIGIBLE = 0.01
"""A difference whose whole interval is smaller than this, a point, is called none."""


@dataclass(frozen=True)
class Outcome:
    """What the runs of a claim say; numbers are fractions, the row that the source calls better minus the other."""

    difference: float
    low: float
    high: float
    """95 % interval of the difference of the means over seeds, by drawing pictures."""
    by_seed: tuple[float, ...]
    p_value: float
    """Each picture's two results swapped at random."""
    result: Literal["seen", "the opposite", "not seen", "undecided"]

    def sentence(self, claim: Claim) -> str:
        """One honest sentence."""
        better, worse = claim.pair
        points = f"{100 * self.difference:+.1f} points ({100 * self.low:+.1f} to {100 * self.high:+.1f})"
        seeds = f"{len(self.by_seed)} seed{'s' if len(self.by_seed) > 1 else ''}"
        each = ", ".join(f"{100 * value:+.1f}" for value in self.by_seed)
        text = {
            "seen": "Seen",
            "the opposite": "The opposite is seen at this size",
            "not seen": "Not seen at this size: the difference is below a point",
            "undecided": "Undecided at this size",
        }[self.result]
        return f"{text}: {better} against {worse} {points} over {seeds} ({each}), p = {self.p_value:.3f}."


def value_of(rows: Sequence[Row], metric: str) -> float:
    """The metric of `Claim.metric` over the rows, 0 to 1; nan where no expression counts."""
    kept, name = _counted(rows, metric)
    return confidence_interval(kept, name, resamples=1).value if kept else float("nan")


def weigh(claim: Claim, pairs: Mapping[int, tuple[Sequence[Row], Sequence[Row]]]) -> Outcome:
    """The outcome over seeds: `pairs` is seed -> rows of the row that is called better and of the other.

    Pictures are drawn, the same for both rows and for all seeds. Seen is what the interval and every seed say; several
    expressions of a picture, and one picture under several seeds, are never counted as independent.
    """
    first: list[Row] = []
    second: list[Row] = []
    differences = []
    name = "gIoU"
    for seed, (one, two) in sorted(pairs.items()):
        (kept_one, name), (kept_two, _) = _counted(one, claim.metric), _counted(two, claim.metric)
        first += [replace(row, id=f"{row.id} {seed}") for row in kept_one]
        second += [replace(row, id=f"{row.id} {seed}") for row in kept_two]
        differences.append(compare(kept_two, kept_one, name, resamples=1).difference.value)
    found = compare(second, first, name)
    low, high = found.difference.low, found.difference.high
    result: Literal["seen", "the opposite", "not seen", "undecided"] = "undecided"
    if low > -NEGLIGIBLE and high < NEGLIGIBLE:
        result = "not seen"
    elif low > 0 and min(differences) > 0:
        result = "seen"
    elif high < 0 and max(differences) < 0:
        result = "the opposite"
    return Outcome(found.difference.value, low, high, tuple(differences), found.p_value, result)


def percent_metrics(result: Mapping[str, Any]) -> dict[str, float | None]:
    """A run's metrics in percent, and of gIoU the 95 % interval over pictures that was kept with them."""
    found = {name: None if value is None else round(100 * value, 2) for name, value in result["metrics"].items()}
    if "gIoU_interval" in result:
        low, high = result["gIoU_interval"]
        found |= {"gIoU_low": round(100 * low, 2), "gIoU_high": round(100 * high, 2)}
    return found


def equal_time(results: Mapping[str, Mapping[str, Any]]) -> tuple[float, dict[str, float]]:
    """Seconds in which the quickest system learnt from its expressions, and gIoU of each system's learning curve there
    (0 to 1, linear between its points, on scenes of the split val); systems without a curve are left out."""
    curves = {name: result["curve"] for name, result in results.items() if result.get("curve")}
    if not curves:
        return 0.0, {}
    seconds = min(curve[-1]["seconds"] for curve in curves.values())
    found = {}
    for name, curve in curves.items():
        before = {"seconds": 0.0, "gIoU": 0.0}
        for point in curve:
            if point["seconds"] >= seconds:
                share = (seconds - before["seconds"]) / max(1e-9, point["seconds"] - before["seconds"])
                found[name] = before["gIoU"] + share * (point["gIoU"] - before["gIoU"])
                break
            before = point
    return seconds, found


def _counted(rows: Sequence[Row], metric: str) -> tuple[list[Row], str]:
    """The rows that count for a claim's metric, and the protocol's name of it over them."""
    if metric == "mIoU_one":
        return [row for row in rows if row.targets == 1 and not row.no_target], "gIoU"
    return list(rows), metric
