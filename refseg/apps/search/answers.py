"""Exact answers from an index row: what the system would say of the picture itself, up to the row's precision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from refseg.apps.search.proposals import unpack_proposals
from refseg.encoders.text.tokenizer import read_expression
from refseg.geometry import geometry_of
from refseg.inference.postprocess import postprocess
from refseg.inference.predictor import Segmenter, clean_text
from refseg.inference.segmentation import Segmentation
from refseg.models import config_to_dict
from refseg.models.foundation.config import FoundationConfig
from refseg.models.instances.chooser import Candidates, Choice
from refseg.models.instances.evidence import lay_out
from refseg.models.instances.model import (
    ExpressionFeatures,
    ImageState,
    Instances,
)
from refseg.models.instances.summary import PhraseSummary, summarise
from refseg.models.instances.types import Proposals
from refseg.nn.boxes import paste_coarse

__all__ = ["Answer", "Question", "fingerprint"]


@dataclass(frozen=True)
class Answer:
    """The choice in one picture."""

    no_target_logit: float
    boxes: Float[np.ndarray, "K 4"]
    """Of what is chosen, best first, xyxy in pixels of the picture."""


class Question:
    """One expression, read once for all pictures of an index that keeps proposals."""

    def __init__(self, segmenter: Segmenter, text: str) -> None:
        """Raises `RefsegError` for an empty expression."""
        assert isinstance(segmenter.model, Instances)
        self.segmenter, self.model = segmenter, segmenter.model
        self.text = clean_text(text)
        with torch.inference_mode():
            features = self.model.encode_text(segmenter.tokenizer([self.text]).to(segmenter.device))
        self.features: ExpressionFeatures = features
        self.phrases: tuple[PhraseSummary, ...] = summarise(self.model.chooser, features.expressions[0])
        reading = read_expression(segmenter.tokenizer, self.text)
        self.understood = reading.understood or not reading.remarks()

    @torch.inference_mode()
    def answer(self, content: bytes, size: tuple[int, int]) -> Answer:
        """The answer to a row's proposals of a picture of `size` (height, width), without it and without masks."""
        proposals = unpack_proposals(content)
        choice = self._choice(_candidates(proposals))
        boxes = proposals.boxes[self._chosen(choice)].double().numpy()
        scale = np.array([size[1], size[0]] * 2, dtype=np.float64)
        return Answer(float(choice.no_target_logit), boxes.clip(0, 1) * scale)

    @torch.inference_mode()
    def segment(
        self, content: bytes, masks: bytes, size: tuple[int, int], picture: Image.Image | None = None
    ) -> Segmentation:
        """The whole answer: with fine masks of `picture`, or the row's coarse ones where that is None."""
        proposals = unpack_proposals(content, masks)
        geometry = geometry_of(size, self.model.config.input)
        top, left, bottom, right = geometry.content()
        candidates = _candidates(proposals)
        inner = (bottom - top, right - left)
        if picture is None:
            state = ImageState(np.zeros((*inner, 3), np.uint8), proposals, candidates, geometry.content())
            for row in self._chosen(self._choice(candidates)):
                pasted = paste_coarse(proposals.mask_logits[row], proposals.boxes[row], inner)
                state.masks[row] = pasted.numpy()
        else:
            resized = picture.convert("RGB").resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
            state = ImageState(np.array(resized), proposals, candidates, geometry.content())
        output = self.model.decode([state], self.features)
        thresholds = self.segmenter.thresholds
        return postprocess(
            output, [geometry], [self.text], thresholds.mask, thresholds.no_target, input_size=geometry.model_size
        )[0]

    def _choice(self, candidates: Candidates) -> Choice:
        return self.model.chooser(self.features.expressions[0], candidates)

    def _chosen(self, choice: Choice) -> list[int]:
        """As `Instances` chooses: logits above 0, best first."""
        order: Sequence[int] = choice.logits.argsort(descending=True, stable=True).tolist()
        return [row for row in order if float(choice.logits[row]) > 0][: self.model.config.max_masks]


def fingerprint(segmenter: Segmenter) -> str:
    """SHA-256 of what makes an index's rows: detector and its settings where rows keep proposals, else the model."""
    model = segmenter.model
    if isinstance(model, Instances):
        config = model.config
        settings = [asdict(config.input), asdict(config.detector.detector), asdict(config.detector.proposals)]
        tensors: dict[str, Tensor] = model.proposer.detector.state_dict()
    else:
        own: Any = model.config
        settings = [asdict(own) if isinstance(own, FoundationConfig) else config_to_dict(own)]
        tensors = model.state_dict()
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _candidates(proposals: Proposals) -> Candidates:
    layout = lay_out(proposals.boxes, proposals.size)
    return Candidates(proposals.class_probs, proposals.colours, layout, proposals.drawn)
