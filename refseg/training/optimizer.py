"""Optimisers, which parameter gets which learning rate and decay, and the schedule of the learning rate.

Every parameter belongs to the first rule that names it; what no rule names is trained at the base learning rate. Weight
decay spares norms, embeddings and tables of position biases, unless a rule says otherwise: so the published ReLA groups
its parameters. The schedule is a pure function of the step, so that a resumed run needs no state of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Le
from torch import nn

from refseg.config import Config, DropRate, NonNegativeFloat, NonNegativeInt, PositiveFloat, Probability
from refseg.errors import ConfigError, did_you_mean

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_TABLES = ("relative_position_bias_table",)


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


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Parameters by learning rate and decay: `params`, `names`, `lr`, `base_lr` and `weight_decay` of each group.

    Parameters of a rule with train = false stop requiring gradients and are in no group. Raises `ConfigError` when a
    pattern names no parameter, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for listed in config.groups:
        for pattern in listed.names:
            if not any(fnmatchcase(name, pattern) for name in names):
                hint = did_you_mean(pattern, [*names, *sorted({name.partition(".")[0] + ".*" for name in names})])
                raise ConfigError(f"optimizer.groups: {pattern!r} names no parameter of the model; {hint}")
    spared, used = _spared(model), set()
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        rule = next((r for r in config.groups if any(fnmatchcase(name, p) for p in r.names)), None)
        used.add(id(rule))
        if rule is not None and not rule.train:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        decay = config.weight_decay if rule is None or rule.weight_decay is None else rule.weight_decay
        if name in spared and not (rule is not None and rule.decay_all):
            decay = 0.0
        lr = config.lr * (1.0 if rule is None else rule.lr_mult)
        group = groups.setdefault(
            (lr, decay), {"params": [], "names": [], "lr": lr, "base_lr": lr, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ConfigError("optimizer.groups: no parameter is left to train")
    if idle := [rule for rule in config.groups if id(rule) not in used]:
        raise ConfigError(
            f"optimizer.groups: every parameter that {list(idle[0].names)} name belongs to a group before it; put the "
            "narrower one first"
        )
    return list(groups.values())


def build_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser over groups as `parameter_groups` makes them."""
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    # On a CPU one pass over the parameters and their moments instead of one a term of the formula.
    fused = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.epsilon, fused=fused or None)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's learning rate becomes its base learning rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


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


def _spared(model: nn.Module) -> set[str]:
    """Names of parameters that do not decay by default: of norms and embeddings, and tables of position biases."""
    result = set()
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if isinstance(module, (*_NORMS, nn.Embedding)) or name in _TABLES:
                result.add(full)
    return result
