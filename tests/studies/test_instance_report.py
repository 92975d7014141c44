"""The report of `instances`: what is kept, what each oracle puts right, the numbers against slow loops, the command."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import refseg
from refseg.cli.main import main
from refseg.data.sample import Instance, Sample
from refseg.errors import ConfigError, DataError
from refseg.generation.scenes import SceneDataset, drawn_samples
from refseg.generation.scenes.write import SceneSettings, write_scenes
from refseg.inference.predictor import Segmenter
from refseg.metrics.referring import calibration_error
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.expression import parse
from refseg.models.instances.model import Instances
from refseg.models.instances.proposals import Proposer
from refseg.studies.instance_report import boxes, names
from refseg.studies.instance_report.expressions import Examiner, _corrected, best_union
from refseg.studies.instance_report.kept import KeptLines, KeptProposals, half_of
from refseg.studies.instance_report.sets import PhotographSet, Settings
from refseg.studies.instance_report.summary import mean_interval, recalibrated, referring_numbers, reliability
from refseg.studies.photographs import ScoredSet
from refseg.training.instances.annotated import AnnotatedPicture
from tests.support.tiny_model import write_model_folder


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return refseg.load("instances", device="cpu")


@pytest.fixture(scope="module")
def model(segmenter: Segmenter) -> Instances:
    assert isinstance(segmenter.model, Instances)
    return segmenter.model


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """The expressions of two drawn scenes."""
    return list(drawn_samples(SceneDataset(3, 2, size=128, split="val")))


@pytest.fixture(scope="module")
def examined(segmenter: Segmenter, samples: list[Sample]) -> list[dict]:
    examiner = Examiner(segmenter)
    groups = [list(part) for _, part in itertools.groupby(samples, lambda sample: sample.image_id)]
    return [record for part in groups for record in examiner.examine(part)]


@pytest.mark.parametrize("name", ["a.jpg", "COCO_train2014_000000000009.jpg", "é.png"])
def test_halves_go_by_the_name_alone(name: str) -> None:
    even = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2 == 0
    assert half_of(name) == half_of(f"some/where/{name}") == ("val" if even else "test")


def test_lines_go_on_after_a_stop_and_begin_anew_with_another_model(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "set.jsonl"
    lines = KeptLines(path, "one")
    lines.add("a", [1, 2])
    lines.add("b", {"x": 0.5})
    path.write_text(path.read_text() + '{"key": "c", "va')  # killed while it wrote
    again = KeptLines(path, "one")
    assert again.values == {"a": [1, 2], "b": {"x": 0.5}}
    again.add("c", None)
    assert KeptLines(path, "one").values == {"a": [1, 2], "b": {"x": 0.5}, "c": None}
    assert KeptLines(path, "two").values == {}
    assert KeptLines(path, "one").values == {}


def test_kept_proposals_and_masks_are_those_of_the_proposer(
    model: Instances, samples: list[Sample], tmp_path: Path
) -> None:
    inner = model.proposer
    assert isinstance(inner, Proposer)
    image = np.asarray(samples[0].read_image())
    plain = inner.propose(image)
    assert len(plain) > 0
    kept = KeptProposals(inner, tmp_path)
    made = plain.boxes[:5]
    for proposer in (kept, kept):  # computed, then read
        found = proposer.propose(image)
        for name in ("boxes", "scores", "class_probs", "colours", "mask_logits"):
            assert torch.equal(getattr(found, name), getattr(plain, name))
        assert (found.size, found.drawn) == (plain.size, plain.drawn)
        np.testing.assert_allclose(proposer.mask_logits(image, made), inner.mask_logits(image, made), atol=1e-3)
    kept.inner = None  # type: ignore[assignment]
    assert torch.equal(kept.propose(image).boxes, plain.boxes)
    file = next((tmp_path / "proposals").glob("*/*.safetensors"))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match="delete the file"):
        kept.propose(image)


def test_answers_are_those_that_a_person_gets(segmenter: Segmenter, samples: list[Sample]) -> None:
    examiner = Examiner(segmenter)
    texts = [sample.text for sample in samples[:10]]
    found = examiner.answers(examiner.view(samples[0]), examiner.read(texts))
    for mine, theirs in zip(found, segmenter(samples[0].read_image(), texts), strict=True):
        assert mine.no_target == theirs.no_target
        assert mine.no_target_score == pytest.approx(theirs.no_target_score, abs=1e-6)
        assert np.array_equal(mine.mask, theirs.mask)
        assert len(mine.instances) == len(theirs.instances)


def test_records_say_what_each_step_loses(samples: list[Sample], examined: list[dict]) -> None:
    assert [record["text"] for record in examined] == [sample.text for sample in samples]
    for record in examined:
        assert record["row"]["no_target"] == record["no_target"]
        if record["no_target"]:
            assert "masks" not in record
            continue
        assert record["proposals"] >= record["choice"] - 1e-12
        assert all(0 <= record[name] <= 1 for name in ("words", "choice", "proposals", "masks", "reached"))
        if not record["misread"]:
            now = 0.0 if record["none"] else record["row"]["intersection"] / record["row"]["union"]
            assert record["words"] == pytest.approx(now)
    numbers = referring_numbers({"0": examined[: len(examined) // 2], "1": examined[len(examined) // 2 :]})
    losses = numbers["losses"]
    lost = sum(losses[f"lost by {name}"][0] for name in ("words", "choosing", "boxes", "masks"))
    assert losses["now"][0] + lost == pytest.approx(1)
    assert numbers["losses"]["now"][0] == pytest.approx(numbers["mIoU_target"][0])
    with_target = [record for record in examined if not record["no_target"]]
    right = np.mean([record["instances"] == record["targets"] for record in with_target])
    assert numbers["instances"]["all"]["number right"] == pytest.approx(right)
    assert numbers["expressions"] == len(examined)


def test_a_noun_that_is_misread_is_read_as_the_category(segmenter: Segmenter, samples: list[Sample]) -> None:
    """An invented noun loses by words alone: put right, it is answered as the category's name is."""
    examiner = Examiner(segmenter)
    target = next(sample for sample in samples if len(sample.objects) == 1)
    (item,) = target.objects
    invented, plain = (
        Sample(name, f"the {name}", target.image_id, target.size, (item,), image=target.image)
        for name in ("flurbish gizmo", item.category)
    )
    first, second = examiner.examine([invented, plain])
    assert first["misread"]
    assert first["category"] == item.category
    assert not second["misread"]
    assert first["words"] == pytest.approx(second["words"])
    assert first["words_exact"] == second["exact"]


