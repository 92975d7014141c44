"""ViT against transformers' implementation, and what becomes of other sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from refseg.encoders.vision.vit import VIT_B16, ViT, ViTConfig, from_timm, from_transformers, patch_mask
from refseg.errors import CheckpointError, ConfigError

TINY = ViTConfig(patch=8, width=16, layers=2, heads=2, feedforward=24, grid=4)


def theirs():
    """transformers' ViT of the same sizes."""
    from transformers import ViTConfig as Sizes
    from transformers import ViTModel

    torch.manual_seed(3)
    sizes = Sizes(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=32, patch_size=8,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    model = ViTModel(sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def on_the_hub(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the names of files on the hub."""
    renamed = {}
    for name, value in state.items():
        for new, old in (
            ("layers.", "encoder.layer."),
            (".q_proj", ".attention.query"), (".k_proj", ".attention.key"), (".v_proj", ".attention.value"),
            (".o_proj", ".output.dense"), (".mlp.fc1", ".intermediate.dense"), (".mlp.fc2", ".output.dense"),
        ):  # fmt: skip
            name = name.replace(new, old)
        renamed["vit." + name] = value
    return renamed


@pytest.mark.parametrize("names", ["memory", "hub"])
@torch.no_grad()
def test_equals_transformers(names: str) -> None:
    published = theirs()
    state = published.state_dict()
    model = ViT(TINY).eval()
    model.load_state_dict(from_transformers(state if names == "memory" else on_the_hub(state)), strict=True)
    images = torch.randn(2, 3, 32, 32)
    expected = published(images).last_hidden_state[:, 1:]
    found = model(images)[8].flatten(2).transpose(1, 2)
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max()) + 1e-6


def test_timm_names_are_ours_but_for_three() -> None:
    model = ViT(TINY)
    state = model.state_dict()
    timm = {
        name.replace("patch_embed.", "patch_embed.proj.")
        .replace("positions", "pos_embed")
        .replace("class_token", "cls_token"): value
        for name, value in state.items()
    }
    timm["head.weight"] = torch.zeros(1000, 16)
    for reader in (from_timm, from_transformers):
        assert reader(timm).keys() == state.keys()
    with pytest.raises(CheckpointError, match=r"unexplained: fc_norm\.weight"):
        from_timm({**timm, "fc_norm.weight": torch.zeros(16)})


def test_incomplete_files_say_so() -> None:
    state = dict(theirs().state_dict())
    with pytest.raises(CheckpointError, match=r"unexplained: encoder\.other\.0\.weight"):
        from_transformers({**state, "encoder.other.0.weight": torch.zeros(1)})
    del state["layers.1.attention.k_proj.bias"]
    with pytest.raises(CheckpointError, match=r"blocks\.1\.attn\.qkv\.bias: query, key and value"):
        from_transformers(state)


@torch.no_grad()
def test_positions_are_interpolated() -> None:
    model = ViT(TINY).eval()
    table = model.positions[0, 1:].unflatten(0, (4, 4))
    assert torch.equal(model._positions_at((4, 4)), model.positions)
    enlarged = model._positions_at((8, 8))
    assert torch.equal(enlarged[:, :1], model.positions[:, :1])
    cells = enlarged[0, 1:].unflatten(0, (8, 8))
    # Cell (1, 2) of 8 x 8 lies a quarter cell below row 0 and a quarter cell above column 1 of 4 x 4.
    expected = 0.75 * (0.25 * table[0, 0] + 0.75 * table[0, 1]) + 0.25 * (0.25 * table[1, 0] + 0.75 * table[1, 1])
    assert torch.allclose(cells[1, 2], expected, atol=1e-6)


@torch.no_grad()
def test_odd_sizes_and_no_class_token() -> None:
    model = ViT(replace(TINY, class_token=False)).eval()
    assert model.positions.shape == (1, 16, 16)
    assert model(torch.randn(1, 3, 33, 47))[8].shape == (1, 16, 5, 6)


@torch.no_grad()
def test_masked_patches_are_not_looked_at() -> None:
    model = ViT(TINY).eval()
    images = torch.randn(1, 3, 32, 32)
    real = torch.ones(1, 32, 32, dtype=torch.bool)
    real[:, :, 17:] = False
    mask = patch_mask(real, 8)
    assert mask.tolist() == [[[True, True, True, False]] * 4]  # the third column holds one real pixel a row
    changed = images.clone()
    changed[..., 24:] += 5
    before, after = model(images, mask)[8], model(changed, mask)[8]
    assert torch.allclose(before[..., :3], after[..., :3], atol=1e-5)
    assert not torch.allclose(model(images)[8][..., :3], model(changed)[8][..., :3], atol=1e-3)


def test_vit_b16_has_the_published_size() -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in ViT(VIT_B16).parameters())
    assert count == 85_798_656  # ViT-B/16 at 224 pixels without classifier and pooler


def test_wrong_sizes_say_so() -> None:
    with pytest.raises(ConfigError, match="heads=5 does not divide width"):
        ViTConfig(heads=5)
    with pytest.raises(ConfigError, match="patch"):
        ViTConfig(patch=0)
