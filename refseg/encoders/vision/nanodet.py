r"""NanoDet-Plus: a detector of 1.2 million parameters, whole, with the decoding of its boxes.

    images -> ShuffleNetV2 -> 1/8, 1/16, 1/32 -> ghost pyramid -> 1/8, 1/16, 1/32, 1/64 -> a head each
                                                                                              |-> class logits
                                                                                              `-> distances, distributed

RangiLyu, NanoDet-Plus, 2021 (github.com/RangiLyu/nanodet, Apache-2.0). The head is that of Generalized Focal Loss (Li
et al., NeurIPS 2020, section 3.2): a side's distance from the place is the mean of a distribution over `bins` values
0, 1, ... `bins - 1`, times the stride; the place of cell (i, j) is (j * stride, i * stride), without half a cell.
Blocks are those of `refseg.encoders.vision.shufflenet`; normalisations are folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config
from refseg.encoders.vision.shufflenet import Conv, DetectorHead, GhostPyramid, ShuffleNet, ShuffleNetConfig, depthwise
from refseg.errors import CheckpointError, ConfigError

__all__ = ["Decoded", "Maps", "NanoDet", "NanoDetConfig", "decode", "from_nanodet", "normalise", "pair_iou", "suppress"]

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""Of red, green and blue, 0 to 255."""
STRIDES = (8, 16, 32, 64)


@dataclass(frozen=True)
class NanoDetConfig(Config):
    """Sizes; the defaults are NanoDet-Plus-m's at 416 (ShuffleNetV2 1.0x)."""

    stem_width: int = 24
    """Channels of the stem."""
    widths: tuple[int, int, int] = (116, 232, 464)
    """Channels of the stages at strides 8, 16 and 32; even numbers."""
    depths: tuple[int, int, int] = (4, 8, 4)
    """Blocks in each stage."""
    pyramid: int = 96
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


def pair_iou(first: Float[Tensor, "K 4"], second: Float[Tensor, "J 4"]) -> Float[Tensor, "K J"]:
    """Intersection over union of every pair of boxes x0 y0 x1 y1; 0 for a pair without area."""
    sides = torch.minimum(first[:, None, 2:], second[None, :, 2:]) - torch.maximum(
        first[:, None, :2], second[None, :, :2]
    )
    shared = sides.clamp(min=0).prod(dim=-1)
    areas = [(each[:, 2:] - each[:, :2]).clamp(min=0).prod(dim=-1) for each in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None] - shared).clamp(min=torch.finfo(shared.dtype).tiny)


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


def _execution_order(config: NanoDetConfig) -> Iterator[str]:
    """Our name of every convolution in the order in which the published network computes them."""
    yield "backbone.stem"
    for stage, depth in enumerate(config.depths):
        first = f"backbone.stages.{stage}.0"
        yield from (f"{first}.{part}" for part in ("short.0", "main.0", "main.1", "short.1", "main.2"))
        for block in range(1, depth):
            yield from (f"backbone.stages.{stage}.{block}.main.{number}" for number in range(3))
    ghost = ("first.0", "first.1", "second.0", "second.1", "short.0", "short.1")
    yield "pyramid.reduce.2"  # the coarsest map is reduced first, the next one when it is wanted
    for number in range(2):
        yield f"pyramid.reduce.{1 - number}"
        yield from (f"pyramid.down.{number}.{part}" for part in ghost)
    for number in range(2):
        yield from (f"pyramid.strided.{number}.{part}" for part in (0, 1))
        yield from (f"pyramid.up.{number}.{part}" for part in ghost)
    yield from (f"pyramid.{name}.{part}" for name in ("extra_in", "extra_out") for part in (0, 1))
    yield from (f"heads.{level}.steps.{part}" for level in range(4) for part in (0, 1))
    for level in (3, 2, 1, 0):
        yield from (f"heads.{level}.{part}" for part in ("steps.2", "steps.3", "output"))


def from_nanodet(state: dict[str, Tensor], config: NanoDetConfig | None = None) -> dict[str, Tensor]:
    """NanoDet-Plus's tensors (`000.conv.weight`, `000.conv.bias`, `001...`: numbered as they are computed) under ours.

    The published network reads blue, green, red; the stem's channels are reversed, so that ours reads RGB under the
    same normalisation. Raises `CheckpointError` when the numbers or shapes do not fit.
    """
    config = config or NanoDetConfig()
    names = list(_execution_order(config))
    wanted = {f"{number:03d}.conv.{what}" for number in range(len(names)) for what in ("weight", "bias")}
    strange, missing = sorted(state.keys() - wanted), sorted(wanted - state.keys())
    if strange or missing:
        raise CheckpointError(
            "not a NanoDet-Plus in order of execution"
            + (f"; unexplained: {', '.join(strange[:8])}" if strange else "")
            + (f"; missing: {', '.join(missing[:8])}" if missing else "")
        )
    renamed = {
        f"{name}.conv.{what}": state[f"{number:03d}.conv.{what}"].float()
        for number, name in enumerate(names)
        for what in ("weight", "bias")
    }
    renamed["backbone.stem.conv.weight"] = renamed["backbone.stem.conv.weight"].flip(1)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in NanoDet(config).state_dict().items()}
    wrong = [name for name, shape in shapes.items() if renamed[name].shape != shape]
    if wrong:
        raise CheckpointError(f"not a NanoDet-Plus of these sizes: {wrong[0]} is {tuple(renamed[wrong[0]].shape)}")
    return renamed
