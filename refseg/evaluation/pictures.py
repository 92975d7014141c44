"""A data set picture by picture through a model: pictures read and placed, expressions answered, nothing kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refseg.data.sample import ReferringDataset, Sample
from refseg.data.transforms import place_image, place_objects
from refseg.errors import RefsegError
from refseg.evaluation.workers import watched
from refseg.geometry import Geometry, InputConfig
from refseg.inference.pipeline import encode_images
from refseg.processors import at_most
from refseg.types import Batch, Output, ReferringModel, Targets, Tokens

__all__ = ["Answered", "Oracle", "Picture", "answers", "by_picture", "read_pictures", "same_size", "targets_of"]

Tokenizer: TypeAlias = Callable[[list[str]], Tokens]

Oracle: TypeAlias = Callable[[Batch, Targets, Output], Output]
"""What a model would have answered if one of its parts were right: from the batch, what is meant, and its answer."""


@dataclass(frozen=True)
class Picture:
    """A picture on the network's input, and the samples about it."""

    image: Float[Tensor, "3 H W"]
    pixel_mask: Bool[Tensor, "H W"]
    geometry: Geometry
    samples: list[Sample]


class Answered(NamedTuple):
    """The output for some samples, where each one's picture lies in the input, and the input's (height, width)."""

    samples: list[Sample]
    geometries: list[Geometry]
    output: Output
    size: tuple[int, int]


def by_picture(dataset: Sequence[Sample]) -> list[list[int]]:
    """The numbers of the samples of each picture."""
    if isinstance(dataset, ReferringDataset):
        return list(dataset.by_picture().values())
    groups_by_image: dict[int, list[int]] = {}
    for index in range(len(dataset)):
        groups_by_image.setdefault(dataset[index].image_id, []).append(index)
    return list(groups_by_image.values())


class _Pictures(torch.utils.data.Dataset[Any]):
    """Item k is the k-th picture, read and placed; or its samples' ids with what is wrong with it."""

    def __init__(self, dataset: Sequence[Sample], pictures: list[list[int]], config: InputConfig) -> None:
        self.dataset, self.pictures, self.config = dataset, pictures, config

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture | tuple[list[str], str]:
        samples = [self.dataset[position] for position in self.pictures[index]]
        try:
            return Picture(*place_image(samples[0].read_image(), self.config), samples)
        except RefsegError as error:
            return [sample.id for sample in samples], str(error)


def read_pictures(
    dataset: Sequence[Sample],
    pictures: list[list[int]],
    config: InputConfig,
    workers: int,
    unreadable: list[tuple[str, str]],
) -> Iterator[Picture]:
    """The pictures in order, read by `workers` processes, at most one a processor (0: this one); `unreadable` gets the
    sample and the reason for each sample about a picture that cannot be read.

    Raises `WorkerError` when one of the processes was killed."""
    source = _Pictures(dataset, pictures, config)
    items: Any = (source[index] for index in range(len(source)))
    if workers:
        items = watched(torch.utils.data.DataLoader(source, batch_size=None, num_workers=at_most(workers)))
    for item in items:
        if isinstance(item, Picture):
            yield item
        else:
            unreadable += [(identity, item[1]) for identity in item[0]]


def same_size(pictures: Iterator[Picture], expressions: int) -> Iterator[list[Picture]]:
    """Neighbouring pictures of one input size with at most `expressions` expressions together, but at least one."""
    group: list[Picture] = []
    for picture in pictures:
        full = sum(len(entry.samples) for entry in group) + len(picture.samples) > expressions
        if group and (full or picture.image.shape != group[0].image.shape):
            yield group
            group = []
        group.append(picture)
    if group:
        yield group


def answers(
    model: ReferringModel[object],
    tokenizer: Tokenizer,
    group: list[Picture],
    batch_size: int,
    device: torch.device,
    oracle: Oracle | None = None,
) -> Iterator[Answered]:
    """The model's output for all expressions of some pictures of one input size, at most `batch_size` at once."""
    images = torch.stack([entry.image for entry in group]).to(device)
    pixel_mask = torch.stack([entry.pixel_mask for entry in group]).to(device)
    originals = [entry.samples[0].read_image() for entry in group] if model.needs.reads_pictures else []
    state = encode_images(model, images, pixel_mask, originals) if model.late_fusion else None
    pairs = [(number, sample) for number, entry in enumerate(group) for sample in entry.samples]
    for start in range(0, len(pairs), batch_size):
        part = pairs[start : start + batch_size]
        samples, geometries = [sample for _, sample in part], [group[number].geometry for number, _ in part]
        tokens = tokenizer([sample.text for sample in samples]).to(device)
        picture = torch.tensor([number for number, _ in part], device=device)
        used, local = picture.unique(return_inverse=True)
        batch = Batch(images[used], pixel_mask[used], tokens, image_index=local)
        if model.late_fusion:
            output = model.decode(state, model.encode_text(tokens), picture)
        else:
            output = model(batch)
        if oracle is not None:
            output = oracle(batch, targets_of(samples, geometries, model.config.input).to(device), output)
        yield Answered(samples, geometries, output, (int(images.shape[-2]), int(images.shape[-1])))


def targets_of(samples: Sequence[Sample], geometries: Sequence[Geometry], config: InputConfig) -> Targets:
    """What the samples mean, at the network's input size, together and one by one; raises `DataError` where a mask is
    not known."""
    singly = [
        place_objects(sample.objects, geometry, config) for sample, geometry in zip(samples, geometries, strict=True)
    ]
    none = torch.tensor([sample.no_target for sample in samples])
    return Targets(torch.stack([masks.any(dim=0) for masks in singly]), none, instances=singly)
