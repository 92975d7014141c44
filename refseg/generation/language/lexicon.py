"""From the category names of annotation files to words: aliases, kinds of noun, paraphrases, families."""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from functools import cache

from refseg.generation.language.words import plural

__all__ = [
    "GROUNDED",
    "PAIRS",
    "PhotoWords",
    "families_of",
    "has_side_in_name",
    "kind_of_noun",
    "look_alikes",
    "names_no_colour",
    "normal_name",
    "surfaces_of",
]


def _set(text: str, separator: str | None = None) -> frozenset[str]:
    return frozenset(" ".join(word.split()) for word in text.split(separator))


_ALIASES = {
    "aeroplane": "airplane",
    "plane": "airplane",
    "motorbike": "motorcycle",
    "bike": "bicycle",
    "automobile": "car",
    "sofa": "couch",
    "tvmonitor": "tv",
    "tv monitor": "tv",
    "television": "tv",
    "television set": "tv",
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "cellphone": "cell phone",
    "cellular telephone": "cell phone",
    "mobile phone": "cell phone",
    "trafficlight": "traffic light",
    "hair dryer": "hair drier",
    "doughnut": "donut",
    "tennis racquet": "tennis racket",
    "pedestrian": "person",
    "human": "person",
    "persons": "person",
    "people": "person",
    "male": "man",
    "guy": "man",
    "gentleman": "man",
    "female": "woman",
    "lady": "woman",
    "child": "kid",
}

# Other words for a category, each with the categories beside which it could be misunderstood.
_BAGS = frozenset(("handbag", "backpack", "suitcase", "bag", "purse"))
_SURFACES: dict[str, dict[str, Collection[str]]] = {
    "airplane": {"airplane": (), "plane": ()},
    "motorcycle": {"motorcycle": (), "motorbike": ()},
    "bicycle": {"bicycle": (), "bike": ("motorcycle",)},
    "couch": {"couch": (), "sofa": ()},
    "tv": {"tv": (), "television": ()},
    "cell phone": {"cell phone": (), "phone": (), "mobile phone": ()},
    "refrigerator": {"refrigerator": (), "fridge": ()},
    "handbag": {"handbag": (), "bag": _BAGS - {"handbag"}, "purse": ()},
    "suitcase": {"suitcase": (), "bag": _BAGS - {"suitcase"}},
    "backpack": {"backpack": (), "rucksack": (), "bag": _BAGS - {"backpack"}},
    "dining table": {"table": ("table",), "dining table": ()},
    "potted plant": {"potted plant": (), "plant": ("tree",)},
    "hair drier": {"hair dryer": (), "blow dryer": ()},
    "sports ball": {"ball": ()},
    "donut": {"donut": (), "doughnut": ()},
    "remote": {"remote": (), "remote control": ()},
    "mouse": {"mouse": (), "computer mouse": ()},
    "wine glass": {"wine glass": (), "glass": ("cup", "glasses", "glass")},
    "teddy bear": {"teddy bear": (), "teddy": (), "stuffed bear": ()},
    "tie": {"tie": (), "necktie": ()},
    "laptop": {"laptop": (), "laptop computer": ()},
    "tennis racket": {"tennis racket": (), "racket": ()},
    "baseball bat": {"baseball bat": (), "bat": ()},
    "baseball glove": {"baseball glove": ()},
    "fire hydrant": {"fire hydrant": (), "hydrant": ()},
    "trash can": {"trash can": (), "garbage can": (), "bin": ("container",)},
    "stop sign": {"stop sign": ()},
    "book": {"book": ()},
    "boat": {"boat": ()},
    "person": {"person": ()},
    "man": {"man": (), "guy": (), "gentleman": (), "fellow": ()},
    "woman": {"woman": (), "lady": ()},
    "boy": {"boy": (), "little boy": (), "young boy": ()},
    "girl": {"girl": (), "little girl": (), "young girl": ()},
    "kid": {"kid": (), "child": ("boy", "girl")},
    "broccoli": {"piece of broccoli": ()},
    "furniture": {"piece of furniture": ()},
}
_SINGULAR_ONLY = frozenset(("guy", "gentleman", "fellow"))

# Two-legged things and pairs: counted as pairs, named without "pair" where nothing is counted.
PAIRS = _set(
    """
    scissors skis glasses sunglasses eyeglasses goggles pants trousers jeans shorts leggings tights stockings
    socks shoes boots sneakers sandals heels pumps flats loafers wedges slippers gloves mittens earrings
    headphones pliers tongs chopsticks binoculars overalls pajamas
    """
)
_MASS = _set(
    """
    hair skin sky grass road sidewalk water sea sand snow sun ground floor wall ceiling food rice fruit
    vegetation foliage dirt mud smoke fire fog ice air clothing jewelry luggage furniture traffic background
    """
)
_ENDS_IN_S = re.compile(r"(ss|us|is|as|ous|news|lens|bus|gas|canvas|sheep|series|species|compass|tennis|chassis)$")

_PEOPLE = {
    "person": ("person",),
    "man": ("person", "adult"),
    "woman": ("person", "adult"),
    "boy": ("person", "kid"),
    "girl": ("person", "kid"),
    "kid": ("person", "kid"),
    "adult": ("person", "adult"),
}
_ANIMALS = _set(
    """
    bird cat dog horse sheep cow elephant bear zebra giraffe monkey tiger deer otter koala lion
    """
)
_VEHICLES = _set(
    """
    car motorcycle bus truck bicycle van train boat airplane
    """
)
# What stands on the ground: lower in the picture and larger is nearer.
GROUNDED = (
    frozenset(_PEOPLE)
    | (_ANIMALS - {"bird", "cat", "monkey"})
    | frozenset(("car", "motorcycle", "bus", "truck", "bicycle", "van", "chair", "bench", "fire hydrant"))
)

