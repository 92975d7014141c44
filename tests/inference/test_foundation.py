"""Networks of transformers: from folders and from a hub, through every verb, with what is wrong said in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import refseg
from refseg.cli.main import main
from refseg.data.rle import encode
from refseg.errors import CheckpointError, RefsegError
from refseg.inference.foundation import holds_networks, measure, save_foundation
from refseg.inference.locate import split_sources
from tests.support.hub_server import HubServer, online, serving
from tests.support.tiny_networks import sam2_config, sam3_config, write_network

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    names = ("sam3", "owlv2", "sam2", "clipseg", "paligemma")
    return {name: write_network(root / name, name) for name in names}


@pytest.fixture(scope="module")
def pair(folders: dict[str, Path]) -> str:
    return f"{folders['owlv2']}+{folders['sam2']}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, and a data set of six expressions about them, two of which mean nothing."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    for number, (height, width) in enumerate(((40, 60), (50, 30))):
        coarse = Image.fromarray(noise.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        coarse.resize((width, height)).save(folder / f"{number}.png")
    lines = []
    for number, (height, width) in enumerate(((40, 60), (50, 30))):
        mask = np.zeros((height, width), dtype=bool)
        mask[8:30, 6:20] = True
        for text, meant in (("the zebra", True), ("a dog on the left", True), ("two cats", False)):
            masks = [encode(mask)] if meant else []
            line = {"image": f"{number}.png", "text": text, "masks": masks, "no_target": not meant, "split": "val"}
            lines.append(json.dumps(line))
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def one_line(capsys: pytest.CaptureFixture[str], words: list[object]) -> str:
    assert main([str(word) for word in words]) == 2
    printed = capsys.readouterr().err
    assert printed.strip().count("\n") == 0
    return printed


# ---- every verb


def test_segment(pair: str, photos: Path, tmp_path: Path) -> None:
    words = ["segment", photos / "0.png", photos / "1.png", "the zebra", "--model", pair, "--device", "cpu"]
    words += ["--no-target-threshold", 1.0, "--format", "mask,json", "-o", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    documents = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*.json"))]
    assert len(documents) == 2
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


@pytest.mark.parametrize("protocol", ["native,rela", "grec"])
def test_evaluate(pair: str, photos: Path, tmp_path: Path, protocol: str) -> None:
    words = ["evaluate", "--model", pair, "--data", photos / "data.jsonl", "--split", "val", "--protocol", protocol]
    words += ["--device", "cpu", "--json", tmp_path / "score.json", "--rows", tmp_path / "rows.jsonl"]
    assert main([str(word) for word in words]) == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert (tmp_path / "score.json").is_file()


def test_compare_of_two_networks(pair: str, folders: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    for name, model in (("a", pair), ("b", str(folders["clipseg"]))):
        words = ["evaluate", "--model", model, "--data", photos / "data.jsonl", "--split", "val", "--device", "cpu"]
        assert main([str(word) for word in [*words, "--rows", tmp_path / f"{name}.jsonl"]]) == 0
    words = ["compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--resamples", 20, "-o", tmp_path / "compared"]
    assert main([str(word) for word in words]) == 0
    assert (tmp_path / "compared" / "compare.json").is_file()


def test_benchmark(pair: str, tmp_path: Path) -> None:
    words = ["benchmark", pair, "--sentences", "2", "--rounds", 1, "--json", tmp_path / "times.json"]
    assert main([str(word) for word in words]) == 0
    assert len(json.loads((tmp_path / "times.json").read_text())["cases"]) == 1


def test_calibrate_writes_a_folder_that_names_the_networks(
    pair: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["calibrate", pair, "--data", photos / "data.jsonl", "--split", "val", "--device", "cpu", "--force"]
    assert "-o FOLDER" in one_line(capsys, common)
    assert main([str(word) for word in [*common, "-o", tmp_path / "calibrated"]]) == 0
    assert sorted(path.name for path in (tmp_path / "calibrated").iterdir()) == ["config.json"]
    document = json.loads((tmp_path / "calibrated" / "config.json").read_text())
    segmenter = refseg.load(tmp_path / "calibrated", device="cpu")
    assert segmenter.thresholds.no_target == document["info"]["no_target_threshold"]
    assert segmenter.info["calibration"]["sentences"] == 6
    image = Image.open(photos / "0.png")
    plain = refseg.load(pair, device="cpu")
    options: dict[str, Any] = {"threshold": 0.5, "no_target_threshold": 1.0, "probabilities": True}
    one, other = (each(image, "the zebra", **options) for each in (plain, segmenter))
    assert (one.probabilities == other.probabilities).all()
    assert holds_networks(pair)
    assert not holds_networks(tmp_path / "calibrated")


def test_video(pair: str, photos: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.mkdir()
    for number in range(3):
        shutil.copy(photos / "0.png", clip / f"{number}.png")
    words = ["video", clip, "the zebra", "--model", pair, "--device", "cpu", "-o", tmp_path / "out"]
    words += ["--format", "json", "--no-target-threshold", 1.0]
    assert main([str(word) for word in words]) == 0
    assert list((tmp_path / "out").rglob("*.json"))


def test_index_and_search(pair: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lancedb", reason="the optional extra 'search' is not installed")
    words = ["index", photos, "-o", tmp_path / "photos.index", "--model", pair, "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    words = ["search", tmp_path / "photos.index", "the zebra", "--json", tmp_path / "found.json"]
    assert main([str(word) for word in words]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["looked_at"] == 2


def test_batch(pair: str, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the optional extra 'data' is not installed")
    words = ["batch", photos / "0.png", "-t", "the zebra", "--model", pair, "--device", "cpu", "--workers", 1]
    assert main([str(word) for word in [*words, "-o", tmp_path / "rows"]]) == 0
    assert list((tmp_path / "rows").glob("part-*.parquet"))


def test_explain(pair: str, photos: Path, tmp_path: Path) -> None:
    words = ["explain", photos / "0.png", "the zebra", "--model", pair, "--device", "cpu", "-o", tmp_path / "shown"]
    assert main([str(word) for word in words]) == 0
    assert list((tmp_path / "shown").glob("*.png"))


def test_serve(pair: str, photos: Path) -> None:
    pytest.importorskip("fastapi", reason="the optional extra 'serve' is not installed")
    import base64

    from starlette.testclient import TestClient

    from refseg.apps.serve.app import create_app
    from refseg.apps.serve.settings import Settings
    from refseg.apps.serve.state import load_segmenters

    settings = Settings(models=(pair,), device="cpu")
    with TestClient(create_app(settings, load_segmenters(settings))) as client:
        image = base64.b64encode((photos / "0.png").read_bytes()).decode()
        body = {"images": [image], "texts": ["the zebra", "a dog"], "no_target_threshold": 1.0}
        response = client.post("/v1/segment", json=body)
        assert response.status_code == 200, response.text
        assert client.get("/v1/models").status_code == 200


def test_what_is_not_done_with_networks(pair: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmenter = refseg.load(pair, device="cpu")
    with pytest.raises(RefsegError, match="copy its own folder"):
        segmenter.save_pretrained(tmp_path / "copy")
    assert "not exported here" in one_line(capsys, ["export", pair, "-o", tmp_path / "graphs"])


# ---- refseg models


def test_models_lists_families_and_measures_one(
    pair: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for name in ("facebook/sam3", "access on request", "google/owlv2-base-patch16-ensemble", "behind a +"):
        assert name in printed
    assert main(["models", "--json"]) == 0
    networks = json.loads(capsys.readouterr().out)["networks"]
    assert networks["clipseg"]["says"] == ["one mask"]
    assert main(["models", pair, "--cost", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    counted = sum(value.numel() for value in refseg.load(pair, device="cpu").model.parameters())
    assert document["parameters"] == counted
    assert document["bytes"] == {"float32": 4 * counted, "bfloat16": 2 * counted}
    assert main(["models", str(folders["sam3"]), "--cost"]) == 0
    assert "GiB bfloat16" in capsys.readouterr().out
    assert "--cost alone" in one_line(capsys, ["models", folders["sam3"]])


def test_tied_weights_count_once(folders: dict[str, Path]) -> None:
    """PaliGemma's output layer is its table of words."""
    (size,) = measure(str(folders["paligemma"]))
    model = refseg.load(folders["paligemma"], device="cpu").model
    assert size.parameters == sum(value.numel() for value in model.parameters())


