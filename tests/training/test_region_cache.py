"""MAttNet's regions from a cache: they are the detector's, training on them is training, and faults are told."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import ConfigError
from refseg.inference.checkpoint import save_model
from refseg.models import build
from refseg.models.mattnet.config import MINI, PAPER, MAttNetConfig
from refseg.models.mattnet.model import MAttNet
from refseg.state_dicts import read_tensors
from refseg.training import loop
from refseg.training.recipe import Recipe, parse_recipe
from refseg.training.region_cache import ABOUT, INDEX, ROWS, RegionCache, open_cache
from refseg.training.source import Batches, open_pictures
from refseg.types import Batch, Targets
from tests.support.contract import filled
from tests.support.tiny_systems import tiny_mattnet as tiny
from tests.training.test_loop import log_of

WORDS = WordTokenizer(["the", "a", "red", "dog", "left", "person", "ball"], 7)
HALF = 2.0**-11
"""Relative rounding error of 16 bits."""


@pytest.fixture
def network() -> MAttNet:
    return model_of(tiny(MINI))


def model_of(config: MAttNetConfig) -> MAttNet:
    torch.manual_seed(0)
    model = filled(build(config))
    assert isinstance(model, MAttNet)
    return model


def recipe_of(folder: Path, cached: bool = True, model: dict[str, Any] | None = None, **data: Any) -> Recipe:
    config = tiny(MINI)
    detector = {
        "detector": {"widths": [16, 16, 16], "depths": [1, 1, 1], "side": 64},
        "proposals": {"min_score": 0.001, "most": 6},
    }
    values: dict[str, Any] = {
        "model": {
            "preset": "mattnet-mini",
            "input": {"size": 64},
            "detector": detector,
            "text": {"max_words": 7, "embedding": 10, "projection": 9, "hidden": 6},
            "embed_dim": config.embed_dim,
            "grid": config.grid,
            "attributes": ["red", "blue", "striped"],
            **(model or {}),
        },
        "pretrained": {"detector": str(folder.parent / "detector")},
        "data": {"size": 64, "pool": 6, "pool_folder": str(folder.parent / "pool"), "sentences": 8}
        | {"pictures_per_batch": 2, "sentences_per_picture": 3, **data},
        "training": {"steps": 4},
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "output": {"folder": str(folder), "log_every": 1, "tensorboard": False},
    }
    if cached:
        values["data"]["feature_cache"] = str(folder.parent / "regions")
    return parse_recipe(values)


def batches_of(recipe: Recipe, network: MAttNet) -> tuple[Batches, Batches]:
    """The recipe's batches with the cache, filled, and without."""
    pictures, config = open_pictures(recipe.data), network.config
    cache = open_cache(recipe, network, config.input, pictures.count)
    cache.fill(pictures, WORDS)
    with_cache, without = (
        Batches(pictures, WORDS, config.input, recipe, needs=network.needs, cache=each) for each in (cache, None)
    )
    return with_cache, without


def losses_of(network: MAttNet, batch: Batch, targets: Targets) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)  # of dropout, and of negatives that are drawn
    return network.losses(network.train()(batch), targets)


@pytest.mark.parametrize("kind", ["annotated", "detected", "resnet"])
def test_losses_and_gradients_are_those_without_a_cache(tmp_path: Path, kind: str) -> None:
    """What differs is the rounding of cells to 16 bits."""
    config = tiny(PAPER if kind == "resnet" else MINI)
    config = replace(config, regions="detected") if kind == "detected" else config
    config = replace(config, text=replace(config.text, vocabulary_size=len(WORDS.words)))
    network = model_of(config)
    cached, computed = batches_of(recipe_of(tmp_path / "run"), network)
    for number in range(3):
        (batch, targets), (plain, _) = cached[number], computed[number]
        assert batch.regions is not None
        assert batch.regions.cells is not None
        assert plain.regions is None or plain.regions.cells is None
        with torch.no_grad():
            own, read = (
                network.train().look(plain.images, plain.pixel_mask, plain.regions),
                network.look(batch.images, batch.pixel_mask, batch.regions),
            )
        for one, other in zip(own, read, strict=True):
            assert torch.equal(one.things.boxes, other.things.boxes)
            assert one.things.labels == other.things.labels
            assert one.content == other.content
            for name in ("low", "high"):
                computed_cells, kept = getattr(one, name), getattr(other, name)
                # A ResNet's convolutions over one picture and over several round differently.
                near = 1e-5 * float(computed_cells.abs().max())
                torch.testing.assert_close(kept, computed_cells, rtol=2 * HALF, atol=near)
            assert len(one.things.boxes) > 0
        found = []
        for each in (batch, plain):
            network.zero_grad()
            losses = losses_of(network, each, targets)
            torch.stack(list(losses.values())).sum().backward()
            gradients = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
            found.append((torch.stack(list(losses.values())).detach(), gradients))
        assert losses
        torch.testing.assert_close(found[0][0], found[1][0], rtol=50 * HALF, atol=50 * HALF)
        apart = (found[0][1] - found[1][1]).norm() / found[1][1].norm()
        assert apart < 100 * HALF
        assert found[1][1].norm() > 0


def test_pictures_cells_differ(tmp_path: Path, network: MAttNet) -> None:
    """So that the tests above can tell them apart."""
    cached, _ = batches_of(recipe_of(tmp_path / "run"), network)
    batch, _ = cached[0]
    assert batch.regions is not None
    assert batch.regions.cells is not None
    first, second = (cells.mean(dim=(0, 1)) for cells in batch.regions.cells)
    assert (first - second).abs().max() > 10 * HALF * first.abs().max()


