"""Batches by step number: pictures from drawn scenes or a data set's files, each with some of its expressions."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from refseg.data import open_dataset
from refseg.data.batches import collate
from refseg.data.leak import without
from refseg.data.sample import ReferringDataset, Sample
from refseg.encoders.text.phrases import place_phrases
from refseg.encoders.text.tokenizer import Tokenizer, WordTokenizer
from refseg.errors import ConfigError, DataError, RefsegError
from refseg.generation.augment import Augmenter
from refseg.generation.language.lexicon import normal_name
from refseg.generation.language.paraphrase import paraphrase
from refseg.geometry import InputConfig
from refseg.processors import at_most
from refseg.training.clips import ClipPictures
from refseg.training.pool import DrawSamples, ScenePool
from refseg.training.recipe import DataRecipe, Recipe
from refseg.training.sampling import Order, Pictures, check_composed, choose, choose_balanced, compose, positions
from refseg.training.visual_cache import PictureCache
from refseg.training.workers import prepared
from refseg.types import Batch, Needs, Targets

TRAIN = "train"
_LOG = logging.getLogger(__name__)
_TURNS, _FAR = 5, 1_000_003
"Attempts to fill a piece of a batch with readable pictures, and how far apart in the stream they look for them."
_PARAPHRASES = 3
"How many paraphrases of an expression a vocabulary is learnt from, where training paraphrases."


def open_pictures(recipe: DataRecipe) -> Pictures:
    """What `[data]` names. Raises `ConfigError` and `DataError` when it is not there or holds nothing."""
    if recipe.sources:
        return MixedPictures(recipe)
    if recipe.root is None:
        return ScenePictures(replace(recipe, split=recipe.split or TRAIN))
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
        raise ConfigError(f"data.root: {recipe.root} has no expressions in the split {recipe.split!r}")
    if recipe.frames > 1:
        return ClipPictures(dataset, recipe.frames, recipe.unit, notice)
    if recipe.exclude:
        dataset, left_out = _without_listed(dataset, recipe.exclude)
        notice = "; ".join(filter(None, (notice, left_out)))
    return FilePictures(dataset, recipe.unit, notice, recipe.tag_spoken)


def _without_listed(dataset: ReferringDataset, files: Sequence[str]) -> tuple[ReferringDataset, str]:
    """The data set without the pictures that the files list, and a sentence that says how many those are.

    Raises `ConfigError` for a file that cannot be read or lists nothing, and where no picture is left.
    """
    numbers: set[int] = set()
    for name in files:
        try:
            text = Path(name).read_text(encoding="utf-8")
            if name.endswith(".json"):
                found = {int(item["train_id"]) for item in json.loads(text)["shared"]}
            else:
                found = {int(line) for line in text.split()}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"data.exclude: {name} cannot be read ({error})") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            wanted = "a report of `refseg data leak --json`, or a picture's number a line, is wanted"
            raise ConfigError(f"data.exclude: {name}: {wanted} ({error!r})") from error
        numbers |= found
    before = len(dataset.by_picture())
    kept = without(dataset, numbers)
    if not len(kept):
        raise ConfigError(f"data.exclude: {', '.join(files)} list every picture of {dataset.name}")
    return kept, f"{before - len(kept.by_picture()):,} of {before:,} pictures are left out ({', '.join(files)})"


class FilePictures:
    """The pictures of a data set on disk; with `unit` "sentence" every expression is an item of its own, with
    `tag_spoken` the targets of a picture's expressions stand for all its objects."""

    def __init__(self, dataset: ReferringDataset, unit: str, notice: str = "", tag_spoken: bool = False) -> None:
        self.dataset, self.notice, self.tag_spoken = dataset, notice, tag_spoken
        by_picture = unit != "sentence"
        self.groups = list(dataset.by_picture().values()) if by_picture else [[index] for index in range(len(dataset))]
        self.count: int | None = len(self.groups)

    def size(self, of: Literal["item", "object", "sentence"]) -> int:
        """How many items, things that expressions are about, or expressions there are."""
        if of == "object":
            return len({(sample.image_id, item.ann_id) for sample in self.dataset for item in sample.objects})
        return len(self.groups) if of == "item" else len(self.dataset)

    def samples(self, index: int) -> list[Sample]:
        samples = [self.dataset[number] for number in self.groups[index]]
        if not self.tag_spoken:
            return samples
        objects = {item.ann_id: item for sample in samples for item in sample.objects}
        around = tuple(replace(item, category=normal_name(item.category)) for item in objects.values())
        return [sample if sample.surroundings else replace(sample, surroundings=around) for sample in samples]

    def texts(self) -> list[str]:
        return self.dataset.texts()


class ScenePictures:
    """Drawn scenes: endless, or with `data.pool` the first so many, kept on disk. Always grouped by picture."""

    def __init__(self, recipe: DataRecipe) -> None:
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


class MixedPictures:
    """The pictures of `data.sources` as one endless stream, each source as often as its weight says: place n of the
    stream is a pure function of the seed and n."""

    count: int | None = None

    def __init__(self, recipe: DataRecipe) -> None:
        self.recipe = recipe
        self.sources = [
            open_pictures(
                replace(
                    recipe,
                    sources=(),
                    root=source.root,
                    dataset=source.dataset,
                    split_by=source.split_by,
                    split=source.split,
                )
            )
            for source in recipe.sources
        ]
        weights = np.array([source.weight for source in recipe.sources])
        self.shares = weights / weights.sum()
        self.orders = [Order(source.count, recipe.seed + number) for number, source in enumerate(self.sources)]
        self.notice = "; ".join(source.notice for source in self.sources if source.notice)

    def samples(self, index: int) -> list[Sample]:
        number = int(np.random.default_rng([self.recipe.seed, index, 2]).choice(len(self.sources), p=self.shares))
        return self.sources[number].samples(self.orders[number].item(index))

    def texts(self) -> Iterator[str]:
        """All expressions of the data sets, and some drawn ones; with `data.augment.paraphrase` also paraphrases."""
        rng = random.Random(self.recipe.seed)
        again = _PARAPHRASES if self.recipe.augment.paraphrase else 0
        for source in self.sources:
            photograph = not isinstance(source, ScenePictures)
            for text in source.texts():
                yield text
                for _ in range(again):
                    yield paraphrase(text, rng, photograph=photograph, slips=0.0)