# ---- what is wrong


def test_names_of_two_networks(tmp_path: Path) -> None:
    assert split_sources("a/b+c/d") == ("a/b", "c/d")
    (tmp_path / "one+two").mkdir()
    assert split_sources(tmp_path / "one+two") == (str(tmp_path / "one+two"),)
    for name in ("a/b+", "+a/b", "a/b+c/d+e/f"):
        with pytest.raises(CheckpointError, match=r"DETECTOR\+SEGMENTER"):
            refseg.load(name)


def test_wrong_families_and_roles(folders: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match=r"type 'llama'.*it asks sam3, grounding-dino.*behind a \+: sam2"):
        refseg.load(other)
    with pytest.raises(RefsegError, match="reads no text; put a detector before it"):
        refseg.load(folders["sam2"])
    with pytest.raises(RefsegError, match="makes no masks of boxes"):
        refseg.load(f"{folders['owlv2']}+{folders['clipseg']}")
    with pytest.raises(RefsegError, match="gives one mask, no boxes"):
        refseg.load(f"{folders['clipseg']}+{folders['sam2']}")
    (other / "config.json").write_text('{"model_type": "florence2", "vision_config": {"model_type": "davit"}}')
    with pytest.raises(CheckpointError, match="florence-community"):
        refseg.load(other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"config\.json: cannot be read"),
        ("model.safetensors", r"model\.safetensors is missing.*pickles"),
        ("tokenizer.json", "cannot be read by transformers"),
        ("preprocessor_config.json", "cannot be read by transformers"),
    ],
)
def test_a_missing_file_is_named(folders: dict[str, Path], tmp_path: Path, name: str, message: str) -> None:
    shutil.copytree(folders["owlv2"], tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    with pytest.raises(CheckpointError, match=message) as caught:
        refseg.load(tmp_path / "copy")
    assert "\n" not in str(caught.value)


def test_damaged_files_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "copy"
    shutil.copytree(folders["owlv2"], folder)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    first = sorted(tensors)[0]
    del tensors[first]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"missing: {first}"):
        refseg.load(folder)
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="cannot be read by transformers"):
        refseg.load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        refseg.load(folder)
    (folder / "config.json").write_text('{"format": 1, "system": "foundation", "config": {"sources": []}}')
    with pytest.raises(CheckpointError, match="names no network"):
        refseg.load(folder)
    index = folder / "model.safetensors.index.json"
    shutil.copy(folders["owlv2"] / "config.json", folder / "config.json")
    index.write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    with pytest.raises(CheckpointError, match=r"model-1\.safetensors, model-2\.safetensors is missing"):
        refseg.load(folder)


