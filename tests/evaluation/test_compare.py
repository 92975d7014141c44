"""Comparing two runs: the numbers by hand on small masks, the refusals, and the pictures."""

import json

import numpy as np
import pytest

from refseg.data import Instance, ReferringDataset, Sample, rle
from refseg.errors import DataError
from refseg.evaluation.compare import Run, compare_runs, load_run, protocol_of
from refseg.metrics import RecordsError, Row

HALF = np.array([[1, 1, 0, 0]] * 4, dtype=bool)
FULL = np.ones((4, 4), dtype=bool)
NONE = np.zeros((4, 4), dtype=bool)


def line(identity, mask, no_target=False, **more):
    return {"id": identity, "mask": rle.encode(mask), "no_target": no_target, **more}


def write(path, lines):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    return path


@pytest.fixture
def targets():
    about = [
        {"text": "the left half", "kind": "position", "picture": "p"},
        {"text": "everything", "kind": "all", "picture": "p"},
        {"text": "the moon", "kind": "none", "picture": "q"},
    ]
    masks = (HALF, FULL, NONE)
    return [line(str(i), mask, mask is NONE) | more for i, (mask, more) in enumerate(zip(masks, about, strict=True))]


@pytest.fixture
def runs(tmp_path, targets):
    first = write(tmp_path / "a.jsonl", [line("0", FULL), line("1", FULL), line("2", HALF)])
    # In another order: sentences are matched by id.
    second = write(tmp_path / "b.jsonl", [line("2", NONE, True), line("0", HALF), line("1", HALF)])
    return load_run(first, "native", targets), load_run(second, "native", targets)


def test_numbers_of_a_comparison_by_hand(runs):
    report = compare_runs(*runs, resamples=50)
    # First: IoU 8/16, 16/16, and 0 for a mask where nothing is meant. Second: 8/8, 8/16, and 1 for saying none.
    assert report.metrics["gIoU"].first == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert report.metrics["gIoU"].second == pytest.approx((1.0 + 0.5 + 1.0) / 3)
    assert report.metrics["cIoU"].first == pytest.approx(24 / 40)
    assert report.metrics["cIoU"].second == pytest.approx(16 / 24)
    assert report.metrics["N_acc"].difference.value == pytest.approx(1.0)
    assert set(report.metrics) == {"cIoU", "gIoU", "Pr@0.5", "Pr@0.7", "Pr@0.9", "T_acc", "N_acc"}
    assert (report.sentences, report.pictures) == (3, 2)
    assert report.wins == (2, 0, 1)
    assert report.no_target_decisions == (1, 0)
    assert [(d.id, d.change) for d in report.differences] == [("2", 1.0), ("0", 0.5), ("1", -0.5)]
    assert report.groups["kind"]["none"]["gIoU"] == [0.0, 1.0, 1.0]
    assert report.groups["kind"]["all"]["sentences"] == 1


def test_swapping_the_runs_turns_the_differences_round(runs):
    forth, back = compare_runs(*runs, resamples=200), compare_runs(*runs[::-1], resamples=200)
    for name, found in forth.metrics.items():
        assert back.metrics[name].difference.value == pytest.approx(-found.difference.value)
        assert back.metrics[name].p_value == pytest.approx(found.p_value)
    assert back.wins == forth.wins[::-1]


def test_a_run_against_itself_differs_in_nothing(runs):
    report = compare_runs(runs[0], runs[0], resamples=50)
    assert report.wins == (0, 3, 0)
    assert all(found.p_value == 1.0 and found.difference.high == 0.0 for found in report.metrics.values())


