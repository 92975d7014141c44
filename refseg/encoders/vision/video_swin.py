"""Video Swin transformer (Liu et al., CVPR 2022): Swin with windows that reach over frames, one map a frame.

    frames (F 3 H W) -> patches of each (1/4) -> stage 0 -> merge in frames (1/8) -> stage 1 -> ... -> stage 3 (1/32)

Attention is in windows of `frames` x `window` x `window` tokens; along an axis with no more tokens than that the window
is the whole axis and never shifted, so that one frame alone is answered as by Swin. Patches hold one frame instead of
the published two, as in MTTR and ReferFormer, whose encoder VLT takes for video (thesis, section 4.3.5): each frame has
maps of its own, and published weights of patches are summed over their two frames. Every outgoing map passes its own
layer normalisation, as in `Swin`.

Published weights are read under their authors' names; weights of an image Swin (the authors' names, or transformers')
are inflated as their code does it: the biases of offsets within a frame stand for those offsets at every distance in
time, resized bicubically to another side of the window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, DropRate, PositiveFloat, PositiveInt
from refseg.encoders.vision.swin import STRIDES, PatchEmbed, PatchMerging, SwinBlock, check_heads, from_transformers
from refseg.errors import CheckpointError
from refseg.nn.block import drop_path_rates
from refseg.nn.window import window_layout
from refseg.state_dicts import listed, read_state
from refseg.types import VisualFeatures

__all__ = ["VIDEO_SWIN_B", "VIDEO_SWIN_T", "VideoSwin", "VideoSwinConfig", "inflate", "read_video_swin"]


@dataclass(frozen=True)
class VideoSwinConfig(Config):
    """Sizes of a Video Swin transformer; the defaults are Video Swin-B (Kinetics) as ReferFormer configures it."""

    embed_dim: PositiveInt = 128
    """Channels of stage 0; every stage doubles them."""
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 18, 2)
    """Blocks in each stage; odd ones are shifted."""
    heads: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (4, 8, 16, 32)
    """Attention heads in each stage."""
    frames: PositiveInt = 8
    """Frames of a window; odd blocks shift by half of it, rounded down."""
    window: Annotated[int, Ge(2)] = 7
    """Side of a window in tokens; odd blocks shift by half of it, rounded down."""
    mlp_ratio: PositiveFloat = 4.0
    """Hidden units of a block's MLP, as a multiple of its channels."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    drop_path: DropRate = 0.2
    """Probability of skipping the last block while training; rises linearly from 0 at the first."""

    def check(self) -> None:
        """Raises `ConfigError` for heads that do not divide their stage's channels."""
        check_heads(self.embed_dim, self.heads)

    @property
    def sides(self) -> tuple[int, int, int]:
        """Frames, rows and columns of a window."""
        return (self.frames, self.window, self.window)


VIDEO_SWIN_B = VideoSwinConfig()
VIDEO_SWIN_T = VideoSwinConfig(embed_dim=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24))


class VideoStage(nn.Module):
    """The blocks of one resolution, and the merging that leads to the next."""

    def __init__(self, config: VideoSwinConfig, index: int, rates: list[float]) -> None:
        super().__init__()
        width, self.sides = config.embed_dim << index, config.sides
        self.blocks = nn.ModuleList(
            SwinBlock(
                width,
                config.heads[index],
                config.sides,
                number % 2 == 1,
                mlp_ratio=config.mlp_ratio,
                qkv_bias=config.qkv_bias,
                drop_path=rate,
            )
            for number, rate in enumerate(rates)
        )
        self.downsample = PatchMerging(width) if index < 3 else None

    def forward(self, tokens: Float[Tensor, "B T C"], size: tuple[int, int, int]) -> Float[Tensor, "B T C"]:
        """All blocks over clips of `size` (frames, rows, columns), without the merging."""
        window = tuple(min(side, length) for side, length in zip(self.sides, size, strict=True))
        for block in self.blocks:
            assert isinstance(block, SwinBlock)
            shift = tuple(
                move if length > side else 0 for move, side, length in zip(block.shift, self.sides, size, strict=True)
            )
            tokens = block(tokens, window_layout(size, window, shift, block.attn.heads, tokens.device))
        return tokens


