"""Photographs painted for tests: flat coloured ellipses on grass, so that what is true of them is known."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from refseg.data import rle

PAINTS = {"red": (200, 28, 36), "blue": (32, 82, 196), "yellow": (248, 214, 52), "white": (245, 245, 243)}
CATEGORIES = ("dog", "car", "ball")
SIZE = (200, 280)
Things: TypeAlias = list[tuple[str, str, tuple[int, int, int, int]]]


def ellipse(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    across = (columns - (left + right) / 2) / ((right - left) / 2)
    down = (rows - (top + bottom) / 2) / ((bottom - top) / 2)
    return across**2 + down**2 <= 1


def paint(things: Things, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """The picture of (category, colour, box) things, and their masks."""
    noise = np.random.default_rng(seed).normal(0, 6, (*SIZE, 3))
    pixels = np.asarray((70, 120, 70)) + noise
    masks = [ellipse(*box) for _, _, box in things]
    for (_, colour, _), mask in zip(things, masks, strict=True):
        pixels[mask] = np.asarray(PAINTS[colour]) + noise[mask]
    return np.clip(pixels, 0, 255).astype(np.uint8), masks


def layout(seed: int) -> Things:
    """Two to seven things that do not overlap."""
    rng = random.Random(seed)
    things: Things = []
    for _ in range(200):
        if len(things) >= 2 + seed % 6:
            break
        width, height = rng.randint(24, 80), rng.randint(24, 70)
        left, top = rng.randint(1, SIZE[1] - width - 1), rng.randint(1, SIZE[0] - height - 1)
        box = (left, top, left + width, top + height)
        if all(box[0] > b[2] or box[2] < b[0] or box[1] > b[3] or box[3] < b[1] for _, _, b in things):
            things.append((rng.choice(CATEGORIES), rng.choice(list(PAINTS)), box))
    return things


def write_coco(folder: Path, pictures: dict[int, Things], **extra: Any) -> Path:
    """An instances.json with pictures beside it; `extra` are fields of every picture's record."""
    images, annotations = [], []
    for number, things in pictures.items():
        pixels, masks = paint(things, number)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1], **extra})
        for (category, _, box), mask in zip(things, masks, strict=True):
            record = {"id": len(annotations) + 1, "image_id": number, "category_id": CATEGORIES.index(category) + 1}
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            annotations.append({**record, "bbox": bbox, "segmentation": rle.encode(mask), "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, 1)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path
