"""The drawn scenes of a study: those to learn from, to choose thresholds on, and to score. Drawn once, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from refseg.data.sample import ReferringDataset, Sample
from refseg.studies.settings import Settings
from refseg.training.recipe import DataRecipe

__all__ = ["data_of", "held_out", "pool", "test_set"]


def test_set(folder: Path, settings: Settings) -> ReferringDataset:
    """The scenes that are scored; drawn once and kept."""
    return _scenes(folder, settings, "test")


def held_out(folder: Path, settings: Settings) -> ReferringDataset:
    """Scenes to choose thresholds on: neither learnt from nor scored."""
    return _scenes(folder, settings, "val")


def _scenes(folder: Path, settings: Settings, split: str) -> ReferringDataset:
    return ReferringDataset(list(pool(folder, settings, split, settings.test_pictures)), name="scenes", split=split)


def data_of(folder: Path, settings: Settings, split: str) -> DataRecipe:
    """The scenes of a split, as recipes name them; drawn once into the folder."""
    return DataRecipe(
        seed=settings.test_seed if split == "test" else settings.seed,
        split="train" if split == "train" else "val",
        size=settings.size,
        sentences=settings.sentences,
        close_up=settings.close_up,
        pool=settings.pool if split == "train" else settings.test_pictures,
        pool_folder=str(folder / "scenes" / split),
    )


def pool(folder: Path, settings: Settings, split: str, count: int) -> Iterator[Sample]:
    """The expressions of the first `count` scenes."""
    from refseg.training.pool import ScenePool

    scenes = ScenePool.of(data_of(folder, settings, split))
    for index in range(count):
        yield from scenes[index]
