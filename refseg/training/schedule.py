"""How the learning rate goes: a pure function of the step, so that a resumed run needs no state of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from refseg.errors import ConfigError


@dataclass(frozen=True)
class ScheduleConfig:
    """The factor on every learning rate over the steps of a run."""

    kind: Literal["constant", "step", "poly", "cosine"] = "cosine"
    warmup_steps: int = 0
    "optimiser steps over which the factor rises linearly from warmup_start to 1"
    warmup_start: float = 0.0
    "factor at the very first step of the warm-up; 1 means no warm-up at all"
    milestones: tuple[int, ...] = ()
    "kind step: the factor is multiplied by `drop` at each of these steps"
    drop: float = 0.1
    "kind step: what a milestone multiplies the rate by"
    power: float = 0.9
    "kind poly: (1 - progress) ** power"
    final: float = 0.0
    "kinds poly and cosine: the factor at the last step"

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ConfigError(f"schedule.warmup_steps: 0 or more is wanted, not {self.warmup_steps}")
        for name in ("warmup_start", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"schedule.{name}: a factor from 0 to 1 is wanted, not {getattr(self, name)}")
        if not 0 < self.drop <= 1 or self.power <= 0:
            raise ConfigError("schedule: drop lies in (0, 1] and power is positive")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError(f"schedule.milestones: rising steps are wanted, not {list(self.milestones)}")


def rate_factor(config: ScheduleConfig, step: int, steps: int) -> float:
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
    return config.final + (1 - config.final) * falling
