"""Drawn scenes in memory: by number, without end, and as samples of the toolkit's data sets. No torch in this file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refseg.data.sample import Instance, ReferringDataset, Sample
from refseg.errors import RefsegError
from refseg.generation.language.forms import Thing
from refseg.generation.scenes.scene import Scene, generate

__all__ = ["SceneDataset", "SceneStream", "drawn_samples", "scene_samples", "tags_of"]


@dataclass(frozen=True)
class SceneDataset(Sequence[Scene]):
    """Scenes 0 to `scenes` - 1 of a split, each drawn when asked for (see `generate` for the other fields).

    Holds no state, so it can be sent to worker processes; a `torch.utils.data.DataLoader` takes it as it is.
    """

    seed: int
    scenes: int
    size: int = 320
    sentences: int = 16
    split: str = "train"
    plus: bool = False

    def __post_init__(self) -> None:
        if self.scenes < 0:
            raise RefsegError(f"a data set of {self.scenes} scenes cannot be")

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: int) -> Scene:  # type: ignore[override]
        if not -self.scenes <= index < self.scenes:
            raise IndexError(f"scene {index} of {self.scenes}")
        return generate(self.seed, index % self.scenes, self.size, self.sentences, self.split, self.plus)


@dataclass(frozen=True)
class SceneStream:
    """Scenes without end, from number `start` in steps of `step`: give worker w of n the start w and the step n."""

    seed: int
    size: int = 320
    sentences: int = 16
    split: str = "train"
    plus: bool = False
    start: int = 0
    step: int = 1

    def __iter__(self) -> Iterator[Scene]:
        index = self.start
        while True:
            yield generate(self.seed, index, self.size, self.sentences, self.split, self.plus)
            index += self.step


def tags_of(thing: Thing) -> tuple[str, ...]:
    """The words that hold of a thing on their own: its families, colour, pattern and traits."""
    single = (thing.colour, thing.pattern)
    return (*thing.families, *(word for word in single if word is not None), *(thing.traits or ()))


def scene_samples(scene: Scene, image_id: int | None = None) -> list[Sample]:
    """One sample a sentence; picture and masks stay in memory. `image_id` is the scene's number if not given."""
    number = scene.index if image_id is None else image_id
    size = (scene.image.shape[0], scene.image.shape[1])
    objects = [
        Instance(index, thing.category, thing.box, mask, tags=tags_of(thing))
        for index, (thing, mask) in enumerate(zip(scene.things, scene.masks, strict=True))
    ]
    return [
        Sample(
            id=f"{number}_{position}",
            text=expression.text,
            image_id=number,
            size=size,
            objects=tuple(objects[target] for target in expression.targets),
            no_target=not expression.targets,
            image=scene.image,
            kind=expression.kind,
            split=scene.split,
            dataset="scenes",
            ref_id=number,
            sent_id=position,
            surroundings=tuple(objects),
        )
        for position, expression in enumerate(scene.expressions)
    ]


def drawn_samples(scenes: SceneDataset) -> ReferringDataset:
    """All samples of some scenes, drawn now and kept in memory (about 0.5 MB a scene at 320 pixels)."""
    samples = [sample for scene in scenes for sample in scene_samples(scene)]
    return ReferringDataset(samples, name="scenes", split=scenes.split)
