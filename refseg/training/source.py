"""Batches by step number: pictures from drawn scenes or a data set's files, each with some of its sentences."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from torch.utils.data import DataLoader, Dataset

from refseg.data.sample import ReferringDataset, Sample
from refseg.errors import ConfigError, DataError
from refseg.generation.augment import Augmenter
from refseg.generation.language.lexicon import normal_name
from refseg.training.contrast import Composition, compose
from refseg.training.interrupt import ignore_interrupts
from refseg.training.order import Order, choose, choose_balanced, positions
from refseg.training.recipe import DataRecipe, Recipe
from refseg.types import Batch, Targets

if TYPE_CHECKING:
    from refseg.training.mixture import MixedPictures

TRAIN = "train"
_TURNS, _FAR = 5, 1_000_003
"Attempts to fill a piece of a batch with readable pictures, and how far apart in the stream they look for them."


class Pictures(Protocol):
    """Pictures by number, each with its sentences. `count` is None when they never end; `notice` is for people."""

    count: int | None
    notice: str

    def samples(self, index: int) -> list[Sample]:
        """One sample a sentence of picture `index`."""

    def texts(self) -> Iterable[str]:
        """Sentences that a vocabulary is learnt from."""


def open_pictures(recipe: DataRecipe) -> FilePictures | ScenePictures | MixedPictures:
    """What `[data]` names. Raises `ConfigError` and `DataError` when it is not there or holds nothing."""
    if recipe.sources:
        from refseg.training.mixture import MixedPictures

        return MixedPictures(recipe)
    if recipe.root is None:
        return ScenePictures(replace(recipe, split=recipe.split or TRAIN))
    from refseg.data import open_dataset

    notice = ""
    try:
        dataset = open_dataset(recipe.root, recipe.dataset, recipe.split or TRAIN, split_by=recipe.split_by)
    except DataError:
        if recipe.split is not None:
            raise
        dataset = open_dataset(recipe.root, recipe.dataset, None, split_by=recipe.split_by)
        splits = sorted({sample.split for sample in dataset})
        if TRAIN in splits:
            raise
        notice = (
            f"{recipe.root} has no split {TRAIN!r}: learning from all of {', '.join(splits)}, "
            "so scores on them say nothing about other pictures"
        )
    if not len(dataset):
        raise ConfigError(f"data.root: {recipe.root} has no sentences in the split {recipe.split!r}")
    return FilePictures(dataset, recipe.unit, notice, recipe.tag_spoken)


class FilePictures:
    """The pictures of a data set on disk; with `unit` sentence every sentence is an item of its own, with `spoken_of`
    the objects of a picture's sentences stand for all its objects."""

    def __init__(self, dataset: ReferringDataset, unit: str, notice: str = "", spoken_of: bool = False) -> None:
        self.dataset, self.notice, self.spoken_of = dataset, notice, spoken_of
        if unit == "sentence":
            self.groups = [[index] for index in range(len(dataset))]
        else:
            self.groups = list(dataset.by_picture().values())
        self.count: int | None = len(self.groups)

    def samples(self, index: int) -> list[Sample]:
        samples = [self.dataset[number] for number in self.groups[index]]
        if not self.spoken_of:
            return samples
        objects = {item.ann_id: item for sample in samples for item in sample.objects}
        around = tuple(replace(item, category=normal_name(item.category)) for item in objects.values())
        return [sample if sample.surroundings else replace(sample, surroundings=around) for sample in samples]

    def texts(self) -> list[str]:
        return self.dataset.texts()


