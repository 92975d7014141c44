"""Training the masks of instances on annotated pictures: random instances, jittered boxes, mirrored, tinted."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from refseg.config import Config
from refseg.data.masks import bounding_box
from refseg.errors import ConfigError, DataError
from refseg.models.instances.masks import MARGIN, InstanceMasks, crop_of, mask_loss
from refseg.training.instances.annotated import AnnotatedPicture

__all__ = ["MaskTraining", "jittered", "mask_samples", "moving_average", "pasted", "tinted", "train_masks"]


@dataclass(frozen=True)
class MaskTraining(Config):
    """How the masks are trained. Defaults are those of the weights that ship."""

    steps: int = 6000
    """Steps in all."""
    batch_size: int = 8
    """Instances a step."""
    crop: int = 97
    """Side of the crops in training, a multiple of 16 plus 1; 129 costs twice as much."""
    fine_share: float = 0.3
    """The last share of the training shows crops of the side used in answering (`MaskDecoderConfig.crop`), if that is
    another."""
    lr: float = 1.5e-3
    """Of the decoder, after 50 steps of warming up; falls to zero along a cosine."""
    trunk_lr: float = 3e-4
    """Of the trunk's layers from `first_group` on."""
    first_group: int = 3
    """The first group of the trunk's blocks that is trained (3: from stride 16 on); what comes before it costs most and
    is general."""
    max_minutes: float | None = None
    """Stop after so long; the learning rates fall with time, where that is further than the steps are."""
    weight_decay: float = 1e-2
    """Decoupled (AdamW)."""
    drawn_share: float = 0.2
    """Share of instances from drawn scenes."""
    box_jitter: float = 0.06
    """Standard deviation of each side's shift, in units of the box's side: proposals are not exact."""
    hflip: float = 0.5
    """Probability that an instance is mirrored."""
    color_jitter: float = 0.25
    """Largest relative change of brightness, contrast and saturation."""
    paste_share: float = 0.4
    """Probability that another instance, mostly of the same category, is pasted into the crop, half of the time over
    the instance and else behind it (Ghiasi et al., Simple Copy-Paste, CVPR 2021): which of two people is meant is what
    a mask in a crowd has to learn."""
    ema_decay: float = 0.998
    """Of the weights' moving average, which is what is kept; 0 keeps the last weights."""
    min_side: int = 8
    """Smaller boxes, in pixels, are left out."""
    seed: int = 0
    """Of sampling and of the decoder's first weights."""

    def check(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or not 0 <= self.first_group <= 7:
            raise ConfigError("masks: steps and batch_size of 1 or more and first_group of 0 to 7 are wanted")
        if self.crop < 33 or self.crop % 16 != 1:
            raise ConfigError(f"masks.crop={self.crop}: a multiple of 16 plus 1, from 33 on, is wanted")
        if any(not 0 <= share <= 1 for share in (self.drawn_share, self.hflip, self.fine_share, self.paste_share)):
            raise ConfigError("masks: drawn_share, hflip, fine_share and paste_share are 0 to 1")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"masks.ema_decay={self.ema_decay}: 0 to below 1 is wanted")


