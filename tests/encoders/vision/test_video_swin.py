"""Video Swin: its attention against windows padded, rolled and cut; one frame is an image Swin; published weights."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.pretrained import load_backbones
from refseg.encoders.vision.swin import Swin, SwinConfig
from refseg.encoders.vision.video_swin import VIDEO_SWIN_B, VIDEO_SWIN_T, VideoSwin, VideoSwinConfig, inflate
from refseg.errors import CheckpointError, ConfigError
from refseg.nn.window import WindowAttention, window_layout

TINY = VideoSwinConfig(embed_dim=8, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), frames=3, window=3, drop_path=0.0)
FLAT = SwinConfig(embed_dim=8, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=3, drop_path=0.0)


def filled(module: nn.Module) -> Any:
    """The module with weights that are large enough to show every difference."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.2 if parameter.ndim == 1 else 0.0, std=0.2)
    return module.eval()


class Parts(nn.Module):
    """What `load_backbones` fills."""

    def __init__(self, vision: nn.Module) -> None:
        super().__init__()
        self.vision = vision


def cut(grid: Tensor, window: tuple[int, ...]) -> Tensor:
    """(D, H, W, C) whole windows -> (windows, slots, C), window by window in reading order."""
    ranges = [range(0, length, side) for length, side in zip(grid.shape, window, strict=False)]
    return torch.stack(
        [
            grid[tuple(slice(at, at + side) for at, side in zip(corner, window, strict=True))].reshape(
                -1, grid.shape[-1]
            )
            for corner in itertools.product(*ranges)
        ]
    )


