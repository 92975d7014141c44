"""Expressions for the chooser: templates about annotated pictures, and as many about what is not in them.

`refseg.generation` says what is certain of a picture's things. What it rarely says is added here, an absent one for
each present one: bare names ("the dog", of a picture with or without dogs), a colour with a name (of a thing that has
it, of things that have it not, of what is not there), and places of what is not there. Only pictures whose annotations
are exhaustive tell what is absent, and only of names that their source annotates.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from refseg.data.formats.coco import read_instances
from refseg.generation.language.lexicon import countability, look_alikes, plural
from refseg.generation.language.paraphrase import paraphrase
from refseg.generation.photos.attributes import PhotoView
from refseg.generation.photos.cache import open_cache, read_photos
from refseg.generation.photos.templates import Spoken, TemplateSettings, read_records, speak
from refseg.generation.scenes.world import random_for
from refseg.palette import COLORS
from refseg.training.instances.annotated import AnnotatedPicture

__all__ = ["AnnotatedExpression", "absent_and_present", "expressions_of"]

Box = tuple[float, float, float, float]
_PLACES = (
    "the {} on the left",
    "the {} on the right",
    "the leftmost {}",
    "the second {} from the left",
    "the front {}",
)
_MOST_TOGETHER = 8


@dataclass(frozen=True)
class AnnotatedExpression:
    """An expression about a picture. `boxes`: of what it means, x0 y0 x1 y1 in pixels; `key`: the picture's."""

    key: str
    text: str
    boxes: tuple[Box, ...]
    kind: str


def expressions_of(
    name: str,
    file: Path,
    images: Path,
    pictures: Sequence[AnnotatedPicture],
    kept: Path,
    *,
    seed: int,
    per_image: int,
    absent: bool,
) -> list[AnnotatedExpression]:
    """Expressions about these pictures, which are of one COCO-style file; half of them reworded as people write.

    Args:
        name: of the source, with which the pictures' keys begin.
        kept: file of what was seen in each picture, so that a stopped run goes on.
        per_image: expressions of `refseg.generation` about a picture.
        absent: whether names, colours and places of what is not there are added, with their present counterparts.
    """
    content = read_instances(file)
    wanted = {int(picture.key.rpartition("/")[2]): picture for picture in pictures}
    content.pictures = {number: item for number, item in content.pictures.items() if number in wanted}
    content.annotations = {
        number: item for number, item in content.annotations.items() if item["image_id"] in content.pictures
    }
    records, _ = read_records(content, images, exhaustive=True)
    with open_cache(kept) as views:
        seen = [(record, photo) for record, (photo, _) in zip(records, read_photos(records, 1, views), strict=True)]
    spoken = [Spoken(photo, "train", record.path, record.path.name) for record, photo in seen if photo is not None]
    traits = frozenset(trait for item in spoken for thing in item.photo.view.things for trait in thing.traits or ())
    speak(spoken, TemplateSettings(seed=seed, per_image=per_image), traits)
    named: dict[str, set[str]] = {}
    for item in spoken:
        source = wanted[item.photo.image_id].source
        named.setdefault(source, set()).update(thing.category for thing in item.photo.view.things)
    found: list[AnnotatedExpression] = []
    for item in spoken:
        picture = wanted[item.photo.image_id]
        rng = random_for("referring", seed, item.photo.image_id)
        said = [(each.text, each.targets, each.kind) for each in item.expressions]
        photograph = not picture.source.startswith("scenes")
        said = [
            (paraphrase(text, rng, photograph=photograph) if rng.random() < 0.5 else text, targets, kind)
            for text, targets, kind in said
        ]
        if absent:
            said += absent_and_present(item.photo, sorted(named[picture.source]), rng)
        things = item.photo.view.things
        found += [
            AnnotatedExpression(picture.key, text, tuple(things[target].box for target in targets), kind)
            for text, targets, kind in said
        ]
    return found


def absent_and_present(
    photo: PhotoView, names: Sequence[str], rng: random.Random, most: int = 3
) -> list[tuple[str, tuple[int, ...], str]]:
    """Text, targets and kind of names and colours: of what is there, and as many of what is not.

    `names` are those that the picture's source annotates; up to `most` of each sort are made. A picture whose
    annotations are not exhaustive gives nothing.
    """
    if not photo.exhaustive:
        return []
    there = Counter(thing.category for thing in photo.view.things)
    alike = {look_alikes(name) for name in (*there, *photo.view.open)}
    missing = [name for name in names if look_alikes(name) not in alike and countability(name) == "count"]
    rng.shuffle(missing)
    found: list[tuple[str, tuple[int, ...], str]] = []
    bare = list(_bare(photo, there))
    rng.shuffle(bare)
    for (text, targets), name in zip(bare[:most], missing, strict=False):
        found += [(text, targets, "name"), (f"the {name}", (), "absent name")]
    colours = list(_colours(photo, there, rng))
    rng.shuffle(colours)
    for (text, target, other), name in zip(colours[:most], reversed(missing), strict=False):
        found += [(text, (target,), "colour"), (other, (), "absent colour")]
        found.append((f"the {rng.choice(sorted(COLORS))} {name}", (), "absent name with colour"))
    for name in missing[-1:]:
        found.append((rng.choice(_PLACES).format(name), (), "absent name with place"))
    return found


def _bare(photo: PhotoView, there: Counter[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names of categories all of whose things are annotated and large enough to be meant."""
    for name, count in sorted(there.items()):
        members = tuple(index for index, thing in enumerate(photo.view.things) if thing.category == name)
        if name in photo.view.open or countability(name) != "count" or not set(members) <= photo.eligible:
            continue
        if count == 1:
            yield f"the {name}", members
        elif count <= _MOST_TOGETHER:
            yield f"the {plural(name)}", members


def _colours(photo: PhotoView, there: Counter[str], rng: random.Random) -> Iterator[tuple[str, int, str]]:
    """Of single things with a plain colour: the expression, the thing, and the same with a colour that it has not."""
    for index, thing in enumerate(photo.view.things):
        if there[thing.category] != 1 or not thing.colour or index not in photo.eligible:
            continue
        if thing.category in photo.view.open or countability(thing.category) != "count":
            continue
        others = sorted(set(COLORS) - {thing.colour, *thing.other_colours})
        yield f"the {thing.colour} {thing.category}", index, f"the {rng.choice(others)} {thing.category}"
