"""What NanoDet-Plus's classes are called, for text encoders with a share of each word in each class.

Its 80 class logits are COCO's categories in the order of their numbers. The tensors themselves are read by
`refseg.vision.shufflenet.from_nanodet`.
"""

from __future__ import annotations

from typing import Any

import torch

from refseg.data.scenes.words import plural
from refseg.errors import CheckpointError
from refseg.text.transformer import WordTransformer
from refseg.vision.colour_maps import COLOURS

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

_PEOPLE = """
    man woman boy girl guy lady kid child dude gentleman fellow player people men women guys ladies kids boys girls
    children baby toddler batter catcher umpire pitcher skier surfer skateboarder skater rider chef cook bride groom
    someone somebody everyone everybody adult teen teenager male female human individual persons folks gal lad
    pedestrian crowd team biker cyclist officer waiter
"""
_WORN = """
    shirt jacket coat hat dress sweater hoodie suit jersey pants jeans shorts hair face head glasses sunglasses
    uniform tshirt skirt blouse vest cap helmet beard arm hand wearing standing sitting
"""
_SHARES: dict[str, dict[str, float]] = {
    **{word: {"person": 1.0} for word in _PEOPLE.split()},
    **{word: {"person": 0.5} for word in _WORN.split()},
    "bike": {"bicycle": 1.0, "motorcycle": 0.7},
    "motorbike": {"motorcycle": 1.0},
    "scooter": {"motorcycle": 0.7},
    "plane": {"airplane": 1.0},
    "jet": {"airplane": 1.0},
    "aircraft": {"airplane": 1.0},
    "vehicle": {"car": 1.0, "bus": 1.0, "truck": 1.0, "motorcycle": 1.0, "train": 0.5, "bicycle": 0.5},
    "van": {"car": 0.7, "truck": 0.7, "bus": 0.4},
    "taxi": {"car": 1.0},
    "cab": {"car": 0.8, "truck": 0.3},
    "suv": {"car": 1.0},
    "ship": {"boat": 1.0},
    "hydrant": {"fire hydrant": 1.0},
    "sign": {"stop sign": 0.5},
    "animal": dict.fromkeys(
        ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"), 1.0
    ),
    "kitty": {"cat": 1.0},
    "kitten": {"cat": 1.0},
    "puppy": {"dog": 1.0},
    "doggie": {"dog": 1.0},
    "pony": {"horse": 1.0},
    "lamb": {"sheep": 1.0},
    "goat": {"sheep": 0.7},
    "calf": {"cow": 1.0},
    "bull": {"cow": 1.0},
    "cattle": {"cow": 1.0},
    "duck": {"bird": 1.0},
    "goose": {"bird": 1.0},
    "bag": {"handbag": 0.8, "backpack": 0.8, "suitcase": 0.8},
    "purse": {"handbag": 1.0},
    "luggage": {"suitcase": 1.0},
    "case": {"suitcase": 0.6},
    "necktie": {"tie": 1.0},
    "ski": {"skis": 1.0},
    "ball": {"sports ball": 1.0},
    "bat": {"baseball bat": 1.0},
    "glove": {"baseball glove": 0.8},
    "board": {"surfboard": 0.8, "skateboard": 0.8, "snowboard": 0.8},
    "racket": {"tennis racket": 1.0},
    "racquet": {"tennis racket": 1.0},
    "glass": {"wine glass": 0.8, "cup": 0.6},
    "wine": {"wine glass": 0.6, "bottle": 0.4},
    "mug": {"cup": 1.0},
    "coffee": {"cup": 0.6},
    "dish": {"bowl": 0.7},
    "plate": {"bowl": 0.3},
    "food": dict.fromkeys(("sandwich", "pizza", "donut", "cake", "hot dog", "broccoli", "banana", "carrot"), 0.5),
    "fruit": {"banana": 0.7, "apple": 0.7, "orange": 0.7},
    "sub": {"sandwich": 0.8},
    "burger": {"sandwich": 0.8},
    "bread": {"sandwich": 0.5},
    "bun": {"sandwich": 0.4, "hot dog": 0.4},
    "hotdog": {"hot dog": 1.0},
    "doughnut": {"donut": 1.0},
    "veggie": {"broccoli": 0.6, "carrot": 0.6},
    "vegetable": {"broccoli": 0.6, "carrot": 0.6},
    "slice": {"pizza": 0.5, "cake": 0.3},
    "pie": {"pizza": 0.4, "cake": 0.4},
    "cupcake": {"cake": 1.0},
    "seat": {"chair": 0.8, "couch": 0.3, "bench": 0.4},
    "stool": {"chair": 0.8},
    "armchair": {"chair": 0.8, "couch": 0.5},
    "recliner": {"chair": 0.6, "couch": 0.6},
    "sofa": {"couch": 1.0},
    "loveseat": {"couch": 1.0},
    "plant": {"potted plant": 1.0},
    "flower": {"potted plant": 0.6, "vase": 0.4},
    "pot": {"potted plant": 0.5, "vase": 0.4},
    "bunk": {"bed": 0.8},
    "table": {"dining table": 1.0},
    "desk": {"dining table": 0.6},
    "television": {"tv": 1.0},
    "screen": {"tv": 0.8, "laptop": 0.6},
    "monitor": {"tv": 1.0},
    "computer": {"laptop": 1.0, "tv": 0.5},
    "phone": {"cell phone": 1.0},
    "cellphone": {"cell phone": 1.0},
    "controller": {"remote": 1.0},
    "wii": {"remote": 1.0},
    "stove": {"oven": 1.0},
    "fridge": {"refrigerator": 1.0},
    "teddy": {"teddy bear": 1.0},
    "bear": {"bear": 1.0, "teddy bear": 0.6},
    "brush": {"toothbrush": 0.6},
    "elephants": {"elephant": 1.0},
}
"""Words that are no class's name, and names' words that are not the whole name; shares are guesses that training moves.
"""


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


def give_names(encoder: Any, words: list[str]) -> int:
    """Fill the shares of a `WordTransformer` from the classes' names, their plurals, words that mean the same or a
    wider noun, and with `config.classes` = 91 from colours; `words` are the rows of its tables. Returns how many words
    got a share.

    Raises `CheckpointError` for an encoder without such shares.
    """
    sizes = (len(CLASSES), len(CLASSES) + len(COLOURS))
    if not isinstance(encoder, WordTransformer) or encoder.shares is None or encoder.config.classes not in sizes:
        raise CheckpointError(f"class names fit a WordTransformer with classes={sizes[0]}, or {sizes[1]} with colours")
    shares: dict[str, dict[str, float]] = {}
    for name in CLASSES:
        parts = name.split()
        for part in parts:
            weight = 1.0 if len(parts) == 1 else 0.6
            for form in (part, *_plurals(part)):
                shares.setdefault(form, {}).setdefault(name, weight)
    for word, given in _SHARES.items():
        for form in (word, *_plurals(word)):
            shares[form] = dict(given) | {k: v for k, v in shares.get(form, {}).items() if k not in given}
    if encoder.config.classes == sizes[1]:
        tints = {name: {name: 1.0} for name in COLOURS} | _TINTS
        for word, given in tints.items():
            shares[word] = {f"{name} colour": share for name, share in given.items()} | shares.get(word, {})
    numbers = {name: number for number, name in enumerate((*CLASSES, *(f"{name} colour" for name in COLOURS)))}
    found = 0
    with torch.no_grad():
        for row, word in enumerate(words):
            for name, weight in shares.get(word, {}).items():
                encoder.shares.weight[row, numbers[name]] = weight
            found += word in shares
    return found
