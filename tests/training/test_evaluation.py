"""Evaluation during training: the best checkpoint, sample pictures, and data sets on disk in the place of scenes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from refseg.data.rle import encode
from refseg.errors import ConfigError, DataError
from refseg.evaluation.evaluate import evaluate_model
from refseg.generation.scenes import scene_samples
from refseg.inference.checkpoint import load_model
from refseg.training.evaluation import open_evaluation, target_segmentation
from refseg.training.loop import train
from refseg.training.recipe import parse_recipe
from tests.support.format_files import write_visual_genome
from tests.support.tiny_system import draw_scene, recipe_values


def write_grefcoco(root, splits):
    """Drawn scenes in gRefCOCO's own files, by hand; `splits` names the split of every scene."""
    images, annotations, refs = [], [], []
    folder = root / "images" / "train2014"
    folder.mkdir(parents=True)
    for index, split in enumerate(splits):
        scene = draw_scene(5, index)
        name = f"COCO_train2014_{index + 1:012d}.png"
        Image.fromarray(scene.image).save(folder / name)
        images.append({"id": index + 1, "file_name": name, "height": 32, "width": 32})
        for number, mask in enumerate(scene.masks):
            rows, columns = mask.nonzero()
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            annotations.append(
                {"id": 10 * index + number + 1, "image_id": index + 1, "category_id": 1, "iscrowd": 0,
                 "bbox": [float(value) for value in box], "area": float(mask.sum()), "segmentation": encode(mask)}
            )  # fmt: skip
        for said in scene.expressions:
            ids = [10 * index + target + 1 for target in said.targets] or [-1]
            sentence = {"raw": said.text, "sent": said.text, "tokens": said.text.split(), "sent_id": len(refs)}
            refs.append(
                {"ref_id": len(refs), "image_id": index + 1, "file_name": name, "split": split, "ann_id": ids,
                 "category_id": [1] * len(said.targets) or [-1], "no_target": not said.targets,
                 "sent_ids": [len(refs)], "sentences": [sentence]}
            )  # fmt: skip
    (root / "grefcoco").mkdir()
    (root / "grefcoco" / "grefs(unc).json").write_text(json.dumps(refs))
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (root / "grefcoco" / "instances.json").write_text(json.dumps(document))


def lines_of(folder, kind):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_the_best_checkpoint_is_the_one_with_the_best_score(tmp_path):
    values = recipe_values(tmp_path / "run", steps=30)
    values["evaluation"] = {"every": 10, "pictures": 6, "samples": 2}
    outcome = train(parse_recipe(values))
    found = {line["step"]: line["metrics"]["gIoU"] for line in lines_of(tmp_path / "run", "evaluation")}
    assert sorted(found) == [10, 20, 30]
    assert outcome.best == max(found.values()) > 0
    model, tokenizer, info = load_model(tmp_path / "run" / "best")
    assert found[info["training"]["step"]] == info["score"]["gIoU"] == outcome.best
    dataset = open_evaluation(parse_recipe(values))
    assert len(dataset.by_picture()) == 6
    assert {sample.split for sample in dataset} == {"val"}
    assert evaluate_model(model, tokenizer, dataset)["gIoU"] == pytest.approx(outcome.best, abs=1e-6)
    for step in (10, 20, 30):
        with Image.open(tmp_path / "run" / "samples" / f"answers-{step:07d}.png") as sheet:
            assert min(sheet.size) > 100


def test_a_run_is_scored_on_boxes_alone(tmp_path):
    """Visual Genome has no outline: its boxes choose the best checkpoint, and are what its sheet shows."""
    values = recipe_values(tmp_path / "run", steps=2)
    root = str(write_visual_genome(tmp_path / "data"))
    chosen = {"root": root, "split": "all", "protocol": "rec", "metric": "box_mIoU"}
    values["evaluation"] = {"every": 2, "pictures": 0, "samples": 1, **chosen}
    outcome = train(parse_recipe(values))
    (line,) = lines_of(tmp_path / "run", "evaluation")
    assert set(line["metrics"]) == {"Acc@0.5", "box_mIoU"}
    assert outcome.best == line["metrics"]["box_mIoU"] >= 0
    sample = open_evaluation(parse_recipe(values))[0]
    drawn = target_segmentation(sample)
    assert drawn.boxes.tolist() == sample.boxes().tolist() == [[4, 4, 14, 14]]
    assert drawn.mask[4:14, 4:14].all()
    assert drawn.mask.sum() == 100


