"""refseg evaluate through the command line, on a small copy of the published files and an untrained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refseg.cli.main import main
from refseg.errors import RefsegError
from refseg.inference.checkpoint import load_model, save_model
from refseg.inference.predictor import load
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


def test_a_name_that_is_no_unicode_does_not_end_the_writing_of_rows(
    model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data / "grefcoco" / "instances.json"
    table = json.loads(path.read_text())
    table["categories"][0]["name"] = "thing \ud83d"
    path.write_text(json.dumps(table))
    assert evaluate(model_folder, data, "--split", "val", "--rows", tmp_path / "rows.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row.get("category") for row in rows} == {"thing \ud83d", None}


def test_weights_that_give_no_numbers_are_an_error_and_not_the_answer_none(
    model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finite weights whose products overflow, as in too low a precision."""
    model, tokenizer, info = load_model(model_folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e18)
    save_model(tmp_path / "model", model, tokenizer, info)
    for protocol in ("native", "rela"):
        assert evaluate(tmp_path / "model", data, "--split", "val", "--protocol", protocol) == 2
        assert "are not numbers (NaN)" in capsys.readouterr().err
    with pytest.raises(RefsegError, match="are not numbers"):
        load(tmp_path / "model", device="cpu")(Image.new("RGB", (40, 30)), "the red ball")


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


def test_boxes_and_phrases_have_protocols(
    model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, lines = tmp_path / "o.json", tmp_path / "lines.jsonl"
    options = ["--split", "val", "--protocol", "rec", "--json", out, "--predictions", lines]
    assert evaluate(model_folder, data, *options) == 0
    written = json.loads(out.read_text())
    assert written["protocol"]["task"] == "box"
    assert (written["counts"]["sentences"], written["counts"]["no_target"]) == (3, 1)
    assert all(set(json.loads(line)) >= {"id", "boxes"} for line in lines.read_text().splitlines())
    assert evaluate(model_folder, data, "--split", "val", "--protocol", "flickr30k,flickr30k-merged") == 0
    assert "Recall@5" in capsys.readouterr().out
    assert evaluate(model_folder, data, "--split", "val", "--protocol", "flickr30k,rec") == 2


def test_none_by_a_number_of_pixels(model_folder: Path, data: Path, tmp_path: Path) -> None:
    """GRES's rule over any system and protocol: with more pixels wanted than there are, every answer is none."""
    out = tmp_path / "o.json"
    for protocol in ("native", "rela", "vlt"):
        options = ["--split", "val", "--protocol", protocol, "--json", out, "--minimum-pixels", 10**6]
        assert evaluate(model_folder, data, *options) == 0
        written = json.loads(out.read_text())
        assert (written["metrics"]["T_acc"], written["metrics"]["N_acc"]) == (0.0, 1.0)
        assert written["protocol"]["minimum_pixels"] == 10**6
    assert evaluate(model_folder, data, "--split", "val", "--minimum-pixels", 0) == 2
    assert evaluate(model_folder, data, "--split", "val", "--protocol", "rec", "--minimum-pixels", 5) == 2


def test_erased_words(model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, rows = tmp_path / "o.json", tmp_path / "rows.jsonl"
    options = ["--split", "val", "--erase-words", "random", "--json", out, "--rows", rows]
    assert evaluate(model_folder, data, *options) == 0
    assert json.loads(out.read_text())["erased"] == {"by": "random", "expressions": 2}
    texts = [json.loads(line)["text"] for line in rows.read_text().splitlines()]
    assert sorted(len(text.split()) for text in texts) == [1, 1, 2]
    assert "2 expressions have lost a word, 1 of a single word have not" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--erase-words", "attention"], ["--oracle", "mask"]])
def test_what_this_model_cannot_do_is_one_line(
    model_folder: Path, data: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(model_folder, data, "--split", "val", *options) == 2
    told = capsys.readouterr().err
    assert options[0] in told
    assert len(told.splitlines()) == 1


def test_words_of_another_data_set_are_told(model_folder: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model is scored on a set that it was not trained on; half of what is said there may be new to it."""
    assert evaluate(model_folder, data, "--split", "val") == 0
    assert "of 6 words in the expressions are unknown to the model" in capsys.readouterr().err


def test_oracles_of_isfp(data: Path, tmp_path: Path) -> None:
    """Table 3.2 on an untrained model: with true masks of the true cells there is nothing to lose but the grid's."""
    from refseg.encoders.text.tokenizer import WordTokenizer
    from refseg.inference.checkpoint import save_model
    from refseg.models import build
    from refseg.models.isfp.config import PAPER
    from tests.support.contract import filled
    from tests.support.tiny_systems import tiny_isfp as tiny

    config = tiny(PAPER)
    words = WordTokenizer([f"w{number}" for number in range(config.text.vocabulary_size - 2)], config.text.max_words)
    folder = save_model(tmp_path / "isfp", filled(build(config)), words, {})
    out = tmp_path / "o.json"
    found = {}
    for oracle in ("location", "mask", None):
        options = ["--oracle", oracle] if oracle else []
        assert evaluate(folder, data, "--split", "testA", "--json", out, *options) == 0
        document = json.loads(out.read_text())
        assert document.get("oracle") == oracle
        found[oracle] = document["metrics"]["mIoU"]
    # A chosen cell is worth its thing's own mask, or none: one of two values, unlike what the branch draws.
    assert found["mask"] == 0 or found["mask"] > 0.8
    assert 0 <= found["location"] <= 1
