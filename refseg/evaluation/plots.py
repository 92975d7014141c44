"""Plots that people look at rather than tables. Needs matplotlib: pip install "refseg[plots]".

Each function draws one or several runs (name -> rows) and returns a figure; `save_plots` writes all that rows allow.
Nothing here opens a window or changes matplotlib's global state.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from refseg.errors import RefsegError
from refseg.evaluation.leaderboard.board import Board, column_name
from refseg.files import write_bytes
from refseg.metrics import Protocol, Row, breakdown, get_protocol
from refseg.metrics.referring import CALIBRATION_BINS, calibration_error, judge

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Runs = Mapping[str, Sequence[Row]]

# Okabe and Ito: told apart with any colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
RIGHT_IOU = 0.5
"""From this IoU on an answer counts as right in `precision_over_coverage`."""


def iou_histogram(runs: Runs, protocol: str | Protocol = "native", bins: int = 20) -> Figure:
    """How the IoU of the expressions with a target is spread: the share of them in bins from 0 to 1."""
    protocol = get_protocol(protocol)
    figure, axes = _figure("IoU of the expressions with a target", "IoU", "share of expressions")
    edges = np.linspace(0.0, 1.0, bins + 1)
    for index, (name, rows) in enumerate(runs.items()):
        values = np.array([judge(row, protocol).value for row in rows if not row.no_target])
        if not len(values):
            continue
        heights = np.histogram(np.clip(values, 0.0, 1.0), edges)[0] / len(values)
        axes.stairs(heights, edges, fill=True, alpha=0.25, color=COLOURS[index % len(COLOURS)])
        label = f"{name}: mean {values.mean():.3f}, median {np.median(values):.3f}"
        axes.stairs(heights, edges, color=COLOURS[index % len(COLOURS)], linewidth=1.6, label=label)
    axes.set_xlim(0, 1)
    return _finished(figure, axes)


def group_bars(runs: Runs, by: str = "kind", metric: str = "gIoU", protocol: str | Protocol = "native") -> Figure:
    """A metric for each group of expressions, one bar a run; `by` is a breakdown ("kind", "targets", "length", ...)."""
    found = {name: breakdown(rows, by, protocol) for name, rows in runs.items()}
    groups = list(dict.fromkeys(group for result in found.values() for group in result))
    if not groups:
        raise RefsegError(f"the rows do not say the {by} of their expressions")
    figure, axes = _figure(f"{metric} by {by}", metric, "", size=(8.0, 1.2 + (0.24 * len(runs) + 0.14) * len(groups)))
    height = 0.8 / len(runs)
    places = np.arange(len(groups))
    for index, (name, result) in enumerate(found.items()):
        values = [result.get(group, {}).get(metric, np.nan) for group in groups]
        bars = axes.barh(
            places + (index + 0.5) * height - 0.4, np.nan_to_num(values), height * 0.92,
            color=COLOURS[index % len(COLOURS)], hatch=HATCHES[index % len(HATCHES)], edgecolor="white", label=name,
        )  # fmt: skip
        labels = ["-" if np.isnan(value) else f"{value:.2f}" for value in values]
        axes.bar_label(bars, labels, padding=3, fontsize=8)
    first = next(iter(found.values()))
    axes.grid(False, axis="y")
    axes.set_yticks(places, [f"{group} ({first.get(group, {}).get('sentences', 0):,.0f})" for group in groups])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    return _finished(figure, axes)


def reliability(runs: Runs, bins: int = CALIBRATION_BINS) -> Figure:
    """Whether the probability of none can be believed: share of expressions without target over what was predicted.

    Below, how many expressions fall into each bin. Bins are those of the calibration error (`none_ECE`).
    """
    figure, axes = _figure("reliability of none", "", "share without target", size=(5.5, 6.0))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--", label="perfectly calibrated")
    grid = figure.add_gridspec(2, 1, height_ratios=(4, 1), hspace=0.12)
    axes.set_subplotspec(grid[0])
    below = figure.add_subplot(grid[1])
    below.set_xlabel("predicted probability of none")
    axes.tick_params(labelbottom=False)
    for index, (name, rows) in enumerate(runs.items()):
        probabilities, labels = _none_scores(rows)
        if not len(probabilities):
            continue
        place = np.clip(np.ceil(probabilities * bins).astype(int) - 1, 0, bins - 1)
        counts = np.bincount(place, minlength=bins)
        filled = counts > 0
        mean = np.bincount(place, probabilities, bins)[filled] / counts[filled]
        share = np.bincount(place, labels, bins)[filled] / counts[filled]
        colour = COLOURS[index % len(COLOURS)]
        error = calibration_error(probabilities, labels, bins)
        axes.plot(mean, share, marker="o", color=colour, label=f"{name}: ECE {error:.3f}")
        below.stairs(counts, np.linspace(0, 1, bins + 1), color=colour, linewidth=1.6)
    below.set_yscale("symlog")
    below.set_xlim(0, 1)
    below.set_ylabel("expressions", fontsize=8)
    below.tick_params(labelsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return _finished(figure, axes)


def precision_over_coverage(runs: Runs, protocol: str | Protocol = "native") -> Figure:
    """What share of the answers is right when only the surest are given, over the share of expressions answered.

    An answer is right when it is none for an expression without target, or when the IoU reaches 0.5. How sure an answer
    is: the probability of its no-target decision (that of none, or of not none).
    """
    protocol = get_protocol(protocol)
    figure, axes = _figure("precision over coverage", "share of expressions answered, surest first", "share right")
    for index, (name, rows) in enumerate(runs.items()):
        coverage, precision = coverage_curve(rows, protocol)
        if len(coverage):
            area = float(np.mean(precision))
            label = f"{name}: all {precision[-1]:.3f}, area {area:.3f}"
            axes.plot(coverage, precision, color=COLOURS[index % len(COLOURS)], linewidth=1.8, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    return _finished(figure, axes)


def coverage_curve(
    rows: Sequence[Row], protocol: str | Protocol = "native"
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Coverage 1/N .. 1 and the share right among so many surest answers; equally sure answers share their mean.

    Rows without `no_target_score` are left out.
    """
    protocol = get_protocol(protocol)
    sure, right = [], []
    for row in rows:
        if row.no_target_score is None:
            continue
        row_score = judge(row, protocol)
        sure.append(row.no_target_score if row_score.says_none else 1.0 - row.no_target_score)
        right.append(row_score.says_none if row.no_target else not row_score.says_none and row_score.value >= RIGHT_IOU)
    if not sure:
        return np.zeros(0), np.zeros(0)
    confidence, correct = np.asarray(sure), np.asarray(right, dtype=np.float64)
    order = np.argsort(-confidence, kind="stable")
    confidence, correct = confidence[order], correct[order]
    # The order within a tie is chance: every answer of a tie counts as the tie's mean.
    starts = np.flatnonzero(np.append(True, np.diff(confidence) != 0))
    sizes = np.diff(np.append(starts, len(correct)))
    correct = np.repeat(np.add.reduceat(correct, starts) / sizes, sizes)
    count = np.arange(1, len(correct) + 1)
    return count / len(correct), np.cumsum(correct) / count


