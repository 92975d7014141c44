"""What a report keeps in its folder: proposals once a picture, masks once a box, and lines of what was measured.

    OUT/proposals/WEIGHTS/PIXELS.safetensors    by digests of the detector and of the picture as the network sees it
    OUT/masks/WEIGHTS/CROP.f32                  logits of the mask head, by digests of its weights and of the crop
    OUT/lines/SET.jsonl                         {"made_by": digest}, then {"key": picture, "value": ...}

Lines are of one model and of one state of the code that answers and measures; with another one they begin anew, while
proposals and masks stay as long as the weights that made them do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import safetensors
import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load, save
from torch import Tensor, nn

from refseg.errors import DataError
from refseg.files import write_bytes, write_text
from refseg.inference.predictor import Segmenter
from refseg.models.instances.masks import crop_of, paste
from refseg.models.instances.proposals import Proposer
from refseg.models.instances.types import Proposals
from refseg.nn.boxes import OUTSIDE
from refseg.training.instances.cache import fingerprint

__all__ = ["HALVES", "Half", "KeptLines", "KeptProposals", "boxes_made_by", "half_of", "made_by"]

T = TypeVar("T")
Half = Literal["val", "test"]
HALVES: tuple[Half, Half] = ("val", "test")
ANSWERS = ("models/instances", "studies/instance_report")
BOXES = (
    "encoders/vision/nanodet.py",
    "models/instances/masks.py",
    "models/instances/proposals.py",
    "studies/instance_report/boxes.py",
    "training/instances/judge.py",
)
"""Parts of the package on which answers, and on which boxes and masks alone depend."""
_BATCH = 8


def half_of(file_name: str) -> Half:
    """The half that a picture belongs to: val where the SHA-256 of its file's name (without folders) is even."""
    name = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    return "val" if hashlib.sha256(name.encode()).digest()[-1] % 2 == 0 else "test"


def made_by(segmenter: Segmenter) -> str:
    """SHA-256 of a model's tensors, configuration and thresholds, and of the code that answers and measures."""
    thresholds = segmenter.thresholds
    settings = (segmenter.model.config, thresholds.mask, thresholds.no_target)
    return _digest(segmenter.model, settings, ANSWERS)


def boxes_made_by(proposer: Proposer) -> str:
    """The same of a detector with its masks, and of the code that judges them."""
    return _digest(proposer, proposer.config, BOXES)


def _digest(module: nn.Module, settings: object, code: Sequence[str] = ()) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().cpu().numpy().tobytes())
    package = Path(__file__).parents[2]
    for part in code:
        place = package / part
        for path in sorted(place.iterdir()) if place.is_dir() else [place]:
            if path.is_file() and path.suffix != ".md":
                digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class KeptProposals(nn.Module):
    """A proposer that remembers in a folder what it proposed, and the masks that it made of boxes.

    RoI features, which choosing does not read, are left out.
    """

    def __init__(self, inner: Proposer, folder: Path) -> None:
        super().__init__()
        self.inner = inner
        self.folder = folder / "proposals" / fingerprint(inner)[:16]
        masks = inner.fine_masks
        self.masks_folder = folder / "masks" / _digest(masks, masks.config)[:16]

    def propose(self, image: UInt8[np.ndarray, "H W 3"]) -> Proposals:
        """As `Proposer.propose`."""
        digest = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
        path = self.folder / f"{digest.hexdigest()[:32]}.safetensors"
        if not path.exists():
            found = self.inner.propose(image)
            tensors = {name: getattr(found, name).float().contiguous() for name in _TENSORS}
            tensors["picture"] = torch.tensor([*found.size, found.drawn], dtype=torch.float64)
            write_bytes(path, save(tensors))
        try:
            read = load(path.read_bytes())
            height, width, drawn = read.pop("picture").tolist()
            features = torch.zeros(len(read["boxes"]), 0)
            return Proposals(**read, features=features, size=(int(height), int(width)), drawn=drawn)
        except (OSError, ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
            raise DataError(f"{path}: no kept proposals ({error}); delete the file") from error

    def mask_logits(self, image: UInt8[np.ndarray, "H W 3"], boxes: Float[Tensor, "K 4"]) -> Float[np.ndarray, "K H W"]:
        """As `Proposer.mask_logits`."""
        scale = np.array([image.shape[1], image.shape[0]] * 2, dtype=np.float64)
        return self.predict(image, boxes.double().numpy() * scale)

    @torch.inference_mode()
    def predict(self, image: UInt8[np.ndarray, "H W 3"], boxes: Float[np.ndarray, "K 4"]) -> Float[np.ndarray, "K H W"]:
        """As `InstanceMasks.predict`; boxes are in pixels."""
        side = self.inner.fine_masks.config.crop
        crops = [crop_of(image, box, side) for box in boxes]
        paths = [self.masks_folder / f"{hashlib.sha256(crop.tobytes()).hexdigest()[:32]}.f32" for crop in crops]
        missing = [row for row, path in enumerate(paths) if not path.exists()]
        for start in range(0, len(missing), _BATCH):
            rows = missing[start : start + _BATCH]
            made = self.inner.fine_masks(torch.from_numpy(np.stack([crops[row] for row in rows])))[0]
            for row, logits in zip(rows, made, strict=True):
                write_bytes(paths[row], logits.numpy().astype("<f4").tobytes())
        result = np.full((len(boxes), *image.shape[:2]), OUTSIDE, dtype=np.float32)
        for row, path in enumerate(paths):
            values = np.frombuffer(path.read_bytes(), "<f4")
            if values.size != side * side:
                raise DataError(f"{path}: no kept mask; delete the file")
            paste(torch.from_numpy(values.reshape(side, side).astype(np.float32)), boxes[row], result[row])
        return result


_TENSORS = ("boxes", "scores", "class_probs", "colours", "mask_logits")


class KeptLines(Generic[T]):
    """A value a key in a file that grows line by line; what was being written when a run was killed is left out."""

    def __init__(self, path: Path, made_by: str) -> None:
        """Open `path`, or begin it anew where another model or other code made it."""
        self.path = path
        self.values: dict[str, T] = {}
        head = json.dumps({"made_by": made_by})
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        good: list[str] = [head]
        if lines and lines[0] == head:
            for line in lines[1:-1]:  # the last one is empty, or was cut off
                record = json.loads(line)
                self.values[record["key"]] = record["value"]
                good.append(line)
        if lines != [*good, ""]:
            write_text(path, "\n".join([*good, ""]))

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def add(self, key: str, value: T) -> None:
        """Write one value (plain JSON)."""
        text = json.dumps({"key": key, "value": value})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        self.values[key] = json.loads(text)["value"]

    def select(self, keys: Sequence[str]) -> list[T]:
        """The values of these keys, in order."""
        return [self.values[key] for key in keys]
