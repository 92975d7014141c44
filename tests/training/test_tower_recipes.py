"""The recipes on towers of foundation models: two steps each on random copies of a few channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from refseg.errors import ConfigError
from refseg.generation.scenes.write import SceneSettings, write_scenes
from refseg.training.loop import train
from refseg.training.recipe import read_recipe
from tests.encoders.test_towers import SIZES, TEXT, theirs

RECIPES = Path(__file__).parents[2] / "recipes"
WORDS = ["[PAD]", "[UNK]", "the", "left", "right", "man", "woman", "car", "dog", "cup", "red", "blue", "all", "in"]
TOWER = ["patch=8", "width=16", "layers=2", "heads=2", "feedforward=64", "grid=8"]
SMALL = [
    "model.input.size=64", "model.width=16", "model.regions=2", "model.pixel_decoder.layers=1",
    "model.pixel_decoder.heads=2", "model.pixel_decoder.points=1", "model.pixel_decoder.feedforward=16",
    "model.pixel_decoder.groups=2", "training.steps=2", "training.precision=float32", "data.pictures_per_batch=2",
    "data.sentences_per_picture=2", "data.workers=0", "data.dataset=scenes", "evaluation.every=0",
    "schedule.milestones=[1]", "output.log_every=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, SceneSettings(0, {"train": 2, "val": 1}, size=96, sentences=6, picture="png"))
    return folder


def words(folder: Path) -> str:
    """A tokenizer of whole words in the library's format."""
    model = tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    return str(folder)


def saved(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    return str(folder)


def run(name: str, scenes: Path, tmp_path: Path, *more: str) -> dict[str, torch.Tensor]:
    """Two steps; the weights in the end."""
    from refseg.state_dicts import read_tensors

    given = [f"data.root={scenes}", f"output.folder={tmp_path / 'run'}", f"data.tokenizer={words(tmp_path / 'words')}"]
    losses: list[float] = []
    train(read_recipe(RECIPES / f"{name}.toml", [*SMALL, *given, *more]), on_step=lambda _, loss: losses.append(loss))
    assert len(losses) == 2
    assert all(torch.isfinite(torch.tensor(losses)))
    return read_tensors(tmp_path / "run" / "final" / "model.safetensors")


@pytest.mark.parametrize("family", ["dinov3", "dinov2"])
def test_rela_on_dino(family: str, scenes: Path, tmp_path: Path) -> None:
    model, _ = theirs(family)
    bert = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    registers = 3 if family == "dinov3" else 0
    tensors = run(
        "rela-dinov3-grefcoco", scenes, tmp_path,
        *(f"model.vision.{each}" for each in (*TOWER, f"family={family}", f"registers={registers}")),
        *(f"model.text.{each}" for each in ("width=16", "layers=1", "heads=2", "feedforward=16")),
        f"pretrained.vision={saved(model, tmp_path / 'tower')}",
        f"pretrained.text={saved(transformers.BertModel(bert), tmp_path / 'bert')}",
    )  # fmt: skip
    kept = "vision.network.embeddings.cls_token"
    torch.testing.assert_close(tensors[kept], model.state_dict()[kept.removeprefix("vision.network.")])


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_rela_between_both_towers(family: str, scenes: Path, tmp_path: Path) -> None:
    name = {"clip": "CLIP", "siglip": "Siglip"}[family]
    text = {**TEXT, "vocab_size": len(WORDS), "max_position_embeddings": 12}
    kind = getattr(transformers, f"{name}Config")
    model = getattr(transformers, f"{name}Model")(
        kind(vision_config={**SIZES, "intermediate_size": 64}, text_config=text)
    )
    folder = saved(model, tmp_path / "towers")
    sizes = ("width=16", "layers=2", "heads=2", "feedforward=24", "positions=12", "max_words=12")
    run(
        f"rela-{family}-grefcoco", scenes, tmp_path,
        *(f"model.vision.{each}" for each in TOWER),
        *(f"model.text.{each}" for each in sizes),
        f"pretrained.vision={folder}", f"pretrained.text={folder}",
    )  # fmt: skip


def test_a_frozen_tower_without_weights_is_an_error(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"the frozen tower of VisionTower would keep random weights .*facebook/dinov3"
    ):
        run("rela-dinov3-grefcoco", scenes, tmp_path, *(f"model.vision.{each}" for each in TOWER))


def test_instances_over_sam3(scenes: Path, tmp_path: Path) -> None:
    import refseg
    from refseg.inference.locate import locate_model
    from refseg.state_dicts import read_tensors
    from tests.support.tiny_networks import write_network

    sam3 = write_network(tmp_path / "sam3", "sam3")
    changes = [
        f"data.root={scenes}", "data.dataset=scenes", f"output.folder={tmp_path / 'run'}", "training.steps=2",
        "data.pictures_per_batch=2", "data.sentences_per_picture=2", "evaluation.every=0", "schedule.warmup_steps=0",
        f"pretrained.proposals={sam3}",
    ]  # fmt: skip
    losses: list[float] = []
    recipe = read_recipe(RECIPES / "instances-sam3-grefcoco.toml", changes)
    train(recipe, on_step=lambda _, loss: losses.append(loss))
    assert len(losses) == 2
    assert all(torch.isfinite(torch.tensor(losses)))
    before = read_tensors(locate_model("instances") / "model.safetensors")
    after = read_tensors(tmp_path / "run" / "final" / "model.safetensors")
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name].to(after[name].dtype), after[name])] == [
        "chooser.weights"
    ]
    over = refseg.load(tmp_path / "run" / "final", device="cpu", proposals=sam3)
    answer = over(np.zeros((48, 64, 3), np.uint8), "the second zebra from the left")
    assert answer.extra["remarks"][0].startswith("asked for: zebra (")