def jittered(box: Sequence[float], strength: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """The box x0 y0 x1 y1 with every side moved by a normal share of the box; no side gets shorter than a half."""
    x0, y0, x1, y1 = box
    moves = np.clip(rng.normal(0, strength, 4), -0.25, 0.25) * np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
    return x0 + moves[0], y0 + moves[1], x1 + moves[2], y1 + moves[3]


def tinted(image: UInt8[np.ndarray, "H W 3"], strength: float, rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with other brightness, contrast and saturation, each by a factor of 1 - strength to 1 + strength."""
    bright, contrast, saturation = 1 + rng.uniform(-strength, strength, 3)
    values = image.astype(np.float32) * bright
    values = (values - values.mean()) * contrast + values.mean()
    gray = values.mean(axis=2, keepdims=True)
    return np.clip((values - gray) * saturation + gray, 0, 255).astype(np.uint8)


def mask_samples(pictures: Sequence[AnnotatedPicture], min_side: int = 8) -> list[tuple[int, int]]:
    """(picture, instance) of all that are large enough to learn from."""
    samples = []
    for number, picture in enumerate(pictures):
        for index, item in enumerate(picture.instances):
            x0, y0, x1, y1 = item.bbox
            if min(x1 - x0, y1 - y0) >= min_side:
                samples.append((number, index))
    return samples


Crop = tuple[UInt8[np.ndarray, "S S 3"], UInt8[np.ndarray, "S S"]]
"""Pixels of a frame and how much of each one the mask covers, 0 to 255."""

_KEPT_SIDE = 160
_KEPT_MARGIN = 0.3


class _Crops:
    """Instances with much around them at 160 x 160 pixels: a picture is decoded once an instance and not once a step.

    A kept crop shows the box and .3 of its sides around it; frames of jittered boxes are cut out of it.
    """

    def __init__(self, pictures: Sequence[AnnotatedPicture], config: MaskTraining) -> None:
        self.pictures = pictures
        self.config = config
        self.kept: dict[tuple[int, int], Crop] = {}

    def _around(self, number: int, index: int) -> Crop:
        if (number, index) not in self.kept:
            picture = self.pictures[number]
            image = np.asarray(Image.open(io.BytesIO(picture.path.read_bytes())).convert("RGB"))
            mask = picture.instances[index].mask(picture.size).astype(np.uint8) * 255
            x0, y0, x1, y1 = bounding_box(mask > 0)
            # `crop_of` shows MARGIN around its box: the box that it is given is larger than the instance's by the rest.
            extra = (_KEPT_MARGIN - MARGIN) / (1 + 2 * MARGIN)
            across, down = extra * (x1 - x0), extra * (y1 - y0)
            box = (x0 - across, y0 - down, x1 + across, y1 + down)
            self.kept[number, index] = crop_of(image, box, _KEPT_SIDE), crop_of(mask, box, _KEPT_SIDE, fill=0)
        return self.kept[number, index]

    def sample(self, number: int, index: int, side: int, rng: np.random.Generator) -> Crop:
        """The frame of the instance's box, jittered, and perhaps mirrored."""
        image, mask = self._around(number, index)
        scale = _KEPT_SIDE / (1 + 2 * _KEPT_MARGIN)
        first = _KEPT_MARGIN * scale
        box = jittered((first, first, first + scale, first + scale), self.config.box_jitter, rng)
        crop, target = crop_of(image, box, side), crop_of(mask, box, side, fill=0)
        if rng.random() < self.config.hflip:
            crop, target = crop[:, ::-1], target[:, ::-1]
        return crop, target


def pasted(crop: Crop, other: Crop, rng: np.random.Generator) -> Crop:
    """The crop with the other instance in it, moved by up to .7 of the side: over the first one, or behind it.

    What is covered is taken out of the mask; an instance that would keep less than half of itself stays as it was.
    """
    (image, mask), (pixels, cover) = crop, other
    side = len(mask)
    down, across = (int(side * rng.uniform(-0.7, 0.7)) for _ in range(2))
    rows, columns = np.arange(side) - down, np.arange(side) - across
    inside = ((rows >= 0) & (rows < side))[:, None] & ((columns >= 0) & (columns < side))[None]
    where = np.ix_(rows.clip(0, side - 1), columns.clip(0, side - 1))
    share = cover[where] * inside / np.float32(255)
    if rng.random() < 0.5:
        share = share * (1 - mask / np.float32(255))
        left = mask
    else:
        left = (mask * (1 - share)).astype(np.uint8)
        if left.sum(dtype=np.int64) < mask.sum(dtype=np.int64) / 2:
            return crop
    return (image * (1 - share[..., None]) + pixels[where] * share[..., None]).astype(np.uint8), left


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """The weights' moving average; at the start it forgets faster, (1 + n) / (10 + n) after n steps, so that a short
    training is not an average with the first weights."""

    def update(before: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
        return before + (1 - min(decay, (1 + float(steps)) / (10 + float(steps)))) * (now - before)

    return AveragedModel(model, avg_fn=update)


def train_masks(
    model: InstanceMasks,
    pictures: Sequence[AnnotatedPicture],
    config: MaskTraining,
    report: Callable[[int, float, float], None] | None = None,
) -> InstanceMasks:
    """Train the model on the pictures' instances; `report(step, loss, seconds)` is called every 50 steps.

    Raises `DataError` when there is nothing to learn from.
    """
    rng = np.random.default_rng(config.seed)
    store = _Crops(pictures, config)
    samples = mask_samples(pictures, config.min_side)
    drawn = [pair for pair in samples if pictures[pair[0]].source.startswith("scenes")]
    real = [pair for pair in samples if not pictures[pair[0]].source.startswith("scenes")]
    if not samples:
        raise DataError("masks: not one instance is large enough to learn from")
    alike: dict[str, list[tuple[int, int]]] = {}
    for number, index in samples:
        alike.setdefault(pictures[number].instances[index].category, []).append((number, index))
    trunk = [*model.trunk.groups[config.first_group :].parameters()]
    for layer in (model.trunk.local, model.trunk.mean, model.trunk.both):
        trunk += layer.parameters()
    trained = {id(parameter) for parameter in trunk}
    for parameter in model.trunk.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    groups = [{"params": list(model.decoder.parameters())}, {"params": trunk}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    averaged = moving_average(model, config.ema_decay) if config.ema_decay else None
    model.train()
    started, recent = time.perf_counter(), []
    for step in range(config.steps):
        done = step / config.steps
        if config.max_minutes is not None:
            done = max(done, (time.perf_counter() - started) / 60 / config.max_minutes)
        if done >= 1:
            break
        factor = 0.5 * (1 + math.cos(math.pi * done)) * min(1.0, (step + 1) / 50)
        for group, lr in zip(optimizer.param_groups, (config.lr, config.trunk_lr), strict=True):
            group["lr"] = lr * factor
        side = model.decoder.config.crop if done >= 1 - config.fine_share else config.crop
        crops, targets = [], []
        for _ in range(config.batch_size):
            pool = drawn if drawn and (not real or rng.random() < config.drawn_share) else real
            number, index = pool[rng.integers(len(pool))]
            crop = store.sample(number, index, side, rng)
            if rng.random() < config.paste_share:
                others = alike[pictures[number].instances[index].category] if rng.random() < 0.7 else pool
                crop = pasted(crop, store.sample(*others[rng.integers(len(others))], side, rng), rng)
            crops.append(tinted(crop[0], config.color_jitter, rng))
            targets.append(crop[1])
        loss = _step(model, np.stack(crops), np.stack(targets), optimizer)
        if averaged is not None:
            averaged.update_parameters(model)
        recent.append(loss)
        if report is not None and (step + 1) % 50 == 0:
            report(step + 1, float(np.mean(recent[-50:])), time.perf_counter() - started)
    if averaged is not None:
        model.load_state_dict(averaged.module.state_dict())
    return model.eval()


def _step(
    model: InstanceMasks,
    crops: UInt8[np.ndarray, "N S S 3"],
    targets: UInt8[np.ndarray, "N S S"],
    optimizer: torch.optim.Optimizer,
) -> float:
    full, rough = model(torch.from_numpy(crops))
    loss: Tensor = mask_loss(full, rough, torch.from_numpy(targets))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss.item()
