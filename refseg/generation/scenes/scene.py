"""Drawn scenes: an image, its things with exact masks, and expressions with exact targets; one by one, or many."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from refseg.data.sample import Instance, ReferringDataset, Sample
from refseg.errors import RefsegError, did_you_mean
from refseg.generation.language.expressions import Expression, expressions_of
from refseg.generation.language.forms import Form, Select, Thing, View, selects
from refseg.generation.language.lexicon import PEOPLE_NOUNS
from refseg.generation.scenes.draw import Patch, paint, render, visible_masks
from refseg.generation.scenes.world import CATEGORIES, Layout, Placed, held_out, random_for, sample_layout

SPLITS = ("train", "val", "testA", "testB", "testC")


@dataclass(frozen=True)
class Scene:
    """`image` (H, W, 3) uint8 RGB, K `things` from far to near, their visible `masks` (K, H, W), and `expressions`."""

    image: NDArray[np.uint8]
    things: tuple[Thing, ...]
    masks: NDArray[np.bool_]
    expressions: tuple[Expression, ...]
    seed: int
    index: int
    split: str

    def mask(self, expression: Expression) -> NDArray[np.bool_]:
        """The (H, W) union of what an expression means."""
        return np.asarray(self.masks[list(expression.targets)].any(0))


def generate(
    seed: int,
    index: int,
    size: int = 320,
    sentences: int = 16,
    split: str = "train",
    plus: bool = False,
    close_up: bool = False,
) -> Scene:
    """Scene `index` of a split: the same bytes for the same arguments, in any process and order.

    `size` is the side of the square image in pixels, `sentences` how many there are at most (a poor scene may carry
    fewer), `plus` leaves out words for absolute places as RefCOCO+ does, `close_up` shows fewer and larger things, for
    small pictures. Raises `RefsegError` for sizes below 64 and unknown splits.
    """
    if split not in SPLITS:
        raise RefsegError(f"drawn scenes have no split {split!r}; {did_you_mean(split, SPLITS)}")
    if size < 64 or sentences < 1:
        raise RefsegError(f"drawn scenes want a size of at least 64 and an expression, not {size} and {sentences}")
    attempt = 0
    while True:
        rng = random_for("scene", seed, split, index, attempt)
        drawn = _draw(rng, size, split, close_up)
        if drawn is not None:
            layout, patches, masks = drawn
            things = _things(layout, masks)
            view = View((size, size), things)
            said = expressions_of(
                view,
                rng,
                sentences,
                plus=plus,
                elsewhere=_elsewhere(seed, split, index, size, close_up),
                allowed=partial(_allowed, view, split),
            )
            if len(said) >= min(sentences, 4):
                image = paint(layout, patches, size, rng)
                return Scene(image, things, masks, tuple(said), seed, index, split)
        attempt += 1


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
    close_up: bool = False

    def __post_init__(self) -> None:
        if self.scenes < 0:
            raise RefsegError(f"a data set of {self.scenes} scenes cannot be")

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: int) -> Scene:  # type: ignore[override]
        if not -self.scenes <= index < self.scenes:
            raise IndexError(f"scene {index} of {self.scenes}")
        return generate(self.seed, index % self.scenes, self.size, self.sentences, self.split, self.plus, self.close_up)


@dataclass(frozen=True)
class SceneStream:
    """Scenes without end, from number `start` in steps of `step`: give worker w of n the start w and the step n."""

    seed: int
    size: int = 320
    sentences: int = 16
    split: str = "train"
    plus: bool = False
    close_up: bool = False
    start: int = 0
    step: int = 1

    def __iter__(self) -> Iterator[Scene]:
        index = self.start
        while True:
            yield generate(self.seed, index, self.size, self.sentences, self.split, self.plus, self.close_up)
            index += self.step


def scene_samples(scene: Scene, image_id: int | None = None) -> list[Sample]:
    """One sample an expression; image and masks stay in memory. `image_id` is the scene's number if not given."""
    number = scene.index if image_id is None else image_id
    size = (scene.image.shape[0], scene.image.shape[1])
    objects = [
        Instance(index, thing.category, thing.box, mask, tags=_tags(thing))
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


def _tags(thing: Thing) -> tuple[str, ...]:
    """The words that hold of a thing on their own: its families, colour, pattern and traits."""
    return (
        *thing.families,
        *(word for word in (thing.colour, thing.pattern) if word is not None),
        *(thing.traits or ()),
    )


def _draw(
    rng: random.Random, size: int, split: str, close_up: bool
) -> tuple[Layout, list[Patch], NDArray[np.bool_]] | None:
    """A layout whose objects are all well in sight; None if fewer than two of them are."""
    layout = sample_layout(rng, split, close_up)
    patches: list[Patch] = []
    kept = []
    for item in layout.objects:
        patch = render(item, size, layout.light)
        kept.append(patch is not None)
        if patch is not None:
            patches.append(patch)
    layout = _without(layout, [index for index, keep in enumerate(kept) if not keep])
    while True:
        if len(layout.objects) < 2:
            return None
        masks, poor = visible_masks(patches, size)
        if not poor:
            break
        # What stands on something that vanishes would float.
        poor += [index for index, item in enumerate(layout.objects) if item.support in poor]
        patches = [patch for index, patch in enumerate(patches) if index not in poor]
        layout = _without(layout, poor)
    secret = any((item.colour, item.category) in held_out() for item in layout.objects)
    return (layout, patches, masks) if secret == (split == "testC") else None


def _without(layout: Layout, gone: list[int]) -> Layout:
    if not gone:
        return layout
    kept = [index for index in range(len(layout.objects)) if index not in gone]
    rank = {old: new for new, old in enumerate(kept)}
    items = (layout.objects[index] for index in kept)
    moved = (item if item.support is None else replace(item, support=rank.get(item.support)) for item in items)
    return replace(layout, objects=tuple(moved))


def _things(layout: Layout, masks: NDArray[np.bool_]) -> tuple[Thing, ...]:
    things = []
    for item, mask in zip(layout.objects, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        others = () if item.pattern is None else ("black",) if item.colour == "white" else ("white",)
        things.append(_thing(item, box, float(mask.sum()), others, masks.shape[-1]))
    return tuple(things)


def _elsewhere(seed: int, split: str, index: int, size: int, close_up: bool) -> View:
    """Another layout of the split, whose expressions may be borrowed; boxes as if nothing were hidden."""
    things = []
    for item in sample_layout(random_for("elsewhere", seed, split, index), split, close_up).objects:
        left, top, right, bottom = (value * size for value in item.box)
        things.append(_thing(item, (left, top, right, bottom), (right - left) * (bottom - top) * 0.7, (), size))
    return View((size, size), tuple(things))


def _thing(
    item: Placed, box: tuple[float, float, float, float], area: float, other_colours: tuple[str, ...], size: int
) -> Thing:
    return Thing(
        category=item.category,
        box=box,
        centre=((box[0] + box[2]) / 2, (box[1] + box[3]) / 2),
        area=area,
        families=CATEGORIES[item.category].families,
        colour=item.colour,
        pattern=item.pattern or "plain",
        other_colours=other_colours,
        traits=item.traits,
        depth=item.depth * size,
        support=-1 if item.support is None else item.support,
    )


def _allowed(view: View, split: str, form: Form, found: frozenset[int]) -> bool:
    """What the split lets be said: people in testA, the rest in testB, held-out pairs in testC and nowhere else."""
    secret = any((select.colour, select.noun) in held_out() for select in selects(form))
    if split != "testC" and secret:
        return False
    head: Select = next(selects(form))
    people = ["person" in view.things[index].families for index in found] or [head.noun in PEOPLE_NOUNS]
    if split == "testA":
        return all(people)
    if split == "testB":
        return not any(people)
    if split == "testC":
        return not found or any((view.things[i].colour, view.things[i].category) in held_out() for i in found)
    return True
