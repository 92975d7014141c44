"""Neighbours: transformers' pipeline, the hub (a loopback server, in a process that is online), FiftyOne's contract."""

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import pipeline

import refseg
import refseg.hf
from refseg.errors import CheckpointError, RefsegError
from refseg.inference.hub import model_card
from tests.support.hub_server import OID, online, serving
from tests.support.tiny_model import write_model_folder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return refseg.load(write_model_folder(tmp_path_factory.mktemp("model") / "tiny"), device="cpu")


@pytest.fixture(scope="module")
def folder(segmenter, tmp_path_factory):
    return segmenter.save_pretrained(tmp_path_factory.mktemp("saved") / "tiny")


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8))


def test_saved_folder_answers_the_same(segmenter, folder, tmp_path):
    again = refseg.load(folder, device="cpu")
    one, other = (each(picture(), "the red ball", probabilities=True) for each in (segmenter, again))
    assert (one.probabilities == other.probabilities).all()
    half = segmenter.save_pretrained(tmp_path / "half", half=True)
    assert (half / "model.safetensors").stat().st_size < 0.6 * (folder / "model.safetensors").stat().st_size
    with pytest.raises(RefsegError, match="is a file"):
        segmenter.save_pretrained(folder / "config.json")


def test_card_says_what_the_weights_know(segmenter):
    info = {
        "threshold": 0.4,
        "training": {"recipe": {"model": {"preset": "rela-mini"}, "training": {"steps": 7, "clip": None}}, "hours": 2},
        "calibration": {"data": "scenes val", "sentences": 12, "metrics": {"gIoU": 0.51234}},
    }
    card = model_card(segmenter.model, info, "someone/tiny")
    assert card.startswith("---\nlibrary_name: refseg\n")
    assert 'refseg.load("someone/tiny")' in card
    assert "0.4 for a pixel" in card
    assert 'preset = "rela-mini"' in card
    assert "steps = 7" in card
    assert "| 0.512 |" in card
    assert "- hours: 2" in card
    count = sum(value.numel() for value in segmenter.model.parameters())
    assert f"{count:,} parameters" in card
    assert "not stored" in model_card(segmenter.model, {}, "x")


def test_pipeline_of_a_folder(segmenter, folder):
    pipe = pipeline("referring-image-segmentation", model=str(folder), device="cpu")
    wanted = segmenter(picture(), "the red ball")
    answer = pipe(picture(), text="the red ball")
    assert answer["text"] == "the red ball"
    assert (np.asarray(answer["mask"]) == 255 * wanted.mask).all()
    assert answer["no_target"] == wanted.no_target
    assert answer["score"] == pytest.approx(wanted.score)
    assert len(answer["instances"]) == len(wanted.instances)
    for mine, own in zip(answer["instances"], wanted.instances, strict=True):
        assert list(mine["box"].values()) == pytest.approx([float(value) for value in own.box])
    several = pipe(picture(), text=["the red ball", "a dog"])
    assert [each["text"] for each in several] == ["the red ball", "a dog"]
    rows = pipe(
        [{"image": picture(1), "text": "a dog"}, {"image": picture(2), "text": "a cat"}], no_target_threshold=1.0
    )
    assert [each["text"] for each in rows] == ["a dog", "a cat"]
    assert [each["text"] for each in pipe([picture(1), picture(2)], text="a cat")] == ["a cat", "a cat"]


def test_pipeline_refuses(folder):
    pipe = pipeline("referring-image-segmentation", model=str(folder), device="cpu")
    with pytest.raises(RefsegError, match="expression is missing"):
        pipe(picture())
    with pytest.raises(RefsegError, match="unknown option"):
        pipe(picture(), text="a dog", treshold=0.3)
    with pytest.raises(RefsegError, match="pipeline"):
        pipe.model(images=None)


def test_pipeline_of_packaged_weights():
    model = refseg.hf.RefsegModel.from_pretrained("rela-photo")
    pipe = pipeline("referring-image-segmentation", model=model, device="cpu")
    assert pipe(picture(), text="the red ball")["text"] == "the red ball"


def test_names_of_revisions():
    with pytest.raises(CheckpointError, match="owner/name@revision"):
        refseg.load("owner/name@")
    with pytest.raises(CheckpointError, match=r"nobody/nothing@v1.*hub"):
        refseg.load("nobody/nothing@v1")  # tests are offline: the name is understood, the hub is not there


# ---- the hub


@pytest.fixture
def hub():
    with serving() as server:
        yield server


