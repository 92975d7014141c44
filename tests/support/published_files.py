"""Writes small data sets in the published files' form."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 60)  # height, width of every picture


def square(left: float, top: float, side: float) -> list[float]:
    """A square as a COCO polygon."""
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def annotation(key: int, picture: int, left: int = 4, top: int = 4, side: int = 10, **fields: Any) -> dict[str, Any]:
    """A COCO annotation: a square unless `fields` says otherwise."""
    record = {
        "id": key,
        "image_id": picture,
        "category_id": 1,
        "iscrowd": 0,
        "area": float(side * side),
        "bbox": [float(left), float(top), float(side), float(side)],
        "segmentation": [square(left, top, side)],
    }
    return {**record, **fields}


def sentence(number: int, text: str, **fields: Any) -> dict[str, Any]:
    """A sentence record as published."""
    return {"sent_id": number, "raw": text, "sent": text.lower(), "tokens": text.lower().split(), **fields}


def referent(key: int, picture: int, targets: Any, split: str, sentences: list[dict[str, Any]]) -> dict[str, Any]:
    """A referent record as published; `targets` is a number (RefCOCO) or a list (gRefCOCO)."""
    record = {
        "ref_id": key,
        "image_id": picture,
        "ann_id": targets,
        "category_id": 1 if isinstance(targets, int) else [1] * len(targets),
        "file_name": f"COCO_train2014_{picture:012d}_{key}.jpg",
        "split": split,
        "sent_ids": [entry["sent_id"] for entry in sentences],
        "sentences": sentences,
    }
    if not isinstance(targets, int):
        record["no_target"] = targets == [-1]
    return record


def write_pictures(root: Path, numbers: list[int]) -> None:
    """Noise pictures under COCO's names."""
    folder = root / "images" / "train2014"
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"COCO_train2014_{number:012d}.jpg", quality=95)


def write_dataset(root: Path, folder: str, refs_name: str, refs: Any, annotations: list[dict[str, Any]]) -> Path:
    """One data set's folder with its two files; returns it."""
    home = root / folder
    home.mkdir(parents=True, exist_ok=True)
    numbers = sorted({record["image_id"] for record in annotations} | {1, 2})
    pictures = [
        {"id": number, "file_name": f"COCO_train2014_{number:012d}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for number in numbers
    ]
    table = {"images": pictures, "annotations": annotations, "categories": [{"id": 1, "name": "ball"}]}
    (home / "instances.json").write_text(json.dumps(table))
    if refs_name.endswith(".p"):
        (home / refs_name).write_bytes(pickle.dumps(refs, protocol=2))
    else:
        (home / refs_name).write_text(json.dumps(refs))
    return home
