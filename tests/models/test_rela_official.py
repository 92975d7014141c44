"""Published ReLA checkpoints: every name and size explained, and the published code's numbers reproduced."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from refseg.encoders.vision.resnet import ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import CheckpointError, ConfigError
from refseg.models.rela.masked_regions import MaskedRegionDecoderConfig
from refseg.official import load
from refseg.types import Batch, Targets, Tokens
from tests.support.contract import assert_differs
from tests.support.published_rela import fill, names_and_shapes, published

GOLDEN = Path(__file__).parents[1] / "golden" / "rela"
TOLERANCE = 2e-5  # of the largest value; the published code against itself on another number of threads reaches 7e-6


def close(found: torch.Tensor, expected: np.ndarray) -> bool:
    return float(np.abs(found.numpy() - expected).max()) <= TOLERANCE * float(np.abs(expected).max())


@pytest.mark.parametrize("branch", ["main", "original"])
def test_golden_values(branch: str) -> None:
    described = json.loads((GOLDEN / f"{branch}_swin_tiny.json").read_text())
    with np.load(GOLDEN / f"{branch}_swin_tiny.npz") as file:
        golden = dict(file)
    sizes = {
        "embed": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24), "window": 7, "text": 768, "text_layers": 2,
        "text_ffn": 1024, "vocabulary": 1000, "positions": 512, "width": 256, "regions": 10, "layers": 9, "ffn": 2048,
        "pixel_layers": 6, "pixel_ffn": 1024,
    }  # fmt: skip
    shapes = {name: tuple(shape) for name, shape in described["keys"].items() if name not in described["buffers"]}
    assert shapes == names_and_shapes(branch, **sizes)

    model = load("rela", {name: fill(name, shape) for name, shape in shapes.items()})
    assert not model.training
    assert sum(parameter.numel() for parameter in model.parameters()) == described["parameters"]["total"]
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.config.input.mean, model.config.input.std))
    images = (torch.from_numpy(golden["image"]).float() - mean) / std
    tokens = Tokens(torch.from_numpy(golden["tokens"]), torch.from_numpy(golden["token_mask"]).bool())
    with torch.no_grad():
        output = model(Batch(images, torch.ones(2, 128, 160, dtype=torch.bool), tokens))
        targets = Targets(torch.from_numpy(golden["target"]).bool(), torch.from_numpy(golden["no_target"]))
        losses = model.losses(output, targets)
    assert close(output.auxiliary["mask_pairs"], golden["pred_masks"])
    assert close(output.mask_logits, golden["pred_masks"][:, 1] - golden["pred_masks"][:, 0])
    minimap, verdict = golden["minimap_logits"], golden["no_target_logits"]
    assert close(output.auxiliary["minimap_logits"], minimap[..., 1] - minimap[..., 0])
    assert close(output.no_target_logits, verdict[:, 1] - verdict[:, 0])
    assert float(sum(losses.values())) == pytest.approx(float(golden["total_loss"]), rel=TOLERANCE)


@pytest.mark.parametrize("branch", ["main", "original"])
@pytest.mark.parametrize("backbone", ["swin", "resnet"])
def test_sizes_are_read_off_the_tensors(branch: str, backbone: str) -> None:
    state = published(branch=branch, backbone=backbone)
    model = load("rela", state, input_size=96)
    config = model.config
    assert (config.width, config.regions, config.input.size) == (32, 3, 96)
    assert config.text.heads == 1
    assert isinstance(config.relation, MaskedRegionDecoderConfig)
    assert config.relation.language == ("first_layer" if branch == "main" else "last")
    assert (config.relation.layers, config.relation.feedforward) == (3, 48)
    if backbone == "swin":
        assert isinstance(config.vision, SwinConfig)
        assert (config.vision.embed_dim, config.vision.depths, config.vision.window) == (8, (1, 1, 2, 1), 4)
        assert config.vision.heads == (1, 2, 2, 4)
        assert config.language_in_vision
    else:
        assert isinstance(config.vision, ResNetConfig)
        assert (config.vision.widths, config.vision.depths) == ((32, 64, 128, 256), (1, 1, 2, 1))
        assert not config.language_in_vision
        assert torch.equal(
            model.vision.state_dict()["stages.0.0.convs.2.norm.running_var"],
            state["backbone.res2.0.conv3.norm.running_var"],
        )
    floating = [value for value in state.values() if value.is_floating_point()]
    assert sum(v.numel() for v in model.state_dict().values()) == sum(v.numel() for v in floating)


def test_heads_come_from_the_fields() -> None:
    state = published()
    batch = Batch(
        torch.randn(1, 3, 64, 64),
        torch.ones(1, 64, 64, dtype=torch.bool),
        Tokens(torch.tensor([[2, 5, 3]]), torch.ones(1, 3, dtype=torch.bool)),
    )
    with torch.no_grad():
        answers = [load("rela", state, **fields)(batch).mask_logits for fields in ({}, {"heads": 4}, {"text_heads": 2})]
    assert_differs(answers[0], answers[1])
    assert_differs(answers[0], answers[2])


def test_what_does_not_fit_is_listed() -> None:
    state = published()
    with pytest.raises(CheckpointError, match=r"unexplained: sem_seg_head\.extra\.weight"):
        load("rela", {**state, "sem_seg_head.extra.weight": torch.zeros(2)})
    lost = dict(state)
    del lost["sem_seg_head.predictor.RLA_lang_att.norm.bias"]
    with pytest.raises(CheckpointError, match=r"not in the checkpoint.*relation\.first\.language\.norm\.bias"):
        load("rela", lost)
    name = "sem_seg_head.predictor.mask_embed.layers.1.weight"
    with pytest.raises(CheckpointError, match=rf"{name} is \(3, 3\), wanted \(32, 32\)"):
        load("rela", {**state, name: torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match="not a checkpoint of ReLA"):
        load("rela", {"conv1.weight": torch.zeros(3)})
    with pytest.raises(ConfigError, match="did you mean 'heads'"):
        load("rela", state, head=4)
    with pytest.raises(ConfigError, match="no importer"):
        load("yolo", state)
