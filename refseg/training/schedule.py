"""Settings of the optimiser and of the learning rate's schedule, and the schedule itself: a pure function of the step,
so that a resumed run needs no state of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Le

from refseg.config import Config, DropRate, NonNegativeFloat, NonNegativeInt, PositiveFloat, Probability
from refseg.errors import ConfigError


@dataclass(frozen=True)
class GroupRule(Config):
    """Parameters whose names fit one of the patterns (`*`, `?`, `[0-9]`), and what differs for them."""

    names: tuple[str, ...] = ()
    lr_mult: NonNegativeFloat = 1.0
    "factor on the base learning rate"
    weight_decay: NonNegativeFloat | None = None
    "instead of the optimiser's"
    decay_all: bool = False
    "decay norms, embeddings and bias tables of these parameters too"
    train: bool = True
    "False keeps the parameters as they are"

    def check(self) -> None:
        if not self.names:
            raise ConfigError("names: a group lists at least one pattern of parameter names")


@dataclass(frozen=True)
class OptimizerConfig(Config):
    """The optimiser, and the rules that set some parameters apart."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: PositiveFloat = 1e-4
    "base learning rate"
    weight_decay: NonNegativeFloat = 0.05
    betas: tuple[DropRate, DropRate] = (0.9, 0.999)
    "adam and adamw"
    epsilon: PositiveFloat = 1e-8
    "adam and adamw"
    momentum: DropRate = 0.9
    "sgd"
    groups: tuple[GroupRule, ...] = ()


@dataclass(frozen=True)
class ScheduleConfig(Config):
    """The factor on every learning rate over the steps of a run."""

    kind: Literal["constant", "step", "poly", "cosine"] = "cosine"
    warmup_steps: NonNegativeInt = 0
    "optimiser steps over which the factor rises linearly from warmup_start to 1"
    warmup_start: Probability = 0.0
    "factor at the very first step of the warm-up; 1 means no warm-up at all"
    warmup_epochs: NonNegativeFloat = 0.0
    "warmup_steps in epochs"
    milestones: tuple[NonNegativeInt, ...] = ()
    "kind step: the factor is multiplied by `drop` at each of these steps"
    milestone_epochs: tuple[NonNegativeFloat, ...] = ()
    "milestones in epochs"
    drop: Annotated[float, Gt(0), Le(1)] = 0.1
    "kind step: what a milestone multiplies the learning rate by"
    power: PositiveFloat = 0.9
    "kind poly: (1 - progress) ** power"
    min_lr_ratio: Probability = 0.0
    "kinds poly and cosine: the factor at the last step"

    def check(self) -> None:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError(f"milestones: rising steps are wanted, not {list(self.milestones)}")


def lr_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """The factor on the learning rate at optimiser step `step` (from 0) of a run of `steps`; 0 to 1."""
    if step < config.warmup_steps:
        return config.warmup_start + (1 - config.warmup_start) * (step + 1) / (config.warmup_steps + 1)
    if config.kind == "constant":
        return 1.0
    if config.kind == "step":
        return config.drop ** sum(step >= milestone for milestone in config.milestones)
    progress = min(1.0, (step - config.warmup_steps) / max(1, steps - config.warmup_steps))
    if config.kind == "poly":
        falling = (1 - progress) ** config.power
    else:
        falling = 0.5 * (1 + math.cos(math.pi * progress))
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * falling
