"""A system of a few hundred parameters that really learns colours named in words: for tests of the loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from refseg.generation.language.forms import Select
from refseg.generation.scenes import Expression, Scene, Thing
from refseg.geometry import InputConfig
from refseg.types import Batch, Needs, Output, Targets, TextFeatures, Tokens

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230)}


@dataclass(frozen=True)
class TinyText:
    vocabulary_size: int = 16
    max_words: int = 6


@dataclass(frozen=True)
class TinyConfig:
    width: int = 8
    dropout: float = 0.1
    normalise: bool = True
    fail_at: int = -1
    input: InputConfig = field(default_factory=lambda: InputConfig(size=32, divisor=8))
    text: TinyText = field(default_factory=TinyText)


class Tiny(nn.Module):
    """mask logits = <projected pixels, summed words>; with a norm, dropout and a buffer, so that all state matters."""

    needs = Needs()
    late_fusion = False

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        norm = nn.BatchNorm2d(config.width) if config.normalise else nn.Identity()
        self.vision = nn.Sequential(nn.Conv2d(3, config.width, 4, 4), norm, nn.ReLU())
        self.text = nn.Embedding(config.text.vocabulary_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.verdict = nn.Linear(config.width, 1)
        self.calls = 0

    def forward(self, batch: Batch) -> Output:
        self.calls += 1
        pixels = self.dropout(self.vision(batch.images))
        if batch.image_index is not None:
            pixels = pixels[batch.image_index]
        words = (self.text(batch.tokens.ids) * batch.tokens.mask[..., None]).sum(1)
        logits = torch.einsum("bchw,bc->bhw", pixels, words)
        if self.calls == self.config.fail_at:
            logits = logits * float("nan")
        return Output(logits, self.verdict(words * pixels.mean((2, 3)))[:, 0])

    # A script, too, which imports nothing of tests: what `ReferringModel` has besides stands here.
    def encode_image(self, images: Tensor, pixel_mask: Tensor) -> Tensor:
        raise AssertionError("this model encodes no image by itself")

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        raise AssertionError("this model encodes no expression by itself")

    def decode(self, state: Tensor, text: TextFeatures, image_index: Tensor | None = None) -> Output:
        raise AssertionError("this model decodes nothing by itself")

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        size = targets.masks.shape[-2:]
        logits = interpolate(output.mask_logits[:, None], size, mode="bilinear")[:, 0]
        return {
            "mask": binary_cross_entropy_with_logits(logits, targets.masks.float()),
            "no_target": 0.1 * binary_cross_entropy_with_logits(output.no_target_logits, targets.no_target.float()),
        }


def draw_scene(
    seed: int,
    index: int,
    size: int = 32,
    sentences: int = 3,
    split: str = "train",
    plus: bool = False,
    close_up: bool = False,
):
    """A scene as `refseg.generation.scenes.generate` makes them: one square of each of two colours, three sentences."""
    dice = np.random.default_rng([seed, index, len(split), int(plus) + 2 * int(close_up)])
    image = np.full((size, size, 3), 128, dtype=np.uint8)
    names = list(dice.permutation(list(COLOURS)))
    masks = np.zeros((2, size, size), dtype=bool)
    half = size // 2
    for number in range(2):
        top, left = (int(v) for v in dice.integers(0, half - 4, 2))
        masks[number, top : top + half - 4, number * half + left // 2 : number * half + left // 2 + half // 2] = True
        image[masks[number]] = COLOURS[names[number]]
    said = [(f"the {names[0]} square", (0,)), (f"{names[1]}", (1,)), (f"the {names[2]} square", ())]
    things = tuple(Thing("square", _box_of(mask), (0.0, 0.0), float(mask.sum())) for mask in masks)
    expressions = tuple(
        Expression(text, targets, "attribute" if targets else "no_target", Select("square"))
        for text, targets in said[:sentences]
    )
    return Scene(image, things, masks, expressions, seed, index, split)


def _box_of(mask):
    rows, columns = mask.nonzero()
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def recipe_values(folder: Path, **training) -> dict:
    """A recipe of 12 steps for the tiny system on drawn scenes."""
    return {
        "model": {"preset": "tiny-small", "width": 8},
        "data": {"size": 32, "sentences": 3, "pictures_per_batch": 4, "sentences_per_picture": 2,
                 "vocabulary_pictures": 10},
        "training": {"steps": 12, "ema_decay": 0.9, "seed": 3, **training},
        "optimizer": {"lr": 0.01},
        "schedule": {"kind": "cosine", "warmup_steps": 2},
        "output": {"folder": str(folder), "log_every": 2, "checkpoint_every": 5, "tensorboard": False},
    }  # fmt: skip


def install(setitem=dict.__setitem__, set_attribute=setattr) -> None:
    """Put the tiny system into the table of models and its scenes in the place of the real ones."""
    import refseg.generation.scenes
    import refseg.generation.scenes.scene
    from refseg.models import MODELS, System

    system = System("tiny", TinyConfig, {"SMALL": TinyConfig()}, {}, Tiny, "a system for tests")
    setitem(MODELS, "tiny", system)
    set_attribute(refseg.generation.scenes, "generate", draw_scene)
    set_attribute(refseg.generation.scenes.scene, "generate", draw_scene)


if __name__ == "__main__":
    # The command line with the tiny system in it, for tests that need a process of its own to kill.
    import signal
    import sys

    torch.set_num_threads(1)
    # Below nohup both would be ignored, and that is inherited.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    install()
    from refseg.cli.main import main

    sys.exit(main(sys.argv[1:]))