class VideoSwin(nn.Module):
    """The encoder; any picture size and any number of frames."""

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__()
        self.config = config
        self.channels: dict[int, int] = {stride: config.embed_dim << i for i, stride in enumerate(STRIDES)}
        self.patch_embed = PatchEmbed(config.embed_dim)
        rates = drop_path_rates(config.drop_path, sum(config.depths))
        stages = []
        for index, depth in enumerate(config.depths):
            stages.append(VideoStage(config, index, rates[:depth]))
            rates = rates[depth:]
        self.layers = nn.ModuleList(stages)
        self.norm0, self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for width in self.channels.values())

    def forward(self, images: Float[Tensor, "N 3 H W"], frames: int = 1) -> VisualFeatures:
        """Normalised feature maps by stride, one an image: {4: "N C H/4 W/4", 8: "N 2C ...", 16: ..., 32: ...}.

        The images are N / frames clips of `frames` frames each, one after the other; 1 sees each image on its own.
        """
        tokens, size = self.patch_embed(images)
        features = {}
        norms = (self.norm0, self.norm1, self.norm2, self.norm3)
        for stride, stage, norm in zip(STRIDES, self.layers, norms, strict=True):
            assert isinstance(stage, VideoStage)
            places = tokens.shape[1]
            clips = tokens.reshape(-1, frames * places, tokens.shape[2])
            tokens = stage(clips, (frames, *size)).reshape(len(images), places, -1)
            features[stride] = norm(tokens).transpose(1, 2).unflatten(2, size)
            if stage.downsample is not None:
                tokens, size = stage.downsample(tokens, size)
        return features


def read_video_swin(path: Path, encoder: VideoSwin) -> dict[str, Tensor]:
    """The tensors of a published Video Swin, or of an image Swin, inflated, under the names of `encoder`.

    The classifier, the last normalisation and index buffers are left out; `norm0` to `norm3` are in no such file.
    Raises `CheckpointError` for a file that is neither.
    """
    state = read_state(path)
    if any(name.startswith("backbone.") for name in state):
        state = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    if any(name.removeprefix("swin.").startswith(("embeddings.", "encoder.")) for name in state):
        state = from_transformers(state)
    left = ("norm.", "head.", "cls_head.")
    kept = {
        name: value
        for name, value in state.items()
        if not name.startswith(left) and not name.endswith(("relative_position_index", "attn_mask"))
    }
    patches = kept.get("patch_embed.proj.weight")
    if patches is None or patches.ndim not in (4, 5):
        raise CheckpointError(
            f"{path}: neither a Video Swin nor a Swin transformer; it holds {listed(sorted(state), most=4)}"
        )
    if patches.ndim == 5:
        return {**kept, "patch_embed.proj.weight": patches.sum(dim=2)}
    return inflate(kept, encoder.config)


def inflate(state: Mapping[str, Tensor], config: VideoSwinConfig) -> dict[str, Tensor]:
    """Weights of an image `Swin` as those of a `VideoSwin`: the biases of offsets are repeated over time, and resized
    before where the side of the window differs. Raises `CheckpointError` for biases of no square window."""
    span, times = 2 * config.window - 1, 2 * config.frames - 1
    result = dict(state)
    for name, table in state.items():
        if not name.endswith("relative_position_bias_table"):
            continue
        side = math.isqrt(len(table))
        if side * side != len(table):
            raise CheckpointError(f"{name}: biases of a square window are wanted, not {len(table)} of them")
        if side != span:
            square = table.T.reshape(1, -1, side, side)
            resized = F.interpolate(square, size=(span, span), mode="bicubic", align_corners=False)
            table = resized.reshape(-1, span * span).T
        result[name] = table.repeat(times, 1)
    return result
