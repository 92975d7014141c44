r"""NanoDet-Plus: a detector of 1.2 million parameters, its backbone as an encoder, and the decoding of its boxes.

    images -> stem 1/4 -> stage 1/8 -> stage 1/16 -> stage 1/32           ShuffleNetV2
                              \            \            \
                               `- ghost pyramid, down and up again -> 8, 16, 32, 64 -> a head each
                                                                                         |-> class logits
                                                                                         `-> distances, distributed

RangiLyu, NanoDet-Plus, 2021 (github.com/RangiLyu/nanodet, Apache-2.0); Ma et al., ShuffleNet V2, ECCV 2018; Han et al.,
GhostNet, CVPR 2020. The head is that of Generalized Focal Loss (Li et al., NeurIPS 2020, section 3.2): a side's
distance from the place is the mean of a distribution over `bins` values 0, 1, ... `bins - 1`, times the stride; the
place of cell (i, j) is (j * stride, i * stride), without half a cell. Normalisations are folded into the convolutions,
as in networks that were made ready for use. `ShuffleNet` is what other systems take as an encoder: the map of stride 4
is the stem's, the heads' outputs stand beside the pyramid's channels. `nanodet_weights` reads the published tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, MultipleOf
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, PositiveInt
from refseg.errors import ConfigError
from refseg.nn.boxes import pair_iou
from refseg.nn.conv import FoldedConv
from refseg.types import VisualFeatures

__all__ = [
    "Decoded",
    "Maps",
    "NanoDet",
    "NanoDetConfig",
    "ShuffleNet",
    "ShuffleNetConfig",
    "decode",
    "normalise",
    "suppress",
]

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""Of red, green and blue, 0 to 255."""
STRIDES = (8, 16, 32, 64)

EvenInt = Annotated[int, Ge(2), MultipleOf(2)]

Conv = partial(FoldedConv, activation="leaky")


@dataclass(frozen=True)
class ShuffleNetConfig(Config):
    """Sizes; the defaults are NanoDet-Plus-m's (ShuffleNetV2 1.0x)."""

    stem_width: PositiveInt = 24
    """Channels of the stem, which is also the map of stride 4."""
    widths: tuple[EvenInt, EvenInt, EvenInt] = (116, 232, 464)
    """Channels of the stages at strides 8, 16 and 32; even numbers, since a block works on half of them."""
    depths: tuple[PositiveInt, PositiveInt, PositiveInt] = (4, 8, 4)
    """Blocks in each stage."""
    pyramid: EvenInt | None = 96
    """Channels of the ghost pyramid, a multiple of 2; None gives the stages' own maps."""
    head: PositiveInt | None = 112
    """Outputs of the detector's head at every place (NanoDet-Plus: 80 classes and 4 times 8 distance bins), which then
    stand beside the pyramid's channels; None has no head."""

    def check(self) -> None:
        """Raises `ConfigError` for a head without a pyramid."""
        if self.head is not None and self.pyramid is None:
            raise ConfigError(f"head={self.head}: a head stands on a pyramid; set pyramid, or head to none")


def depthwise(channels: int, kernel: int, stride: int = 1, act: bool = False) -> FoldedConv:
    """A convolution of every channel by itself."""
    return Conv(channels, channels, kernel, stride, channels, act)


