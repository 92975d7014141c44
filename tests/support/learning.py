"""Whether a model learns a handful of samples by heart, and how well it then answers them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from refseg.types import Batch, Output, Targets


def fit(
    model: nn.Module, batch: Batch, targets: Targets, steps: int, rate: Callable[[int], float] = lambda step: 1e-3
) -> Output:
    """The answers to a batch after so many steps on it; `rate` of the step, from 0, is the learning rate."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        torch.stack(list(model.losses(model(batch), targets).values())).sum().backward()  # type: ignore[operator]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        return model.eval()(batch)


def mean_iou(output: Output, targets: Targets) -> float:
    """Over the sentences that mean something, at the targets' size."""
    size = (targets.masks.shape[1], targets.masks.shape[2])
    found = F.interpolate(output.mask_logits[:, None], size=size, mode="bilinear")[:, 0] > 0
    some = ~targets.no_target
    shared = (found & targets.masks).flatten(1).sum(dim=1)[some]
    union = (found | targets.masks).flatten(1).sum(dim=1)[some]
    return float((shared / union).mean())
