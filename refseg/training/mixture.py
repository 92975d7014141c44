"""Several sources of pictures as one endless stream, each as often as its weight says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from refseg.data.sample import Sample
from refseg.generation.language.paraphrase import reword
from refseg.training.order import Order
from refseg.training.recipe import DataRecipe
from refseg.training.source import FilePictures, ScenePictures, open_pictures

_REWORDINGS = 3
"""How often a sentence is said otherwise for the vocabulary, where training says it otherwise."""


class MixedPictures:
    """The pictures of `data.sources`: place n of the stream is a pure function of the seed and n."""

    count: int | None = None

    def __init__(self, recipe: DataRecipe) -> None:
        self.recipe = recipe
        self.sources: list[FilePictures | ScenePictures] = []
        for source in recipe.sources:
            own = replace(
                recipe,
                sources=(),
                root=source.root,
                dataset=source.dataset,
                split_by=source.split_by,
                split=source.split,
            )
            opened = open_pictures(own)
            assert isinstance(opened, (FilePictures, ScenePictures))
            self.sources.append(opened)
        weights = np.array([source.weight for source in recipe.sources])
        self.shares = weights / weights.sum()
        self.orders = [Order(source.count, recipe.seed + number) for number, source in enumerate(self.sources)]
        self.notice = "; ".join(source.notice for source in self.sources if source.notice)

    def samples(self, index: int) -> list[Sample]:
        """The sentences of the picture at place `index` of the stream."""
        number = int(np.random.default_rng([self.recipe.seed, index, 2]).choice(len(self.sources), p=self.shares))
        return self.sources[number].samples(self.orders[number].item(index))

    def texts(self) -> Iterator[str]:
        """All sentences of the data sets, and some drawn ones; with `data.augment.reword` also in other words."""
        rng = random.Random(self.recipe.seed)
        again = _REWORDINGS if self.recipe.augment.reword else 0
        for source in self.sources:
            drawn = isinstance(source, ScenePictures)
            for text in source.texts():
                yield text
                for _ in range(again):
                    yield reword(text, rng, photograph=not drawn, slips=0.0)
