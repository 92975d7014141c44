"""Published RefTR checkpoints: every name explained, the published code's numbers reproduced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from refseg.encoders.vision.resnet import ResNetConfig
from refseg.errors import CheckpointError, ConfigError
from refseg.official import load
from refseg.types import Batch, Phrases, Targets, Tokens
from tests.support.published_rela import fill

GOLDEN = Path(__file__).parents[1] / "golden" / "reftr"
TOLERANCE = 1e-4  # of the largest value
FIELDS: dict[str, Any] = {"text_heads": 4, "max_words": 12}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return {name: json.loads((GOLDEN / f"{name}.json").read_text()) for name in ("tiny_seg", "tiny_multi")}


@pytest.fixture(scope="module")
def states(described: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    return {name: {key: fill(key, shape) for key, shape in entry["keys"].items()} for name, entry in described.items()}


def golden(name: str) -> tuple[dict[str, Tensor], Batch]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        values = {key: torch.from_numpy(file[key]) for key in file.files}
    tokens = Tokens(values["sentence"], values["sentence_mask"].bool())
    phrases = None
    if "phrase" in values:
        real = torch.arange(values["phrase"].shape[1]) < values["target_counts"][:, None]
        places = values["phrase_pos_l"], values["phrase_pos_r"]
        phrases = Phrases(values["phrase"], values["phrase_mask"].bool(), *places, real)
    return values, Batch(values["image"], ~values["image_pad_mask"], tokens, phrases)


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


@torch.no_grad()
def test_boxes_and_masks_of_one_phrase(described: dict[str, Any], states: dict[str, dict[str, Tensor]]) -> None:
    model = load("reftr", states["tiny_seg"], **FIELDS)
    assert not model.training
    assert sum(parameter.numel() for parameter in model.parameters()) == described["tiny_seg"]["parameters"]
    values, batch = golden("tiny_seg")
    output = model(batch)
    assert close(output.boxes, values["boxes"][:, :, 0])
    assert close(output.mask_logits, values["masks"][:, 0])
    masks = torch.zeros(2, 128, 128, dtype=torch.bool)
    for index in range(2):
        own = values[f"target_masks_{index}"][0] > 0
        masks[index, : own.shape[0], : own.shape[1]] = own
    targets = Targets(masks, torch.zeros(2, dtype=torch.bool), values["target_boxes"][:, None])
    assert_losses(model, output, targets, described["tiny_seg"]["losses"], {
        "box_l1": "loss_bbox", "box_giou": "loss_giou", "focal": "loss_mask", "dice": "loss_dice",
    })  # fmt: skip


@torch.no_grad()
def test_boxes_of_several_phrases(described: dict[str, Any], states: dict[str, dict[str, Tensor]]) -> None:
    model = load("reftr", states["tiny_multi"], **FIELDS)
    assert sum(parameter.numel() for parameter in model.parameters()) == described["tiny_multi"]["parameters"]
    values, batch = golden("tiny_multi")
    assert batch.phrases is not None
    output = model(batch)
    assert close(output.auxiliary["query_boxes"], values["boxes"])
    boxes = torch.zeros(2, 4, 4)
    boxes[batch.phrases.mask] = values["target_boxes"]
    targets = Targets(torch.zeros(2, 128, 128, dtype=torch.bool), torch.zeros(2, dtype=torch.bool), boxes)
    # The golden losses count each phrase; the published loader counts each sentence, which adds up its phrases.
    counted = {name: value * 6 / 2 for name, value in described["tiny_multi"]["losses"].items()}
    counted["earlier"] = counted.pop("loss_bbox_0") + counted.pop("loss_giou_0")
    names = {"box_l1": "loss_bbox", "box_giou": "loss_giou", "earlier": "earlier"}
    assert_losses(model, output, targets, counted, names)


def assert_losses(
    model: nn.Module, output: Any, targets: Targets, expected: dict[str, float], names: dict[str, str]
) -> None:
    found = model.losses(output, targets)  # type: ignore[operator]
    assert set(found) == set(names)
    for ours, theirs in names.items():
        assert float(found[ours]) == pytest.approx(expected[theirs], rel=TOLERANCE)


def test_sizes_are_read_off_the_tensors(states: dict[str, dict[str, Tensor]]) -> None:
    model = load("reftr", states["tiny_seg"], **FIELDS, input_size=320)
    config = model.config
    assert isinstance(config.vision, ResNetConfig)
    assert config.vision.depths == (3, 4, 6, 3)
    assert (config.tasks, config.width, config.heads, config.queries) == ("both", 128, 8, 1)
    assert (config.encoder_layers, config.decoder_layers, config.feedforward) == (2, 2, 128)
    assert (config.text.vocabulary_size, config.text.width, config.text.positions) == (211, 96, 64)
    assert (config.input.size, config.input.resize, config.text.max_words) == (320, "longest", 12)
    boxes = load("reftr", states["tiny_multi"], **FIELDS).config
    assert (boxes.tasks, boxes.losses.auxiliary) == ("rec", 1.0)


def test_what_does_not_fit_is_listed(states: dict[str, dict[str, Tensor]]) -> None:
    state = states["tiny_multi"]
    with pytest.raises(CheckpointError, match=r"unexplained: vl_transformer\.extra"):
        load("reftr", {**state, "vl_transformer.extra": torch.zeros(2)}, **FIELDS)
    lost = {name: value for name, value in state.items() if name != "bbox_embed.layers.0.bias"}
    with pytest.raises(CheckpointError, match=r"not in the checkpoint.*box_head\.mlp\.layers\.0\.bias"):
        load("reftr", lost, **FIELDS)
    name = "map_phrase.0.weight"
    with pytest.raises(CheckpointError, match=rf"{name} is \(3, 3\), wanted \(128, 96\)"):
        load("reftr", {**state, name: torch.zeros(3, 3)}, **FIELDS)
    with pytest.raises(CheckpointError, match=r"not a checkpoint of RefTR: lang_backbone\..* is not in it"):
        load("reftr", {"sem_seg_head.predictor.query_feat.weight": torch.zeros(3)})
    with pytest.raises(ConfigError, match="bert or roberta"):
        load("reftr", state, family="gpt")
