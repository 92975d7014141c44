"""An annotated photograph as things: names, boxes, colours, attributes, and what the annotations may lack."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refseg.data.masks import bounding_box
from refseg.data.sample import Instance, Problem, Sample
from refseg.errors import RefsegError
from refseg.generation.language.forms import Thing, View
from refseg.generation.language.lexicon import PEOPLE_NOUNS, countability, families_of, names_no_color, normal_name
from refseg.generation.photos.colors import ColorReading, is_colorless, name_color
from refseg.inference.connected_components import find_components
from refseg.palette import COLORS

_SMALLEST_SHARE = 0.004  # of the picture: smaller targets are not spoken of, though they count for what is unique
_SMALLEST_AREA = 150.0  # pixels
_SMALLEST_SIDE = 10.0
_MOST_ALIKE = 10  # of larger groups annotators leave some out
_SPECK = 0.0006  # of the picture: where one so small is annotated, more of them are not
_OTHER_PART = 0.35  # of an outline's largest part: a second one as large, well apart, may be a second object
_SAME = 0.85  # intersection over union of two boxes of a category: annotated twice
_COLOUR_PIXELS = 4000
_PATTERNS = ("plain", "striped", "dotted", "checked")
# Bookkeeping of annotation tools, not looks.
_BOOKKEEPING = "occluded truncated difficult rotation keyframe outside iscrowd crowd group id track score confidence"
_IGNORED = frozenset((*_BOOKKEEPING.split(), "track id", "annotator", "source", "ignore", "object", "box"))


@dataclass(frozen=True)
class Attributes:
    """What an annotation records of an object besides its category."""

    colour: str | None = None
    pattern: str | None = None
    traits: tuple[str, ...] | None = None
    noun: str | None = None  # of a person of whom more is known: man, woman, boy, girl, kid


@dataclass(frozen=True)
class Record:
    """What is known of one picture before it is opened. `exhaustive`: every object of the categories is annotated.

    `open_names` are categories of which, even so, some may be missing; `families` the supercategory of each object.
    """

    image_id: int
    path: Path
    size: tuple[int, int]
    instances: tuple[Instance, ...]
    attributes: tuple[Attributes, ...]
    families: tuple[str, ...]
    exhaustive: bool
    open_names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PhotoView:
    """A picture ready to be spoken about.

    `eligible` are the indices of things large enough to be targets, `ann_ids` the annotation of each thing, `look` a
    fingerprint that near copies of the picture share.
    """

    image_id: int
    view: View
    ann_ids: tuple[int, ...]
    eligible: frozenset[int]
    exhaustive: bool
    look: str


def read_photo(record: Record) -> tuple[PhotoView | None, list[Problem]]:
    """Read the picture and look at its objects; None, with the reason, where that is not possible."""
    sample = Sample("", "", record.image_id, record.size, image_path=record.path)
    try:
        image = np.asarray(sample.read_image())
    except RefsegError as error:
        return None, [Problem("bad_picture", f"picture {record.image_id}", str(error))]
    colourless = is_colorless(image)
    things: list[Thing] = []
    ann_ids: list[int] = []
    eligible: set[int] = set()
    open_names = set(record.open_names)
    problems: list[Problem] = []
    known_traits = _trait_lists(record)
    for instance, attributes, family in zip(record.instances, record.attributes, record.families, strict=True):
        name = attributes.noun or normal_name(instance.category)
        if instance.crowd:
            open_names.add(name)
            continue
        try:
            mask = instance.mask(record.size)
        except RefsegError as error:
            problems.append(Problem("bad_outline", f"object {instance.ann_id}", str(error)))
            open_names.add(name)
            continue
        area = float(mask.sum())
        if not area:
            problems.append(Problem("bad_outline", f"object {instance.ann_id}", "covers no pixel"))
            open_names.add(name)
            continue
        box = bounding_box(mask)
        sides = box[2] - box[0], box[3] - box[1]
        if area >= max(_SMALLEST_AREA, _SMALLEST_SHARE * mask.size) and min(sides) >= _SMALLEST_SIDE:
            eligible.add(len(things))
        if countability(name) == "count" and _may_be_two(mask):
            open_names.add(name)
        colour = attributes.colour
        others: tuple[str, ...] = ()
        if colour is None and not colourless and not names_no_color(name):
            reading = _colour(image, mask, name in PEOPLE_NOUNS)
            colour, others = reading.name, reading.others
        things.append(
            Thing(
                category=name,
                box=box,
                centre=((box[0] + box[2]) / 2, (box[1] + box[3]) / 2),
                area=area,
                families=families_of(name, family),
                colour=colour,
                pattern=attributes.pattern,
                other_colours=others,
                traits=attributes.traits if name in known_traits else None,
                depth=box[3],
            )
        )
        ann_ids.append(instance.ann_id)
    open_names |= _crowded(things, record.size)
    view = View(record.size, tuple(things), _open(open_names, things, record.exhaustive))
    photo = PhotoView(record.image_id, view, tuple(ann_ids), frozenset(eligible), record.exhaustive, _look(image))
    return photo, problems


def read_attributes(record: dict[str, Any]) -> Attributes:
    """Colour, pattern and traits from an annotation: fields of those names, or `attributes` as a list or a table."""
    given = record.get("attributes")
    colour, pattern, noun = record.get("colour", record.get("color")), record.get("pattern"), None
    listed = record.get("traits")
    traits: list[str] | None = [str(trait) for trait in listed] if isinstance(listed, (list, tuple)) else None
    values: list[tuple[str, Any]] = []
    if isinstance(given, dict):
        values = [(str(key).lower().replace("_", " "), value) for key, value in given.items()]
    elif isinstance(given, (list, tuple)):
        values = [("", value) for value in given]
    gender, young = "", False
    for key, value in values:
        word = " ".join(str(value).lower().replace("_", " ").split())
        if key in _IGNORED or value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            continue
        if isinstance(value, bool):
            word = key if value else ""
        if key in ("colour", "color") or (not key and _colour_word(word)):
            colour = colour or word
        elif key == "pattern" or (not key and word in _PATTERNS):
            pattern = pattern or word
        elif word in ("male", "man", "female", "woman"):
            gender = "man" if word in ("male", "man") else "woman"
        elif word in ("child", "kid", "boy", "girl"):
            young, gender = True, {"boy": "man", "girl": "woman"}.get(word, gender)
        else:
            traits = traits or []
            if word and word not in ("unknown", "none", "other", "adult", "no", "false"):
                traits.append("hat" if word in ("hat", "wearing hat", "with hat") else word)
    if gender or young:
        noun = {("man", True): "boy", ("woman", True): "girl", ("", True): "kid"}.get((gender, young), gender)
    colour = _colour_word(str(colour)) if colour else None
    pattern = pattern if pattern in _PATTERNS else None
    return Attributes(colour, pattern, None if traits is None else tuple(dict.fromkeys(traits)), noun)


def _colour_word(word: str) -> str | None:
    word = {"grey": "gray"}.get(word, word)
    return word if word in COLORS else None


def _trait_lists(record: Record) -> set[str]:
    """The names for whose every object in the picture traits are recorded, so that a missing one is a missing one."""
    recorded: dict[str, bool] = {}
    for instance, attributes in zip(record.instances, record.attributes, strict=True):
        name = attributes.noun or normal_name(instance.category)
        recorded[name] = recorded.get(name, True) and attributes.traits is not None
    return {name for name, complete in recorded.items() if complete}


def _colour(image: NDArray[np.uint8], mask: NDArray[np.bool_], person: bool) -> ColorReading:
    """The colour inside an outline; of a person that of the clothes on the upper body, if it is plainly seen."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    if not person:
        return name_color(_some(image, inner))
    whole = name_color(_some(image, inner))
    left, top, right, bottom = (int(value) for value in bounding_box(mask))
    if bottom - top < 1.4 * (right - left):  # lying, bent, or a head alone: nobody knows where the clothes are
        return ColorReading(None)
    band = np.zeros_like(inner)
    band[top + (bottom - top) * 22 // 100 : top + (bottom - top) * 48 // 100] = True
    clothes = name_color(_some(image, inner & band), strictness=1.15)
    others = tuple(dict.fromkeys((*clothes.others, *whole.others, *((whole.name,) if whole.name else ()))))
    name = clothes.name
    if name in ("brown", "orange", "pink") and name is not None:  # may be bare skin
        others, name = (*others, name), ""
    return ColorReading(name, tuple(other for other in others if other != name))


def _some(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    pixels = image[mask]
    return pixels[:: max(1, len(pixels) // _COLOUR_PIXELS)]


def _may_be_two(mask: NDArray[np.bool_]) -> bool:
    """Whether an outline has two large parts side by side, farther apart than what stands before one object reaches."""
    step = max(1, max(mask.shape) // 160)
    parts = find_components(mask[::step, ::step])
    if len(parts) < 2 or parts.areas[1] < _OTHER_PART * parts.areas[0]:  # the largest come first
        return False
    one, other = parts.boxes[:2]
    gap = max(one[0], other[0]) - min(one[2], other[2])
    return bool(gap > 0.5 * min(one[2] - one[0], other[2] - other[0]))


def _crowded(things: Sequence[Thing], size: tuple[int, int]) -> set[str]:
    """Names of which there are so many or so small ones that some are likely missing, or one is annotated twice."""
    groups: dict[str, list[Thing]] = {}
    for thing in things:
        groups.setdefault(thing.category, []).append(thing)
    found = {name for name, members in groups.items() if len(members) >= _MOST_ALIKE}
    found |= {thing.category for thing in things if thing.area < _SPECK * size[0] * size[1]}
    for name, members in groups.items():
        if name not in found and any(
            _iou(one.box, other.box) > _SAME for place, one in enumerate(members) for other in members[place + 1 :]
        ):
            found.add(name)
    return found


def _iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared)


def _open(names: Collection[str], things: Sequence[Thing], exhaustive: bool) -> frozenset[str]:
    """The nouns that nothing is certain about: "thing" always, all of them where annotations are not exhaustive."""
    nouns = {"thing", *names}
    present = {noun for thing in things for noun in (thing.category, *thing.families)}
    if not exhaustive:
        return frozenset(nouns | present | PEOPLE_NOUNS)
    if nouns & PEOPLE_NOUNS:
        nouns |= PEOPLE_NOUNS
    for thing in things:
        if thing.category in nouns:
            nouns |= set(thing.families)
    if set(names) - present:  # what is open and not seen among the things may be of any family
        nouns |= {"animal", "vehicle"}
    return frozenset(nouns)


def _look(image: NDArray[np.uint8]) -> str:
    """A difference hash of 8 x 8 bits, the same for a picture and its mirror image."""
    from PIL import Image

    small = np.asarray(Image.fromarray(image).convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    hashes = []
    for view in (small, small[:, ::-1]):
        bits = (view[:, 1:] > view[:, :-1]).ravel()
        hashes.append(np.packbits(bits).tobytes().hex())
    return min(hashes)
