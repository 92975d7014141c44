"""A real model folder, small and untrained: for tests of everything that loads one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.geometry import InputConfig
from refseg.inference.checkpoint import save_model
from refseg.models import build, preset

VOCABULARY = [
    "the",
    "a",
    "red",
    "green",
    "blue",
    "ball",
    "dog",
    "cat",
    "person",
    "on",
    "left",
    "right",
    "of",
    "two",
    "and",
    "all",
]


def write_model_folder(folder: Path, max_words: int = 8) -> Path:
    """A ReLA of a few hundred thousand parameters with random weights, the same in every run."""
    torch.manual_seed(1)
    config = preset("rela-mini")
    tokenizer = WordTokenizer(VOCABULARY, max_words)
    small = replace(
        config,
        input=InputConfig(size=64),
        vision=replace(config.vision, widths=(16, 16, 32, 32), depths=(1, 1, 1, 1), stem_width=16, norm_groups=8),
        text=replace(
            config.text, vocabulary_size=tokenizer.vocabulary_size, max_words=max_words, width=32, feedforward=64
        ),
        pixel_decoder=replace(config.pixel_decoder, fine_width=32, groups=8),
        width=32,
        regions=4,
    )
    return save_model(folder, build(small), tokenizer, {"threshold": 0.5})
