"""From images to described regions: maps of a frozen network, sampled in a grid of every region.

    detector's pyramid: 1/8 -> low (C3)             1/16 and 1/32 -> high (C4)
    ResNet:             third stage, sampled at 2 G x 2 G and pooled -> low;   fourth stage on that grid -> high

Regions are those that were given (`Batch.regions`) or that the detector proposes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.vision.nanodet import Maps, normalise
from refseg.encoders.vision.resnet import ResNet
from refseg.errors import RefsegError
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.proposals import Proposer
from refseg.nn.boxes import pixels_of, sample_boxes
from refseg.types import Regions

__all__ = ["Seen", "Things", "from_cells", "grid_channels", "look", "without_stride"]


@dataclass(frozen=True)
class Things:
    """K things of one image: boxes x0 y0 x1 y1, 0 to 1 of it, class names and their numbers, coarse mask logits in the
    frames of the boxes (None in training, where no loss reads masks). Given ones may have `masks` at the input's size,
    and `attributes`: which words hold of them.
    """

    boxes: Float[Tensor, "K 4"]
    labels: list[str]
    groups: Int[Tensor, " K"]
    mask_logits: Float[Tensor, "K M M"] | None = None
    masks: Bool[Tensor, "K H W"] | None = None
    attributes: Bool[Tensor, "K T"] | None = None


@dataclass
class Seen:
    """The things of one image and what frozen maps say in their G cells.

    `content` is where the image lies in the input (top, left, bottom, right), `image` its pixels, None where cells come
    from a cache. Fine masks are kept once made.
    """

    image: UInt8[np.ndarray, "h w 3"] | None
    content: tuple[int, int, int, int]
    things: Things
    low: Float[Tensor, "K G _"]
    high: Float[Tensor, "K G _"]
    fine: dict[int, Float[np.ndarray, "h w"]] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image in pixels of the input."""
        top, left, bottom, right = self.content
        return bottom - top, right - left

    def placed(self) -> Float[Tensor, "K 4"]:
        """The boxes in pixels of the input."""
        return pixels_of(self.things.boxes, self.content)


def grid_channels(proposer: Proposer, vision: ResNet | None) -> tuple[int, int]:
    """Channels of a region's low and high cells."""
    if vision is not None:
        return vision.config.widths[2], vision.config.widths[3]
    width = proposer.config.detector.pyramid
    return width, 2 * width


def without_stride(vision: ResNet) -> ResNet:
    """The ResNet with a last stage that keeps its input's size, as it runs on a region's grid."""
    for module in vision.stages[3].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    return vision


@torch.no_grad()
def look(
    images: Float[Tensor, "N 3 H W"],
    pixels: Sequence[tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int, int, int]]],
    given: Regions | None,
    proposer: Proposer,
    vision: ResNet | None,
    grid: int,
    attributes: Sequence[str],
    masks: bool = True,
) -> list[Seen]:
    """The regions of N images. `pixels` are the images without padding, and where they lie in the input; without
    `masks` given regions have no coarse masks."""
    maps = None if vision is None else _third_stage(vision, images)
    found = []
    for index, (image, content) in enumerate(pixels):
        # One at a time: what is proposed in an image must not depend on its neighbours in the batch by rounding.
        seen = _maps(proposer, image) if given is None or masks or maps is None else None
        if given is None:
            things = _proposed(proposer, image, images.device)
        else:
            things = _given(given, index, attributes, images.device)
            if seen is not None and masks:
                things = replace(things, mask_logits=_coarse_masks(proposer, seen, things.boxes))
        if vision is None or maps is None:
            assert seen is not None
            cells = _pyramid_cells(seen, things.boxes * proposer.config.detector.side, grid)
        else:
            cells = _resnet_cells(vision, maps[index], pixels_of(things.boxes, content), grid)
        low, high = (each.flatten(2).transpose(1, 2) for each in cells)
        found.append(Seen(image, content, things, low, high))
    return found


