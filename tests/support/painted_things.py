"""A model of the system `instances` whose detector is exact on pictures of discs: red is a dog, blue a car, ..."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

from refseg.encoders.text.tokenizer import ByteTokenizer
from refseg.encoders.vision.nanodet import MEAN, STD
from refseg.geometry import InputConfig
from refseg.inference.predictor import Segmenter
from refseg.models.instances.classes import CLASSES, COCO, SECOND
from refseg.models.instances.config import InstancesConfig
from refseg.models.instances.model import Instances, build_instances
from refseg.models.instances.proposals import Detections, Proposer
from refseg.models.instances.types import COLOURS, Proposals
from tests.support.instance_pictures import painted

PAINT = {"dog": (200, 30, 30), "car": (40, 80, 190), "cat": (30, 170, 60), "bus": (230, 200, 40)}
NAMED = {"dog": "red", "car": "blue", "cat": "green", "bus": "yellow"}
GRAY = 120


def where(pixels: np.ndarray, name: str) -> np.ndarray:
    """The pixels of a class's paint."""
    return (np.abs(pixels.astype(int) - PAINT[name]) < 25).all(-1)


class PaintDetector(nn.Module):
    """Something with weights, since an index remembers them."""

    def __init__(self) -> None:
        super().__init__()
        self.sureness = nn.Parameter(torch.tensor([0.9]), requires_grad=False)


class PaintProposer(Proposer):
    """Proposals of discs; `calls` counts the pictures that were looked at."""

    def __init__(self) -> None:
        nn.Module.__init__(self)  # none of the detector's own parts
        self.detector = PaintDetector()  # type: ignore[assignment]
        self.calls = 0

    def propose(self, image: np.ndarray) -> Proposals:
        self.calls += 1
        height, width = image.shape[:2]
        boxes, probs, colours, masks = [], [], [], []
        for name in PAINT:
            labels, _ = ndimage.label(where(image, name))
            for rows, columns in ndimage.find_objects(labels):
                region = labels[rows, columns] > 0
                if region.sum() < 20:
                    continue
                boxes.append([columns.start / width, rows.start / height, columns.stop / width, rows.stop / height])
                chance = torch.full((len(CLASSES),), 0.004)
                # Larger discs are surer, so that no two scores are equal.
                chance[CLASSES.index(name)] = self.detector.sureness.item() - 5 / float(region.sum())
                probs.append(chance)
                colours.append([1.0 if colour == NAMED[name] else 0.0 for colour in COLOURS])
                small = Image.fromarray(region).resize((28, 28), Image.Resampling.NEAREST)
                masks.append(torch.from_numpy(np.where(np.asarray(small), 4.0, -4.0)).float())
        if not boxes:
            return Proposals(
                torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, len(CLASSES)), torch.zeros(0, 0),
                torch.zeros(0, len(COLOURS)), torch.zeros(0, 28, 28), (height, width),
            )  # fmt: skip
        stacked = torch.stack(probs)
        return Proposals(
            torch.tensor(boxes), stacked.amax(1), stacked, torch.zeros(len(boxes), 0), torch.tensor(colours),
            torch.stack(masks), (height, width),
        )  # fmt: skip

    def detect(self, images: torch.Tensor) -> Detections:
        pixels = images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
        arrays = pixels.permute(0, 2, 3, 1).round().clamp(0, 255).numpy()
        logits = torch.full((len(images), 1, len(COCO)), -6.0)
        for number, array in enumerate(arrays):
            for name in PAINT:
                share = where(array, name).mean()
                if share > 0.002:
                    logits[number, 0, COCO.index(name)] = 1.0 + float(share)
        second = torch.full((len(images), 1, len(SECOND)), -6.0)
        boxes = torch.zeros(len(images), 1, 4)
        return Detections([], torch.zeros(len(images), 1, 1, 1), boxes, logits, boxes, second)

    def mask_logits(self, image: np.ndarray, boxes: torch.Tensor) -> np.ndarray:
        painted_ = np.any([where(image, name) for name in PAINT], axis=0)
        found = np.full((len(boxes), *image.shape[:2]), -10.0, np.float32)
        height, width = image.shape[:2]
        for row, (x0, y0, x1, y1) in enumerate((boxes * torch.tensor([width, height] * 2)).round().int().tolist()):
            found[row, y0:y1, x0:x1] = np.where(painted_[y0:y1, x0:x1], 5.0, -5.0)
        return found


def paint_segmenter(fine_masks: bool = False, sureness: float = 0.9) -> Segmenter:
    """The model behind `Segmenter`."""
    config = InstancesConfig(text=None, fine_masks=fine_masks, input=InputConfig(size=160, resize="longest"))
    model: Instances = build_instances(config)
    model.proposer = PaintProposer()
    model.proposer.detector.sureness.fill_(sureness)
    return Segmenter(model.eval(), ByteTokenizer(), {}, device="cpu")


def paint(path: Path, *things: tuple[str, tuple[float, float], float], size: tuple[int, int] = (120, 160)) -> Path:
    """A picture of discs: (class, (row, column) of the centre, radius)."""
    image, _ = painted(size, [(centre, radius, PAINT[name]) for name, centre, radius in things])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path
