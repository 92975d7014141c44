"""Thresholds are the best of their grid, keep the accuracy asked for, and land in the model folder."""

import json

import pytest
import torch
from torch import nn

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import DataError, RefsegError
from refseg.evaluation.calibrate import MASK_THRESHOLDS, NO_TARGET_THRESHOLDS, calibrate, store
from refseg.evaluation.evaluate import evaluate_model
from refseg.generation.scenes import SceneDataset, drawn_samples
from refseg.metrics import get_protocol
from refseg.types import Batch, Output
from tests.support.tiny_model import write_model_folder


class Guess(nn.Module):
    """Foreground probability grows from left to right; the no-target probability is the sentence's length, cut."""

    late_fusion = False

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Output:
        batch = batch.expanded()
        count, size = len(batch.tokens), batch.images.shape[-1] // 4
        ramp = torch.linspace(-2, 2, size).expand(count, size, size)
        lengths = batch.tokens.mask.sum(dim=1).float()
        return Output(ramp.contiguous(), (lengths - 10.5) / 2)


@pytest.fixture(scope="module")
def scenes():
    return drawn_samples(SceneDataset(11, 4, size=96, sentences=8, split="val"))


def _model():
    from types import SimpleNamespace

    from refseg.data.transforms import InputConfig

    return Guess(SimpleNamespace(input=InputConfig(size=64)))


def _tokenizer(scenes):
    return WordTokenizer.learn(sample.text for sample in scenes)


@pytest.mark.parametrize("accuracy", [0.0, 0.5])
def test_no_pair_of_the_grid_is_better(scenes, accuracy):
    from dataclasses import replace

    model, tokenizer = _model(), _tokenizer(scenes)
    found = calibrate(model, tokenizer, scenes, target_accuracy=accuracy)
    best = None
    for threshold in MASK_THRESHOLDS[::4]:
        for none in NO_TARGET_THRESHOLDS[::6]:
            native = replace(get_protocol("native"), threshold=threshold, no_target_threshold=none)
            score = evaluate_model(model, tokenizer, scenes, native)
            if score["T_acc"] >= accuracy:
                best = max(best or 0.0, score["gIoU"])
    assert best is not None
    assert found.chosen["gIoU"] >= round(best, 6)
    assert found.chosen["T_acc"] >= accuracy
    native = replace(get_protocol("native"), threshold=found.threshold, no_target_threshold=found.no_target_threshold)
    assert evaluate_model(model, tokenizer, scenes, native)["gIoU"] == pytest.approx(found.chosen["gIoU"], abs=1e-6)


def test_slack_says_none_more_rarely_and_gives_up_no_more_than_it_may(scenes):
    model, tokenizer = _model(), _tokenizer(scenes)
    strict = calibrate(model, tokenizer, scenes, target_accuracy=0.0)
    previous = strict.no_target_threshold
    for slack in (0.001, 0.02, 1.0):
        found = calibrate(model, tokenizer, scenes, target_accuracy=0.0, slack=slack)
        assert found.threshold == strict.threshold
        assert found.no_target_threshold >= previous
        assert found.chosen["gIoU"] >= strict.chosen["gIoU"] - slack
        previous = found.no_target_threshold
    assert previous == NO_TARGET_THRESHOLDS[-1]
    with pytest.raises(RefsegError, match="slack"):
        calibrate(model, tokenizer, scenes, slack=-0.1)


def test_data_without_targets_and_wrong_accuracies_are_refused(scenes):
    empty = [sample for sample in scenes if sample.no_target]
    with pytest.raises(DataError, match="no sentence has a target"):
        calibrate(_model(), _tokenizer(scenes), empty)
    with pytest.raises(RefsegError, match="between 0 and 1"):
        calibrate(_model(), _tokenizer(scenes), scenes, target_accuracy=2.0)


def test_the_thresholds_are_what_the_model_then_uses(tmp_path, scenes):
    import refseg

    folder = write_model_folder(tmp_path / "model")
    segmenter = refseg.load(folder)
    found = calibrate(segmenter.model, segmenter.tokenizer, scenes)
    store(folder, found, "scenes val")
    again = refseg.load(folder)
    assert again.thresholds.mask == found.threshold
    assert again.thresholds.no_target == found.no_target_threshold
    assert json.loads((folder / "config.json").read_text())["info"]["calibration"]["data"] == "scenes val"
    with pytest.raises(RefsegError, match=r"config\.json"):
        store(tmp_path, found, "scenes val")


def test_the_command_stores_unless_it_is_a_dry_run(tmp_path, capsys):
    from refseg.cli.main import main
    from refseg.generation.scenes.write import SceneSettings, write_scenes

    folder = write_model_folder(tmp_path / "model")
    counts = {"train": 0, "val": 2, "testA": 0, "testB": 0, "testC": 0}
    write_scenes(tmp_path / "data", SceneSettings(seed=5, counts=counts, size=96, sentences=6), workers=1)
    before = (folder / "config.json").read_bytes()
    assert main(["calibrate", str(folder), "--data", str(tmp_path / "data"), "--dry-run"]) == 0
    assert (folder / "config.json").read_bytes() == before
    assert main(["calibrate", str(folder), "--data", str(tmp_path / "data")]) == 0
    assert "no_target_threshold" in (folder / "config.json").read_text()
    assert "stored in" in capsys.readouterr().out
    assert main(["calibrate", str(tmp_path / "nothing"), "--data", str(tmp_path / "data")]) == 2
