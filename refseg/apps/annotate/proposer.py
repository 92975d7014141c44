"""The model that proposes masks, in a process of its own: the game itself never loads torch.

    python -m refseg.apps.annotate.proposer MODEL

reads a request a line from standard input, {"picture": path, "point": [x, y] or "box": [x0, y0, x1, y1] or neither},
and writes an answer a line, {"objects": [{"name", "score", "rle"}, ...]} or {"error": "..."}. Places are pixels of the
picture, masks are run-length encodings at its own size. It ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from refseg.data import rle
from refseg.data.images import read_image
from refseg.errors import RefsegError
from refseg.inference.predictor import load
from refseg.models.instances.classes import CLASSES, PART_OF
from refseg.models.instances.proposals import Proposer
from refseg.models.instances.types import Proposals

SURE = 0.35
"""The class probability from which an instance is proposed without being asked for."""
SAME = 0.7
"""IoU of masks from which the less probable of two instances is left out."""
MOST = 60
"""Instances of a picture."""
LOOKED_AT = 6
"""Proposals at a point whose fine masks are made; the most probable ones."""
_KEPT = 4  # pictures whose proposals are remembered


@dataclass(frozen=True)
class Found:
    """An instance: class name, its probability, and its mask at the picture's own size."""

    name: str
    score: float
    mask: Bool[np.ndarray, "H W"]


def instances_of(source: Proposer, image: UInt8[np.ndarray, "H W 3"], proposals: Proposals) -> list[Found]:
    """What there is to be seen, the most probable first: parts and garments are left out, as they lie on what they are
    part of, and of two masks that are one thing the more probable stays."""
    labels = proposals.class_probs.argmax(dim=1).tolist() if len(proposals) else []
    sure = [
        row
        for row, label in enumerate(labels)
        if float(proposals.scores[row]) >= SURE and CLASSES[label] not in PART_OF
    ]
    kept: list[Found] = []
    for found in _made(source, image, proposals, sure[:MOST]):
        if not any(_iou(found.mask, other.mask) > SAME for other in kept):
            kept.append(found)
    return kept


def at_point(
    source: Proposer, image: UInt8[np.ndarray, "H W 3"], proposals: Proposals, x: float, y: float
) -> list[Found]:
    """The instances on which a point lies, the best guess first.

    Proposals whose fine mask holds the point, by probability; where there is none, what the mask decoder finds at the
    point in a box of a quarter of the picture's shorter side around it.
    """
    height, width = image.shape[:2]
    column, row = min(width - 1, max(0, int(x))), min(height - 1, max(0, int(y)))
    boxes = proposals.boxes.numpy() * np.array([width, height, width, height]) if len(proposals) else np.zeros((0, 4))
    around = [
        index for index, box in enumerate(boxes) if box[0] <= x <= box[2] and box[1] <= y <= box[3]
    ]  # best scores first, as proposals are
    found = [item for item in _made(source, image, proposals, around[:LOOKED_AT]) if item.mask[row, column]]
    if found:
        return found
    half = min(height, width) / 8
    return [
        item
        for item in in_box(source, image, proposals, (x - half, y - half, x + half, y + half))
        if item.mask[row, column]
    ]


def in_box(
    source: Proposer,
    image: UInt8[np.ndarray, "H W 3"],
    proposals: Proposals,
    box: tuple[float, float, float, float],
) -> list[Found]:
    """The mask of what a box (x0, y0, x1, y1) encloses; named as the proposal whose box it is most like."""
    height, width = image.shape[:2]
    scale = np.array([width, height, width, height], dtype=np.float64)
    inside = np.clip(np.array(box, dtype=np.float64) / scale, 0, 1)
    if inside[2] - inside[0] <= 0 or inside[3] - inside[1] <= 0:
        return []
    mask = source.mask_logits(image, torch.from_numpy(inside)[None])[0] > 0
    if not mask.any():
        return []
    overlaps = [_box_iou(inside, other) for other in proposals.boxes.double().numpy()]
    best = int(np.argmax(overlaps)) if overlaps else -1
    if best >= 0 and overlaps[best] >= 0.5:
        name = CLASSES[int(proposals.class_probs[best].argmax())]
        return [Found(name, float(proposals.scores[best]), mask)]
    return [Found("object", 0.0, mask)]


def _made(source: Proposer, image: UInt8[np.ndarray, "H W 3"], proposals: Proposals, rows: list[int]) -> list[Found]:
    if not rows:
        return []
    chosen = proposals.select(rows)
    masks = source.masks(image, chosen)
    labels = chosen.class_probs.argmax(dim=1).tolist()
    return [
        Found(CLASSES[label], float(score), mask)
        for label, score, mask in zip(labels, chosen.scores.tolist(), masks, strict=True)
        if mask.any()
    ]


def _iou(one: Bool[np.ndarray, "H W"], other: Bool[np.ndarray, "H W"]) -> float:
    return float((one & other).sum() / (one | other).sum())


def _box_iou(one: Float[np.ndarray, " 4"], other: Float[np.ndarray, " 4"]) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.clip(sides, 0, None)))
    return shared / (float(np.prod(one[2:] - one[:2])) + float(np.prod(other[2:] - other[:2])) - shared + 1e-12)


class Answerer:
    """Answers requests, the proposals of the last pictures kept."""

    def __init__(self, source: Proposer) -> None:
        self.source = source
        self._seen: OrderedDict[str, tuple[UInt8[np.ndarray, "H W 3"], Proposals]] = OrderedDict()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request, see the module. Raises `RefsegError` for a picture that cannot be read."""
        image, proposals = self._look(str(request["picture"]))
        with torch.inference_mode():
            if request.get("point") is not None:
                x, y = request["point"]
                found = at_point(self.source, image, proposals, float(x), float(y))
            elif request.get("box") is not None:
                x0, y0, x1, y1 = (float(value) for value in request["box"])
                found = in_box(self.source, image, proposals, (x0, y0, x1, y1))
            else:
                found = instances_of(self.source, image, proposals)
        return {
            "objects": [
                {"name": item.name, "score": round(item.score, 4), "rle": rle.encode(item.mask)} for item in found
            ]
        }

    def _look(self, path: str) -> tuple[UInt8[np.ndarray, "H W 3"], Proposals]:
        if path not in self._seen:
            image = np.asarray(read_image(Path(path), rotate=False))
            found = self.source.propose(image)
            # Proposals are made in inference mode; indexing makes ordinary tensors of them.
            self._seen[path] = image, found.select(list(range(len(found)))).float()
        self._seen.move_to_end(path)
        while len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return self._seen[path]


def proposer_of(name: str) -> Proposer:
    """The proposer of a model; raises `RefsegError` for one that chooses pixels and proposes nothing."""
    source = getattr(load(name).model, "proposer", None)
    if not isinstance(source, Proposer):
        raise RefsegError(f"the model {name} proposes no instances; use one of the system instances")
    return source


def main(name: str) -> None:
    """Answer until the input ends."""
    # Whatever a library prints goes to standard error: standard output holds the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answerer: Answerer | None = None
    for line in sys.stdin:
        try:
            answerer = answerer or Answerer(proposer_of(name))
            answer = answerer.answer(json.loads(line))
        except (RefsegError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
