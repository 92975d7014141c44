"""Published ReSTR checkpoints: every name and size explained, and the published code's numbers reproduced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refseg.errors import CheckpointError
from refseg.models.restr.model import patch_targets
from refseg.official import load
from refseg.types import Batch, Targets, Tokens
from tests.support.published_rela import fill

GOLDEN = Path(__file__).parents[1] / "golden" / "restr"
TOLERANCE = 1e-5  # of the largest value


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return json.loads((GOLDEN / "tiny_cme.json").read_text())


@pytest.fixture(scope="module")
def state(described) -> dict[str, Tensor]:
    return {name: fill(name, shape) for name, shape in described["keys"].items()}


@torch.no_grad()
def test_golden_values(described, state) -> None:
    with np.load(GOLDEN / "tiny_cme.npz") as file:
        golden = {name: torch.from_numpy(value) for name, value in file.items()}
    model = load("restr", state, input_size=96)
    assert not model.training
    counts = described["parameters"]
    unused = counts["vision"] - counts["vision_no_head"]
    assert sum(parameter.numel() for parameter in model.parameters()) == counts["total"] - unused
    ids = golden["tokens"]
    assert ids[0, 0] == 0  # padding stands in front
    batch = Batch(golden["image"], torch.ones(2, 96, 96, dtype=torch.bool), Tokens(ids, ids != 0))
    output = model(batch)
    for found, name in ((output.mask_logits, "pixel_logits"), (output.auxiliary["patch_logits"], "patch_logits")):
        expected = golden[name][:, 0]
        assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())
    masks = golden["target"][:, 0] > 0
    assert torch.equal(patch_targets(masks, 16, 0.8, any_pixel=True), golden["patch_target"][:, 0])
    losses = model.losses(output, Targets(masks, torch.zeros(2, dtype=torch.bool)))
    assert float(losses["pixel"]) == pytest.approx(described["losses"]["pixel"], rel=TOLERANCE)
    assert float(losses["patch"]) == pytest.approx(0.1 * described["losses"]["patch"], rel=TOLERANCE)
    assert float(sum(losses.values())) == pytest.approx(described["losses"]["total"], rel=TOLERANCE)


@torch.no_grad()
def test_padding_may_stand_behind_too(state) -> None:
    """The library's tokenizers pad at the end; the model moves the words itself."""
    model = load("restr", state, input_size=96)
    images, real = torch.randn(1, 3, 96, 96), torch.ones(1, 96, 96, dtype=torch.bool)
    before, behind = torch.tensor([[0] * 17 + [3, 4, 5]]), torch.tensor([[3, 4, 5] + [0] * 17])
    answers = [model(Batch(images, real, Tokens(ids, ids != 0))).mask_logits for ids in (before, behind)]
    assert torch.allclose(answers[0], answers[1], atol=1e-4)


def test_sizes_are_read_off_the_tensors(state) -> None:
    config = load("restr", state, input_size=96).config
    assert (config.patch, config.vision.width, config.vision.layers, config.vision.grid) == (16, 96, 2, 6)
    assert (config.text.vocabulary_size, config.text.layers, config.text.feedforward) == (137, 2, 1200)
    assert (config.fusion.layers, config.fusion.share, config.fusion.width) == (4, False, 96)


def test_shared_blocks_need_the_number_of_layers(state) -> None:
    shared = {name: value for name, value in state.items() if "_vl.1." not in name and "_ls.1." not in name}
    with pytest.raises(CheckpointError, match=r"one block.*say which: layers=4 .*shared.* or layers=2"):
        load("restr", shared, input_size=96)
    plain = load("restr", shared, input_size=96, layers=2).config.fusion
    assert (plain.layers, plain.share) == (2, False)
    with pytest.raises(CheckpointError, match="layers=6: the fusion's encoders have 2 blocks each, 4 layers"):
        load("restr", state, input_size=96, layers=6)
    model = load("restr", shared, input_size=96, layers=4)
    assert (model.config.fusion.layers, model.config.fusion.share) == (4, True)


def test_data_parallel_prefix_and_integer_buffers_are_nothing(state) -> None:
    wrapped = {f"module.{name}": value for name, value in state.items()}
    wrapped["module.steps"] = torch.tensor(3)
    one, other = load("restr", wrapped).state_dict(), load("restr", state).state_dict()
    assert all(torch.equal(one[name], value) for name, value in other.items())


def test_what_does_not_fit_is_listed(state) -> None:
    with pytest.raises(CheckpointError, match=r"unexplained: fusion_module\.extra\.weight"):
        load("restr", {**state, "fusion_module.extra.weight": torch.zeros(2)})
    lost = {name: value for name, value in state.items() if name != "fusion_module.proj_l.bias"}
    with pytest.raises(CheckpointError, match=r"not in the checkpoint.*project_words\.bias"):
        load("restr", lost)
    with pytest.raises(CheckpointError, match=r"decoder\.0\.up\.1\.weight is \(3, 3\), wanted \(96, 192, 1, 1\)"):
        load("restr", {**state, "fusion_module.decoder.0.up.1.weight": torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match="not a checkpoint of ReSTR"):
        load("restr", {"conv1.weight": torch.zeros(3)})