class ShuffleBlock(nn.Module):
    """Half of the channels pass, the others are convolved; then both halves are shuffled. With stride 2 both halves are
    made of all channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.short = nn.Sequential(depthwise(inputs, 3, 2), Conv(inputs, half, 1)) if stride == 2 else None
        before = inputs if stride == 2 else half
        self.main = nn.Sequential(Conv(before, half, 1), depthwise(half, 3, stride), Conv(half, half, 1))

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D u v"]:
        """The map after the block, at 1/stride of the size."""
        if self.short is None:
            kept, worked = maps.chunk(2, dim=1)
        else:
            kept, worked = self.short(maps), maps
        pair = torch.cat([kept, self.main(worked.contiguous(memory_format=torch.channels_last))], dim=1)
        # Channel i of the first half comes before channel i of the second one.
        shuffled = pair.permute(0, 2, 3, 1).unflatten(3, (2, -1)).transpose(3, 4).flatten(3)
        return shuffled.permute(0, 3, 1, 2)


class GhostBlock(nn.Module):
    """Half of the channels from a 1x1 convolution, the rest cheaply from those; twice, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.first = nn.Sequential(Conv(inputs, half, 1), depthwise(half, 3, act=True))
        self.second = nn.Sequential(Conv(outputs, half, 1, act=False), depthwise(half, 3))
        self.short = nn.Sequential(depthwise(inputs, 5), Conv(inputs, outputs, 1, act=False))

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """The map with `outputs` channels."""
        main = self._ghost(self.second, self._ghost(self.first, maps))
        return main + self.short(maps)

    @staticmethod
    def _ghost(pair: nn.Sequential, maps: Tensor) -> Tensor:
        primary = pair[0](maps)
        return torch.cat([primary, pair[1](primary)], dim=1)


class GhostPyramid(nn.Module):
    """Three maps brought to one width, then mixed from coarse to fine and from fine to coarse."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(Conv(each, width, 1) for each in channels)
        self.down = nn.ModuleList(GhostBlock(2 * width, width) for _ in channels[1:])
        self.strided = nn.ModuleList(
            nn.Sequential(depthwise(width, 5, 2, act=True), Conv(width, width, 1)) for _ in channels[1:]
        )
        self.up = nn.ModuleList(GhostBlock(2 * width, width) for _ in channels[1:])

    def forward(self, maps: list[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B W _ _"]]:
        """Maps from fine to coarse, in and out."""
        reduced = [reduce(each) for reduce, each in zip(self.reduce, maps, strict=True)]
        mixed = [reduced[-1]]
        for block, finer in zip(self.down, reversed(reduced[:-1]), strict=True):
            above = F.interpolate(mixed[0], size=finer.shape[-2:], mode="bilinear", align_corners=False)
            mixed.insert(0, block(torch.cat([above, finer], dim=1)))
        outputs = [mixed[0]]
        for strided, block, coarser in zip(self.strided, self.up, mixed[1:], strict=True):
            outputs.append(block(torch.cat([strided(outputs[-1]), coarser], dim=1)))
        return outputs


class DetectorHead(nn.Module):
    """Two depthwise-separable convolutions and a linear map, of one level's own weights."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        steps = [each for _ in range(2) for each in (depthwise(width, 5, act=True), Conv(width, width, 1))]
        self.steps = nn.Sequential(*steps)
        self.output = Conv(width, outputs, 1, act=False)

    def forward(self, maps: Float[Tensor, "B W h w"]) -> Float[Tensor, "B O h w"]:
        """The outputs at every place."""
        return self.output(self.steps(maps))