PUSH = """
import numpy as np, refseg, sys
folder, name = sys.argv[1:]
segmenter = refseg.load(folder, device="cpu")
print(segmenter.push_to_hub(name, revision="draft", token="hf_secret", message="First"))
again = refseg.load(name + "@draft", device="cpu")
image = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
one, other = (each(image, "the red ball", probabilities=True) for each in (segmenter, again))
assert (one.probabilities == other.probabilities).all()
try:
    refseg.load(name + "@nowhere", device="cpu")
except refseg.RefsegError as error:
    print(error)
try:
    segmenter.push_to_hub(name, token="hf_wrong")
except refseg.RefsegError as error:
    print(error)
"""


def test_push_and_load_through_a_server(hub, folder, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PUSH, str(folder), "someone/tiny"],
        env=online(hub, tmp_path / "home"), cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    commit, missing, refused = done.stdout.strip().splitlines()
    assert commit == OID
    assert "someone/tiny@nowhere" in missing
    assert "the hub did not take it" in refused
    pushed = hub.store["someone/tiny", "draft"]
    assert {"config.json", "model.safetensors", "README.md", "vocabulary.txt"} <= pushed.keys()
    assert b'refseg.load("someone/tiny")' in pushed["README.md"]
    assert pushed["model.safetensors"] == (folder / "model.safetensors").read_bytes()


# ---- FiftyOne: the folder against what it promises, with stand-ins for the classes that it uses


@pytest.fixture
def zoo(monkeypatch):
    """The remote zoo folder as FiftyOne imports it."""

    class Label(types.SimpleNamespace):
        pass

    labels = types.ModuleType("fiftyone.core.labels")
    labels.Detection = type("Detection", (Label,), {})
    labels.Detections = type("Detections", (Label,), {})
    models = types.ModuleType("fiftyone.core.models")
    models.Model = type("Model", (), {})
    models.SamplesMixin = type("SamplesMixin", (), {})
    core = types.ModuleType("fiftyone.core")
    core.labels, core.models = labels, models
    package = types.ModuleType("fiftyone")
    package.core = core
    for module in (package, core, labels, models):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    source = ROOT / "examples" / "fiftyone_zoo" / "__init__.py"
    spec = importlib.util.spec_from_file_location("fiftyone_zoo_under_test", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fiftyone_manifest():
    manifest = json.loads((ROOT / "examples" / "fiftyone_zoo" / "manifest.json").read_text())
    assert manifest["name"] == "refseg"
    for model in manifest["models"]:
        assert {"base_name", "description", "tags", "requirements", "date_added"} <= model.keys()
        assert {"packages", "cpu", "gpu"} <= model["requirements"].keys()


def test_fiftyone_model(zoo, segmenter, folder, tmp_path):
    zoo.download_model("refseg/referring-segmentation", str(tmp_path / "cache" / "model.json"))
    assert (tmp_path / "cache" / "model.json").is_file()
    assert zoo.resolve_input("refseg/referring-segmentation", None) is None
    options = {"weights": str(folder), "device": "cpu", "no_target_threshold": 1.0}
    model = zoo.load_model("refseg/referring-segmentation", str(tmp_path / "x"), expression="the red ball", **options)
    assert (model.media_type, model.has_logits, model.has_embeddings, model.ragged_batches) == (
        "image",
        False,
        False,
        True,
    )
    array = np.asarray(picture())
    wanted = segmenter(array, "the red ball", no_target_threshold=1.0)
    found = model.predict(array).detections
    assert len(found) == len(wanted.instances) > 0
    for detection, instance in zip(found, wanted.instances, strict=True):
        x, y, width, height = detection.bounding_box
        drawn = np.zeros_like(instance.mask)
        top, left = round(y * drawn.shape[0]), round(x * drawn.shape[1])
        drawn[top : top + detection.mask.shape[0], left : left + detection.mask.shape[1]] = detection.mask
        assert (drawn == instance.mask).all()
        assert round(height * drawn.shape[0]) == detection.mask.shape[0]
        assert round(width * drawn.shape[1]) == detection.mask.shape[1]
        assert detection.confidence == instance.score
    model.needs_fields = {"expression_field": "caption"}
    assert (
        model.predict(array, sample={"caption": "a dog"}).no_target_score == segmenter(array, "a dog").no_target_score
    )
    assert len(model.predict_all([array, array], [{"caption": "a dog"}, {"caption": "a cat"}])) == 2
    with pytest.raises(ValueError, match="no expression"):
        zoo.load_model("refseg/referring-segmentation", "", **options).predict(array)
