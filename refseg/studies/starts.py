"""What the systems of a study begin with: encoders that have learnt to see, frozen or learning on, or nothing.

recipe -> `encoder_of` its model -> `learn_to_see`, once -> `with_encoder`: the recipe on that encoder
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from refseg.encoders.vision.resnet import SMALL_RESNET, ResNetConfig
from refseg.files import digest
from refseg.models.lavt.config import LAVTConfig
from refseg.models.mattnet.config import MAttNetConfig
from refseg.studies import shared_encoder
from refseg.studies.claims import recipe_of
from refseg.studies.finished import ABOUT, ENCODER, ENCODER_FILE
from refseg.studies.scene_sets import data_of
from refseg.studies.settings import Settings
from refseg.training.optimizer import GroupRule
from refseg.training.recipe import Recipe, read_recipe

__all__ = ["cached", "encoder_digest", "encoder_of", "learn_to_see", "start_of", "with_encoder"]


def learn_to_see(
    config: object, recipes: Path, folder: Path, settings: Settings, say: Callable[[str], None]
) -> dict[str, float]:
    """Have an encoder of this configuration learn to see, unless it has; its probe accuracy.

    Raises `shared_encoder.Stopped` when a signal ended its training, and as `shared_encoder.learn_to_see` does.
    """
    from refseg.training.pool import ScenePool

    learnt, held_out = (ScenePool.of(data_of(folder, settings, split)) for split in ("train", "val"))
    lessons = shared_encoder.SeeingSettings(passes=settings.encoder_passes)
    if config != SMALL_RESNET:
        lessons = replace(lessons, lr=1e-3)  # attention wants a lower rate
    file = shared_encoder.learn_to_see(
        learnt.__getitem__,
        settings.pool,
        held_out.__getitem__,
        settings.test_pictures,
        read_recipe(recipes / recipe_of("rela")).model.overrides["tags"],
        settings.size,
        encoder_folder(config, folder),
        lessons,
        say,
        config,
    )
    return dict(json.loads((file.parent / ABOUT).read_text(encoding="utf-8"))["probe"])


def encoder_folder(config: object, folder: Path) -> Path:
    """Of the shared encoder, or of one of another kind or size."""
    return folder / (ENCODER if config == SMALL_RESNET else f"{ENCODER}-{_short_digest(config)}")


def encoder_of(recipe: Recipe) -> object:
    """The configuration of the encoder that the recipe's model begins with: that of the shared one wherever it fits."""
    vision = getattr(recipe.model_config(), "vision", None)
    shared = isinstance(vision, ResNetConfig) and replace(vision, dilated=False) == SMALL_RESNET
    return SMALL_RESNET if shared else vision


def start_of(recipe: Recipe, settings: Settings) -> str:
    """What a system begins with: an encoder that has learnt to see (how it is used), the regions of a detector, or
    nothing (own)."""
    config = recipe.model_config()
    if isinstance(config, MAttNetConfig):
        return "detector"
    if isinstance(config, LAVTConfig) and settings.encoder == "frozen":
        return "tuned"  # words enter between the encoder's stages: there are no maps to keep
    return settings.encoder


def encoder_digest(recipe: Recipe) -> str | None:
    """Which file of an encoder a system began with; None where with none."""
    path = recipe.pretrained.vision
    return digest(Path(path))[:12] if path and Path(path).is_file() else None


def _short_digest(parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def with_encoder(recipe: Recipe, folder: Path, settings: Settings) -> Recipe:
    """The recipe on an encoder that has learnt to see, frozen with its maps kept, or learning on."""
    config = recipe.model_config()
    path = encoder_folder(encoder_of(recipe), folder) / ENCODER_FILE
    recipe = replace(recipe, pretrained=replace(recipe.pretrained, vision=str(path)))
    frozen = start_of(recipe, settings) == "frozen"
    rule = GroupRule(names=("vision.*",), train=False) if frozen else GroupRule(names=("vision.*",), lr_mult=0.1)
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, groups=(rule, *recipe.optimizer.groups)))
    if not frozen:
        return recipe
    return cached(recipe, folder, (vars(config)["vision"], config.input))


def cached(recipe: Recipe, folder: Path, parts: tuple[object, ...]) -> Recipe:
    """The recipe with the features of its pictures kept: those that are placed alike, and seen by encoders of one
    structure (`parts`), have the same."""
    return replace(recipe, data=replace(recipe.data, feature_cache=str(folder / "maps" / _short_digest(parts))))