def test_evaluation_does_not_touch_the_training(tmp_path):
    losses = []
    for name, every in (("with", 2), ("without", 0)):
        values = recipe_values(tmp_path / name, steps=6)
        values["evaluation"] = {"every": every, "pictures": 2, "samples": 1}
        seen = []
        train(parse_recipe(values), on_step=lambda step, loss, seen=seen: seen.append(loss))
        losses.append(seen)
    assert losses[0] == losses[1]


def test_only_the_data_path_changes_for_a_data_set_on_disk(tmp_path):
    write_grefcoco(tmp_path / "data", ["train"] * 5 + ["val"] * 3)
    values = recipe_values(tmp_path / "run", steps=3)
    values["evaluation"] = {"every": 3, "pictures": 2, "samples": 1}
    values["data"]["root"] = str(tmp_path / "data")
    outcome = train(parse_recipe(values))
    assert outcome.step == 3
    assert outcome.best is not None
    assert len(open_evaluation(parse_recipe(values))) == 6
    sentences = [line["sentences"] for line in lines_of(tmp_path / "run", "train")]
    assert sentences[-1] == 3 * 4 * 2


def test_a_data_set_without_train_split_is_learnt_from_whole_and_the_run_says_so(tmp_path, capsys):
    write_grefcoco(tmp_path / "data", ["testA", "val", "val"])
    values = recipe_values(tmp_path / "run", steps=1)
    values["data"]["root"] = str(tmp_path / "data")
    train(parse_recipe(values))
    assert "no split 'train': learning from all of testA, val" in " ".join(capsys.readouterr().err.split())
    values["data"]["split"] = "train"
    with pytest.raises(DataError, match="'train'"):
        train(parse_recipe({**values, "output": {"folder": str(tmp_path / "other")}}))


def test_a_metric_without_any_case_is_null_and_never_the_best(tmp_path):
    values = recipe_values(tmp_path / "run", steps=2)
    values["data"]["sentences"] = 2  # none without target
    values["evaluation"] = {"every": 1, "pictures": 2, "samples": 0, "metric": "N_acc"}
    assert train(parse_recipe(values)).best is None
    assert lines_of(tmp_path / "run", "evaluation")[0]["metrics"]["N_acc"] is None
    assert not (tmp_path / "run" / "best").exists()
    values["evaluation"]["metric"] = "mask_iou"
    with pytest.raises(ConfigError, match=r"'mask_iou' is none of native; .*gIoU"):
        train(parse_recipe({**values, "output": {"folder": str(tmp_path / "other")}}))


def test_every_sentence_on_its_own(tmp_path):
    write_grefcoco(tmp_path / "data", ["train"] * 3)
    values = recipe_values(tmp_path / "run", steps=2)
    values["data"] |= {"root": str(tmp_path / "data"), "unit": "sentence"}
    train(parse_recipe(values))
    assert lines_of(tmp_path / "run", "train")[-1]["sentences"] == 2 * 4


def test_pictures_that_cannot_be_read_are_stepped_around(tmp_path, caplog):
    write_grefcoco(tmp_path / "data", ["train"] * 4)
    broken = sorted((tmp_path / "data" / "images" / "train2014").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:60])
    values = recipe_values(tmp_path / "run", steps=4)
    values["data"] |= {"root": str(tmp_path / "data"), "pictures_per_batch": 1}
    outcome = train(parse_recipe(values))
    assert outcome.step == 4
    assert broken.name in caplog.text


def test_what_cannot_be_evaluated_is_said_before_the_first_step(tmp_path):
    write_grefcoco(tmp_path / "data", ["train"] * 2)
    values = recipe_values(tmp_path / "run", steps=2)
    values["evaluation"] = {"every": 1}
    values["data"]["root"] = str(tmp_path / "data")
    with pytest.raises(DataError, match=r"evaluation: .*'val'.*evaluation\.every=0"):
        train(parse_recipe(values))
    values["data"]["split"] = "testA"
    with pytest.raises(DataError, match="'testA'"):
        train(parse_recipe(values))


def test_the_annotation_as_an_answer():
    with_target, _, without = scene_samples(draw_scene(5, 0))
    assert np.array_equal(target_segmentation(with_target).mask, with_target.mask())
    assert target_segmentation(without).no_target
    assert not target_segmentation(without).mask.any()
