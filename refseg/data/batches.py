"""Samples to batches: pictures placed and normalised, expressions tokenised, targets drawn at the network's input size.

Expressions about the same picture share it: the picture is stored once and `Batch.image_index` says which one each
expression refers to, so that late-fusion systems encode it once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from refseg.data.phrase_targets import PlacePhrases, enclosing_boxes, phrase_boxes, phrase_masks, phrases_of
from refseg.data.regions import annotated_regions
from refseg.data.sample import Sample
from refseg.data.transforms import place_image, place_objects
from refseg.errors import DataError, RefsegError
from refseg.geometry import Geometry, InputConfig
from refseg.types import Batch, Targets, Tokens

_LOG = logging.getLogger(__name__)

Tokenizer = Callable[[list[str]], Tokens]


@dataclass(frozen=True)
class Loaded:
    """A batch and what evaluation needs beside it: the samples in the batch's order, each expression's geometry."""

    batch: Batch
    targets: Targets
    samples: tuple[Sample, ...]
    geometries: tuple[Geometry, ...]


def collate(
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    input_config: InputConfig,
    *,
    instances: bool = False,
    boxes: bool = False,
    tags: Sequence[str] = (),
    phrases: int = 0,
    place_phrases: PlacePhrases | None = None,
    groups: Literal["picture", "folder"] | None = None,
    regions: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
) -> tuple[Batch, Targets]:
    """The samples as a batch and its targets; see `load_batch`."""
    loaded = load_batch(
        samples,
        tokenizer,
        input_config,
        instances=instances,
        boxes=boxes,
        tags=tags,
        phrases=phrases,
        place_phrases=place_phrases,
        groups=groups,
        regions=regions,
        on_error=on_error,
    )
    return loaded.batch, loaded.targets


def load_batch(
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    input_config: InputConfig,
    *,
    instances: bool = False,
    boxes: bool = False,
    tags: Sequence[str] = (),
    phrases: int = 0,
    place_phrases: PlacePhrases | None = None,
    groups: Literal["picture", "folder"] | None = None,
    regions: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
) -> Loaded:
    """Read, place and tokenise.

    Args:
        samples: B samples in any order; those about one picture share it in the batch.
        tokenizer: expressions to `Tokens`.
        input_config: how pictures are placed. Pictures of different input sizes ("longest") are padded at the right and
            the bottom to the largest.
        instances: also give the targets' masks one by one (`Targets.instances`).
        boxes: also give one box per expression (`Targets.boxes`, P = 1): around all its targets, zeros without target.
            Objects that are annotated by a box only are then allowed, their masks are empty; without it they raise.
        tags: also give where these words hold in each picture (`Targets.tags`), if all pictures' objects are known.
        phrases: with P > 0 also give up to P phrases of each expression that have objects (`Batch.phrases`; the whole
            expression where none is annotated), in `Targets.boxes`, (B, P, 4), the box around each one's objects, and
            in `Targets.instances` the mask of each one where the masks of all are known, otherwise None.
        place_phrases: finds phrases among an expression's tokens (`refseg.encoders.text.phrases.place_phrases`); needed
            with `phrases`.
        groups: also give which expressions refer to the same objects and which share a picture (`Targets.groups`); with
            "folder" pictures of one folder count as one, as the frames of a video.
        regions: also give the annotated things of each picture (`Batch.regions`): its surroundings where they are
            known, otherwise the targets of its expressions in this batch.
        on_error: what a picture or mask that cannot be read does: end in its `RefsegError`, or leave its expressions
            out with a line in the log.

    Raises: `DataError` for no samples, or when with "skip" none is left.
    """
    if not samples:
        raise DataError("a batch needs at least one sample")
    if phrases and place_phrases is None:
        raise DataError("phrases need place_phrases, which finds them among an expression's tokens")
    pictures: dict[Hashable, int] = {}
    placed: list[tuple[Tensor, Tensor, Geometry]] = []
    failed: dict[Hashable, RefsegError] = {}
    kept: list[Sample] = []
    image_index: list[int] = []
    masks: dict[Hashable, Tensor] = {}
    for sample in samples:
        key = _picture_key(sample)
        try:
            if key in failed:
                continue
            if key not in pictures:
                item = place_image(sample.read_image(), input_config)
                pictures[key] = len(placed)
                placed.append(item)
            if phrases and not sample.objects and not sample.no_target:
                raise DataError(f"sample {sample.id}: no phrase of {sample.text!r} has a box")
            if phrases and place_phrases is not None:
                # Here, so that a phrase that cannot be placed costs its own expression alone.
                place_phrases([sample.text], [phrases_of(sample, phrases)], tokenizer, max_phrases=phrases)
            geometry = placed[pictures[key]][2]
            for instance in sample.objects:
                mask_key = (key, instance.ann_id, instance.bbox)
                if mask_key not in masks and instance.segmentation is None and (boxes or phrases) and not instances:
                    masks[mask_key] = torch.zeros(*geometry.model_size, dtype=torch.bool)
                elif mask_key not in masks:
                    masks[mask_key] = place_objects([instance], geometry, input_config)[0]
        except RefsegError as error:
            if on_error == "raise":
                raise
            _LOG.warning("sample %s is left out: %s", sample.id, error)
            if key not in pictures:
                failed[key] = error
            continue
        kept.append(sample)
        image_index.append(pictures[key])
    if not kept:
        raise DataError(f"none of the {len(samples)} samples of a batch can be read (the first: {samples[0].id})")
    images, pixel_mask, geometries = _stack(placed, input_config)
    one_each = image_index == list(range(len(placed)))
    each_geometry = [geometries[index] for index in image_index]
    parts, boxes_of = None, enclosing_boxes(kept, each_geometry) if boxes else None
    if phrases and place_phrases is not None:
        texts = [sample.text for sample in kept]
        parts = place_phrases(texts, [phrases_of(sample, phrases) for sample in kept], tokenizer, max_phrases=phrases)
        boxes_of = phrase_boxes(kept, each_geometry, phrases)
    batch = Batch(
        images,
        pixel_mask,
        tokenizer([sample.text for sample in kept]),
        parts,
        image_index=None if one_each else torch.tensor(image_index),
        regions=annotated_regions(kept, image_index) if regions else None,
    )
    size = images.shape[2:]
    target_masks = [
        [_extend(masks[_picture_key(sample), item.ann_id, item.bbox], size) for item in sample.objects]
        for sample in kept
    ]
    empty = torch.zeros(*size, dtype=torch.bool)
    singly = [torch.stack(own) if own else empty[None][:0] for own in target_masks] if instances else None
    if phrases:
        singly = phrase_masks(kept, target_masks, empty, phrases)
    targets = Targets(
        masks=torch.stack([torch.stack(own).any(dim=0) if own else empty for own in target_masks]),
        no_target=torch.tensor([sample.no_target for sample in kept]),
        boxes=boxes_of,
        instances=singly,
        tags=_tag_maps(kept, image_index, geometries, input_config, tags, size) if tags else None,
        groups=group_numbers(kept, [_picture_key(item) for item in kept], groups) if groups else None,
    )
    return Loaded(batch, targets, tuple(kept), tuple(each_geometry))


def _tag_maps(
    samples: Sequence[Sample],
    image_index: Sequence[int],
    geometries: Sequence[Geometry],
    input_config: InputConfig,
    tags: Sequence[str],
    size: Sequence[int],
) -> Bool[Tensor, "N T h w"] | None:
    """Where each word holds, at stride 4, of each picture; None when the objects of one of them are not all known."""
    numbers = {tag: number for number, tag in enumerate(tags)}
    maps = torch.zeros(len(geometries), len(tags), -(-size[0] // 4), -(-size[1] // 4), dtype=torch.bool)
    first = dict(zip(reversed(image_index), reversed(samples), strict=True))
    for picture, sample in first.items():
        if not sample.surroundings:
            return None
        for item in sample.surroundings:
            mask = _extend(place_objects([item], geometries[picture], input_config)[0], size)[::4, ::4]
            for tag in (item.category, *item.tags):
                if tag in numbers:
                    maps[picture, numbers[tag]] |= mask
    return maps


def group_numbers(
    samples: Sequence[Sample], pictures: Sequence[Hashable], by: Literal["picture", "folder"]
) -> Int[Tensor, "B 2"]:
    """A number for each expression's set of objects and one for its picture, as `Targets.groups` has them.

    `pictures` are what tells the samples' pictures apart. With "folder" pictures of one folder count as one, as the
    frames of a video, whose objects keep their numbers from frame to frame.
    """
    first: dict[Hashable, int] = {}
    rows = []
    for number, (sample, key) in enumerate(zip(samples, pictures, strict=True)):
        picture = sample.image_path.parent if by == "folder" and sample.image_path is not None else key
        targets: Hashable = frozenset(item.ann_id for item in sample.objects) or number
        rows.append([first.setdefault(entry, number) for entry in ((picture, targets), (picture, None))])
    return torch.tensor(rows)


def _picture_key(sample: Sample) -> Hashable:
    if sample.image is not None:
        return sample.image_id, id(sample.image)
    return sample.image_path if sample.stored is None else sample.stored


def _stack(
    placed: list[tuple[Tensor, Tensor, Geometry]], config: InputConfig
) -> tuple[Float[Tensor, "N 3 H W"], Bool[Tensor, "N H W"], list[Geometry]]:
    height = max(item[0].shape[1] for item in placed)
    width = max(item[0].shape[2] for item in placed)
    if all(item[0].shape[1:] == (height, width) for item in placed):
        images, real, geometries = zip(*placed, strict=True)
        return torch.stack(images), torch.stack(real), list(geometries)
    colour = config.mean if config.padding is None else config.padding
    filling = torch.tensor([(c - m) / s for c, m, s in zip(colour, config.mean, config.std, strict=True)])
    images_ = filling.view(1, 3, 1, 1).expand(len(placed), 3, height, width).clone()
    for index, (image, _, _) in enumerate(placed):
        images_[index, :, : image.shape[1], : image.shape[2]] = image
    pixel_mask = torch.stack([_extend(real, (height, width)) for _, real, _ in placed])
    return images_, pixel_mask, [replace(geometry, model_size=(height, width)) for _, _, geometry in placed]


def _extend(mask: Bool[Tensor, "h w"], size: Sequence[int]) -> Bool[Tensor, "H W"]:
    """The mask with False added at the right and the bottom up to `size`."""
    if tuple(mask.shape) == tuple(size):
        return mask
    return torch.nn.functional.pad(mask, (0, size[1] - mask.shape[1], 0, size[0] - mask.shape[0]))