def test_only_a_noun_that_is_misread_is_corrected(model: Instances) -> None:
    corrected = _corrected(parse("the flurbish on the left"), "dog", model)
    assert corrected is not None
    assert corrected.phrases[0].head == "dog"
    assert corrected.phrases[0].places == parse("the dog on the left").phrases[0].places
    assert _corrected(parse("the sofa"), "couch", model) is None
    assert _corrected(parse("the man"), "person", model) is None
    assert _corrected(parse("the left one"), "dog", model) is None
    assert _corrected(parse("the flurbish"), None, model) is None
    assert _corrected(parse("the cat and the dog"), "bus", model) is None


def test_the_best_union_is_that_of_a_search_of_all() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        labels = random.integers(0, 5, (6, 7))  # disjoint parts: adding what helps most is then optimal
        masks = [labels == number for number in range(4)]
        truth = random.random((6, 7)) < 0.5
        unions = [
            np.any([masks[index] for index in chosen], axis=0)
            for count in range(1, 5)
            for chosen in itertools.combinations(range(4), count)
        ]
        best = max(np.sum(union & truth) / np.sum(union | truth) for union in unions)
        assert best_union(masks, truth) == pytest.approx(best)
    assert best_union([], np.ones((2, 2), dtype=bool)) == 0


def test_boxes_alone_are_measured_without_masks(segmenter: Segmenter, samples: list[Sample]) -> None:
    target = next(sample for sample in samples if sample.objects)
    bare = tuple(Instance(item.ann_id, "", item.bbox) for item in target.objects)
    sample = Sample("0", target.text, target.image_id, target.size, bare, image=target.image)
    (record,) = Examiner(segmenter).examine([sample])
    assert record["row"] is None
    assert "masks" not in record
    assert record["category_by"] == "detector" or record["category"] is None
    numbers = referring_numbers({"0": [record]})
    assert "gIoU" not in numbers
    assert numbers["boxes right"][0] == float(record["exact"])


def test_means_and_intervals_draw_pictures() -> None:
    value, low, high = mean_interval([[1.0, 1.0, 1.0], [], [0.0]])
    assert value == 0.75
    assert (low, high) == (0.0, 1.0)
    assert mean_interval([[0.5, 0.25]]) == [0.375, 0.375, 0.375]
    assert np.isnan(mean_interval([[], []])).all()


def test_reliability_and_its_mending() -> None:
    random = np.random.default_rng(1)
    chance = random.uniform(0.02, 0.98, 6000)
    truth = random.random(6000) < chance
    found = reliability(chance, truth)
    assert found["error"] == pytest.approx(calibration_error(chance, truth, 10))
    assert sum(each["questions"] for each in found["bins"]) == len(chance)
    for each in found["bins"]:
        assert abs(each["stated"] - each["none"]) < 0.12  # 600 questions a bin: six standard deviations
    logits = np.log(chance / (1 - chance))
    distorted = 1 / (1 + np.exp(-(0.4 * logits - 1.5)))
    mended = recalibrated(distorted[:3000], truth[:3000], distorted[3000:])
    assert (np.diff(mended[np.argsort(distorted[3000:])]) >= -1e-12).all()
    before, after = (reliability(values, truth[3000:])["error"] for values in (distorted[3000:], mended))
    assert before > 0.2 > 0.05 > after


