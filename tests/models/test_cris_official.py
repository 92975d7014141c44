"""A checkpoint of CRIS's published code: every tensor explained, CLIP's names read, its layers as torch has them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.pretrained import load_backbones
from refseg.errors import CheckpointError
from refseg.models import build
from refseg.official import load, recognise
from refseg.state_dicts import read_state
from refseg.types import Batch, Tokens
from tests.support.contract import assert_differs, assert_near
from tests.support.published_cris import published

FIELDS = {"input_size": 64, "max_words": 7, "heads": 2, "vision_heads": 2, "text_heads": 2}
END = 39


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """As train.py of the code saves it: parallel names, and the state of optimiser and schedule beside them."""
    path = tmp_path_factory.mktemp("cris") / "best_model.pth"
    network = {f"module.{name}": value for name, value in published().items()}
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [35])
    torch.save(
        {
            "epoch": 50, "cur_iou": 0.7, "best_iou": 0.7, "prec": {"Pr@50": 0.8}, "state_dict": network,
            "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict(),
        },
        path,
    )  # fmt: skip
    return read_state(path)


@pytest.fixture(scope="module")
def model(state):
    return load("cris", state, **FIELDS)


def test_every_tensor_is_explained(state, model) -> None:
    assert recognise(state) == "cris"
    config = model.config
    assert not model.training
    assert (config.vision.width, config.vision.depths, config.vision.grid) == (4, (1, 2, 1, 1), 3)
    assert (config.vision.output_width, config.text.joint_width, config.text.layers) == (12, 12, 2)
    assert (config.neck, config.width, config.kernel) == ((6, 20), 16, 3)
    assert (config.decoder.layers, config.decoder.feedforward, config.input.size) == (2, 24, 64)
    unused = state["backbone.visual.attnpool.positional_embedding"].shape[1] + 1  # the pooled query's, the temperature
    learnt = sum(value.numel() for value in state.values() if value.is_floating_point())
    kept = (value for value in model.state_dict().values() if value.is_floating_point())
    assert sum(value.numel() for value in kept) == learnt - unused


def conv(state: dict[str, Tensor], name: str, norm: str, maps: Tensor, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    maps = F.conv2d(maps, weight, padding=weight.shape[-1] // 2, stride=stride)
    mean, spread, scale, shift = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(maps, mean, spread, scale, shift)


@torch.no_grad()
def test_the_picture_encoder_is_clips(state, model) -> None:
    """From the published tensors: means where a stride was, and attention of every place over all."""
    visual = "backbone.visual."
    maps = torch.randn(2, 3, 64, 96)
    found = model.vision(maps)
    for number in (1, 2, 3):
        maps = conv(state, f"{visual}conv{number}", f"{visual}bn{number}", maps, 2 if number == 1 else 1).relu()
    maps = F.avg_pool2d(maps, 2)
    for stage, depth in enumerate((1, 2, 1, 1), 1):
        for index in range(depth):
            block = f"{visual}layer{stage}.{index}."
            stride = 2 if stage > 1 and index == 0 else 1
            out = conv(state, f"{block}conv1", f"{block}bn1", maps).relu()
            out = conv(state, f"{block}conv2", f"{block}bn2", out).relu()
            out = conv(state, f"{block}conv3", f"{block}bn3", F.avg_pool2d(out, stride))
            if index == 0:
                maps = conv(state, f"{block}downsample.0", f"{block}downsample.1", F.avg_pool2d(maps, stride))
            maps = (out + maps).relu()
        if stage < 4:
            assert_near(found[2 ** (stage + 1)], maps)
    pool = f"{visual}attnpool."
    positions = state[f"{pool}positional_embedding"][1:].t().reshape(1, -1, 3, 3)
    placed = maps + F.interpolate(positions, size=(2, 3), mode="bicubic", align_corners=False)
    tokens = placed.flatten(2).permute(2, 0, 1)
    parts = {part: [state[f"{pool}{part}_proj.{kind}"] for kind in ("weight", "bias")] for part in "qkvc"}
    attended, _ = F.multi_head_attention_forward(
        tokens, tokens, tokens, tokens.shape[-1], 2, None, torch.cat([parts[part][1] for part in "qkv"]), None, None,
        False, 0.0, *parts["c"], training=False, need_weights=False, use_separate_proj_weight=True,
        q_proj_weight=parts["q"][0], k_proj_weight=parts["k"][0], v_proj_weight=parts["v"][0],
    )  # fmt: skip
    beside = conv(state, f"{pool}connect.0", f"{pool}connect.1", maps)
    assert_near(found[32], (attended.permute(1, 2, 0).unflatten(2, (2, 3)) + beside).relu())


@torch.no_grad()
def test_the_text_encoder_is_clips(state, model) -> None:
    """From the published tensors with torch's own attention; a sentence's vector stands at its last piece."""
    ids = torch.tensor([[38, 5, 6, END, 0, 0, 0], [38, 5, 6, 7, 8, 9, 10]])
    mask = torch.tensor([[True] * 4 + [False] * 3, [True] * 7])
    found = model.encode_text(Tokens(ids, mask))
    cut = ids.clone()
    cut[1, -1] = END  # as the code cuts a long sentence
    words = state["backbone.token_embedding.weight"][cut] + state["backbone.positional_embedding"][:7]
    before = torch.full((7, 7), -math.inf).triu(1)
    for index in range(2):
        layer = f"backbone.transformer.resblocks.{index}."
        block = {name.removeprefix(layer): value for name, value in state.items() if name.startswith(layer)}
        attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()
        attention.load_state_dict({n.removeprefix("attn."): v for n, v in block.items() if n.startswith("attn.")})
        step = F.layer_norm(words, (16,), block["ln_1.weight"], block["ln_1.bias"])
        words = words + attention(step, step, step, attn_mask=before, need_weights=False)[0]
        step = F.layer_norm(words, (16,), block["ln_2.weight"], block["ln_2.bias"])
        step = F.linear(step, block["mlp.c_fc.weight"], block["mlp.c_fc.bias"])
        step = step * torch.sigmoid(1.702 * step)
        words = words + F.linear(step, block["mlp.c_proj.weight"], block["mlp.c_proj.bias"])
    words = F.layer_norm(words, (16,), state["backbone.ln_final.weight"], state["backbone.ln_final.bias"])
    assert_near(found.words[mask], words[mask])
    assert_near(found.sentence, words[torch.arange(2), cut.argmax(dim=1)] @ state["backbone.text_projection"])


@torch.no_grad()
def test_a_decoder_layer_is_the_published_one(state, model) -> None:
    """torch's own multi-head attention with the published, packed tensors."""
    layer, prefix = model.decoder.layers[0], "decoder.layers.0."
    pixels, words = torch.randn(2, 6, 16), torch.randn(2, 5, 16)
    grid, numbers, real = torch.randn(6, 16), torch.randn(5, 16), torch.arange(5)[None] < torch.tensor([[5], [3]])

    def norm(name: str, values: Tensor) -> Tensor:
        return F.layer_norm(values, values.shape[-1:], state[f"{prefix}{name}.weight"], state[f"{prefix}{name}.bias"])

    def attention(name: str) -> nn.MultiheadAttention:
        part = nn.MultiheadAttention(16, 2, batch_first=True).eval()
        start = f"{prefix}{name}."
        part.load_state_dict({n.removeprefix(start): v for n, v in state.items() if n.startswith(start)})
        return part

    step = norm("norm1", pixels)
    found = attention("self_attn")(step + grid, step + grid, step, need_weights=False)[0]
    seen = pixels + norm("self_attn_norm", found)
    step = norm("norm2", seen) + grid
    found = attention("multihead_attn")(step, words + numbers, words, key_padding_mask=~real, need_weights=False)[0]
    seen = seen + norm("cross_attn_norm", found)
    hidden = F.linear(norm("norm3", seen), state[f"{prefix}ffn.0.weight"], state[f"{prefix}ffn.0.bias"]).relu()
    expected = seen + F.linear(norm("ffn.3", hidden), state[f"{prefix}ffn.4.weight"], state[f"{prefix}ffn.4.bias"])
    assert_near(layer(pixels, words, grid, numbers, real), expected)