def _pyramid_cells(
    seen: Maps, boxes: Float[Tensor, "K 4"], grid: int
) -> tuple[Float[Tensor, "K _ G G"], Float[Tensor, "K _ G G"]]:
    fine, middle, coarse = (
        sample_boxes(level[0], boxes, stride, grid) for level, stride in zip(seen.pyramid[:3], (8, 16, 32), strict=True)
    )
    return fine, torch.cat([middle, coarse], dim=1)


def _resnet_cells(
    vision: ResNet, maps: Float[Tensor, "C h w"], boxes: Float[Tensor, "K 4"], grid: int
) -> tuple[Float[Tensor, "K _ G G"], Float[Tensor, "K _ G G"]]:
    low = F.max_pool2d(sample_boxes(maps, boxes, 16, 2 * grid), 2)
    high = vision.stages[3](low) if len(low) else low.new_zeros(0, vision.config.widths[3], grid, grid)
    return low, high


def _third_stage(vision: ResNet, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N _ _ _"]:
    maps = vision.stem(images)
    for stage in vision.stages[:3]:
        maps = stage(maps)
    return maps


def _maps(proposer: Proposer, image: UInt8[np.ndarray, "h w 3"]) -> Maps:
    """Stem and pyramid of one image, without the detector's outputs."""
    detector = proposer.detector.first
    device = next(detector.parameters()).device
    stages = detector.stages(normalise([image], proposer.config.detector.side).to(device))
    return Maps(stages[4], detector.pyramid([stages[stride] for stride in (8, 16, 32)]), [])


def _proposed(proposer: Proposer, image: UInt8[np.ndarray, "h w 3"], device: torch.device) -> Things:
    proposals = proposer.propose(image)
    # Proposers work in inference mode; gradients need ordinary tensors, which indexing makes.
    proposals = proposals.select(list(range(len(proposals)))).float()
    groups = proposals.class_probs.argmax(dim=1)
    return Things(
        proposals.boxes.to(device),
        [CLASSES[number] for number in groups.tolist()],
        groups.to(device),
        proposals.mask_logits.to(device),
    )


def from_cells(
    given: Regions,
    contents: Sequence[tuple[int, int, int, int]],
    channels: tuple[int, int],
    attributes: Sequence[str],
    device: torch.device,
) -> list[Seen]:
    """Given regions with their cells (`Regions.cells`), of low and high `channels`; without masks.

    Raises `RefsegError` for cells of other channels.
    """
    assert given.cells is not None
    found = []
    for index, (content, cells) in enumerate(zip(contents, given.cells, strict=True)):
        if cells.shape[-1] != sum(channels):
            raise RefsegError(f"regions' cells have {cells.shape[-1]} channels, not {sum(channels)}")
        low, high = cells.to(device).split(channels, dim=-1)
        found.append(Seen(None, content, _given(given, index, attributes, device), low, high))
    return found


def _given(given: Regions, index: int, attributes: Sequence[str], device: torch.device) -> Things:
    boxes, labels = given.boxes[index].float().to(device), given.labels[index]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(labels))}
    groups = torch.tensor([numbers[name] for name in labels], dtype=torch.long, device=device)
    held = None
    if given.attributes is not None:
        rows = [[word in words for word in attributes] for words in given.attributes[index]]
        held = torch.tensor(rows, dtype=torch.bool, device=device).view(len(rows), len(attributes))
    masks = None if given.masks is None else given.masks[index].to(device)
    return Things(boxes, list(labels), groups, None, masks, held)


def _coarse_masks(proposer: Proposer, seen: Maps, boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "K M M"]:
    prototypes = proposer.detector.coarse.prototypes(seen.stem, seen.pyramid[0])
    pyramid = [level[0] for level in seen.pyramid]
    return proposer.describe(pyramid, prototypes[0], boxes * proposer.config.detector.side)[1]