def test_a_clear_winner_has_a_small_p_value_and_an_even_match_has_not():
    random = np.random.default_rng(0)

    def run(name, quality):
        rows = []
        for index in range(60):
            inter = int(np.clip(100 * quality + random.normal(0, 8), 0, 100))
            area = {"prediction_area": 100, "target_area": 100, "size": (20, 20), "no_target": False}
            rows.append(Row(str(index), inter, 200 - inter, picture=str(index // 2), predicted_no_target=False, **area))
        return Run(name, rows)

    weak, strong, same = run("weak", 0.5), run("strong", 0.8), run("same", 0.5)
    assert compare_runs(weak, strong, resamples=300).metrics["mIoU"].p_value < 0.01
    assert compare_runs(weak, strong, resamples=300).metrics["mIoU"].difference.low > 0
    assert compare_runs(weak, same, resamples=300).metrics["mIoU"].p_value > 0.05


def test_rows_do_as_well_as_predictions(tmp_path, runs, targets):
    saved = [
        write(tmp_path / f"{run.name}-rows.jsonl", [{**row.to_dict(), "protocol": "native"} for row in run.rows])
        for run in runs
    ]
    loaded = [load_run(path, "native") for path in saved]
    again = compare_runs(*loaded, resamples=50).to_dict()
    before = compare_runs(*runs, resamples=50).to_dict()
    assert {**again, "first": "", "second": ""} == {**before, "first": "", "second": ""}
    assert protocol_of(saved) == "native"
    json.dumps(again, allow_nan=False)


def test_what_cannot_be_compared_is_refused(tmp_path, runs, targets):
    with pytest.raises(DataError, match="need --targets"):
        load_run(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="neither rows"):
        load_run(write(tmp_path / "c.jsonl", [{"id": "0"}]), "native", targets)
    with pytest.raises(DataError, match="not davis"):
        load_run(tmp_path / "a.jsonl", "davis", targets)
    with pytest.raises(DataError, match="differ in 1 expressions"):
        compare_runs(runs[0], Run("short", runs[1].rows[:2]))
    with pytest.raises(RecordsError, match="no prediction for this target"):
        load_run(write(tmp_path / "d.jsonl", [line("0", FULL)]), "native", targets)
    mixed = [write(tmp_path / f"{name}.jsonl", [line("0", FULL, protocol=name)]) for name in ("lavt", "vlt")]
    with pytest.raises(DataError, match=r"several protocols: lavt .*vlt"):
        protocol_of(mixed)


def test_pictures_show_the_sentences_that_differ(tmp_path):
    from PIL import Image

    from refseg.evaluation.compare_pictures import write_pictures

    image = np.full((40, 60, 3), 128, dtype=np.uint8)
    left, right = np.zeros((40, 60), dtype=bool), np.zeros((40, 60), dtype=bool)
    left[:, :30], right[:, 30:] = True, True
    samples = [
        Sample("1_1", "left", 7, (40, 60), (Instance(1, "x", (0.0, 0.0, 30.0, 40.0), left),), image=image),
        Sample("2_2", "the moon", 7, (40, 60), no_target=True, image=image),
        Sample("3_3", "right", 7, (40, 60), (Instance(2, "x", (30.0, 0.0, 60.0, 40.0), right),), image=image),
    ]
    data = ReferringDataset(samples)
    first = [line("1_1", right), line("2_2", left), line("3_3", right)]
    second = [line("1_1", left), {"id": "2_2", "mask": None, "no_target": True}, line("3_3", right)]
    runs = tuple(
        load_run(write(tmp_path / f"{name}.jsonl", lines), "native", samples)
        for name, lines in (("a", first), ("b", second))
    )
    report = compare_runs(*runs, resamples=20)
    files = write_pictures(report, runs, data, tmp_path / "pictures")
    assert [file.name for file in files] == ["001-1_1.png", "002-2_2.png", "differences.png"]
    with Image.open(files[0]) as opened:
        sheet = np.asarray(opened.convert("RGB")).astype(int)
    # The targets are painted redder than the grey picture. Target and second answer: the left half; first: the right.
    third, line_of = sheet.shape[1] // 3, sheet.shape[0] // 3
    redness = sheet[line_of, :, 0] - sheet[line_of, :, 2]
    painted = [[redness[i * third + third * part // 4] > 20 for part in (1, 3)] for i in range(3)]
    assert painted == [[True, False], [False, True], [True, False]]