def test_settings_are_kept_in_the_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    model: Any = refseg.load(folders["sam3"], device="cpu").model
    model.config = replace(model.config, score_threshold=0.123, prompt="a {}")
    again: Any = refseg.load(save_foundation(tmp_path / "mine", model, {}), device="cpu").model
    assert again.config == model.config
    assert again.config.sources == (str(folders["sam3"]),)


def test_video_configurations_of_the_published_repositories(folders: dict[str, Path], tmp_path: Path) -> None:
    """SAM 2.1's and SAM 3's repositories hold a configuration with a memory or a tracker; the image network is read."""
    from transformers import Sam2VideoConfig, Sam3VideoConfig

    sam2, sam3 = tmp_path / "sam2", tmp_path / "sam3"
    shutil.copytree(folders["sam2"], sam2)
    shutil.copytree(folders["sam3"], sam3)
    plain = sam2_config()
    video = Sam2VideoConfig(
        vision_config=plain.vision_config,
        prompt_encoder_config=plain.prompt_encoder_config.to_dict() | {"model_type": "sam2_video_prompt_encoder"},
        mask_decoder_config=plain.mask_decoder_config.to_dict() | {"model_type": "sam2_video_mask_decoder"},
        image_size=128,
    )
    (sam2 / "config.json").write_text(video.to_json_string())
    (sam3 / "config.json").write_text(Sam3VideoConfig(detector_config=sam3_config()).to_json_string())
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 50, 3), dtype=np.uint8))
    for name, other in ((str(folders["sam3"]), str(sam3)), (f"{folders['owlv2']}+{folders['sam2']}", None)):
        again = other or f"{folders['owlv2']}+{sam2}"
        options: dict[str, Any] = {"no_target_threshold": 1.0, "probabilities": True}
        one, two = (refseg.load(each, device="cpu")(image, "the zebra", **options) for each in (name, again))
        assert (one.probabilities == two.probabilities).all()


