"""What NanoDet-Plus's classes are called, for text encoders with a share of each word in each class.

Its 80 class logits are COCO's categories in the order of their numbers. The tensors themselves are read by
`refseg.encoders.vision.shufflenet.from_nanodet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from refseg.encoders.text.transformer import WordTransformer
from refseg.errors import CheckpointError
from refseg.generation.language.everyday_words import EVERYDAY, WIDER
from refseg.generation.language.words import plural
from refseg.models.photo.color_maps import COLOURS

__all__ = ["CLASSES", "give_names"]

_LISTED = """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
    skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple,
    sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining
    table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
    refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush
"""
CLASSES: tuple[str, ...] = tuple(" ".join(name.split()) for name in _LISTED.split(","))
"""COCO's categories by number."""

_PEOPLE = "people persons folks everyone everybody crowd team family couple"
_WORN = """
    shirt jacket coat hat dress sweater hoodie suit jersey pants jeans shorts hair face head glasses sunglasses
    uniform tshirt skirt blouse vest cap helmet beard arm hand wearing standing sitting
"""
_SHARES: dict[str, dict[str, float]] = {
    **{word: {"person": 1.0} for word in _PEOPLE.split()},
    **{word: {"person": 0.5} for word in _WORN.split()},
    "group": {"person": 0.5},
    "bike": {"bicycle": 1.0, "motorcycle": 0.7},
    "scooter": {"motorcycle": 0.7},
    "vehicle": {"car": 1.0, "bus": 1.0, "truck": 1.0, "motorcycle": 1.0, "train": 0.5, "bicycle": 0.5},
    "van": {"car": 0.7, "truck": 0.7, "bus": 0.4},
    "light": {"traffic light": 0.4},
    "sign": {"stop sign": 0.5},
    "case": {"suitcase": 0.6},
    "wine": {"wine glass": 0.6, "bottle": 0.4},
    "coffee": {"cup": 0.6},
    "plate": {"bowl": 0.3},
    "bread": {"sandwich": 0.5},
    "bun": {"sandwich": 0.4, "hot dog": 0.4},
    "slice": {"pizza": 0.5, "cake": 0.3},
    "pie": {"pizza": 0.4, "cake": 0.4},
    "flower": {"potted plant": 0.6, "vase": 0.4},
    "tree": {"potted plant": 0.3},
    "watch": {"clock": 0.4},
    "camera": {"cell phone": 0.3},
    "computer": {"laptop": 1.0, "tv": 0.5},
    "bear": {"bear": 1.0, "teddy bear": 0.6},
    "brush": {"toothbrush": 0.6},
}
"""Words whose shares are not `_SAID` of each category they are said for; all are guesses that training moves."""
_SAID, _WIDER = 0.8, 0.5


_TINTS: dict[str, dict[str, float]] = {
    "grey": {"gray": 1.0},
    "silver": {"gray": 1.0, "white": 0.3},
    "dark": {"black": 0.7},
    "light": {"white": 0.5},
    "blond": {"yellow": 0.6, "brown": 0.3},
    "blonde": {"yellow": 0.6, "brown": 0.3},
    "golden": {"yellow": 0.6, "orange": 0.4, "brown": 0.4},
    "gold": {"yellow": 0.8},
    "tan": {"brown": 0.8},
    "beige": {"brown": 0.4, "white": 0.4},
    "navy": {"blue": 1.0},
    "teal": {"green": 0.5, "blue": 0.5},
    "maroon": {"red": 0.7, "brown": 0.4},
    "khaki": {"brown": 0.6, "green": 0.3},
    "turquoise": {"blue": 0.6, "green": 0.4},
    "violet": {"purple": 1.0},
    "magenta": {"pink": 0.8, "purple": 0.4},
    "ginger": {"orange": 0.9, "brown": 0.3},
}


def _plurals(word: str) -> tuple[str, ...]:
    return (plural(word), f"{word}s")


def give_names(encoder: Any, words: list[str], tags: Sequence[str] = ()) -> int:
    """Fill the shares of a `WordTransformer` in a detector's classes, in `tags` (see `refseg.nn.tags`) and in
    colours, in that order: from the classes' names, their plurals, what people say for them and wider nouns
    (`refseg.generation.language.everyday_words`). `words` are the rows of its tables. Returns how many words got a
    share.

    Raises `CheckpointError` for an encoder without such shares.
    """
    sizes = (len(CLASSES) + len(tags), len(CLASSES) + len(tags) + len(COLOURS))
    if not isinstance(encoder, WordTransformer) or encoder.shares is None or encoder.config.classes not in sizes:
        raise CheckpointError(f"class names fit a WordTransformer with classes={sizes[0]}, or {sizes[1]} with colours")
    shares = _class_shares()
    for tag in tags:
        *_, head = tag.split()
        for form in (head, plural(head)):
            shares.setdefault(form, {})[f"{tag} tag"] = 1.0 if head == tag else 0.6
        for said in EVERYDAY.get(tag, ()):
            if " " not in said:
                shares.setdefault(said, {}).setdefault(f"{tag} tag", _SAID)
    if encoder.config.classes == sizes[1]:
        tints = {name: {name: 1.0} for name in COLOURS} | _TINTS
        for word, given in tints.items():
            shares[word] = {f"{name} colour": share for name, share in given.items()} | shares.get(word, {})
    named = (*CLASSES, *(f"{tag} tag" for tag in tags), *(f"{name} colour" for name in COLOURS))
    numbers = {name: number for number, name in enumerate(named)}
    found = 0
    with torch.no_grad():
        for row, word in enumerate(words):
            for name, weight in shares.get(word, {}).items():
                encoder.shares.weight[row, numbers[name]] = weight
            found += word in shares
    return found


def _class_shares() -> dict[str, dict[str, float]]:
    """Each word's share in the detector's classes."""
    shares: dict[str, dict[str, float]] = {}
    for name in CLASSES:
        parts = name.split()
        for part in parts:
            for form in (part, *_plurals(part)):
                shares.setdefault(form, {}).setdefault(name, 1.0 if len(parts) == 1 else 0.6)
    for name, said in EVERYDAY.items():
        for word in said:
            for form in (word, *_plurals(word)) if " " not in word else ():
                shares.setdefault(form, {}).setdefault(name, 1.0 if name == "person" else _SAID)
    for word, names in WIDER.items():
        for form in (word, *_plurals(word)):
            for name in names:
                shares.setdefault(form, {}).setdefault(name, _WIDER)
    for word, given in _SHARES.items():
        for form in (word, *_plurals(word)):
            shares[form] = dict(given)
    return shares
