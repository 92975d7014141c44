"""Scoring during training, with the same code as `refseg evaluate`, and pictures of what the model answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from torch import nn

from refseg.data.sample import ReferringDataset, Sample
from refseg.errors import ConfigError, DataError, RefsegError
from refseg.evaluation.clips import first_clips
from refseg.inference.segmentation import Segmentation
from refseg.metrics.protocols import get_protocol
from refseg.training.monitor import Monitor
from refseg.training.recipe import Recipe
from refseg.types import Tokens


class Evaluation:
    """The data set that `[evaluation]` names, opened once; `score` is called at every evaluation."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe.evaluation
        self.dataset = open_evaluation(recipe)

    def score(
        self, model: nn.Module, tokenizer: Callable[[list[str]], Tokens], monitor: Monitor, step: int
    ) -> dict[str, float]:
        """The metrics of the protocol (fractions 0 to 1); the monitor gets the sample pictures."""
        from refseg.evaluation.evaluate import evaluate_model

        if self.recipe.samples:
            sheet = self._predictions(model, tokenizer)
            if sheet is not None:
                monitor.picture("answers", step, sheet)
        return dict(evaluate_model(model, tokenizer, self.dataset, self.recipe.protocol))

    def _predictions(self, model: nn.Module, tokenizer: Callable[[list[str]], Tokens]) -> Image.Image | None:
        """One sheet: a row per expression, the target on the left and the prediction on the right.

        None where no picture can be read.
        """
        from refseg.inference.predictor import Segmenter
        from refseg.inference.visualize import contact_sheet, overlay

        segmenter = Segmenter(model, tokenizer, {}, device=str(next(model.parameters()).device))
        tiles = []
        for number in _spread(self.dataset, self.recipe.samples):
            sample = self.dataset[number]
            try:
                image, target = sample.read_image(), target_segmentation(sample)
            except RefsegError:  # the score tells of it, and counts without
                continue
            tiles += [overlay(image, target), overlay(image, segmenter(image, sample.text))]
        return contact_sheet(tiles, columns=2) if tiles else None


def open_evaluation(recipe: Recipe) -> ReferringDataset:
    """The expressions of the first `evaluation.pictures` pictures of the split: drawn scenes or a data set on disk."""
    evaluation, data = recipe.evaluation, recipe.data
    root = evaluation.root or data.root
    if root is None:
        if not evaluation.pictures:
            raise ConfigError("evaluation.pictures: drawn scenes never end; 1 or more is wanted")
        from refseg.generation.scenes import SceneDataset, drawn_samples

        count, split = evaluation.pictures, evaluation.split
        return drawn_samples(SceneDataset(data.seed, count, data.size, data.sentences, split, data.plus, data.close_up))
    from refseg.data import open_dataset

    name = evaluation.dataset if evaluation.root else evaluation.dataset or data.dataset
    split_by = evaluation.split_by if evaluation.root else evaluation.split_by or data.split_by
    try:
        dataset = open_dataset(root, name, evaluation.split, split_by=split_by)
        if not len(dataset):
            raise DataError(f"{root}: the split {evaluation.split!r} has no expressions")
    except DataError as error:
        raise DataError(f"evaluation: {error}; set evaluation.split, or evaluation.every=0 to train without") from error
    if get_protocol(evaluation.protocol).task == "video":
        return first_clips(dataset, videos=evaluation.pictures)
    groups = list(dataset.by_picture().values())[: evaluation.pictures or None]
    return dataset.subset([number for group in groups for number in group])


def target_segmentation(sample: Sample) -> Segmentation:
    """The annotation of a sample as a `Segmentation`, to draw beside the model's; the insides of boxes where an object
    has no outline."""
    if any(item.segmentation is None for item in sample.objects):
        mask = np.zeros(sample.size, dtype=bool)
        for left, top, right, bottom in sample.boxes().round().astype(int).clip(0).tolist():
            mask[top:bottom, left:right] = True
    else:
        mask = sample.mask()
    none = float(sample.no_target)
    return Segmentation(
        mask, np.zeros((0, 4)) if sample.no_target else sample.boxes(), sample.no_target, none, 1 - none, sample.text
    )


def _spread(dataset: ReferringDataset, wanted: int) -> list[int]:
    """Numbers of samples evenly over the data set, so that they show different pictures and kinds."""
    return sorted({int(place) for place in np.linspace(0, len(dataset) - 1, min(wanted, len(dataset)))})
