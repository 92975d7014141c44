"""What stands before the first step: devices, the run's folder, the model's first weights."""

from __future__ import annotations

import os
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refseg.errors import CheckpointError, ConfigError
from refseg.training.recipe import Recipe, differences, parse_recipe

RECIPE = "recipe.toml"


def build_accelerator(recipe: Recipe) -> Any:
    """Accelerate's handle on devices and processes. CPUs do bf16; fp16 with its loss scaling needs a GPU."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs

    precision = recipe.training.precision
    if precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("training.precision: fp16 needs a GPU; bf16 and no work everywhere")
    # Accelerate keeps the precision of a process's first run for good; a second run in it may have another.
    AcceleratorState._reset_state()
    kwargs = DistributedDataParallelKwargs(find_unused_parameters=recipe.training.unused_parameters)
    # Without being told, Accelerate takes processes that torchrun started on CPUs for so many runs of one process.
    several_cpus = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()
    return Accelerator(mixed_precision=precision, cpu=several_cpus, kwargs_handlers=[kwargs])


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Raises when the folder holds a run and `resume` is not asked, or it holds none, or one of another model."""
    from refseg.config import read_toml

    stored = folder / RECIPE
    if not resume:
        if stored.exists():
            raise ConfigError(
                f"{folder} holds a run already: add --resume to go on with it, or choose another output.folder"
            )
        return
    if not stored.exists():
        raise CheckpointError(f"{folder}: no run to resume; leave --resume out to begin one")
    changed = differences(parse_recipe(read_toml(stored)), recipe)
    models = [name for name in changed if name.startswith("model.")]
    if models:
        raise CheckpointError(f"{stored}: the run is of another model than the recipe ({', '.join(models)})")


def fit_vocabulary(config: Any, tokenizer: Any) -> Any:
    """The model's configuration with the size of the vocabulary that was learnt, where it has such a field."""
    size = getattr(tokenizer, "vocabulary_size", None)
    text: Any = getattr(config, "text", None)
    if size is None or not hasattr(text, "vocabulary_size") or text.vocabulary_size == size:
        return config
    return replace(config, text=replace(text, vocabulary_size=size))


def _prepare_encoders(model: nn.Module, recipe: Recipe) -> str:
    """Encoders that are kept as they were pretrained, when the recipe names no such weights.

    A word table is then trained all the same, and the sentence that says so is given (else an empty one). Raises
    `ConfigError` for a picture encoder with frozen convolutions, which would stay random.
    """
    from refseg.encoders.text.glove_transformer import GloveTransformer
    from refseg.encoders.text.recurrent import RecurrentText
    from refseg.encoders.vision.darknet import DarkNet

    vision, text = getattr(model, "vision", None), getattr(model, "text", None)
    names = recipe.pretrained
    if isinstance(vision, DarkNet) and vision.frozen() and names.vision is None and names.model is None:
        raise ConfigError(
            f"model.vision.freeze: {vision.config.freeze!r} would keep random weights; name a file in "
            'pretrained.vision, or set model.vision.freeze = "none"'
        )
    if not isinstance(text, (RecurrentText, GloveTransformer)) or names.model is not None or names.glove is not None:
        return ""
    text.words.weight.requires_grad_(True)
    return "no pretrained.glove: the word vectors are learnt from nothing"


def load_pretrained(model: nn.Module, recipe: Recipe, tokenizer: Any, resumed: bool = False) -> str:
    """Start from the weights that the recipe names, unless the run is `resumed` and has its own.

    Gives what people should know of it, in a sentence; mostly an empty one.
    """
    names, notice = recipe.pretrained, _prepare_encoders(model, recipe)
    if resumed:
        return notice
    if names.model is not None:
        from refseg.inference.checkpoint import load_weights, locate_model, read_tensors

        folder = locate_model(names.model)
        tensors = read_tensors(folder / "model.safetensors")
        for name, value in model.state_dict().items():
            if name not in tensors and any(fnmatchcase(name, pattern) for pattern in names.new):
                tensors[name] = value
        load_weights(model, tensors, str(folder))
    if names.vision is not None or names.text is not None:
        from refseg.models import load_backbones

        load_backbones(model, vision=names.vision, text=names.text)
    if names.vision is not None and getattr(getattr(model, "text", None), "shares", None) is not None:
        from refseg.models.photo.class_names import give_names

        give_names(model.text, tokenizer.words, getattr(model, "matched_tags", ()))
    if names.glove is not None:
        from refseg.models import load_word_vectors

        words = getattr(tokenizer, "words", None)
        if words is None:
            raise ConfigError("pretrained.glove: the tokenizer has word pieces, which have no vectors there")
        missing = load_word_vectors(model, names.glove, words)
        listed = ", ".join(word for word in missing if not word.startswith("<"))[:80]
        notice = f"{len(words) - len(missing)} of {len(words)} words have vectors in {names.glove}"
        notice += f"; zeros for {listed}" if listed else ""
    return notice