@torch.no_grad()
def test_it_answers(model) -> None:
    ids = torch.tensor([[38, 5, END, 0, 0, 0, 0], [38, 7, 8, END, 0, 0, 0]])
    batch = Batch(torch.randn(2, 3, 64, 64), torch.ones(2, 64, 64, dtype=torch.bool), Tokens(ids, ids != 0))
    masks = model(batch).mask_logits
    assert masks.shape == (2, 16, 16)
    assert_differs(masks[0], masks[1])


def test_what_does_not_fit_is_listed(state) -> None:
    with pytest.raises(CheckpointError, match=r"unexplained: neck\.extra\.weight"):
        load("cris", {**state, "neck.extra.weight": torch.zeros(2)}, **FIELDS)
    with pytest.raises(CheckpointError, match=r"unexplained: visual\.layer1\.0\.conv9\.weight"):
        load("cris", {**state, "backbone.visual.layer1.0.conv9.weight": torch.zeros(2)}, **FIELDS)
    lost = {name: value for name, value in state.items() if name != "proj.vis.4.bias"}
    with pytest.raises(CheckpointError, match=r"not in the checkpoint.*projector\.pixels\.bias"):
        load("cris", lost, **FIELDS)
    with pytest.raises(CheckpointError, match="not a checkpoint of CRIS"):
        load("cris", {"conv1.weight": torch.zeros(3)})


def test_clips_own_weights_begin_a_training(state, model, tmp_path: Path) -> None:
    """OpenAI's state dict has both encoders and lacks what CRIS adds to the pooling."""
    clip = {
        name.removeprefix("backbone."): value.half() if value.ndim > 1 else value
        for name, value in state.items()
        if name.startswith("backbone.") and ".connect." not in name
    }
    torch.save(clip, tmp_path / "RN50.pt")
    fresh = build(model.config)
    before = fresh.vision.pool.connect.conv.weight.clone()
    load_backbones(fresh, vision=str(tmp_path / "RN50.pt"), text=str(tmp_path / "RN50.pt"))
    assert torch.equal(fresh.vision.pool.connect.conv.weight, before)
    for part in ("vision", "text"):
        own, other = (getattr(each, part).state_dict() for each in (fresh, model))
        for name, value in own.items():
            if not name.startswith("pool.connect.") and value.is_floating_point():
                assert torch.allclose(value, other[name], atol=1e-3), name
    torch.save({"visual.conv1.weight": torch.zeros(3), "visual.proj": torch.zeros(3)}, tmp_path / "ViT.pt")
    with pytest.raises(CheckpointError, match="not a ResNet of CLIP"):
        load_backbones(fresh, vision=str(tmp_path / "ViT.pt"))


def test_transformers_names_are_read_too(model, tmp_path: Path) -> None:
    names = {name.removeprefix("network."): value for name, value in model.text.state_dict().items()}
    project = names.pop("project.weight")
    file = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in names.items()}
    torch.save({**file, "text_projection.weight": project, "logit_scale": torch.zeros(())}, tmp_path / "text.pt")
    fresh = build(model.config)
    load_backbones(fresh, text=str(tmp_path / "text.pt"))
    for name, value in fresh.text.state_dict().items():
        assert torch.equal(value, model.text.state_dict()[name]), name
