"""Optimisers, and which parameter gets which learning rate and decay.

Every parameter belongs to the first rule that names it; what no rule names is trained at the base learning rate. Weight
decay spares norms, embeddings and tables of position biases, unless a rule says otherwise: so the published ReLA groups
its parameters. Settings and schedule are in `refseg.training.schedule`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from refseg.errors import ConfigError, did_you_mean
from refseg.training.schedule import GroupRule, OptimizerConfig, ScheduleConfig, lr_factor

__all__ = [
    "GroupRule",
    "OptimizerConfig",
    "ScheduleConfig",
    "build_optimizer",
    "lr_factor",
    "parameter_groups",
    "set_lr",
]

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_TABLES = ("relative_position_bias_table",)


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


def _spared(model: nn.Module) -> set[str]:
    """Names of parameters that do not decay by default: of norms and embeddings, and tables of position biases."""
    result = set()
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if isinstance(module, (*_NORMS, nn.Embedding)) or name in _TABLES:
                result.add(full)
    return result
