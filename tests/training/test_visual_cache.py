"""Maps of a frozen encoder from a cache: they are the encoder's, training on them is training, and faults are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refseg.data.batches import collate
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.encoders.vision.resnet import ResNet, ResNetConfig
from refseg.encoders.vision.vit import ViT, ViTConfig
from refseg.errors import ConfigError
from refseg.state_dicts import read_tensors, write_tensors
from refseg.training import loop
from refseg.training.recipe import Recipe, parse_recipe
from refseg.training.source import open_pictures
from refseg.training.visual_cache import ABOUT, DONE, ROWS, VisualCache, lending
from tests.training.test_loop import log_of

SMALL = ResNetConfig("basic", (8, 16, 16, 24), (1, 1, 1, 1), stem="patch", stem_width=8, norm="batch")
WORDS = WordTokenizer(["a"], 4)


@pytest.fixture
def vision() -> ResNet:
    torch.manual_seed(0)
    encoder = ResNet(SMALL)
    for name, value in encoder.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-0.5, 0.5)
    return encoder


def recipe_of(folder: Path, weights: Path, cached: bool = True, steps: int = 4, **data: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": {
            "preset": "rela-mini",
            "input": {"size": 32},
            "vision": {"widths": [8, 16, 16, 24], "depths": [1, 1, 1, 1], "stem": "patch", "stem_width": 8},
            "width": 32,
            "regions": 2,
            "pixel_decoder": {"fine_width": 16, "groups": 4},
            "relation": {"rla": {"layers": 1, "feedforward": 32}},
            "text": {"width": 32, "layers": 1},
        },
        "pretrained": {"vision": str(weights)},
        "data": {"size": 32, "pool": 6, "pool_folder": str(folder.parent / "pool"), "sentences": 6}
        | {"pictures_per_batch": 2, "sentences_per_picture": 2, **data},
        "training": {"steps": steps},
        "optimizer": {"groups": [{"names": ["vision.*"], "train": False}]},
        "output": {"folder": str(folder), "log_every": 1, "tensorboard": False},
    }
    if cached:
        values["data"]["feature_cache"] = str(folder.parent / "maps")
    return parse_recipe(values)


@pytest.fixture
def weights(vision: ResNet, tmp_path: Path) -> Path:
    path = tmp_path / "encoder.safetensors"
    write_tensors(path, vision.state_dict())
    return path


def cache_of(recipe: Recipe, vision: ResNet) -> VisualCache:
    return VisualCache.of(recipe, vision, recipe.model_config().input, 6)


def test_maps_are_the_encoders(tmp_path: Path, vision: ResNet, weights: Path) -> None:
    recipe = recipe_of(tmp_path / "run", weights)
    pictures, cache = open_pictures(recipe.data), cache_of(recipe, vision)
    cache.fill(pictures, WORDS)
    samples = [pictures.samples(number)[0] for number in (4, 1, 5)]
    batch, _ = collate(samples, tokenizer=WORDS, input_config=recipe.model_config().input)
    with torch.inference_mode():
        own = vision.eval()(batch.images)
    read = cache.read([4, 1, 5])
    assert read.keys() == own.keys()
    for stride, maps in read.items():
        assert maps.dtype == torch.float32
        # Half precision has 11 bits.
        torch.testing.assert_close(maps, own[stride], rtol=2**-10, atol=1e-6)
    apart = torch.stack([(read[32][k] - read[32][k + 1]).abs().max() for k in range(2)])
    assert (apart > 0.01).all(), "the pictures' maps are alike, so that the test cannot tell them apart"


def test_the_encoder_is_put_back_as_it_was(vision: ResNet) -> None:
    vision.train()
    images = torch.rand(2, 3, 32, 32)
    maps = {4: torch.ones(1, 1, 1, 1)}
    with lending(vision, maps):
        assert vision(images) is maps
    assert set(vision(images)) == {4, 8, 16, 32}
    assert "forward" not in vars(vision)


def test_kept_maps_of_a_vision_transformer_are_of_whole_images() -> None:
    """Its maps would be others where a part is padding, so that is said instead of computing something else."""
    transformer = ViT(ViTConfig(patch=8, width=8, layers=1, heads=2, feedforward=8, grid=4, class_token=False))
    images, mask = torch.rand(1, 3, 32, 32), torch.ones(1, 4, 4, dtype=torch.bool)
    maps = transformer(images)
    with lending(transformer, maps):
        assert transformer(images, mask) is maps
        mask[0, 3] = False
        with pytest.raises(ConfigError, match="know of no padding"):
            transformer(images, mask)


def test_training_on_the_cache_learns_as_with_the_frozen_encoder(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a run whose encoder computes in every step, in evaluation mode as its maps were made."""
    loop.train(recipe_of(tmp_path / "cached", weights))
    own = ResNet.train
    monkeypatch.setattr(ResNet, "train", lambda self, mode=True: own(self, False))
    loop.train(recipe_of(tmp_path / "computed", weights, cached=False))
    losses = [[entry[1]["loss"] for entry in log_of(tmp_path / name)] for name in ("cached", "computed")]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert losses[0][0] != losses[0][-1]
    before, after = read_tensors(weights), read_tensors(tmp_path / "cached" / "final" / "model.safetensors")
    assert all(torch.equal(after[f"vision.{name}"], value) for name, value in before.items())


