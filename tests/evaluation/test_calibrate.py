"""Thresholds are the best of their grid, keep the accuracy asked for, and land in the model folder."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import DataError, RefsegError
from refseg.evaluation.calibrate import MASK_THRESHOLDS, NO_TARGET_THRESHOLDS, calibrate, metrics_at, store
from refseg.evaluation.evaluate import evaluate_model
from refseg.generation.scenes import SceneDataset, drawn_samples
from refseg.metrics import get_protocol
from refseg.metrics.counts import Row
from refseg.types import Batch, Output
from tests.support.answering import AnsweringModel
from tests.support.tiny_model import write_model_folder


class Guess(AnsweringModel):
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
    return drawn_samples(SceneDataset(11, 3, size=64, sentences=6, split="val"))


def _model():
    from types import SimpleNamespace

    from refseg.geometry import InputConfig

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


@pytest.mark.parametrize("protocol", ["native", "rela", "lavt"])
def test_thresholds_are_counted_as_rescoring_would(protocol):
    from dataclasses import replace

    from refseg.metrics import rescore

    draw = np.random.default_rng(4)
    rows = []
    for number in range(60):
        target, predicted = int(draw.integers(1, 90)) * (number % 5 > 0), int(draw.integers(0, 90)) * (number % 7 > 0)
        common = int(draw.integers(0, min(target, predicted) + 1))
        score = None if number % 11 == 0 else float(draw.choice([0.05, 0.4, 0.5, draw.random()]))
        areas = (common, target + predicted - common, predicted, target)
        rows.append(Row(str(number), *areas, (10, 10), not target, bool(draw.random() < 0.5), score))
    chosen = get_protocol(protocol)
    for threshold, found in zip(NO_TARGET_THRESHOLDS, metrics_at(rows, chosen), strict=True):
        said = [
            row
            if row.no_target_score is None
            else replace(row, predicted_no_target=row.no_target_score > threshold or not row.prediction_area)
            for row in rows
        ]
        wanted = rescore(said, chosen).compute()
        assert found == {name: wanted[name] for name in found}


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


def test_slack_towards_none_says_none_more_often_and_keeps_t_acc(scenes):
    model, tokenizer = _model(), _tokenizer(scenes)
    for accuracy in (0.0, 0.5):
        strict = calibrate(model, tokenizer, scenes, target_accuracy=accuracy)
        previous = strict.no_target_threshold
        for slack in (0.001, 0.02, 1.0):
            found = calibrate(model, tokenizer, scenes, target_accuracy=accuracy, slack=slack, lean="none")
            assert found.threshold == strict.threshold
            assert found.no_target_threshold <= previous
            assert found.chosen["gIoU"] >= strict.chosen["gIoU"] - slack
            assert found.chosen["N_acc"] >= strict.chosen["N_acc"]
            assert found.chosen["T_acc"] >= min(accuracy, strict.chosen["T_acc"])
            previous = found.no_target_threshold


def test_data_without_targets_and_wrong_accuracies_are_refused(scenes):
    empty = [sample for sample in scenes if sample.no_target]
    with pytest.raises(DataError, match="no expression has a target"):
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


@pytest.fixture
def small_set(tmp_path):
    """A folder of drawn scenes: 12 expressions at most, some without a target."""
    from refseg.generation.scenes.write import SceneSettings, write_scenes

    counts = {"train": 0, "val": 2, "testA": 0, "testB": 0, "testC": 0}
    write_scenes(tmp_path / "data", SceneSettings(seed=5, counts=counts, size=96, sentences=6), workers=1)
    return tmp_path / "data"


def test_the_command_stores_unless_it_is_a_dry_run(tmp_path, small_set, capsys):
    from refseg.cli.main import main

    folder = write_model_folder(tmp_path / "model")
    before = (folder / "config.json").read_bytes()
    words = ["--data", str(small_set), "--force"]
    assert main(["calibrate", str(folder), *words, "--dry-run"]) == 0
    assert (folder / "config.json").read_bytes() == before
    assert main(["calibrate", str(folder), *words]) == 0
    assert "no_target_threshold" in (folder / "config.json").read_text()
    assert "stored in" in capsys.readouterr().out
    assert main(["calibrate", str(tmp_path / "nothing"), *words]) == 2


def test_a_copy_is_made_where_one_is_asked_for(tmp_path, small_set):
    import refseg
    from refseg.cli.main import main

    folder, copy = write_model_folder(tmp_path / "model"), tmp_path / "copy"
    before = (folder / "config.json").read_bytes()
    assert main(["calibrate", str(folder), "--data", str(small_set), "--force", "-o", str(copy)]) == 0
    assert (folder / "config.json").read_bytes() == before
    assert sorted(path.name for path in copy.iterdir()) == sorted(path.name for path in folder.iterdir())
    stored = json.loads((copy / "config.json").read_text())["info"]
    assert refseg.load(copy).thresholds.mask == stored["threshold"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    words = ["--data", str(small_set), "--force", "-o"]
    assert main(["calibrate", str(folder), *words, str(tmp_path / "mine")]) == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("inside", [False, True])
def test_weights_of_the_package_are_never_changed(inside, tmp_path, small_set, monkeypatch, capsys):
    from refseg.cli import options
    from refseg.cli.main import main
    from refseg.inference import locate

    packaged = tmp_path / "site-packages" / "weights"
    folder = write_model_folder(packaged / "tiny")
    monkeypatch.setattr(options, "PACKAGED", packaged)
    monkeypatch.setattr(locate, "PACKAGED", packaged)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    name = str(folder) if inside else "tiny"  # by its path, or by its name
    words = ["calibrate", name, "--data", str(small_set), "--force"]
    assert main(words) == 2
    assert "-o FOLDER" in capsys.readouterr().err
    assert main([*words, "-o", str(folder)]) == 2
    assert main([*words, "-o", str(packaged / "other")]) == 2
    assert main([*words, "--dry-run"]) == 0
    assert main([*words, "-o", str(tmp_path / "mine")]) == 0
    assert "no_target_threshold" in (tmp_path / "mine" / "config.json").read_text()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in packaged.iterdir()] == ["tiny"]


def test_too_few_expressions_are_refused(tmp_path, small_set, capsys):
    from refseg.cli.main import main

    folder = write_model_folder(tmp_path / "model")
    before = (folder / "config.json").read_bytes()
    words = ["calibrate", str(folder), "--data", str(small_set)]
    assert main(words) == 2
    assert "200 or more" in capsys.readouterr().err
    file = next(small_set.glob("scenes/*refs*.json"))
    refs = json.loads(file.read_text())
    assert any(ref["no_target"] for ref in refs)
    file.write_text(json.dumps([ref for ref in refs if not ref["no_target"]]))
    assert main(words) == 2
    assert "every expression has a target" in capsys.readouterr().err
    assert (folder / "config.json").read_bytes() == before
    assert main([*words, "--force"]) == 0
    assert (folder / "config.json").read_bytes() != before