# Annotators and readers draw the line between these differently: "no truck is red" needs that no car is.
_LOOK_ALIKES = tuple(
    frozenset(group.split(","))
    for group in (
        "car,truck,bus,van,vehicle,train",
        "cup,wine glass,bowl,vase,bottle,glass,potted plant,mug",
        "couch,chair,bench,bed,sofa,armchair,stool",
        "handbag,backpack,suitcase,bag,purse,wallet,container",
        "donut,cake,sandwich,pizza,hot dog,bread",
        "knife,fork,spoon,scissors",
        "bicycle,motorcycle",
        "surfboard,snowboard,skateboard,skis",
        "oven,microwave,toaster,sink,refrigerator",
        "tv,laptop,cell phone,remote,keyboard,mouse,monitor",
        "apple,orange,banana,carrot,broccoli,grape,cherry,strawberry",
        "bear,teddy bear,dog,cat,cow,horse,sheep,elephant,zebra,giraffe,otter,koala,deer",
        "coat,jacket,blazer,sweater,sweatshirt,shirt,t-shirt,blouse,top,vest,cardigan,hoodie,jumper,cape,suit,bodysuit",
        "dress,skirt,romper,shorts,pants,jeans,leggings,tights,stockings",
        "shoes,boots,heels,pumps,sneakers,sandals,flats,loafers,wedges,socks",
        "dining table,table,desk",
        "baseball bat,baseball glove,tennis racket,frisbee,sports ball,kite",
        "book,laptop,box",
        "stop sign,sign,traffic light,parking meter,banner",
    )
)
_COLOUR_WORDS = _set(
    """
    black white gray grey red orange yellow green blue purple pink brown golden silver polar panda
    """
)
# Their look is a picture, a reflection, a lamp, see-through, or has words of its own (blond).
_NO_COLOUR = _set(
    """
    traffic light, tv, laptop, cell phone, clock, mirror, window, glass, glasses, sunglasses, wine glass, skin,
    hair, zebra, giraffe, tiger, watch, monitor, door glass, front glass, back glass, bowl, cup, bottle, dining
    table, vase, fork, knife, spoon, sink, broccoli, sky, pizza, sandwich, hot dog, left mirror, right mirror,
    accessories, ring, necklace, earrings, bracelet, front left light, front right light, back left light, back
    right light
    """,
    ",",
)
_SIDES = _set(
    """
    left right top bottom front back middle center centre upper lower rear near far
    """
)


@cache
def normal_name(name: str) -> str:
    """A category's name as people write it: "tvmonitor" -> "tv", "car_(automobile)" -> "car", "TrafficLight" -> ..."""
    text = re.sub(r"\([^)]*\)", " ", name)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text.replace("_", " ").replace("/", " "))
    text = " ".join(text.lower().split())
    return _ALIASES.get(text, text)


def surfaces_of(name: str) -> tuple[str, ...]:
    """All words for a category by its normal name, its own among them, in the singular: "couch", "sofa"."""
    aliases = (alias for alias, meant in _ALIASES.items() if meant == name)
    return tuple(dict.fromkeys((name, *_SURFACES.get(name, {}), *aliases)))


def kind_of_noun(name: str) -> str:
    """ "count" (cup, cups), "pair" (pair of skis) or "mass" (hair, and groups under one name such as "cars")."""
    last = name.rsplit(" ", 1)[-1]
    if last in PAIRS:
        return "pair"
    if name in _MASS or last in _MASS:
        return "count" if name in _SURFACES else "mass"
    if last.endswith("s") and not _ENDS_IN_S.search(last) and name not in _SURFACES:
        return "mass"
    return "count"


def families_of(name: str, supercategory: str) -> tuple[str, ...]:
    """Wider nouns: people always, "animal" and "vehicle" where the file itself groups so (then it lists them all)."""
    if name in _PEOPLE:
        return _PEOPLE[name]
    return (supercategory,) if supercategory in ("animal", "vehicle") else ()


def look_alikes(name: str) -> str:
    """One word for all categories that are easily taken for each other."""
    for number, group in enumerate(_LOOK_ALIKES):
        if name in group:
            return f"look-alike {number}"
    return name


def names_no_colour(name: str) -> bool:
    """Whether things of a category are not called by the colour of their pixels."""
    return name in _NO_COLOUR or not _COLOUR_WORDS.isdisjoint(name.split())


def has_side_in_name(name: str) -> bool:
    """Whether the name itself holds a word such as "left": with another one it would be misread."""
    return not _SIDES.isdisjoint(name.replace("-", " ").split())


class PhotoWords:
    """Chooses words for the nouns of one picture: none that also fits another category there."""

    def __init__(self, rng: random.Random, present: Collection[str]) -> None:
        self.rng = rng
        self.present = frozenset(present)

    def __call__(self, name: str, many: bool, counted: bool) -> str:
        """A word for `name`, in the plural if `many`; pairs as such where they are `counted`."""
        kind = kind_of_noun(name)
        if kind == "mass" or (kind == "pair" and not many and not counted):
            return name
        if kind == "pair":
            return f"pairs of {name}" if many else f"pair of {name}"
        choices = [
            word
            for word, rivals in _SURFACES.get(name, {name: ()}).items()
            if self.present.isdisjoint(set(rivals) - {name}) and not (many and word in _SINGULAR_ONLY)
        ]
        # The category's own word more often than the others, as in people's sentences.
        word = self.rng.choice([choices[0], *choices]) if choices else name
        return plural(word) if many else word