def test_nothing_frozen_is_computed_and_answers_are_never_from_the_cache(
    tmp_path: Path, network: MAttNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, _ = batches_of(recipe_of(tmp_path / "run"), network)
    batch, targets = cached[0]
    asked: list[object] = []
    own = type(network.proposer.detector.first).stages
    monkeypatch.setattr(
        type(network.proposer.detector.first), "stages", lambda self, images: asked.append(1) or own(self, images)
    )
    losses_of(network, batch, targets)
    assert not asked
    with torch.no_grad():
        network.eval()(batch)
    assert asked


def test_training_on_the_cache_learns_as_without(tmp_path: Path) -> None:
    config = tiny(MINI)
    save_model(tmp_path / "detector", model_of(config), WORDS)
    loop.train(recipe_of(tmp_path / "cached"))
    loop.train(recipe_of(tmp_path / "computed", cached=False))
    losses = [[entry[1]["loss"] for entry in log_of(tmp_path / name)] for name in ("cached", "computed")]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert losses[0][0] != losses[0][-1]
    before = read_tensors(tmp_path / "detector" / "model.safetensors")
    after = read_tensors(tmp_path / "cached" / "final" / "model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items() if name.startswith("proposer."))


def test_filling_goes_on_where_it_was_killed(tmp_path: Path, network: MAttNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refseg.training.visual_cache._AT_ONCE", 2)
    recipe = recipe_of(tmp_path / "run")
    pictures, config = open_pictures(recipe.data), network.config
    whole = RegionCache(tmp_path / "whole", network, config.input, 6, {})
    whole.fill(pictures, WORDS)
    cache = RegionCache(tmp_path / "killed", network, config.input, 6, {})
    own, encoded = RegionCache._encode, []

    def encode(self: RegionCache, numbers: list[int], *rest: Any) -> None:
        encoded.append(numbers)
        own(self, numbers, *rest)
        if len(encoded) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RegionCache, "_encode", encode)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(pictures, WORDS)
    with (cache.folder / ROWS).open("ab") as rows:
        rows.write(b"half of a row that no index counts")
    again = RegionCache(tmp_path / "killed", network, config.input, 6, {})
    again.fill(pictures, WORDS)
    assert encoded == [[0, 1], [2, 3], [4, 5]]
    assert (again.folder / ROWS).read_bytes() == (whole.folder / ROWS).read_bytes()
    assert (again.folder / INDEX).read_bytes() == (whole.folder / INDEX).read_bytes()
    again.fill(pictures, WORDS)
    assert len(encoded) == 3


def test_workers_read_and_encode_nothing(tmp_path: Path, network: MAttNet) -> None:
    cached, _ = batches_of(recipe_of(tmp_path / "run"), network)
    batch, _ = cached[1]
    copied = pickle.loads(pickle.dumps(cached.cache))
    assert copied.network is None
    again, _ = Batches(
        cached.pictures, WORDS, network.config.input, recipe_of(tmp_path / "run"), needs=network.needs, cache=copied
    )[1]
    assert batch.regions is not None
    assert again.regions is not None
    for one, other in zip(batch.regions.cells or [], again.regions.cells or [], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("change", ["weights", "size", "pictures", "grid"])
def test_regions_made_otherwise_are_refused(tmp_path: Path, network: MAttNet, change: str) -> None:
    recipe = recipe_of(tmp_path / "run")
    open_cache(recipe, network, network.config.input, 6)
    other, config = network, network.config.input
    if change == "weights":
        with torch.no_grad():
            next(network.proposer.parameters()).add_(1.0)
    elif change == "size":
        config = replace(config, size=96)
    elif change == "grid":
        other = model_of(replace(network.config, grid=4))
    else:
        recipe = replace(recipe, data=replace(recipe.data, seed=1))
    with pytest.raises(ConfigError, match=r"data\.feature_cache: .*regions made otherwise"):
        open_cache(recipe, other, config, 6)


@pytest.mark.parametrize("fault", ["short", "gone", "json"])
def test_a_damaged_cache_is_told(tmp_path: Path, network: MAttNet, fault: str) -> None:
    recipe = recipe_of(tmp_path / "run")
    cached, _ = batches_of(recipe, network)
    assert cached.cache is not None
    folder = cached.cache.folder
    if fault == "short":
        (folder / ROWS).write_bytes((folder / ROWS).read_bytes()[:-1])
    elif fault == "gone":
        (folder / INDEX).unlink()
    else:
        (folder / ABOUT).write_text("{")
    with pytest.raises(ConfigError, match="delete its folder"):
        open_cache(recipe, network, network.config.input, 6)


def test_regions_that_are_not_there_are_told(tmp_path: Path, network: MAttNet) -> None:
    cached, computed = batches_of(recipe_of(tmp_path / "run"), network)
    batch, _ = computed[0]
    assert batch.regions is not None
    assert cached.cache is not None
    moved = [boxes * 0.9 for boxes in batch.regions.boxes]
    with pytest.raises(ConfigError, match="lacks a region of picture"):
        cached.cache.join(replace(batch, regions=replace(batch.regions, boxes=moved)), [0, 1])


def test_endless_or_changed_pictures_are_refused_and_no_rule_is_wanted(tmp_path: Path, network: MAttNet) -> None:
    for changes, message in (({"augment": {"hflip": 0.5}}, r"data\.augment"), ({"pool": 0}, "endless pictures")):
        recipe = recipe_of(tmp_path / "run", **{**changes, **({"pool_folder": None} if "pool" in changes else {})})
        with pytest.raises(ConfigError, match=message):
            open_cache(recipe, network, network.config.input, recipe.data.pool or None)
