r"""ShuffleNetV2 with a ghost pyramid and a detector's head, as NanoDet-Plus has them: small, and it knows objects.

    images -> stem 1/4 -> stage 1/8 -> stage 1/16 -> stage 1/32
                              \            \            \
                               `- ghost pyramid, down and up again -> 8, 16, 32 -.--------------------------------> maps
                                                                                  `-> head: classes, box sides -> maps

Ma et al., ShuffleNet V2, ECCV 2018; Han et al., GhostNet, CVPR 2020; RangiLyu, NanoDet-Plus, 2021. Normalisations are
folded into the convolutions, as in networks that were made ready for use. The map of stride 4 is the stem's.
`from_nanodet` reads the published detector's tensors by their order of execution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, MultipleOf
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, PositiveInt
from refseg.errors import CheckpointError, ConfigError
from refseg.nn.conv import FoldedConv
from refseg.types import VisualFeatures

__all__ = ["ShuffleNet", "ShuffleNetConfig", "from_nanodet", "from_state"]

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


def _execution_order(config: ShuffleNetConfig) -> Iterator[str | None]:
    """Our name of every convolution in the order in which NanoDet-Plus computes them; None where we have none of it:
    its level of stride 64."""
    yield "stem"
    for stage, depth in enumerate(config.depths):
        first = f"stages.{stage}.0"
        yield from (f"{first}.{part}" for part in ("short.0", "main.0", "main.1", "short.1", "main.2"))
        for block in range(1, depth):
            yield from (f"stages.{stage}.{block}.main.{number}" for number in range(3))
    ghost = ("first.0", "first.1", "second.0", "second.1", "short.0", "short.1")
    # The coarsest map is reduced first, the next one when it is wanted.
    yield "pyramid.reduce.2"
    for number in range(2):
        yield f"pyramid.reduce.{1 - number}"
        yield from (f"pyramid.down.{number}.{part}" for part in ghost)
    for number in range(2):
        yield from (f"pyramid.strided.{number}.{part}" for part in (0, 1))
        yield from (f"pyramid.up.{number}.{part}" for part in ghost)
    yield from [None] * 4
    for level in range(3):
        yield from (f"heads.{level}.steps.{part}" for part in (0, 1))
    yield from [None] * 5
    for level in (2, 1, 0):
        yield from (f"heads.{level}.{part}" for part in ("steps.2", "steps.3", "output"))


def from_state(state: dict[str, Tensor], encoder: ShuffleNet) -> dict[str, Tensor]:
    """Tensors under our names already, as they are; NanoDet-Plus's through `from_nanodet`, with its errors."""
    return state if state.keys() == encoder.state_dict().keys() else from_nanodet(state, encoder.config)


def from_nanodet(state: dict[str, Tensor], config: ShuffleNetConfig | None = None) -> dict[str, Tensor]:
    """NanoDet-Plus's tensors (`000.conv.weight`, `000.conv.bias`, `001...`: numbered as they are computed) under ours.

    The published network reads BLUE, GREEN, RED; the stem's channels are turned round, so that ours reads RGB under the
    same normalisation. Its level of stride 64 is left out. Raises `CheckpointError` when the numbers do not fit.
    """
    config = config or ShuffleNetConfig()
    if config.pyramid is None or config.head is None:
        raise CheckpointError("NanoDet-Plus's weights fit a ShuffleNet with its pyramid and head")
    names = list(_execution_order(config))
    wanted = {f"{number:03d}.conv.{what}" for number in range(len(names)) for what in ("weight", "bias")}
    strange, missing = sorted(state.keys() - wanted), sorted(wanted - state.keys())
    if strange or missing:
        raise CheckpointError(
            "not a NanoDet-Plus in order of execution"
            + (f"; unexplained: {', '.join(strange[:8])}" if strange else "")
            + (f"; missing: {', '.join(missing[:8])}" if missing else "")
        )
    renamed: dict[str, Tensor] = {}
    for number, name in enumerate(names):
        if name is not None:
            for what in ("weight", "bias"):
                renamed[f"{name}.conv.{what}"] = state[f"{number:03d}.conv.{what}"].float()
    renamed["stem.conv.weight"] = renamed["stem.conv.weight"].flip(1)
    return renamed