class ScenePictures:
    """Drawn scenes: endless, or with `data.pool` the first so many, kept on disk. Always grouped by picture."""

    def __init__(self, recipe: DataRecipe) -> None:
        from refseg.training.pool import DrawSamples, ScenePool

        if recipe.unit == "sentence":
            raise ConfigError("data.unit: drawn scenes are read by picture; sentence is for data sets on disk")
        self.vocabulary_pictures = min(recipe.vocabulary_pictures, recipe.pool or recipe.vocabulary_pictures)
        self.count: int | None = recipe.pool or None
        self.notice = ""
        self.read = ScenePool.of(recipe).__getitem__ if recipe.pool else DrawSamples(recipe)

    def samples(self, index: int) -> list[Sample]:
        return self.read(index)

    def texts(self) -> Iterator[str]:
        for index in range(self.vocabulary_pictures):
            yield from (sample.text for sample in self.read(index))


class Batches(Dataset):
    """The pieces of batches that one of `processes` processes reads: item n is piece n % accumulation of its step."""

    def __init__(
        self,
        pictures: Any,
        tokenizer: Any,
        input_config: Any,
        recipe: Recipe,
        process: int = 0,
        processes: int = 1,
        tags: tuple[str, ...] = (),
        boxes: bool = False,
        phrases: int = 0,
        instances: bool = False,
        contrast: Composition | None = None,
    ) -> None:
        self.pictures, self.tokenizer, self.input_config = pictures, tokenizer, input_config
        self.extras: dict[str, Any] = {"tags": tags, "boxes": boxes, "phrases": phrases, "instances": instances}
        self.contrast = contrast
        if contrast is not None:
            self.extras["groups"] = "folder" if contrast.frames else "picture"
            if contrast.compose and recipe.data.unit == "sentence":
                raise ConfigError(
                    "data.unit: learning between samples wants several sentences of a picture in a batch; choose "
                    '"picture", or set model.inter_sample.kind = "none"'
                )
        self.data, self.seed = recipe.data, recipe.training.seed
        self.accumulation, self.process, self.processes = recipe.training.accumulation, process, processes
        self.order = Order(pictures.count, self.seed)
        words = getattr(tokenizer, "words", ())
        self.augmenter = Augmenter(self.data.augment, words[2:] if words else ())

    def __getitem__(self, number: int) -> tuple[Batch, Targets]:
        from refseg.data.batches import collate

        step, piece = divmod(number, self.accumulation)
        share = positions(
            step,
            piece * self.processes + self.process,
            self.processes * self.accumulation,
            self.data.pictures_per_batch,
        )
        for turn in range(_TURNS):
            # Pictures that cannot be read are left out and logged; when no other is in the piece, others stand in.
            chosen = self._piece([position + turn * _FAR for position in share])
            try:
                return collate(chosen, self.tokenizer, self.input_config, on_error="skip", **self.extras)
            except DataError as error:
                problem = error
        raise problem

    def _piece(self, share: list[int]) -> list[Sample]:
        if self.contrast is not None and self.contrast.compose:
            each = self.data.sentences_per_picture
            return compose(self.pictures, self.order, self.seed, share, each, self.contrast)
        return [sample for position in share for sample in self._chosen(position)]

    def _chosen(self, position: int) -> list[Sample]:
        samples = self.pictures.samples(self.order.item(position))
        wanted = self.data.sentences_per_picture
        if self.data.balance:
            picked = choose_balanced(self.seed, position, [sample.kind or "" for sample in samples], wanted)
        else:
            picked = choose(self.seed, position, len(samples), wanted)
        chosen = [samples[index] for index in picked]
        if not self.data.augment:
            return chosen
        return self.augmenter(chosen, samples, random.Random(f"{self.seed} {position} augment"))

    def iterate(self, first_step: int, steps: int) -> Generator[tuple[Batch, Targets], None, None]:
        """The pieces of steps `first_step` to `steps` in order, prepared by `data.workers` processes."""
        numbers = range(first_step * self.accumulation, steps * self.accumulation)
        loader: DataLoader = DataLoader(
            self,
            batch_size=None,
            sampler=numbers,
            num_workers=self.data.workers,
            worker_init_fn=ignore_interrupts,
            collate_fn=_as_it_is,
        )
        yield from loader


def _as_it_is(item: Any) -> Any:
    return item
