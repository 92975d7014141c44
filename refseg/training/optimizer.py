"""Optimisers and which parameter gets which rate and decay.

Every parameter belongs to the first rule that names it; what no rule names is trained at the base rate. Weight decay
spares norms, embeddings and tables of position biases, unless a rule says otherwise: this is how the published ReLA
groups its parameters (its text encoder's layers decay whole, its later layers and embeddings are not trained at all).
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import nn

from refseg.errors import ConfigError, did_you_mean

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_TABLES = ("relative_position_bias_table",)


@dataclass(frozen=True)
class GroupRule:
    """Parameters whose names fit one of the patterns (`*`, `?`, `[0-9]`), and what differs for them."""

    names: tuple[str, ...] = ()
    rate: float = 1.0
    "factor on the base rate"
    weight_decay: float | None = None
    "instead of the optimiser's"
    decay_all: bool = False
    "decay norms, embeddings and bias tables of these parameters too"
    train: bool = True
    "False keeps the parameters as they are"

    def __post_init__(self) -> None:
        if not self.names:
            raise ConfigError("optimizer.groups: a group lists at least one pattern of parameter names")
        if self.rate < 0:
            raise ConfigError(f"optimizer.groups: rate is 0 or more, not {self.rate}")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser, and the rules that set some parameters apart."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    rate: float = 1e-4
    "base learning rate"
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    "adam and adamw"
    epsilon: float = 1e-8
    "adam and adamw"
    momentum: float = 0.9
    "sgd"
    groups: tuple[GroupRule, ...] = ()

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.weight_decay < 0:
            raise ConfigError("optimizer: rate is positive and weight_decay 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas) or not 0 <= self.momentum < 1:
            raise ConfigError("optimizer: betas and momentum lie in [0, 1)")


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """The model's parameters grouped by rate and decay: `params`, `names`, `lr`, `base_rate`, `weight_decay` each.

    Parameters of a rule with train = false stop requiring gradients and are in no group. A model may bring rules of its
    own in `model.parameter_rules() -> tuple[GroupRule, ...]`; the recipe's come first. Raises `ConfigError` when one of
    the recipe's patterns names no parameter, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for listed in config.groups:
        for pattern in listed.names:
            if not any(fnmatchcase(name, pattern) for name in names):
                hint = did_you_mean(pattern, [*names, *sorted({name.partition(".")[0] + ".*" for name in names})])
                raise ConfigError(f"optimizer.groups: {pattern!r} names no parameter of the model; {hint}")
    bring: Any = getattr(model, "parameter_rules", tuple)
    rules: tuple[GroupRule, ...] = (*config.groups, *bring())
    spared = _spared(model)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        rule: GroupRule | None = next((r for r in rules if any(fnmatchcase(name, p) for p in r.names)), None)
        if rule is not None and not rule.train:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        decay = config.weight_decay if rule is None or rule.weight_decay is None else rule.weight_decay
        if name in spared and not (rule is not None and rule.decay_all):
            decay = 0.0
        rate = config.rate * (1.0 if rule is None else rule.rate)
        group = groups.setdefault(
            (rate, decay), {"params": [], "names": [], "lr": rate, "base_rate": rate, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ConfigError("optimizer.groups: no parameter is left to train")
    return list(groups.values())


def build_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser over groups as `parameter_groups` makes them."""
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.rate, momentum=config.momentum)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.rate, betas=config.betas, eps=config.epsilon)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's learning rate becomes its base rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor


def _spared(model: nn.Module) -> set[str]:
    """Names of parameters that do not decay by default: of norms and embeddings, and tables of position biases."""
    result = set()
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if isinstance(module, (*_NORMS, nn.Embedding)) or name in _TABLES:
                result.add(full)
    return result