def test_presence_against_loops() -> None:
    random = np.random.default_rng(2)
    there = random.random((30, 4)) < 0.3
    none = np.clip(random.random((30, 4)) - 0.3 * there, 0, 1).round(1)  # with ties
    numbers = names.presence_numbers(names.Presence(1 - none, there, none, 0.5))
    pairs = [1.0 if yes > no else 0.5 if yes == no else 0.0 for yes in (1 - none)[there] for no in (1 - none)[~there]]
    assert numbers["AUC"] == pytest.approx(np.mean(pairs))
    assert numbers["N_acc"] == pytest.approx(np.mean([value > 0.5 for value in none[~there]]))
    assert numbers["T_acc"] == pytest.approx(np.mean([value <= 0.5 for value in none[there]]))
    perfect = names.presence_numbers(names.Presence(there.astype(float), there))
    assert perfect == {"AUC": 1.0, "N_acc at T_acc .90": 1.0, "ranking AP": 1.0}


def test_boxes_that_are_right_have_a_precision_of_one(tmp_path: Path) -> None:
    items = (Instance(1, "dog", (10.0, 10.0, 60.0, 50.0)), Instance(2, "sofa", (70.0, 20.0, 120.0, 90.0)))
    picture = AnnotatedPicture("x/1", tmp_path / "1.png", (100, 130), items, "x", "train", True)
    columns = [CLASSES.index("dog"), CLASSES.index("couch")]
    rows = [[*item.bbox, 0.9, float(column)] for item, column in zip(items, columns, strict=True)]
    found = boxes.precision([{"first head": rows[:1], "both heads": rows, "proposals": []}], [picture])
    assert found["both heads"]["AP"] == pytest.approx(1)
    assert found["first head"]["AP"] == pytest.approx(0.5)
    assert found["proposals"]["AP"] == 0


def test_nouns_are_counted_by_half(model: Instances, tmp_path: Path) -> None:
    path = tmp_path / "nouns.tsv"
    path.write_text("# noun\ndog\tval\tdog\nsofa\tval\tcouch, chair\nsofa\ttest\tdog\noctopus\ttest\tnone\n")
    found = names.measure_nouns(model, names.read_nouns(path))
    assert (found["val"]["nouns"], found["val"]["right"], found["val"]["right by lists"]) == (2, 2, 2)
    assert found["test"]["wrong"] == {"sofa": "couch"}
    for line, what in (("dog\tval", "tabs"), ("dog\ttrain\tdog", "val or test"), ("dog\tval\tcerberus", "cerberus")):
        path.write_text(line + "\n")
        with pytest.raises(DataError, match=what):
            names.read_nouns(path)


@pytest.mark.parametrize(
    ("text", "what"),
    [("x", "photographs are"), ("x=f,image=d", "image"), ("x=f,names=maybe", "yes or no"), ("x=f,apart=a", "FIELD")],
)
def test_photographs_that_are_not_described(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        PhotographSet.parse(text)


def test_settings_that_measure_nothing_or_one_name_twice() -> None:
    with pytest.raises(ConfigError, match="nothing to measure"):
        Settings()
    with pytest.raises(ConfigError, match="each once"):
        Settings(referring=(ScoredSet("a", "x"), ScoredSet("a", "y")))
    with pytest.raises(ConfigError, match="each once"):
        Settings(referring=(ScoredSet("../a", "x"),))


def test_the_command_measures_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scenes(tmp_path / "data", SceneSettings(5, {"val": 2, "testA": 1}, size=128, picture="png"))
    file, images = tmp_path / "data" / "scenes" / "instances.json", tmp_path / "data" / "images" / "train2014"
    nouns = tmp_path / "nouns.tsv"
    nouns.write_text("kitty\tval\tcat\nstove\ttest\toven\n")
    arguments = ["studies", "instances", "-o", str(tmp_path / "out"), "--half", "both", "--nouns", str(nouns)]
    arguments += ["--objects"]
    arguments += ["--referring", f"drawn={tmp_path / 'data'},split=val+testA"]
    arguments += ["--photographs", f"pictures={file},images={images},names=yes"]
    assert main(arguments) == 0
    report = tmp_path / "out" / "report.json"
    document = json.loads(report.read_text())
    found = document["referring"]["drawn"]
    assert found["both"]["pictures"] == found["val"]["pictures"] + found["test"]["pictures"] == 3
    assert found["both"]["annotated objects"]["whole"]
    assert document["photographs"]["pictures"]["both"]["AP"]["proposals"]["AP"] >= 0
    assert document["nouns"]["val"]["right"] == 1
    page = (tmp_path / "out" / "report.md").read_text()
    assert all(title in page for title in ("Where it is lost", "Boxes of the detector", "Names of categories"))

    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Proposer, "propose", refuse)
    monkeypatch.setattr(Proposer, "detect", refuse)
    monkeypatch.setattr(Examiner, "examine", refuse)
    monkeypatch.setattr("refseg.studies.instance_report.run.measure_objects", refuse)
    assert main(arguments) == 0
    assert json.loads(report.read_text()) == document
    capsys.readouterr()
    assert main([*arguments[:4]]) == 2
    assert "nothing to measure" in capsys.readouterr().err


def test_another_system_is_refused(tmp_path: Path) -> None:
    dense = refseg.load(write_model_folder(tmp_path / "dense"), device="cpu")
    with pytest.raises(ConfigError, match="of `instances`"):
        Examiner(dense)
