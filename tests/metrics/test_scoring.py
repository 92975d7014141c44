"""The published evaluators' numbers, to 1e-9 and a sentence at a time; and what `score` takes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refseg import Segmentation
from refseg.data.rle import encode
from refseg.data.sample import Instance, Sample
from refseg.metrics import score

GOLDEN = Path(__file__).parent.parent / "golden" / "metrics"


def test_rela_golden():
    data = np.load(GOLDEN / "gres_case0.npz")
    said, meant = (np.unpackbits(data[name], axis=-1).astype(bool) for name in ("prediction", "target"))
    predictions = [
        {"id": str(i), "mask": encode(mask), "no_target": bool(none)}
        for i, (mask, none) in enumerate(zip(said, data["said_no_target"], strict=True))
    ]
    targets = [
        {"id": str(i), "mask": encode(mask), "no_target": bool(none)}
        for i, (mask, none) in enumerate(zip(meant, data["no_target"], strict=True))
    ]
    result = score(predictions, targets, "rela")
    wanted = json.loads((GOLDEN / "gres_case0.json").read_text())
    for name in ("gIoU", "cIoU", "Pr@0.7", "Pr@0.8", "Pr@0.9"):
        assert 100 * result[name] == pytest.approx(wanted[name], abs=1e-9)
    for name in ("N_acc", "T_acc"):
        assert result[name] == pytest.approx(wanted[name], abs=1e-9)
    assert [row["I"] for row in result.rows] == data["intersection"].tolist()
    assert [row["U"] for row in result.rows] == data["union"].tolist()
    assert [row["iou"] for row in result.rows] == pytest.approx(data["value"], abs=1e-9)


def test_grec_golden():
    data = np.load(GOLDEN / "grec_case0.npz")
    wanted = json.loads((GOLDEN / "grec_case0.json").read_text())
    boxes = data["gt_boxes_xywh"].copy()
    boxes[:, 2:] += boxes[:, :2]
    borders = data["gt_offsets"]
    predictions = [
        {"id": i, "boxes": box.tolist(), "scores": [float(value) for value in scores]}
        for i, (box, scores) in enumerate(zip(data["pred_boxes_xyxy"], data["pred_scores"], strict=True))
    ]
    targets = [
        {"id": i, "boxes": boxes[borders[i] : borders[i + 1]].tolist(), "no_target": bool(none)}
        for i, none in enumerate(data["no_target"])
    ]
    result = score(predictions, targets, "grec")
    assert result["F1"] == pytest.approx(wanted["metrics"]["F1_score"], abs=1e-9)
    assert result["F1_plain_IoU"] == pytest.approx(wanted["metrics_if_plain_IoU_were_used"]["F1_score"], abs=1e-9)
    assert result["N_acc"] == pytest.approx(wanted["metrics"]["N_acc"], abs=1e-9)
    assert result["T_acc"] == pytest.approx(wanted["metrics"]["T_acc"], abs=1e-9)
    assert [int(row["correct"]) for row in result.rows] == wanted["per_image_correct"]


SQUARE = np.zeros((4, 4), dtype=bool)
SQUARE[:2, :2] = True


def test_ids_match_records_in_any_order():
    predictions = [{"id": "b", "mask": ~SQUARE}, {"id": "a", "mask": SQUARE}]
    targets = [{"id": "a", "mask": SQUARE}, {"id": "b", "mask": ~SQUARE}]
    assert score(predictions, targets)["cIoU"] == 1.0
    without = [{"mask": entry["mask"]} for entry in predictions]
    assert score(without, targets[::-1] and [{"mask": entry["mask"]} for entry in targets])["cIoU"] == 0.0


def test_ids_are_compared_as_text():
    assert score([{"id": 7, "mask": SQUARE}], [{"id": "7", "mask": SQUARE}])["cIoU"] == 1.0


def test_objects_are_taken_as_they_are():
    answer = Segmentation(SQUARE, np.array([[0.0, 0.0, 2.0, 2.0]]), False, 0.1, 0.9, "the square")
    sample = Sample(
        "1_1",
        "the square",
        5,
        (4, 4),
        objects=(Instance(1, "square", (0.0, 0.0, 2.0, 2.0), encode(SQUARE)),),
        kind="attribute",
        split="val",
    )
    result = score([answer], [{"mask": SQUARE, "boxes": [[0, 0, 2, 2]]}])
    assert result["cIoU"] == result["Acc@0.5"] == 1.0
    result = score([{"id": "1_1", "mask": SQUARE}], [sample])
    assert result.rows[0]["kind"] == "attribute"
    assert result.breakdowns["kind"]["attribute"]["gIoU"] == 1.0


def test_a_missing_verdict_is_an_empty_mask():
    empty = np.zeros_like(SQUARE)
    result = score(
        [{"id": 1, "mask": empty}, {"id": 2, "mask": empty}], [{"id": 1, "mask": empty}, {"id": 2, "mask": SQUARE}]
    )
    assert (result["N_acc"], result["T_acc"], result["gIoU"]) == (1.0, 0.0, 0.5)


def test_boundary_iou_is_computed_on_request():
    records = [{"id": 1, "mask": SQUARE}]
    assert "boundary_IoU" not in score(records, records)
    assert score(records, records, boundary=True)["boundary_IoU"] == 1.0


def test_the_score_is_json_with_everything():
    result = score([{"id": 1, "mask": SQUARE}], [{"id": 1, "mask": SQUARE, "text": "the left square"}])
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert written["metrics"]["cIoU"] == 1.0
    assert written["metrics"]["N_acc"] is None
    assert written["protocol"]["name"] == "native"
    assert written["counts"] == {"sentences": 1, "with_target": 1, "no_target": 0, "intersection": 4, "union": 4}
    assert written["breakdowns"]["length"]["3-5 words"]["sentences"] == 1
    assert result.headline == result["gIoU"]


def test_importing_metrics_needs_no_torch():
    code = "import sys, refseg.metrics, refseg.evaluation.score, refseg.cli.score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
