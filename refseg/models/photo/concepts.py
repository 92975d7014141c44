"""Names of the concepts that words have shares in: a detector's classes, and tags. The third kind are colours
(`refseg.palette`); words get their first shares in `refseg.training.concept_shares`."""

from __future__ import annotations

from refseg.coco import CATEGORIES

__all__ = ["CLASSES", "PHOTO_TAGS"]

CLASSES = CATEGORIES
"""NanoDet-Plus's classes, in the order of its logits."""

_TAGS = """
    person, cat, hair, handbag, elephant, shoes, wheel, bear, monkey, turtle, tiger, otter, front bumper, hood,
    front left light, deer, front glass, front right light, pants, sunglasses, dress, bottle, vehicle, chair,
    front left door, coat, back left light, car, blouse, front right door, back left door, back right door, back
    right light, bowl, book, belt, back glass, back bumper, skirt, cup, shirt, jeans, trunk, sweater, umbrella,
    hat, banana, dog, blazer, wine glass, bus, teddy bear, donut, t-shirt, tailgate, sandwich, carrot, dining
    table, stockings, bracelet, bench, potted plant, pizza, tv, boat, scarf, suitcase, orange, motorcycle,
    jacket, sandals, suit, zebra, top, cake, laptop, toilet, truck, backpack, traffic light, spoon, vest, boots,
    shorts, broccoli, socks, skateboard, train, knife, stop sign, vase, airplane, sweatshirt, bicycle, apple,
    couch, giraffe, leggings, cow, sink, watch, koala, sheep, clock, fork, necklace, frisbee, oven, keyboard,
    tree, fire hydrant, cell phone, wallet, loafers, horse, jumper, romper, kite, bird, tie, bed, glasses,
    heels, refrigerator, toothbrush, van, cape, mouse, man, woman, boy, girl, duck, table, sofa, lamp, ball,
    box, animal, left mirror, right mirror, road, helmet, grape, cherry, strawberry, gloves, sneakers, tennis
    racket, surfboard, skis, hot dog, snowboard, remote, microwave, toaster, scissors, baseball bat, baseball
    glove, sports ball, parking meter, hair drier, adult, kid, furniture, tableware, toy, container, striped,
    dotted, checked, standing, sitting, waving
"""
PHOTO_TAGS: tuple[str, ...] = tuple(" ".join(tag.split()) for tag in _TAGS.split(","))
"""Categories as `refseg data templates` names them, and tags of drawn things; colours have maps of their own."""
