"""How sure a score is: confidence intervals by resampling pictures, and the paired comparison of two runs.

Expressions about one picture go together, so pictures are drawn and not expressions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from refseg.errors import ConfigError, DataError, did_you_mean
from refseg.metrics.counts import Row
from refseg.metrics.protocols import Protocol, get_protocol
from refseg.metrics.referring import contributions, judge, metric_names, ratio

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A metric with its confidence interval: `low` and `high` are the borders of the middle `confidence` share."""

    value: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same expressions: their values, second minus first with its interval, and a two-sided p-value."""

    first: float
    second: float
    difference: Interval
    p_value: float


def confidence_interval(
    rows: Iterable[Row | Mapping[str, Any]],
    metric: str,
    protocol: str | Protocol = "native",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over pictures (Efron): the metric on `resamples` draws of as many pictures."""
    _check(confidence, resamples)
    protocol = get_protocol(protocol)
    sums = _picture_sums(_rows(rows), metric, protocol)
    value = float(_metric(sums.sum(0)[None], metric, protocol)[0])
    low, high = _middle(_resampled(sums, metric, protocol, resamples, seed), confidence)
    return Interval(value, low, high, confidence)


def compare(
    first: Iterable[Row | Mapping[str, Any]],
    second: Iterable[Row | Mapping[str, Any]],
    metric: str,
    protocol: str | Protocol = "native",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs expression by expression.

    The interval resamples pictures, the same for both runs. The p-value is that of a permutation test: how often the
    difference is at least as large when each picture's two results are swapped at random, as they may be if the runs
    are equally good. Raises `DataError` when the runs do not hold the same expressions.
    """
    _check(confidence, resamples)
    protocol = get_protocol(protocol)
    one, two = _rows(first), _rows(second)
    if one.keys() != two.keys():
        lost = sorted(one.keys() ^ two.keys())
        raise DataError(f"the runs differ in {len(lost)} expressions, such as {lost[0]}; compare runs on one split")
    changed = [key for key, row in one.items() if (row.target_area, row.size) != (two[key].target_area, two[key].size)]
    if changed:
        raise DataError(f"the runs have other targets for {len(changed)} expressions, such as {changed[0]}")
    sums_one = _picture_sums(one, metric, protocol)
    sums_two = _picture_sums({key: two[key] for key in one}, metric, protocol, pictures=one)
    values = [float(_metric(sums.sum(0)[None], metric, protocol)[0]) for sums in (sums_one, sums_two)]
    observed = values[1] - values[0]
    differences = _resampled(sums_two, metric, protocol, resamples, seed) - _resampled(
        sums_one, metric, protocol, resamples, seed
    )
    low, high = _middle(differences, confidence)
    random = np.random.default_rng(seed + 1)
    total, extreme = sums_one.sum(0) + sums_two.sum(0), 0
    for count in _chunks(resamples, len(sums_one)):
        swapped = random.random((count, len(sums_one))) < 0.5
        permuted = swapped @ sums_one + ~swapped @ sums_two
        permuted_difference = _metric(permuted, metric, protocol) - _metric(total - permuted, metric, protocol)
        # Differences that are equal but for rounding count as equal.
        extreme += int((np.abs(permuted_difference) >= abs(observed) - 1e-12).sum())
    return Comparison(values[0], values[1], Interval(observed, low, high, confidence), (1 + extreme) / (1 + resamples))


def _check(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1 or resamples < 1:
        raise ConfigError(f"confidence lies between 0 and 1, resamples are 1 or more, not {confidence}, {resamples}")


def _rows(rows: Iterable[Row | Mapping[str, Any]]) -> dict[str, Row]:
    result: dict[str, Row] = {}
    for entry in rows:
        row = entry if isinstance(entry, Row) else Row.from_dict(entry)
        if row.id in result:
            raise DataError(f"row {row.id} comes twice")
        result[row.id] = row
    if not result:
        raise DataError("there are no rows to draw from")
    return result


def _picture_sums(
    rows: Mapping[str, Row], metric: str, protocol: Protocol, pictures: Mapping[str, Row] | None = None
) -> Float[np.ndarray, "P 3"]:
    """Per picture the metric's numerator and denominator and the expressions; a row without a picture is its own."""
    index: dict[str, int] = {}
    entries: list[tuple[int, float, float, int]] = []
    seen = False
    for key, row in rows.items():
        named = (pictures or rows)[key].picture
        place = index.setdefault(f"picture {named}" if named is not None else f"row {key}", len(index))
        parts = contributions(row, judge(row, protocol), protocol)
        seen = seen or metric in parts
        part = parts.get(metric, (0.0, 0))
        entries.append((place, float(part[0]), float(part[1]), int(bool(parts))))
    if not seen:
        names = metric_names(protocol)
        raise ConfigError(f"{metric!r} is not a metric of these rows; {did_you_mean(metric, names)}")
    sums = np.zeros((len(index), 3))
    for place, numerator, denominator, one in entries:
        sums[place] += (numerator, denominator, one)
    return sums


def _resampled(sums: np.ndarray, metric: str, protocol: Protocol, resamples: int, seed: int) -> Float[np.ndarray, " R"]:
    """The metric on draws of pictures; the same seed draws the same pictures."""
    random = np.random.default_rng(seed)
    pictures = len(sums)
    values: list[np.ndarray] = []
    for count in _chunks(resamples, pictures):
        drawn = random.integers(0, pictures, (count, pictures))
        offsets = np.arange(count)[:, None] * pictures
        times = np.bincount((drawn + offsets).reshape(-1), minlength=count * pictures).reshape(count, pictures)
        values.append(_metric(times @ sums, metric, protocol))
    return np.concatenate(values)


def _chunks(resamples: int, pictures: int) -> list[int]:
    size = max(1, _CHUNK // max(1, pictures))
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _metric(sums: np.ndarray, metric: str, protocol: Protocol) -> Float[np.ndarray, " R"]:
    return np.array([ratio(metric, top, under, int(count), protocol) for top, under, count in sums.tolist()])


def _middle(values: Sequence[float] | np.ndarray, confidence: float) -> tuple[float, float]:
    """The borders of the middle share; draws in which the metric is not defined are left out."""
    defined = np.asarray(values)[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
