"""One step of training, a handful of samples learnt by heart, and how well a model then answers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from refseg.data.batches import collate
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.generation.scenes import SceneDataset, drawn_samples
from refseg.models import build
from refseg.types import Batch, Output, Targets
from tests.support.contract import targets_of, training_batch


def train_a_step(config: Any, lr: float = 1e-3) -> tuple[nn.Module, Output, dict[str, torch.Tensor]]:
    """The model of `config` after one step of gradient descent, and the output and losses of that step."""
    model = build(config).train()
    batch = training_batch(config)
    output = model(batch)
    losses = model.losses(output, targets_of(batch, config))  # type: ignore[operator]
    loss = torch.stack(list(losses.values())).sum()
    if loss.requires_grad:  # a system of rules may learn nothing
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        loss.backward()
        optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    return model, output, losses


def drawn_batch(
    config: Any, size: int = 160, expressions: int = 4, scenes: int = 2, seed: int = 5, **extras: Any
) -> tuple[Any, Batch, Targets]:
    """Drawn scenes with some expressions each, one of them without target, as a batch at inputs of `size` pixels; and
    `config` with that size and their vocabulary."""
    drawn = drawn_samples(SceneDataset(seed=seed, scenes=scenes, size=size))
    samples = []
    for indices in drawn.by_picture().values():
        own = [drawn[index] for index in indices]
        samples += [each for each in own if not each.no_target][: expressions - 1]
        samples += [each for each in own if each.no_target][:1]
    assert len(samples) == scenes * expressions
    tokenizer = WordTokenizer.learn([sample.text for sample in samples], config.text.max_words)
    config = replace(
        config,
        input=replace(config.input, size=size),
        text=replace(config.text, vocabulary_size=tokenizer.vocabulary_size),
    )
    batch, targets = collate(samples, tokenizer, config.input, **extras)
    return config, batch, targets


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
