"""Small made-up pictures with objects, in memory and as COCO-style files."""

import json

import numpy as np
from PIL import Image

from refseg.data import rle


def disc(size, centre, radius):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows + 0.5 - centre[0]) ** 2 + (columns + 0.5 - centre[1]) ** 2 <= radius**2


def painted(size, discs):
    """A picture of coloured discs on gray, and their masks; `discs` are (centre, radius, rgb)."""
    image = np.full((*size, 3), 120, np.uint8)
    masks = []
    for centre, radius, rgb in discs:
        mask = disc(size, centre, radius)
        image[mask] = rgb
        masks.append(mask)
    return image, masks


def write_coco(folder, records, categories):
    """instances.json and images/: `records` are (file name, image, [(category, mask, crowd)], further fields)."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    numbers = {name: number for number, name in enumerate(categories, 1)}
    images, annotations = [], []
    for number, (name, image, objects, extra) in enumerate(records, 1):
        Image.fromarray(image).save(folder / "images" / name)
        height, width = image.shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width, **extra})
        for category, mask, crowd in objects:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": numbers[category],
                    "bbox": [int(value) for value in box],
                    "area": int(mask.sum()),
                    "iscrowd": int(crowd),
                    "segmentation": rle.encode(mask),
                }
            )
    listed = [{"id": number, "name": name} for name, number in numbers.items()]
    content = {"images": images, "annotations": annotations, "categories": listed}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json", folder / "images"


def two_discs(folder, count=6, size=(96, 128), extra=None):
    """`count` pictures of a red "cat" and a blue "hair", each somewhere else."""
    rng = np.random.default_rng(1)
    records = []
    for number in range(count):
        first = (rng.uniform(30, 60), rng.uniform(25, 40))
        second = (rng.uniform(30, 60), rng.uniform(85, 100))
        image, masks = painted(size, [(first, 18, (200, 30, 30)), (second, 14, (40, 80, 190))])
        objects = [("cat", masks[0], False), ("hair", masks[1], False)]
        records.append((f"{number}.png", image, objects, dict(extra or {})))
    return write_coco(folder, records, ("cat", "hair"))
