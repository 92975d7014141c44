"""A recipe's epochs as optimiser steps, once it is known how large its data set is."""

from __future__ import annotations

from dataclasses import replace

from refseg.errors import ConfigError
from refseg.training.clips import ClipPictures
from refseg.training.recipe import Recipe
from refseg.training.sampling import Pictures
from refseg.training.source import FilePictures

__all__ = ["in_steps", "steps_per_epoch"]


def in_steps(recipe: Recipe, pictures: Pictures) -> Recipe:
    """The recipe with `training.epochs` and what else is told in epochs as steps, rounded; it has no epochs then.

    Raises `ConfigError` where the data never end.
    """
    training, schedule, evaluation = recipe.training, recipe.schedule, recipe.evaluation
    told = {
        "training.epochs": training.epochs,
        "schedule.milestone_epochs": schedule.milestone_epochs,
        "schedule.warmup_epochs": schedule.warmup_epochs,
        "evaluation.every_epochs": evaluation.every_epochs,
    }
    asked = [name for name, value in told.items() if value]
    if not asked:
        return recipe
    each = steps_per_epoch(recipe, pictures, asked[0])

    def steps(epochs: float) -> int:
        return max(1, round(epochs * each))

    if training.epochs:
        training = replace(training, steps=steps(training.epochs), epochs=0.0)
    if schedule.milestone_epochs:
        # Of a data set of very few pictures several milestones may be one step.
        milestones = tuple(dict.fromkeys(steps(epochs) for epochs in schedule.milestone_epochs))
        schedule = replace(schedule, milestones=milestones, milestone_epochs=())
    if schedule.warmup_epochs:
        schedule = replace(schedule, warmup_steps=steps(schedule.warmup_epochs), warmup_epochs=0.0)
    if evaluation.every_epochs:
        evaluation = replace(evaluation, every=steps(evaluation.every_epochs), every_epochs=0.0)
    return replace(recipe, training=training, schedule=schedule, evaluation=evaluation)


def steps_per_epoch(recipe: Recipe, pictures: Pictures, field: str = "training.epochs") -> float:
    """Optimiser steps in which everything that `training.epoch_of` names is read once; not rounded."""
    if not isinstance(pictures, FilePictures | ClipPictures):
        raise ConfigError(f"{field}: drawn scenes and mixed sources never end; give the same in steps")
    batch = recipe.data.pictures_per_batch
    if recipe.training.epoch_of != "item" and recipe.data.unit == "picture":
        batch *= recipe.data.sentences_per_picture
    return pictures.size(recipe.training.epoch_of) / batch
