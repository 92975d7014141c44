"""The detector of instances: NanoDet-Plus as it is, and a second head for what it never learnt.

    picture -> NanoDet: backbone -> pyramid -> heads          80 COCO categories, boxes      (frozen)
                            `------------`----> second heads  `SECOND`: garments, car parts, animals, drawings; boxes

The first head's score of what is not there is worth more than a few thousand pictures can teach, so it keeps its
weights; the second one stands on the same maps and is trained on photographs and drawn scenes together. It begins as a
copy of the first one's convolutions and box sides, with class logits of its own. `coarse` gives every box a mask.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refseg.encoders.vision.nanodet import STRIDES, Maps, NanoDet, NanoDetConfig
from refseg.encoders.vision.shufflenet import Conv, DetectorHead
from refseg.models.instances.classes import SECOND
from refseg.models.instances.regions import CoarseMasks

__all__ = ["InstanceDetector", "SecondHeads"]

_PRIOR = 0.01
"""The probability of a class at the start of training (Lin et al., focal loss, section 4.1)."""


class SecondHeads(nn.Module):
    """Heads of their own at every level; those of strides 16 and 32 also read the backbone's map of that stride."""

    def __init__(self, config: NanoDetConfig, classes: int = len(SECOND)) -> None:
        super().__init__()
        self.classes = classes
        outputs = classes + 4 * config.bins
        self.heads = nn.ModuleList(DetectorHead(config.pyramid, outputs) for _ in STRIDES)
        self.raw = nn.ModuleList(Conv(width, config.pyramid, 1, act=False) for width in config.widths[1:])
        for raw in self.raw:
            convolution = raw.conv
            assert isinstance(convolution, nn.Conv2d)
            nn.init.zeros_(convolution.weight)
        # Drawn classes are believed as far as the picture as a whole looks drawn: without it some fire on photographs,
        # and names of absent things are found (.904 of them answered right at .15 instead of .927).
        self.drawn = nn.Linear(3 * config.pyramid, 1)

    @torch.no_grad()
    def start_from(self, first: NanoDet) -> None:
        """Take the first head's convolutions and box sides over; class logits start at a low probability."""
        for ours, theirs in zip(self.heads, first.heads, strict=True):
            assert isinstance(ours, DetectorHead)
            assert isinstance(theirs, DetectorHead)
            ours.steps.load_state_dict(theirs.steps.state_dict())
            weight, bias = ours.output.conv.weight, ours.output.conv.bias
            before = theirs.output.conv.bias
            assert bias is not None
            assert before is not None
            weight[self.classes :] = theirs.output.conv.weight[first.config.classes :]
            bias[self.classes :] = before[first.config.classes :]
            nn.init.normal_(weight[: self.classes], std=0.01)
            nn.init.constant_(bias[: self.classes], -math.log((1 - _PRIOR) / _PRIOR))

    def drawn_logits(self, pyramid: list[Float[Tensor, "N W _ _"]]) -> Float[Tensor, " N"]:
        """Above 0 where a picture is a drawn scene and no photograph; from the means of the three finest maps."""
        return self.drawn(torch.cat([each.mean(dim=(2, 3)) for each in pyramid[:3]], dim=1))[:, 0]

    def forward(
        self, pyramid: list[Float[Tensor, "N W _ _"]], stages: dict[int, Float[Tensor, "N _ _ _"]]
    ) -> list[Float[Tensor, "N O _ _"]]:
        """Class logits, then the sides' distributions, at every place of the four levels."""
        maps = list(pyramid)
        for level, (raw, stride) in enumerate(zip(self.raw, (16, 32), strict=True), 1):
            maps[level] = maps[level] + raw(stages[stride])
        return [head(each) for head, each in zip(self.heads, maps, strict=True)]


class InstanceDetector(nn.Module):
    """Both heads, and coarse masks, on one backbone and pyramid."""

    def __init__(self, config: NanoDetConfig | None = None, classes: int = len(SECOND)) -> None:
        super().__init__()
        self.first = NanoDet(config)
        self.second = SecondHeads(self.first.config, classes)
        self.coarse = CoarseMasks(self.first.config.stem_width, self.first.config.pyramid)

    @property
    def config(self) -> NanoDetConfig:
        """Of backbone and first head."""
        return self.first.config

    def maps(self, images: Float[Tensor, "N 3 H W"]) -> tuple[Maps, dict[int, Float[Tensor, "N _ _ _"]]]:
        """The first head's answer with the pyramid, and the backbone's maps by stride."""
        stages = self.first.stages(images)
        pyramid = self.first.pyramid([stages[stride] for stride in (8, 16, 32)])
        outputs = [head(each) for head, each in zip(self.first.heads, pyramid, strict=True)]
        return Maps(stages[4], pyramid, outputs), stages

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> tuple[Maps, list[Float[Tensor, "N O _ _"]]]:
        """The first head's maps and outputs, and the second one's outputs, for normalised pictures."""
        maps, stages = self.maps(images)
        return maps, self.second(maps.pyramid, stages)
