"""Samples to batches: pictures placed and normalised, sentences tokenised, targets drawn at the network's input size.

Sentences about the same picture share it: the picture is stored once and `Batch.picture` says which one each sentence
belongs to, so that late-fusion systems encode it once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refseg.data.groups import group_numbers
from refseg.data.phrase_targets import enclosing_boxes, phrase_boxes, phrase_masks, placed_phrases
from refseg.data.sample import ReferringDataset, Sample
from refseg.data.transforms import InputConfig, place_image, place_objects
from refseg.errors import DataError, RefsegError
from refseg.inference.segmentation import Geometry
from refseg.types import Batch, Targets, Tokens

_LOG = logging.getLogger(__name__)

Tokenizer = Callable[[list[str]], Tokens]


@dataclass(frozen=True)
class Loaded:
    """A batch with what evaluation needs beside it: the samples in the batch's order, and each sentence's geometry."""

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
    groups: Literal["picture", "folder"] | None = None,
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
        groups=groups,
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
    groups: Literal["picture", "folder"] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Loaded:
    """Read, place and tokenise.

    Args:
        samples: B samples in any order; those about one picture share it in the batch.
        tokenizer: sentences to `Tokens`.
        input_config: how pictures are placed. Pictures of different input sizes ("longest") are padded at the right and
            the bottom to the largest.
        instances: also give the targets' masks one by one (`Targets.instances`).
        boxes: also give one box a sentence (`Targets.boxes`, P = 1): around all its targets, zeros without target.
            Objects that are annotated by a box only are then allowed, their masks are empty; without it they raise.
        tags: also give where these words hold in each picture (`Targets.tags`), if all pictures' objects are known.
        phrases: with P > 0 also give up to P phrases of each sentence that have objects (`Batch.phrases`; the whole
            sentence where none is annotated), in `Targets.boxes`, (B, P, 4), the box around each one's objects, and in
            `Targets.instances` the mask of each one where the masks of all are known, otherwise None.
        groups: also give which sentences mean the same objects and which share a picture (`Targets.groups`); with
            "folder" pictures of one folder count as one, as the frames of a video.
        on_error: what a picture or mask that cannot be read does: end in its `RefsegError`, or leave its sentences out
            with a line in the log.

    Raises: `DataError` for no samples, or when with "skip" none is left.
    """
    if not samples:
        raise DataError("a batch needs at least one sample")
    pictures: dict[Hashable, int] = {}
    placed: list[tuple[Tensor, Tensor, Geometry]] = []
    failed: dict[Hashable, RefsegError] = {}
    kept: list[Sample] = []
    belongs: list[int] = []
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
            if phrases:
                # Here, so that a phrase that cannot be placed costs its own sentence alone.
                placed_phrases([sample], tokenizer, phrases)
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
        belongs.append(pictures[key])
    if not kept:
        raise DataError(f"none of the {len(samples)} samples of a batch can be read (the first: {samples[0].id})")
    images, pixel_mask, geometries = _stack(placed, input_config)
    one_each = belongs == list(range(len(placed)))
    own_geometries = [geometries[index] for index in belongs]
    parts, boxes_of = None, enclosing_boxes(kept, own_geometries) if boxes else None
    if phrases:
        parts = placed_phrases(kept, tokenizer, phrases)
        boxes_of = phrase_boxes(kept, own_geometries, phrases)
    batch = Batch(
        images,
        pixel_mask,
        tokenizer([sample.text for sample in kept]),
        parts,
        picture=None if one_each else torch.tensor(belongs),
    )
    size = images.shape[2:]
    apart = [
        [_extend(masks[_picture_key(sample), item.ann_id, item.bbox], size) for item in sample.objects]
        for sample in kept
    ]
    empty = torch.zeros(*size, dtype=torch.bool)
    singly = [torch.stack(own) if own else empty[None][:0] for own in apart] if instances else None
    if phrases:
        singly = phrase_masks(kept, apart, empty, phrases)
    targets = Targets(
        masks=torch.stack([torch.stack(own).any(dim=0) if own else empty for own in apart]),
        no_target=torch.tensor([sample.no_target for sample in kept]),
        boxes=boxes_of,
        instances=singly,
        tags=_tag_maps(kept, belongs, geometries, input_config, tags, size) if tags else None,
        groups=group_numbers(kept, [_picture_key(item) for item in kept], groups) if groups else None,
    )
    return Loaded(batch, targets, tuple(kept), tuple(own_geometries))


def _tag_maps(
    samples: Sequence[Sample],
    belongs: Sequence[int],
    geometries: Sequence[Geometry],
    input_config: InputConfig,
    tags: Sequence[str],
    size: Sequence[int],
) -> Bool[Tensor, "N T h w"] | None:
    """Where each word holds, at stride 4, of each picture; None when the objects of one of them are not all known."""
    numbers = {tag: number for number, tag in enumerate(tags)}
    maps = torch.zeros(len(geometries), len(tags), -(-size[0] // 4), -(-size[1] // 4), dtype=torch.bool)
    first = dict(zip(reversed(belongs), reversed(samples), strict=True))
    for picture, sample in first.items():
        if not sample.surroundings:
            return None
        for item in sample.surroundings:
            mask = _extend(place_objects([item], geometries[picture], input_config)[0], size)[::4, ::4]
            for tag in (item.category, *item.tags):
                if tag in numbers:
                    maps[picture, numbers[tag]] |= mask
    return maps


class PictureBatches(Sequence[list[int]]):
    """One epoch as batches of sample indices, grouped by picture; a pure function of data set, seed and epoch.

    A picture's sentences are cut into groups of at most `sentences`; a batch holds `pictures` groups, so every sentence
    comes once an epoch. Of `world` processes each takes every world-th group; all have equally many batches: groups
    that would make the last batches uneven are left for the next epoch's order (with one process nothing is left out
    unless `drop_last`).
    """

    def __init__(
        self,
        dataset: ReferringDataset,
        pictures: int,
        sentences: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if min(pictures, sentences, world) < 1 or not 0 <= rank < world:
            raise DataError(f"batches of {pictures} pictures x {sentences} sentences, process {rank} of {world}")
        order = np.random.default_rng([seed, epoch])
        groups: list[list[int]] = []
        for indices in dataset.by_picture().values():
            own = [int(value) for value in order.permutation(indices)] if shuffle else indices
            groups += [own[start : start + sentences] for start in range(0, len(own), sentences)]
        if shuffle:
            groups = [groups[index] for index in order.permutation(len(groups))]
        groups = groups[: len(groups) // world * world][rank::world]
        if drop_last:
            groups = groups[: len(groups) // pictures * pictures]
        self.batches = [
            [index for group in groups[start : start + pictures] for index in group]
            for start in range(0, len(groups), pictures)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[int]:  # type: ignore[override]
        return self.batches[index]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class BatchDataset(torch.utils.data.Dataset[Loaded]):
    """Each item is a whole loaded batch, so that a `DataLoader` with `batch_size=None` reads batches in its workers."""

    def __init__(
        self,
        dataset: ReferringDataset,
        batches: Sequence[list[int]],
        tokenizer: Tokenizer,
        input_config: InputConfig,
        **options: Any,
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self.tokenizer = tokenizer
        self.input_config = input_config
        self.options = options

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Loaded:
        samples = [self.dataset[position] for position in self.batches[index]]
        return load_batch(samples, self.tokenizer, self.input_config, **self.options)


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
