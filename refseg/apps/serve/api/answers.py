"""Answers as JSON, with masks in the form that was asked for."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refseg.data.contours import single_polygon
from refseg.data.rle import encode
from refseg.inference.segmentation import Segmentation


def png(mask: NDArray[np.bool_]) -> str:
    """A (H, W) mask as PNG of one bit a pixel, white on black, in base64."""
    buffer = BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """A mask as COCO's polygons: one, which fills exactly the mask by the even-odd rule; none for an empty mask."""
    points = single_polygon(mask)
    return [points.flatten().tolist()] if len(points) else []


MASKS: dict[str, Callable[[NDArray[np.bool_]], Any]] = {
    "rle": encode,
    "png": png,
    "polygons": polygons,
    "none": lambda mask: None,
}


def answer_body(answer: Segmentation, masks: str = "rle") -> dict[str, Any]:
    """One answer, as `AnswerBody` describes it."""
    make = MASKS[masks]
    return {
        "text": answer.text,
        "no_target": answer.no_target,
        "no_target_score": round(answer.no_target_score, 6),
        "score": round(answer.score, 6),
        "size": [int(answer.mask.shape[0]), int(answer.mask.shape[1])],
        "area": int(answer.mask.sum()),
        "boxes": [[round(float(value), 2) for value in box] for box in answer.boxes],
        "mask": make(answer.mask),
        "instances": [
            {
                "label": instance.label,
                "score": round(instance.score, 6),
                "area": int(instance.region.sum()),
                "box": [round(float(value), 2) for value in instance.box],
                "mask": make(instance.mask),
            }
            for instance in answer.instances
        ],
        "remarks": list(answer.extra.get("remarks", [])),
    }


def answers_json(head: Mapping[str, Any], answers: Sequence[Segmentation], masks: str) -> bytes:
    """{**head, "answers": [...]} as JSON."""
    return json.dumps({**head, "answers": [answer_body(answer, masks) for answer in answers]}).encode()
