"""Score files as results."""

import json

import numpy as np
import pytest

from refseg.errors import DataError
from refseg.evaluation.leaderboard import load_measured
from refseg.evaluation.score import write_score
from refseg.metrics import score


@pytest.fixture
def scored():
    mask = np.eye(4, dtype=bool)
    targets = [{"id": "1", "mask": mask, "no_target": False}, {"id": "2", "mask": None, "no_target": True}]
    predictions = [{"id": "1", "mask": mask, "no_target": False}, {"id": "2", "mask": ~mask, "no_target": False}]
    return score(predictions, targets, "native")


def test_metrics_become_percent_with_their_protocol(tmp_path, scored):
    about = {"model": "weights/mini", "data": {"dataset": "grefcoco", "split": "val", "split_by": None}}
    write_score(scored, tmp_path / "a.json", **about)
    found = {result.metric: result for result in load_measured([tmp_path])}
    assert found["gIoU"].value == pytest.approx(100 * scored["gIoU"])
    assert found["cIoU"].value == pytest.approx(100 * 4 / 16)
    assert "mIoU" not in found  # with sentences without target the mean is called gIoU
    one = found["gIoU"]
    assert (one.system, one.dataset, one.partition, one.split) == ("mini", "gRefCOCO", "unc", "val")
    assert (one.origin, one.protocol, one.basis, one.note) == ("measured", "native", "computed", "2 expressions")


def test_without_sentences_without_target_the_mean_is_called_miou(tmp_path):
    mask = np.eye(4, dtype=bool)
    result = score([{"mask": mask}], [{"mask": mask, "no_target": False}], "lavt")
    write_score(result, tmp_path / "a.json", data={"dataset": "refcoco", "split": "testA"}, model="x")
    metrics = {result.metric for result in load_measured([tmp_path / "a.json"])}
    assert "mIoU" in metrics
    assert "gIoU" not in metrics
    assert "N_acc" not in metrics  # undefined, null in the file


def test_one_run_under_several_protocols(tmp_path, scored):
    document = {"protocols": {"native": scored.to_dict(), "x": scored.to_dict()}, "model": "m"}
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert len(load_measured([tmp_path])) == 2 * len({r.metric for r in load_measured([tmp_path])})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", 'no "metrics"'),
        ('{"metrics": {"cIoU": 0.5}}', 'no "metrics" with their "protocol"'),
        ('{"metrics": {"cIoU": "high"}, "protocol": {"name": "native"}}', "not a number"),
        ('{"protocols": {"native": 3}}', 'no "metrics"'),
    ],
)
def test_what_is_no_score_is_refused_with_its_name(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_measured([tmp_path / "a.json"])
    assert "a.json" in str(caught.value)


def test_every_bad_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError) as caught:
        load_measured([tmp_path / "a.json", tmp_path / "gone.json"])
    assert "a.json" in str(caught.value)
    assert "gone.json" in str(caught.value)