class Batches(Dataset):
    """The pieces of batches that one of `processes` processes reads: item n is piece n % accumulation of its step."""

    def __init__(
        self,
        pictures: Pictures,
        tokenizer: Tokenizer,
        input_config: InputConfig,
        recipe: Recipe,
        process: int = 0,
        processes: int = 1,
        needs: Needs | None = None,
        cache: PictureCache | None = None,
    ) -> None:
        self.pictures, self.tokenizer, self.input_config = pictures, tokenizer, input_config
        self.cache = cache
        self.needs = needs or Needs()
        self.contrast = self.needs.contrast
        if self.contrast is not None and self.contrast.compose and recipe.data.unit == "sentence":
            raise ConfigError(
                "data.unit: learning between samples wants several expressions of a picture in a batch; choose "
                '"picture", or set model.inter_sample.kind = "none"'
            )
        self.data, self.seed = recipe.data, recipe.training.seed
        self.accumulation, self.process, self.processes = recipe.training.accumulation, process, processes
        self.composed = self.contrast if self.contrast is not None and self.contrast.compose else None
        if self.composed is not None and cache is not None:
            raise ConfigError(
                "data.feature_cache: batches composed for learning between samples take no maps from a cache; set "
                "model.inter_sample.compose = false, or leave the cache out"
            )
        if self.composed is not None and isinstance(pictures, ClipPictures):
            # A clip has the neighbouring frames in it.
            self.composed = replace(self.composed, frames=0)
        if self.composed is not None:
            pieces = processes * self.accumulation
            check_composed(self.data.pictures_per_batch, self.data.sentences_per_picture, pieces, self.composed)
        self.order = Order(pictures.count, self.seed)
        words = tokenizer.words[2:] if isinstance(tokenizer, WordTokenizer) else ()  # without the two special ones
        self.augmenter = Augmenter(self.data.augment, words)

    def __getitem__(self, number: int) -> tuple[Batch, Targets]:
        step, turn_of_process = divmod(number, self.accumulation)
        piece, pieces = turn_of_process * self.processes + self.process, self.processes * self.accumulation
        whole = self.data.pictures_per_batch
        # Losses between samples want the batch composed as a whole, and cut afterwards.
        share = positions(step, piece, pieces, whole) if self.composed is None else positions(step, 0, 1, whole)
        needs = self.needs
        groups = None if self.contrast is None else "folder" if self.contrast.frames else "picture"
        for turn in range(_TURNS):
            # Pictures that cannot be read are left out and logged; when no other is in the piece, others stand in.
            here = [position + turn * _FAR for position in share]
            try:
                chosen = self._piece(here, piece, pieces)
                load = partial(
                    collate,
                    tokenizer=self.tokenizer,
                    input_config=self.input_config,
                    instances=needs.instances,
                    boxes=needs.boxes,
                    tags=needs.tags,
                    phrases=needs.phrases,
                    place_phrases=place_phrases,
                    groups=groups,  # type: ignore[arg-type]
                    regions=needs.regions,
                )
                if isinstance(self.pictures, ClipPictures):
                    batch, targets = self.pictures.batch(chosen, load)
                else:
                    batch, targets = load(chosen, on_error="skip")
            except DataError as error:
                problem = error
                continue
            if self.cache is not None:
                batch = self.cache.join(batch, self._numbers(here, len(batch.images)))
            if self.composed is not None:
                # The batch's loss is the mean over its pieces.
                targets = replace(targets, initial_weight=float(pieces) if piece == 0 else 0.0)
            return batch, targets
        raise problem

    def _numbers(self, share: list[int], images: int) -> list[int]:
        """The numbers of the pictures at these places of the stream, of which a batch has each once."""
        numbers = list(dict.fromkeys(self.order.item(position) for position in share))
        if len(numbers) != images:
            raise ConfigError(
                f"data.feature_cache: {len(numbers)} pictures are in the cache, and {images} of them could be read"
            )
        return numbers

    def _piece(self, share: list[int], piece: int, pieces: int) -> list[Sample]:
        if self.composed is not None:
            each = self.data.sentences_per_picture
            return compose(self.pictures, self.order, self.seed, share, each, self.composed, piece, pieces)
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
        try:
            return self.augmenter(chosen, samples, random.Random(f"{self.seed} {position} augment"))
        except RefsegError as error:
            # What of the picture cannot be read is left out where the batch is made, sample by sample.
            _LOG.warning("picture %s is not augmented: %s", chosen[0].image_id, error)
            return chosen

    def iterate(self, first_step: int, steps: int) -> Generator[tuple[Batch, Targets], None, None]:
        """The pieces of steps `first_step` to `steps` in order, prepared by `data.workers` processes (at most one a
        processor), which are ended with the generator.

        Raises what reading a piece raises, and `WorkerError` when one of the processes was killed.
        """
        numbers = range(first_step * self.accumulation, steps * self.accumulation)
        yield from prepared(self, numbers, at_most(self.data.workers))