class ShuffleNet(nn.Module):
    """The encoder; sizes that a stride does not divide are rounded up, as convolutions with padding do."""

    def __init__(self, config: ShuffleNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = Conv(3, config.stem_width, 3, stride=2)
        stages, inputs = [], config.stem_width
        for width, depth in zip(config.widths, config.depths, strict=True):
            blocks = [
                ShuffleBlock(inputs if index == 0 else width, width, 2 if index == 0 else 1) for index in range(depth)
            ]
            stages.append(nn.Sequential(*blocks))
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.pyramid = None if config.pyramid is None else GhostPyramid(config.widths, config.pyramid)
        self.heads: nn.ModuleList | None = None
        each = list(config.widths)
        if config.pyramid is not None:
            each = [config.pyramid + (config.head or 0)] * 3
            if config.head is not None:
                self.heads = nn.ModuleList(DetectorHead(config.pyramid, config.head) for _ in range(3))
        self.channels: dict[int, int] = dict(zip((4, 8, 16, 32), (config.stem_width, *each), strict=True))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """Feature maps by stride: {4: the stem, 8: ..., 16: ..., 32: ...}; with a head, its outputs come last."""
        if images.device.type == "cpu":
            # Convolutions on CPU are faster when a pixel's channels lie together in memory.
            images = images.contiguous(memory_format=torch.channels_last)
        maps = F.max_pool2d(self.stem(images), kernel_size=3, stride=2, padding=1)
        features = {4: maps}
        coarse = []
        for stage in self.stages:
            maps = stage(maps)
            coarse.append(maps)
        if self.pyramid is not None:
            coarse = self.pyramid(coarse)
        if self.heads is not None:
            coarse = [torch.cat([each, head(each)], dim=1) for each, head in zip(coarse, self.heads, strict=True)]
        return features | dict(zip((8, 16, 32), coarse, strict=True))


@dataclass(frozen=True)
class NanoDetConfig(Config):
    """Sizes; the defaults are NanoDet-Plus-m's at 416 (ShuffleNetV2 1.0x)."""

    stem_width: int = 24
    """Channels of the stem."""
    widths: tuple[int, int, int] = (116, 232, 464)
    """Channels of the stages at strides 8, 16 and 32; even numbers."""
    depths: tuple[int, int, int] = (4, 8, 4)
    """Blocks in each stage."""
    pyramid: PositiveInt = 96
    """Channels of the pyramid, a multiple of 2."""
    classes: int = 80
    """Class logits at every place: COCO's categories by increasing id."""
    bins: int = 8
    """Values in the distribution of a side's distance (the published reg_max 7, and 0)."""
    side: int = 416
    """Pictures are resized to side x side pixels, whatever their shape, as in the published configuration
    (keep_ratio false); a multiple of 32."""

    def check(self) -> None:
        if self.classes < 1 or self.bins < 2:
            raise ConfigError(f"detector.classes={self.classes}, bins={self.bins}: at least 1 class and 2 bins")
        if self.side < 64 or self.side % 32:
            raise ConfigError(f"detector.side={self.side}: a multiple of 32 from 64 on is wanted")
        self.backbone()

    def backbone(self) -> ShuffleNetConfig:
        """The configuration of the backbone alone."""
        return ShuffleNetConfig(self.stem_width, self.widths, self.depths, pyramid=None, head=None)


class Maps(NamedTuple):
    """What a picture becomes: the pyramid at strides 8 to 64, and the head's outputs there.

    `outputs` hold the class logits first, then left, top, right and bottom with `bins` logits each.
    """

    stem: Float[Tensor, "N _ _ _"]
    pyramid: list[Float[Tensor, "N _ _ _"]]
    outputs: list[Float[Tensor, "N _ _ _"]]


class Decoded(NamedTuple):
    """Boxes of all P places of all levels, x0 y0 x1 y1 in pixels of the network's input, and class logits."""

    boxes: Float[Tensor, "N P 4"]
    logits: Float[Tensor, "N P A"]


class Pyramid(GhostPyramid):
    """The ghost pyramid with one level more, of stride 64.

    It is the sum of the coarsest input's reduction and of the coarsest output, each convolved with stride 2 (published:
    `extra_lvl_in_conv`, `extra_lvl_out_conv`).
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__(channels, width)
        self.extra_in = nn.Sequential(depthwise(width, 5, 2, act=True), Conv(width, width, 1))
        self.extra_out = nn.Sequential(depthwise(width, 5, 2, act=True), Conv(width, width, 1))

    def forward(self, maps: list[Float[Tensor, "N _ _ _"]]) -> list[Float[Tensor, "N W _ _"]]:
        """Three maps from fine to coarse in, four out."""
        outputs = super().forward(maps)
        return [*outputs, self.extra_in(self.reduce[-1](maps[-1])) + self.extra_out(outputs[-1])]


class NanoDet(nn.Module):
    """The detector. `forward` gives maps, `decode` turns their outputs into boxes."""

    def __init__(self, config: NanoDetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NanoDetConfig()
        self.backbone = ShuffleNet(config.backbone())
        self.pyramid = Pyramid(config.widths, config.pyramid)
        outputs = config.classes + 4 * config.bins
        self.heads = nn.ModuleList(DetectorHead(config.pyramid, outputs) for _ in STRIDES)

    def stages(self, images: Float[Tensor, "N 3 H W"]) -> dict[int, Float[Tensor, "N _ _ _"]]:
        """The backbone's maps by stride: 4 (the stem), 8, 16, 32. `images` are normalised, see `normalise`."""
        if images.device.type == "cpu":
            # Convolutions on CPU are faster when a pixel's channels lie together in memory.
            images = images.contiguous(memory_format=torch.channels_last)
        maps = F.max_pool2d(self.backbone.stem(images), kernel_size=3, stride=2, padding=1)
        features = {4: maps}
        for stride, stage in zip((8, 16, 32), self.backbone.stages, strict=True):
            features[stride] = maps = stage(maps)
        return features

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> Maps:
        """Pyramid and head outputs of normalised RGB pictures; H and W are multiples of 32."""
        stages = self.stages(images)
        pyramid = self.pyramid([stages[stride] for stride in (8, 16, 32)])
        return Maps(stages[4], pyramid, [head(each) for head, each in zip(self.heads, pyramid, strict=True)])


def normalise(images: Sequence[UInt8[np.ndarray, "_ _ 3"]], side: int) -> Float[Tensor, "N 3 S S"]:
    """RGB pictures of any size, resized to side x side with antialiasing and normalised as NanoDet-Plus wants it."""
    resized = [np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.BILINEAR)) for each in images]
    pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float()
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def decode(outputs: Sequence[Float[Tensor, "N _ _ _"]], classes: int, bins: int = 8) -> Decoded:
    """Boxes and class logits of all places, level after level, row after row; the levels are `STRIDES`'s first ones.

    A side's distance is its distribution's mean times the stride (GFL, eq. 4). Boxes are not clipped.
    """
    boxes, logits = [], []
    for stride, out in zip(STRIDES, outputs, strict=False):
        height, width = out.shape[-2:]
        values = torch.arange(bins, dtype=out.dtype, device=out.device)
        sides = out[:, classes : classes + 4 * bins].unflatten(1, (4, bins)).softmax(dim=2)
        distance = torch.einsum("nkbhw,b->nhwk", sides, values) * stride
        rows = torch.arange(height, dtype=out.dtype, device=out.device) * stride
        columns = torch.arange(width, dtype=out.dtype, device=out.device) * stride
        place = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], dim=-1)
        boxes.append(torch.cat([place - distance[..., :2], place + distance[..., 2:]], dim=-1).flatten(1, 2))
        logits.append(out[:, :classes].flatten(2).transpose(1, 2))
    return Decoded(torch.cat(boxes, dim=1), torch.cat(logits, dim=1))


def suppress(
    boxes: Float[Tensor, "K 4"], scores: Float[Tensor, " K"], labels: Int[Tensor, " K"], overlap: float
) -> Int[Tensor, " J"]:
    """Greedy non-maximum suppression within a class: indices of what is kept, best score first.

    A box goes when one of the same label with a higher score, itself kept, overlaps it with an IoU above `overlap`.
    """
    order = scores.argsort(descending=True, stable=True)
    iou = pair_iou(boxes[order], boxes[order])
    rival: NDArray[np.bool_] = ((iou > overlap) & (labels[order][:, None] == labels[order])).numpy(force=True)
    alive = np.ones(len(order), dtype=bool)
    for index in range(len(order)):
        if alive[index]:
            alive[index + 1 :] &= ~rival[index, index + 1 :]
    return order[torch.from_numpy(alive).to(order.device)]