# ---- the hub, on loopback, from one process that is online


SCRIPT = """
import os, sys
import numpy as np
import huggingface_hub.constants as constants
import refseg
from refseg.inference.foundation import measure

image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)

def ask(name):
    try:
        answer = refseg.load(name, device="cpu")(image, "the zebra", no_target_threshold=1.0)
        print("answered", answer.mask.shape)
    except refseg.RefsegError as error:
        print(error)

print(measure("facebook/cost")[0].parameters)
for name in sys.argv[1:]:
    ask(name)
os.environ["HF_TOKEN"] = "hf_secret"
ask("facebook/gated")
constants.HF_HUB_OFFLINE = True
ask("google/owl+facebook/sam2")
ask("google/other")
"""


@pytest.fixture(scope="module")
def asked(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, list[str]]]:
    """What a process said of good and bad repositories, and the server that it asked."""
    with serving() as hub:
        hub.put("google/owl", folders["owlv2"])
        hub.put("facebook/sam2", folders["sam2"])
        hub.put("facebook/cost", folders["sam3"])
        hub.put("facebook/gated", folders["clipseg"])
        hub.gated.add("facebook/gated")
        hub.store["meta/llama", "main"] = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"x" * 100}
        hub.store["someone/empty", "main"] = {"README.md": b"nothing"}
        hub.store["someone/half", "main"] = dict(hub.store["google/owl", "main"])
        del hub.store["someone/half", "main"]["model.safetensors"]
        hub.put("someone/broken", folders["clipseg"])
        hub.store["someone/broken", "main"]["more.safetensors"] = bytes(11 << 20)
        hub.cut["more.safetensors"] = (10 << 20) + 5000
        names = (
            "google/owl+facebook/sam2",
            "facebook/gated",
            "meta/llama",
            "someone/empty",
            "someone/half",
            "no/body",
            "someone/broken",
        )
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *names],
            env=online(hub, tmp_path_factory.mktemp("home")),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        yield hub, done.stdout.strip().splitlines()


def test_what_is_had_and_what_is_not(asked: tuple[HubServer, list[str]]) -> None:
    hub, (_, pair, gated, wrong, empty, half, nobody, _, allowed, offline, absent) = asked
    assert pair == "answered (40, 50)"
    assert f"ask for it at {hub.address}/facebook/gated, then log in: hf auth login" in gated
    assert "type 'llama', which refseg cannot ask; it asks sam3" in wrong
    assert "the repository holds no config.json" in empty
    assert "model.safetensors is missing" in half
    assert "no/body: no such folder here" in nobody
    # the weights of what cannot be asked were not downloaded
    assert not any("llama" in path and "safetensors" in path for _, path, _ in hub.requests)
    assert allowed == pair
    # what is here needs no network; what is not is said, with the place where it would be
    assert offline == pair
    assert "missing are config.json, model.safetensors" in absent
    assert "models--google--other" in absent


def test_a_broken_download_goes_on(asked: tuple[HubServer, list[str]]) -> None:
    """The client keeps what it has by the chunk of 10 MiB."""
    hub, lines = asked
    assert lines[7] == "answered (40, 50)"
    parts = [part for method, path, part in hub.requests if method == "GET" and path.endswith("more.safetensors")]
    assert parts == [None, f"bytes={10 << 20}-"]


def test_cost_asks_the_hub_for_the_configuration_alone(
    asked: tuple[HubServer, list[str]], folders: dict[str, Path]
) -> None:
    hub, lines = asked
    assert int(lines[0]) == measure(str(folders["sam3"]))[0].parameters
    fetched = {path for method, path, _ in hub.requests if method == "GET" and path.startswith("/facebook/cost")}
    assert {path.rpartition("/")[2] for path in fetched} == {"config.json"}