def results_bars(board: Board, column: tuple[str, ...]) -> Figure:
    """One column of a results table as bars, best first; what was measured here is hatched. Refuses mixed measures."""
    rows = board.ranked(column)
    figure, axes = _figure(column_name(column), column[-1], "", size=(8.0, 1.0 + 0.28 * len(rows)))
    for place, row in enumerate(rows):
        cell = board.cells[row, column]
        here = cell[0].origin == "measured"
        bar = axes.barh(
            [place],
            [cell[0].value],
            0.8,
            color=COLOURS[1 if here else 0],
            hatch="///" if here else "",
            edgecolor="white",
        )
        axes.bar_label(bar, [board.text(row, column)], padding=3, fontsize=8)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"{column[-1]} ({board.cells[rows[0], column][0].unit})")
    axes.set_yticks(range(len(rows)), [", ".join(part for part in row if part) for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    return _finished(figure, axes, legend=False)


def save_plots(runs: Runs, folder: str | os.PathLike[str], protocol: str | Protocol = "native") -> list[Path]:
    """Write every plot that these rows allow as PNG; returns the files. Raises `RefsegError` without matplotlib."""
    figures = {"iou-histogram": lambda: iou_histogram(runs, protocol)}
    for by in ("kind", "targets", "length"):
        if any(breakdown(rows, by, protocol) for rows in runs.values()):
            figures[f"by-{by}"] = lambda by=by: group_bars(runs, by, "gIoU", protocol)  # type: ignore[misc]
    scored = [_none_scores(rows)[1] for rows in runs.values()]
    if any(labels.any() and not labels.all() for labels in scored):
        figures["none-reliability"] = lambda: reliability(runs)
    if any(len(labels) for labels in scored):
        figures["precision-over-coverage"] = lambda: precision_over_coverage(runs, protocol)
    return [save_figure(draw(), Path(folder) / f"{name}.png") for name, draw in figures.items()]


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure; the suffix says the format (png, svg, pdf)."""
    kind = Path(path).suffix.lower().lstrip(".") or "png"
    if kind not in ("png", "svg", "pdf"):
        raise RefsegError(f"{path}: a plot is written as .png, .svg or .pdf, not .{kind}")
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, bbox_inches="tight")
    return write_bytes(path, buffer.getvalue())


def _none_scores(rows: Sequence[Row]) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    known = [(row.no_target_score, row.no_target) for row in rows if row.no_target_score is not None]
    return np.array([score for score, _ in known], dtype=np.float64), np.array(
        [label for _, label in known], dtype=bool
    )


def _figure(title: str, across: str, up: str, size: tuple[float, float] = (7.0, 4.5)) -> tuple[Figure, Axes]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RefsegError('plots need matplotlib: pip install "refseg[plots]"') from error
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finished(figure: Figure, axes: Axes, legend: bool = True) -> Figure:
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return figure