def test_filling_goes_on_where_it_was_stopped(
    tmp_path: Path, vision: ResNet, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path / "run", weights)
    pictures, cache = open_pictures(recipe.data), cache_of(recipe, vision)
    monkeypatch.setattr("refseg.training.visual_cache._AT_ONCE", 2)
    own, encoded = VisualCache._encode, []

    def encode(self: VisualCache, numbers: list[int], *rest: Any) -> None:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(numbers)
        own(self, numbers, *rest)

    monkeypatch.setattr(VisualCache, "_encode", encode)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(pictures, WORDS)
    half = (cache.folder / ROWS).read_bytes()

    def note(self: VisualCache, numbers: list[int], *rest: Any) -> None:
        encoded.append(numbers)
        own(self, numbers, *rest)

    monkeypatch.setattr(VisualCache, "_encode", note)
    cache.fill(pictures, WORDS)
    assert encoded == [[0, 1], [2, 3], [4, 5]]
    assert (cache.folder / ROWS).read_bytes()[: 4 * cache.length * 2] == half[: 4 * cache.length * 2]
    cache.fill(pictures, WORDS)
    assert len(encoded) == 3


def test_another_process_that_fills_it_is_waited_for(
    tmp_path: Path, vision: ResNet, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path / "run", weights)
    cache = cache_of(recipe, vision)
    waited: list[float] = []

    def busy(*arguments: Any) -> Any:
        from refseg.errors import RefsegError

        raise RefsegError("process 1 encodes pictures there")

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        (cache.folder / DONE).write_bytes(b"\x01" * 6)  # the other one is done

    monkeypatch.setattr("refseg.training.visual_cache.locked", busy)
    monkeypatch.setattr("refseg.training.visual_cache.time.sleep", sleep)
    said: list[str] = []
    cache.fill(open_pictures(recipe.data), WORDS, said.append)
    assert len(waited) == 1
    assert "waiting" in said[0]


@pytest.mark.parametrize("change", ["weights", "size", "pictures"])
def test_maps_made_otherwise_are_refused(tmp_path: Path, vision: ResNet, weights: Path, change: str) -> None:
    recipe = recipe_of(tmp_path / "run", weights)
    cache_of(recipe, vision)
    other, config = recipe, recipe.model_config().input
    if change == "weights":
        with torch.no_grad():
            next(vision.parameters()).add_(1.0)
    elif change == "size":
        config = replace(config, size=64)
    else:
        other = replace(recipe, data=replace(recipe.data, seed=1))
    with pytest.raises(ConfigError, match=r"data\.feature_cache: .*maps made otherwise"):
        VisualCache.of(other, vision, config, 6)


@pytest.mark.parametrize("fault", ["short", "gone", "json"])
def test_a_damaged_cache_is_told(tmp_path: Path, vision: ResNet, weights: Path, fault: str) -> None:
    recipe = recipe_of(tmp_path / "run", weights)
    folder = cache_of(recipe, vision).folder
    if fault == "short":
        (folder / ROWS).write_bytes(b"1234")
    elif fault == "gone":
        (folder / DONE).unlink()
    else:
        (folder / ABOUT).write_text("{")
    with pytest.raises(ConfigError, match="delete its folder"):
        cache_of(recipe, vision)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"pool": 0}}, "endless pictures"),
        ({"data": {"augment": {"hflip": 0.5}}}, r"data\.augment"),
        ({"optimizer": {"groups": []}}, "the encoder must stay as it is"),
    ],
)
def test_recipes_that_change_pictures_or_encoder_are_refused(
    tmp_path: Path, weights: Path, changes: dict[str, Any], message: str
) -> None:
    from refseg.training.recipe import recipe_to_dict

    values = recipe_to_dict(recipe_of(tmp_path / "run", weights))
    for table, fields in changes.items():
        values[table] |= fields
    if not values["data"]["pool"]:
        values["data"]["pool_folder"] = None
    with pytest.raises(ConfigError, match=message):
        loop.train(parse_recipe(values))
    assert not (tmp_path / "run").exists()
