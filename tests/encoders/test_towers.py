"""Towers of CLIP, SigLIP, DINOv2 and DINOv3: folders as transformers writes them, into our encoders and into a ReLA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from refseg.encoders.pretrained import load_backbones
from refseg.encoders.text.towers import TextTower, TextTowerConfig
from refseg.encoders.vision.towers import VisionTower, VisionTowerConfig
from refseg.errors import CheckpointError
from refseg.types import Tokens
from tests.encoders.test_folders import Parts, close, spread

SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 64,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 9,
}  # fmt: skip
IMAGES = torch.linspace(-2, 2, 3 * 64 * 128).view(1, 3, 64, 128).sin()
TOKENS = Tokens(
    torch.tensor([[4, 9, 7, 2, 0, 0], [4, 5, 2, 0, 0, 0]]),
    torch.tensor([[True] * 4 + [False] * 2, [True] * 3 + [False] * 3]),
)


def own(family: str, **changes: Any) -> VisionTowerConfig:
    activation = {"clip": "quick_gelu", "siglip": "gelu_pytorch_tanh"}.get(family, "gelu")
    registers = 3 if family == "dinov3" else 0
    sizes = {"patch": 8, "width": 16, "layers": 2, "heads": 2, "feedforward": 64, "grid": 8, **changes}
    return VisionTowerConfig(family=family, registers=registers, activation=activation, **sizes)  # type: ignore[arg-type]


def theirs(family: str, both: bool = False) -> tuple[Any, Any]:
    """A model to save, and the picture tower in it."""
    wide = {**SIZES, "intermediate_size": 64}
    if family == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**SIZES, mlp_ratio=4))
        return model, model
    if family == "dinov3":
        model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**wide, num_register_tokens=3))
        return model, model
    name = {"clip": "CLIP", "siglip": "Siglip"}[family]
    if both:
        kind = getattr(transformers, f"{name}Config")
        model = getattr(transformers, f"{name}Model")(kind(vision_config=wide, text_config=TEXT))
        return model, model.vision_model
    model = getattr(transformers, f"{name}VisionModel")(getattr(transformers, f"{name}VisionConfig")(**wide))
    return model, model


@pytest.mark.parametrize(
    ("family", "both"),
    [("clip", True), ("clip", False), ("siglip", True), ("siglip", False), ("dinov2", False), ("dinov3", False)],
)
@torch.no_grad()
def test_picture_towers_are_transformers(tmp_path: Path, family: str, both: bool) -> None:
    model, tower = theirs(family, both)
    spread(model, tmp_path)
    ours: Any = Parts(vision=VisionTower(own(family)))
    load_backbones(ours, vision=str(tmp_path))
    # A patch covers 16 pixels: the tower sees the picture at half its size.
    seen = torch.nn.functional.interpolate(IMAGES, scale_factor=0.5, mode="bilinear", antialias=True)
    more = {"interpolate_pos_encoding": True} if family in ("clip", "siglip") else {}
    # What is no weight (the frequencies of DINOv3's positions) is not in the file.
    again = type(model).from_pretrained(tmp_path)
    tower = again if tower is model else again.vision_model
    expected = tower.eval()(pixel_values=seen, **more).last_hidden_state[:, -32:]
    found = ours.vision.eval()(IMAGES)
    close(found[16].flatten(2).transpose(1, 2), expected)
    assert {stride: tuple(maps.shape[1:]) for stride, maps in found.items()} == {
        4: (4, 16, 32), 8: (8, 8, 16), 16: (16, 4, 8), 32: (16, 2, 4),
    }  # fmt: skip


@pytest.mark.parametrize("family", ["clip", "siglip"])
@torch.no_grad()
def test_text_towers_are_transformers(tmp_path: Path, family: str) -> None:
    model, _ = theirs(family, both=True)
    spread(model, tmp_path)
    activation: Any = "quick_gelu" if family == "clip" else "gelu_pytorch_tanh"
    sizes: dict[str, Any] = {"width": 16, "layers": 2, "heads": 2, "feedforward": 24, "positions": 9, "max_words": 6}
    config = TextTowerConfig(family=family, vocabulary_size=40, activation=activation, **sizes)  # type: ignore[arg-type]
    ours: Any = Parts(text=TextTower(config)).eval()
    load_backbones(ours, text=str(tmp_path))
    ids = TOKENS.ids if family == "clip" else TOKENS.ids.masked_fill(~TOKENS.mask, 1)
    expected = model.text_model(input_ids=ids).last_hidden_state
    found = ours.text(TOKENS)
    close(found.words, expected)
    close(found.sentence, torch.stack([expected[0, 3], expected[1, 2]]))


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2", "dinov3"])
def test_a_frozen_tower_stays_and_its_pyramid_learns(family: str) -> None:
    tower = VisionTower(own(family)).train()
    assert not tower.network.training
    maps = tower(torch.randn(2, 3, 50, 70))
    assert [tuple(maps[stride].shape[2:]) for stride in (4, 8, 16, 32)] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    sum(each.square().mean() for each in maps.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in tower.network.parameters())
    assert all(parameter.grad is not None for parameter in tower.pyramid.parameters())
    learning = VisionTower(own(family, freeze=False)).train()
    sum(each.square().mean() for each in learning(torch.randn(1, 3, 64, 64)).values()).backward()  # type: ignore[union-attr]
    assert any(parameter.grad is not None for parameter in learning.network.parameters())


def test_another_family_is_refused(tmp_path: Path) -> None:
    model, _ = theirs("dinov2")
    spread(model, tmp_path)
    with pytest.raises(CheckpointError, match="not a picture tower of clip; unexplained"):
        load_backbones(Parts(vision=VisionTower(own("clip"))), vision=str(tmp_path))