def attended(layer: WindowAttention, tokens: Tensor, size: tuple[int, ...], shifted: bool) -> Tensor:
    """Attention of one clip (T, C) by the published recipe: shrink the window, pad, roll, cut, mask, attend, undo."""
    full = layer.window
    window = tuple(min(side, length) for side, length in zip(full, size, strict=True))
    shift = tuple(side // 2 if shifted and length > side else 0 for side, length in zip(full, size, strict=True))
    padded = tuple(-(-length // side) * side for length, side in zip(size, window, strict=True))
    grid = tokens.new_zeros(*padded, tokens.shape[-1])
    grid[tuple(slice(length) for length in size)] = tokens.view(*size, -1)
    numbers = torch.arange(math.prod(padded)).view(*padded, 1)
    bands = torch.zeros(*padded, 1)
    for axis, (side, move, length) in enumerate(zip(window, shift, padded, strict=True)):
        place = torch.arange(length)
        part = (place >= length - side).long() + (place >= length - move).long() if move else place * 0
        shape = [1] * (len(padded) + 1)
        shape[axis] = length
        bands = bands + part.view(shape) * 3**axis
    axes = tuple(range(len(padded)))
    rolled, order = (part.roll(tuple(-move for move in shift), axes) for part in (grid, numbers))
    windows, where, bands = cut(rolled, window), cut(order, window)[..., 0], cut(bands, window)[..., 0]
    # Offsets of the full window's first slots, whatever the window is.
    places = torch.tensor(list(itertools.product(*map(range, full))))[: windows.shape[1]]
    table = layer.relative_position_bias_table.view(*(2 * side - 1 for side in full), -1)
    offsets = places[:, None] - places[None] + torch.tensor([side - 1 for side in full])
    bias = table[tuple(offsets.unbind(-1))].permute(2, 0, 1)
    query, key, value = layer.qkv(windows).unflatten(2, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 + bias
    scores = scores + torch.where(bands[:, :, None] != bands[:, None], -100.0, 0.0)[:, None]
    result = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    back = torch.empty(math.prod(padded), tokens.shape[-1])
    back[where.flatten()] = layer.proj(result).flatten(0, 1)
    return back.view(*padded, -1)[tuple(slice(length) for length in size)].reshape(tokens.shape)


@pytest.mark.parametrize("size", [(4, 6, 7), (2, 4, 5), (7, 3, 2), (1, 5, 6), (3, 7, 4)])
@pytest.mark.parametrize("shifted", [False, True])
@torch.no_grad()
def test_attention_over_frames_is_the_published_recipe(size: tuple[int, int, int], shifted: bool) -> None:
    full = (3, 3, 2)
    layer = filled(WindowAttention(width=8, heads=2, window=full))
    tokens = torch.randn(2, math.prod(size), 8)
    window = tuple(min(side, length) for side, length in zip(full, size, strict=True))
    shift = tuple(side // 2 if shifted and length > side else 0 for side, length in zip(full, size, strict=True))
    answer = layer(tokens, window_layout(size, window, shift, 2, tokens.device))
    for clip, ours in zip(tokens, answer, strict=True):
        torch.testing.assert_close(ours, attended(layer, clip, size, shifted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(128, 160), (131, 150)])
@torch.no_grad()
def test_one_frame_with_inflated_weights_is_an_image_swin(size: tuple[int, int]) -> None:
    """Sizes whose smallest map is larger than a window: on smaller maps the published code of video shrinks it."""
    flat, video = filled(Swin(FLAT)), VideoSwin(TINY).eval()
    video.load_state_dict(inflate(flat.state_dict(), TINY))
    images = torch.randn(2, 3, *size)
    for ours, wanted in zip(video(images).values(), flat(images).values(), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
    # A clip of the same frame again and again, of whole windows, is that frame: all offsets in time have one bias.
    still = video(images[:1].expand(6, -1, -1, -1), frames=6)
    for ours, wanted in zip(still.values(), video(images[:1]).values(), strict=True):
        torch.testing.assert_close(ours, wanted.expand_as(ours), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_frames_see_each_other_and_clips_do_not() -> None:
    video = filled(VideoSwin(TINY))
    images = torch.randn(8, 3, 64, 96)
    together = video(images, frames=4)
    for stride in (4, 8, 16, 32):
        assert together[stride].shape == (8, 8 << (stride.bit_length() - 3), 64 // stride, 96 // stride)
        torch.testing.assert_close(together[stride][4:], video(images[4:], frames=4)[stride], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(together[stride], video(images)[stride], atol=1e-2)
    changed = images.clone()
    changed[3] = 0
    # Frames 0 to 2 are a window of the first block; the shifted one brings 1 and 2 together with frame 3.
    assert not torch.allclose(video(changed, frames=4)[4][1], together[4][1], atol=1e-3)
    assert torch.equal(video(changed, frames=4)[4][4:], together[4][4:])


def test_gradient_reaches_every_parameter() -> None:
    video = VideoSwin(TINY)
    sum(maps.square().mean() for maps in video(torch.randn(4, 3, 72, 64), frames=4).values()).backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in video.parameters())


def published(video: VideoSwin) -> dict[str, Tensor]:
    """A checkpoint as the authors write it, around the encoder's weights: patches of two frames, a classifier."""
    patches = video.patch_embed.proj.weight
    state = {f"backbone.{name}": value for name, value in video.state_dict().items() if not name.startswith("norm")}
    state["backbone.patch_embed.proj.weight"] = torch.stack([0.25 * patches, 0.75 * patches], dim=2)
    state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(27, 27, dtype=torch.long)
    state["backbone.norm.weight"] = state["backbone.norm.bias"] = torch.ones(64)
    state["cls_head.fc_cls.weight"] = torch.ones(400, 64)
    return state


def test_the_authors_checkpoint(tmp_path: Path) -> None:
    video, parts = filled(VideoSwin(TINY)), Parts(VideoSwin(TINY))
    torch.save({"meta": {}, "state_dict": published(video)}, tmp_path / "video.pth")
    load_backbones(parts, vision=str(tmp_path / "video.pth"))
    for name, value in video.state_dict().items():
        if not name.startswith("norm"):
            torch.testing.assert_close(parts.vision.state_dict()[name], value)
    lacking = published(video)
    del lacking["backbone.layers.2.blocks.1.attn.proj.bias"]
    torch.save({"state_dict": lacking}, tmp_path / "less.pth")
    with pytest.raises(CheckpointError, match=r"missing: layers.2.blocks.1.attn.proj.bias"):
        load_backbones(parts, vision=str(tmp_path / "less.pth"))
    torch.save({"conv1.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"neither a Video Swin nor a Swin transformer; it holds conv1\.weight"):
        load_backbones(parts, vision=str(tmp_path / "other.pth"))


@pytest.mark.parametrize("names", ["authors", "transformers"])
def test_an_image_swin_is_inflated(tmp_path: Path, names: str) -> None:
    """Of the same window the biases are repeated; of another they are resized bicubically."""
    flat = filled(Swin(SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), window=4, drop_path=0.0)))
    state = {name: value for name, value in flat.state_dict().items() if not name.startswith("norm")}
    if names == "transformers":
        state = _as_transformers(state)
    else:
        state = {"model": state | {"head.weight": torch.ones(3), "layers.0.blocks.0.attn_mask": torch.ones(2)}}  # type: ignore[dict-item]
    torch.save(state, tmp_path / "flat.pth")
    for window in (4, 3):
        config = VideoSwinConfig(embed_dim=8, depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), frames=2, window=window)
        parts = Parts(VideoSwin(config))
        load_backbones(parts, vision=str(tmp_path / "flat.pth"))
        ours = parts.vision.layers[1].blocks[0].attn.relative_position_bias_table.detach()  # type: ignore[union-attr, index]
        table = flat.layers[1].blocks[0].attn.relative_position_bias_table.detach()
        wanted = table.T.view(1, 2, 7, 7)
        if window != 4:
            wanted = F.interpolate(wanted, size=(5, 5), mode="bicubic")
        for time in ours.view(3, -1, 2):
            torch.testing.assert_close(time, wanted.flatten(2)[0].T)
        assert torch.equal(parts.vision.patch_embed.proj.weight, flat.patch_embed.proj.weight)  # type: ignore[union-attr]


def _as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    changes = {
        "attn.proj": "attention.output.dense", "attn.relative": "attention.self.relative", "norm1": "layernorm_before",
        "norm2": "layernorm_after", "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
        "patch_embed.proj": "embeddings.patch_embeddings.projection", "patch_embed.norm": "embeddings.norm",
    }  # fmt: skip
    renamed: dict[str, Tensor] = {"layernorm.weight": torch.ones(64)}
    for name, value in state.items():
        for before, after in changes.items():
            name = name.replace(before, after)
        name = name if name.startswith("embeddings") else f"encoder.{name}"
        if ".attn.qkv." in name:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[name.replace("attn.qkv", f"attention.self.{part}")] = piece
        else:
            renamed[name] = value
    return renamed


def test_published_sizes() -> None:
    """Video Swin-T and -B have 28.2 and 88.1 million parameters (table 1 of the paper, with a classifier of 400); the
    image Swin's, without the biases of its windows, and these over time."""
    with torch.device("meta"):
        counts = [sum(p.numel() for p in VideoSwin(config).parameters()) for config in (VIDEO_SWIN_T, VIDEO_SWIN_B)]
    for count, millions, width in zip(counts, (28.2, 88.1), (768, 1024), strict=True):
        classifier, patches = 400 * width + 400, 3 * 16 * width // 8
        last, ours = 2 * width, 2 * width * 15 // 8
        assert abs(count - ours + last + classifier + patches - millions * 1e6) < 0.06e6


@pytest.mark.parametrize("fields", [{"heads": (3, 8, 16, 32)}, {"frames": 0}, {"window": 1}, {"drop_path": 1.0}])
def test_impossible_configurations(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        VideoSwinConfig(**fields)


@pytest.mark.parametrize("fields", [{"mlp_ratio": 2.0}, {"qkv_bias": False}, {"window": 4}, {"frames": 2}])
def test_fields_change_parameters(fields: dict[str, Any]) -> None:
    def shapes(config: VideoSwinConfig) -> dict[str, Any]:
        return {name: value.shape for name, value in VideoSwin(config).state_dict().items()}

    values = {name: getattr(TINY, name) for name in ("embed_dim", "depths", "heads", "frames", "window", "drop_path")}
    assert shapes(VideoSwinConfig(**values | fields)) != shapes(TINY)


def test_drop_path_acts_in_training_only() -> None:
    values = {name: getattr(TINY, name) for name in ("embed_dim", "depths", "heads", "frames", "window")}
    video, images = VideoSwin(VideoSwinConfig(**values, drop_path=0.9)), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(video.train()(images, frames=2)[32], video(images, frames=2)[32])
        assert torch.equal(video.eval()(images, frames=2)[32], video(images, frames=2)[32])
