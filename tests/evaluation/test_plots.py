"""Plots: what is drawn is what was counted."""

import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from refseg.errors import RefsegError
from refseg.evaluation.leaderboard import Board, MixedMeasuresError, Result
from refseg.evaluation.plots import (
    coverage_curve,
    group_bars,
    iou_histogram,
    precision_over_coverage,
    reliability,
    results_bars,
    save_figure,
    save_plots,
)
from refseg.metrics import Row
from refseg.metrics.referring import calibration_error


def row(identity, inter, no_target=False, said=False, score=None, kind="position"):
    """A 10 x 10 picture; the target has 20 pixels and the prediction as many."""
    area = 0 if no_target else 20
    return Row(
        identity, inter, 20 + area - inter, 20, area, (10, 10), no_target, said, score, kind=kind, text="the left one"
    )


ROWS = [
    row("1", 20, score=0.1),
    row("2", 10, score=0.2, kind="colour"),
    row("3", 0, score=0.3),
    row("4", 0, no_target=True, said=True, score=0.9, kind="none"),
    row("5", 0, no_target=True, said=False, score=0.4, kind="none"),
]


def steps(axes):
    """Heights of the step curves of a plot, one array a curve."""
    from matplotlib.patches import StepPatch

    return [patch.get_data().values for patch in axes.patches if isinstance(patch, StepPatch)]


def test_histogram_holds_every_sentence_with_a_target_once():
    axes = iou_histogram({"run": ROWS}, bins=10).axes[0]
    heights = steps(axes)[0]
    assert heights.sum() == pytest.approx(1.0)
    # IoUs 1, 10/30 and 0.
    assert np.flatnonzero(heights).tolist() == [0, 3, 9]


def test_bars_are_the_breakdown():
    axes = group_bars({"a": ROWS, "b": ROWS[:1]}, "kind", "gIoU").axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["colour (1)", "none (2)", "position (2)"]
    assert widths[:3] == pytest.approx([10 / 30, 0.5, 0.5])
    assert widths[3:] == pytest.approx([0, 0, 1.0])
    with pytest.raises(RefsegError, match="do not say the category"):
        group_bars({"a": ROWS}, "category")


def test_reliability_draws_the_bins_of_the_calibration_error():
    axes, below = reliability({"run": ROWS}, bins=5).axes
    curve = axes.lines[1]
    assert curve.get_xdata().tolist() == pytest.approx([0.15, 0.35, 0.9])
    assert curve.get_ydata().tolist() == pytest.approx([0.0, 0.5, 1.0])
    assert steps(below)[0].tolist() == [2, 2, 0, 0, 1]
    scores = np.array([entry.no_target_score for entry in ROWS])
    labels = np.array([entry.no_target for entry in ROWS])
    gaps = np.abs(curve.get_xdata() - curve.get_ydata())
    assert (gaps * [2, 2, 1]).sum() / 5 == pytest.approx(calibration_error(scores, labels, 5))


def test_precision_over_coverage_by_hand():
    coverage, precision = coverage_curve(ROWS)
    # Surest first: 1 and 4 (both .9 sure, right), 2 (.8, IoU 1/3: wrong), 3 (.7, wrong), 5 (.6, wrong).
    assert coverage.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert precision.tolist() == pytest.approx([1, 1, 2 / 3, 2 / 4, 2 / 5])
    assert precision_over_coverage({"run": ROWS}).axes[0].lines[0].get_ydata().tolist() == precision.tolist()


def test_equally_sure_answers_do_not_depend_on_their_order():
    rows = [row(str(i), 20 if i % 3 else 0, score=0.2) for i in range(7)]
    forth, back = coverage_curve(rows)[1], coverage_curve(rows[::-1])[1]
    assert forth.tolist() == back.tolist()
    assert forth.tolist() == pytest.approx([4 / 7] * 7)


def test_results_bars_rank_and_refuse():
    one = Result("One", "cIoU", 60.0, "RefCOCO", "val", printed_value="60.00")
    two = Result("mini", "cIoU", 61.0, "RefCOCO", "val", origin="measured", protocol="native", basis="computed")
    board = Board([one, two])
    axes = results_bars(board, board.columns[0]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [61.0, 60.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mini, measured here, native", "One"]
    mixed = Board([one, Result("Two", "mIoU", 62.0, "RefCOCO", "val")], mix_iou=True)
    with pytest.raises(MixedMeasuresError):
        results_bars(mixed, mixed.columns[0])


def test_files_are_written_for_what_the_rows_allow(tmp_path):
    files = save_plots({"a": ROWS, "b": ROWS}, tmp_path)
    assert {file.name for file in files} == {
        *("iou-histogram.png", "by-kind.png", "by-length.png", "by-targets.png"),
        *("none-reliability.png", "precision-over-coverage.png"),
    }
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    bare = [Row("1", 1, 2, 1, 2, (2, 2), False)]
    assert [file.name for file in save_plots({"a": bare}, tmp_path / "bare")] == ["iou-histogram.png"]
    with pytest.raises(RefsegError, match=r"not \.gif"):
        save_figure(iou_histogram({"a": ROWS}), tmp_path / "a.gif")


def test_without_matplotlib_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RefsegError, match=r'pip install "refseg\[plots\]"'):
        iou_histogram({"a": ROWS})
