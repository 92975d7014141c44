"""refseg evaluate through the command line, on a small copy of the published files and an untrained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.cli.main import main
from refseg.metrics import PROTOCOLS
from tests.support.format_files import write_youtube


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """gRefCOCO's files: two pictures, three sentences of val (one without target) and one of testA."""
    root = tmp_path / "data"
    pictures = root / "images" / "train2014"
    pictures.mkdir(parents=True)
    (root / "grefcoco").mkdir()
    noise = np.random.default_rng(0)
    images, annotations = [], []
    for number, (height, width) in ((1, (40, 60)), (2, (50, 30))):
        name = f"COCO_train2014_{number:012d}.jpg"
        Image.fromarray(noise.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(pictures / name)
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        box = [5, 6, 20, 15]
        polygon = [5, 6, 25, 6, 25, 21, 5, 21]
        annotations.append(
            {"id": 10 + number, "image_id": number, "category_id": 1, "iscrowd": 0, "area": 300}
            | {"bbox": box, "segmentation": [polygon]}
        )
    refs = []
    for number, (image, target, split, text) in enumerate(
        [(1, 11, "val", "the red thing"), (1, -1, "val", "a dog"), (2, 12, "val", "it"), (2, 12, "testA", "him")]
    ):
        sentence = {"sent_id": number, "raw": text, "sent": text, "tokens": text.split()}
        refs.append(
            {"ref_id": number, "image_id": image, "file_name": "", "split": split, "ann_id": [target]}
            | {"category_id": [1 if target > 0 else -1], "no_target": target < 0}
            | {"sent_ids": [number], "sentences": [sentence]}
        )
    instances = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (root / "grefcoco" / "instances.json").write_text(json.dumps(instances))
    (root / "grefcoco" / "grefs(unc).json").write_text(json.dumps(refs))
    return root


def evaluate(model_folder: Path, data: Path, *words: object) -> int:
    common = ["--model", model_folder, "--data", data, "--device", "cpu"]
    return main(["evaluate", *map(str, common), *map(str, words)])


def test_evaluate_then_score_agree(
    model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {name: tmp_path / f"{name}.out" for name in ("json", "rows", "predictions", "targets")}
    options = [word for name, path in names.items() for word in (f"--{name}", path)]
    assert evaluate(model_folder, data, "--split", "val", "--protocol", "rela", *options) == 0
    assert "CVPR 2023" in capsys.readouterr().out
    written = json.loads(names["json"].read_text())
    assert written["counts"]["sentences"] == 3
    assert written["counts"]["no_target"] == 1
    assert written["protocol"] == PROTOCOLS["rela"].to_dict()
    assert written["data"] == {"dataset": "grefcoco", "split": "val", "split_by": "unc"}
    assert set(written["breakdowns"]) >= {"targets", "length"}
    files = ["--predictions", str(names["predictions"]), "--targets", str(names["targets"])]
    again = tmp_path / "again.json"
    assert main(["score", *files, "--protocol", "rela", "-o", str(again)]) == 0
    scored = json.loads(again.read_text())["metrics"]
    assert scored == {name: written["metrics"][name] for name in scored}
    assert main(["score", "--rows", str(names["rows"]), "--protocol", "rela-50px"]) == 0


def test_dataset_names_limits_and_shards(model_folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.json"

    def sentences(*words: object) -> int:
        assert evaluate(model_folder, data, "--json", out, *words) == 0
        return json.loads(out.read_text())["counts"]["sentences"]

    assert sentences("--split", "val", "--dataset", "grefcoco", "--limit", 2) == 2
    assert sentences("--split", "testA") == 1
    assert [sentences("--split", "val", "--shard", shard) for shard in ("0/2", "1/2")] == [2, 1]


def test_all_protocols_of_one_run(
    model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.json"
    assert evaluate(model_folder, data, "--split", "val", "--protocol", "all", "--json", out) == 0
    names = {name for name, entry in PROTOCOLS.items() if entry.task == "masks"}
    assert set(json.loads(out.read_text())["protocols"]) == names
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in names)


def test_thresholds_go_with_native(model_folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    options = ["--split", "val", "--json", out, "--threshold", 0.25, "--no-target-threshold", 1]
    assert evaluate(model_folder, data, *options) == 0
    written = json.loads(out.read_text())
    assert written["protocol"]["threshold"] == 0.25
    assert written["metrics"]["T_acc"] == 1.0
    assert evaluate(model_folder, data, "--split", "val", "--protocol", "rela", "--threshold", 0.25) == 2


def test_a_missing_picture_is_told_and_the_rest_is_scored(
    model_folder: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = next((data / "images" / "train2014").glob("*2.jpg"))
    picture.write_bytes(picture.read_bytes()[:300])
    assert evaluate(model_folder, data, "--split", "val") == 0
    shown = capsys.readouterr()
    assert "not evaluated: 2_2: " in shown.err
    assert "1 unreadable" in shown.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "vall"], "did you mean 'val'"),
        (["--split", "val", "--protocol", "relaa"], "did you mean"),
        (["--split", "val", "--protocol", "davis"], "not masks"),
        (["--split", "val", "--limit", "0"], "--limit"),
        (["--split", "val", "--shard", "2/2"], "--shard"),
        (["--split", "val", "--json", "/"], "is a folder"),
        (["--split", "val", "--threshold", "7"], "threshold"),
    ],
)
def test_wrong_requests_get_one_line(
    model_folder: Path, data: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(model_folder, data, *words) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert message in shown[0]


def test_a_hidden_test_set_is_answered_without_a_made_up_number(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_youtube(tmp_path / "data")
    answers, scores = tmp_path / "answers.jsonl", tmp_path / "scores.json"
    words = ["--split", "valid", "--predictions", answers, "--json", scores]
    assert evaluate(model_folder, tmp_path / "data", *words) == 0
    said = capsys.readouterr()
    count = len(answers.read_text().splitlines())
    assert count > 0
    assert f"{count} expressions have no annotation and are in no number; answers: {answers}" in said.err
    assert "0.00" not in said.out
    written = json.loads(scores.read_text())
    assert (written["counts"]["sentences"], written["counts"]["unannotated"]) == (0, count)
    assert set(written["metrics"].values()) == {None}
