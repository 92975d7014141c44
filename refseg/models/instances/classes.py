"""Class names of proposals: COCO's 80 categories, then what garments, car parts, animals and drawn scenes add.

    class_probs[:, :80]   COCO categories by increasing id (`COCO`)
    class_probs[:, 80:]   `EXTRA`

The detector's second head tells drawn things apart from photographed ones by outputs of its own (`SECOND`); a drawn dog
is a "dog" to whoever reads `class_probs`.
"""

from __future__ import annotations

from types import MappingProxyType

from refseg.coco import CATEGORIES as COCO

__all__ = ["CLASSES", "COCO", "DRAWN", "EXTRA", "PART_OF", "PEOPLE", "SAME_CLASS", "SECOND", "class_index"]

_EXTRA = """
    man, woman, boy, girl, duck, lamp, box,
    monkey, tiger, turtle, otter, deer, koala, vehicle, van, wheel, road, tree, building, sign, sidewalk,
    front bumper, hood, front left light, front right light, left mirror, right mirror, front glass, back glass,
    front left door, front right door, back left door, back right door, back left light, back right light,
    back bumper, trunk, tailgate,
    skin, hair, shoes, pants, sunglasses, dress, coat, blouse, accessories, belt, skirt, shirt, jeans, sweater, hat,
    blazer, t-shirt, stockings, bracelet, scarf, suit, jacket, sandals, vest, shorts, top, socks, boots, sweatshirt,
    leggings, necklace, watch, wallet, cape, jumper, romper, loafers, heels, pumps, glasses, gloves, helmet, cardigan,
    sneakers, tights, mask,
    grape, cherry, strawberry
"""
_DRAWN = """
    man, woman, boy, girl, dog, cat, horse, duck, car, bus, truck, bicycle, chair, table, sofa, lamp, cup, bottle,
    vase, ball, teddy bear, box, suitcase, umbrella
"""


def _names(listed: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in listed.split(","))


EXTRA: tuple[str, ...] = _names(_EXTRA)
"""Categories of annotated photographs and of drawn scenes that are not COCO's."""
CLASSES: tuple[str, ...] = COCO + EXTRA
"""Columns of `Proposals.class_probs`."""
DRAWN: tuple[str, ...] = _names(_DRAWN)
"""Categories of drawn scenes (`refseg data scenes`), each an output of its own in the second head."""
SAME_CLASS = MappingProxyType(
    {"table": "dining table", "sofa": "couch", "ball": "sports ball", "motorbike": "motorcycle"}
)
"""What else categories of annotation files are called -> the name in `CLASSES`."""
PEOPLE: tuple[str, ...] = ("man", "woman", "boy", "girl")
"""Categories that are persons too: where one of them is found, "person" is at least as probable."""
SECOND: tuple[str, ...] = tuple(name for name in EXTRA if name not in DRAWN) + tuple(f"drawn {name}" for name in DRAWN)
"""Outputs of the detector's second head: photographed categories outside COCO, then drawn ones."""

_WHOLE = _names(
    "man, woman, boy, girl, duck, lamp, box, monkey, tiger, turtle, otter, deer, koala, vehicle, van, tree, building, "
    "grape, cherry, strawberry"
)
PART_OF: frozenset[str] = frozenset(EXTRA) - frozenset(_WHOLE)
"""Garments, hair, car parts and the like: an instance of them lies on another one."""

_INDEX = {name: number for number, name in enumerate(CLASSES)}


def class_index(name: str) -> int | None:
    """Column of a category's name in `class_probs`, None for what is no class here."""
    return _INDEX.get(SAME_CLASS.get(name, name))
