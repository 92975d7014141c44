"""An auto-annotation function of CVAT: a label for each expression, a mask (or polygons) for each thing that it means.

    cvat-cli task auto-annotate 7 --function-module refseg.apps.serve.cvat \
        -p "expressions=str:the red car;people in front" -p "url=str:http://127.0.0.1:8000"

Needs the package cvat-sdk, in the environment that runs `cvat-cli`. With `url` a server answers and neither torch nor
weights are needed there; without it the model is loaded in the process. The task's labels are matched by name: make
one for each expression, spelt alike. See "Auto-annotation API" in CVAT's documentation for what calls this.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from refseg.apps.serve.client import Client
from refseg.data.contours import loops_of
from refseg.errors import RefsegError
from refseg.inference import DEFAULT_MODEL
from refseg.inference.segmentation import Instance, Segmentation

if TYPE_CHECKING:
    import cvat_sdk.auto_annotation as cvataa
    import cvat_sdk.models as models

FEWEST = 3
"""Corners of the smallest polygon that CVAT takes."""


def create(expressions: str, url: str = "", key_file: str = "", model: str = "") -> ReferringFunction:
    """What `cvat-cli` calls with the values of its `-p` options.

    `expressions` are separated by semicolons; `url` is a server's address and `key_file` the file of its key; `model`
    names the server's model or, without `url`, the weights that are loaded. Raises `RefsegError` without expressions,
    and where cvat-sdk is not installed.
    """
    texts = [text.strip() for text in expressions.split(";") if text.strip()]
    if not texts:
        raise RefsegError("expressions: none given; separate them by semicolons")
    if len(set(texts)) < len(texts):
        raise RefsegError("expressions: one stands there twice; a label's name is there once")
    if url:
        key = Path(key_file).read_text(encoding="utf-8").strip() if key_file else ""
        options = {"model": model} if model else {}
        client = Client(url, key)
        return ReferringFunction(texts, lambda image: client.segment(_encoded(image), texts, **options))
    from refseg.inference.predictor import load

    segmenter = load(model or DEFAULT_MODEL)
    return ReferringFunction(texts, lambda image: segmenter(image, texts))


class ReferringFunction:
    """`cvat_sdk.auto_annotation.DetectionFunction`."""

    def __init__(self, texts: list[str], answer: Callable[[Image.Image], list[Segmentation]]) -> None:
        """`answer` gives the answers to all `texts` about a picture."""
        try:
            import cvat_sdk.auto_annotation as cvataa
        except ImportError as error:
            raise RefsegError("CVAT's interface needs the package cvat-sdk: pip install cvat-sdk") from error
        self._cvataa: Any = cvataa
        self.answer = answer
        labels = [cvataa.label_spec(text, number) for number, text in enumerate(texts)]
        self.spec: cvataa.DetectionFunctionSpec = cvataa.DetectionFunctionSpec(labels=labels)

    def detect(self, context: cvataa.DetectionFunctionContext, image: Image.Image) -> list[models.LabeledShapeRequest]:
        """The shapes of one picture: masks, or polygons where CVAT asks for them."""
        lowest = context.conf_threshold or 0.0
        return [
            shape
            for label, answer in enumerate(self.answer(image))
            for instance in answer.instances
            if instance.score >= lowest and instance.region.any()
            for shape in self._shapes(label, instance, getattr(context, "conv_mask_to_poly", False))
        ]

    def _shapes(self, label: int, instance: Instance, as_polygons: bool) -> list[models.LabeledShapeRequest]:
        if not as_polygons:
            return [self._cvataa.mask(label, mask_points(instance))]
        top, left = instance.corner
        # Loops of holes run the other way; a polygon of CVAT has none.
        outlines = [loop for loop in loops_of(instance.region) if len(loop) >= FEWEST and _turn(loop) > 0]
        return [
            self._cvataa.polygon(label, [float(value) for x, y in loop for value in (x + left, y + top)])
            for loop in outlines
        ]


def mask_points(instance: Instance) -> list[float]:
    """CVAT's mask: run lengths of the box row by row, beginning with what is not chosen, then left, top, right, bottom
    (the last pixels inside)."""
    flat = instance.region.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    top, left = instance.corner
    height, width = instance.region.shape
    start = [0] if flat[0] else []
    return [float(value) for value in (*start, *runs, left, top, left + width - 1, top + height - 1)]


def _turn(loop: list[tuple[int, int]]) -> int:
    """Twice the area inside; negative for holes."""
    return sum(x * below - right * y for (x, y), (right, below) in zip(loop, [*loop[1:], loop[0]], strict=True))


def _encoded(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()
