"""What every network of this folder has in common: encode once, ask often, instances, and when the answer is none.

    pictures -> encode_image: what no expression changes -.
    expressions -> encode_text ----------------------------+-> find: boxes, scores, masks -> decode: `Output`

The no-target rule of all but CLIPSeg: none where no instance scores above `config.score_threshold`. The no-target
probability is sigmoid(logit(score_threshold) - logit(best score)), so that it passes one half exactly there, and
`refseg calibrate` moves the rule with the no-target threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from refseg.encoders.text.tokenizer import ByteTokenizer
from refseg.encoders.vision.proposers import Detections
from refseg.errors import RefsegError
from refseg.models.foundation.config import FoundationConfig
from refseg.models.foundation.placing import box_logits, enlarge, pad, pictures_of
from refseg.nn.boxes import OUTSIDE, centred
from refseg.types import Batch, InstancePredictions, NamedMap, Output, Panels, Targets, TextFeatures, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "BYTES", "Encoded", "ExpressionTexts", "Found", "FoundationModel", "MasksOfBoxes", "Pixels", "Processor",
    "device_of",
]  # fmt: skip

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""How torch's errors on GPUs and CPUs say it."""
SHOWN = 20
"""Boxes of an expression that can be shown, best first, whether they pass the threshold or not."""
BYTES = ByteTokenizer(2048)
"""Expressions travel as bytes; each network's own tokenizer reads them."""
Pixels = UInt8[np.ndarray, "_ _ 3"]
Processor: TypeAlias = Callable[..., Mapping[str, Any]]
"""Makes a network's input of `images`: a processor of transformers, or `placing.Warp`."""
Features = TypeVar("Features")
Embedding = TypeVar("Embedding")


@dataclass(frozen=True)
class ExpressionTexts(TextFeatures):
    """Expressions, and what the network's text encoder makes of them where it has one of its own."""

    texts: tuple[str, ...] = ()
    cut: tuple[bool, ...] = ()
    """Whether the network reads less than the whole expression."""

    def select(self, rows: Int[Tensor, " S"]) -> ExpressionTexts:
        """The features of the expressions with these numbers, which may repeat."""
        numbers = rows.tolist()
        texts, cut = tuple(self.texts[number] for number in numbers), tuple(self.cut[number] for number in numbers)
        return ExpressionTexts(self.words[rows], self.sentence[rows], self.mask[rows], texts=texts, cut=cut)


@dataclass(frozen=True)
class Found:
    """What a network says of one expression in one picture: K instances, best first.

    `boxes` are x0 y0 x1 y1, 0 to 1 of the picture; `mask_logits` cover the picture, None where boxes are all it knows;
    `of` says what of them is interpolated (`enlarge`).
    """

    boxes: Float[Tensor, "K 4"]
    scores: Float[Tensor, " K"]
    mask_logits: Float[Tensor, "K h w"] | None = None
    of: Literal["logits", "probabilities"] = "logits"

    def select(self, rows: Int[Tensor, " S"]) -> Found:
        """The instances with these numbers."""
        masks = None if self.mask_logits is None else self.mask_logits[rows]
        return Found(self.boxes[rows], self.scores[rows], masks, self.of)

    def to(self, device: torch.device) -> Found:
        """On one device, whichever parts of the network made them."""
        masks = None if self.mask_logits is None else self.mask_logits.to(device)
        return Found(self.boxes.to(device), self.scores.to(device), masks, self.of)

    def above(self, threshold: float, most: int, least: int = 0) -> Found:
        """Those that score more than `threshold`, best first; at least `least` where there are as many."""
        order = self.scores.argsort(descending=True, stable=True)[:most]
        count = max(least, int((self.scores[order] > threshold).sum()))
        return self.select(order[:count])


@runtime_checkable
class MasksOfBoxes(Protocol[Embedding]):
    """A segmenter that is prompted with boxes."""

    def embed(self, picture: Pixels, /) -> Embedding:
        """What no box changes."""

    def masks_of(self, embedding: Embedding, boxes: Float[Tensor, "K 4"], /) -> Float[Tensor, "K h w"]:
        """Mask logits that cover the picture, of boxes 0 to 1."""


@dataclass
class Encoded(Generic[Features]):
    """Pictures, encoded for all expressions; `features` are the network's, `embeddings` the box segmenter's, made when
    the first box of a picture is found."""

    pictures: list[np.ndarray]
    size: tuple[int, int]
    """Height and width of the input, padding too."""
    features: Features
    embeddings: dict[int, object] = field(default_factory=dict)


class FoundationModel(nn.Module):
    """A network of transformers as a `ReferringModel` and an `InstanceProposer`; subclasses say `encode` and `find`."""

    late_fusion = True
    boxes_alone: ClassVar[bool] = False
    """Whether the network knows boxes and no masks."""

    def __init__(
        self,
        config: FoundationConfig,
        network: nn.Module,
        processor: Processor,
        tokenizer: PreTrainedTokenizerBase,
        segmenter: nn.Module | None = None,
    ) -> None:
        """`processor` makes the network's input of pictures, `tokenizer` reads texts, both as in transformers;
        `segmenter` (`MasksOfBoxes`) makes the masks of a network that knows boxes."""
        super().__init__()
        self.config, self.needs = config, config.needs
        self.network: Any = network.requires_grad_(False)
        self.segmenter: Any = segmenter.requires_grad_(False) if segmenter is not None else None
        self._processor = processor
        self._tokenizer: Any = tokenizer

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FoundationModel:
        """Leaves networks where a device map has put them."""
        return self if hasattr(self.network, "hf_device_map") else super()._apply(fn, recurse)

    def encode(self, pictures: Sequence[Pixels]) -> object:
        """What no expression changes of N pictures, for `find`."""
        raise NotImplementedError

    def find(self, state: Encoded, text: ExpressionTexts, index: Sequence[int]) -> list[Found]:
        """The instances of each expression in its picture, all that the network has a score for."""
        raise NotImplementedError

    def read(self, texts: Sequence[str]) -> ExpressionTexts:
        """Expressions as features; here nothing but themselves, for networks that read them beside the picture."""
        empty = torch.zeros(len(texts), 1, 1, device=self.device)
        return self._texts(texts, empty, empty[:, 0], torch.ones(len(texts), 1, dtype=torch.bool, device=self.device))

    def forward(self, batch: Batch) -> Output:
        """The answers to B expressions, see `decode`."""
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> Encoded:
        """N pictures, placed by `own_pixels`."""
        pictures = pictures_of(images, pixel_mask)
        with self._memory():
            return Encoded(pictures, (images.shape[-2], images.shape[-1]), self.encode(pictures))

    def encode_text(self, tokens: Tokens) -> ExpressionTexts:
        """B expressions, which travel as bytes."""
        return self.read(BYTES.decode(tokens))

    def decode(self, state: Encoded, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers to B expressions: instances, their union, and the no-target logits of the rule above."""
        if not isinstance(text, ExpressionTexts):
            raise RefsegError(f"{self.config.family} decodes what its own encode_text made")
        index = list(range(len(text.texts))) if image_index is None else image_index.tolist()
        config = self.config
        with self._memory():
            found = [each.to(self.device) for each in self.find(state, text, index)]
            shown = [each.above(0.0, SHOWN) for each in found]
            chosen = [each.above(config.score_threshold, config.max_instances, least=1) for each in found]
            masks = [pad(self._masks(state, at, each), state.size) for at, each in zip(index, chosen, strict=True)]
        empty = torch.full(state.size, OUTSIDE, device=self.device)
        return Output(
            torch.stack([each.amax(0) if len(each) else empty for each in masks]),
            torch.stack([self._no_target(each.scores) for each in chosen]),
            instances=InstancePredictions([centred(each.boxes) for each in chosen], [c.scores for c in chosen], masks),
            remarks=[self._remarks(cut) for cut in text.cut],
            maps={"scores": scored_boxes(f"best boxes: above {config.score_threshold:g} they are the answer", shown)},
        )

    @torch.no_grad()
    def encode_picture(self, picture: Image.Image) -> Encoded:
        """One RGB picture, for `propose`."""
        pixels = np.array(picture.convert("RGB"))
        with self._memory():
            return Encoded([pixels], (pixels.shape[0], pixels.shape[1]), self.encode([pixels]))

    @torch.no_grad()
    def propose(self, encoded: object, names: Sequence[str]) -> list[Detections]:
        """Instances of each name that score above `config.proposal_threshold`, with masks where the model has them."""
        assert isinstance(encoded, Encoded)
        if not names:
            return []
        height, width = encoded.size
        with self._memory():
            found = [each.to(self.device) for each in self.find(encoded, self.read(names), [0] * len(names))]
        detections = []
        for each in found:
            kept = each.above(self.config.proposal_threshold, self.config.max_instances)
            boxes = kept.boxes.clamp(0, 1) * kept.boxes.new_tensor([width, height, width, height])
            masks = None if self.boxes_alone and self.segmenter is None else self._masks(encoded, 0, kept) > 0
            detections.append(Detections(boxes, kept.scores, masks))
        return detections

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Raises `RefsegError`: these networks are not trained here."""
        raise RefsegError(f"{self.config.family}: models of transformers are asked and scored here, not trained")

    @property
    def least_score(self) -> float:
        """Of `InstanceProposer`."""
        return self.config.score_threshold

    @property
    def device(self) -> torch.device:
        """Where the network's input goes."""
        return device_of(self.network)

    def _pixels(self, pictures: Sequence[Pixels]) -> dict[str, Tensor]:
        """The network's input."""
        made = self._processor(images=list(pictures), return_tensors="pt")
        return {name: value.to(self.device) for name, value in made.items() if isinstance(value, Tensor)}

    def _texts(
        self,
        texts: Sequence[str],
        words: Float[Tensor, "B L C"],
        sentence: Float[Tensor, "B D"],
        mask: Bool[Tensor, "B L"],
        length: int | None = None,
    ) -> ExpressionTexts:
        cut = [length is not None and len(self._tokenizer(text)["input_ids"]) > length for text in texts]
        return ExpressionTexts(words, sentence, mask, texts=tuple(texts), cut=tuple(cut))

    def _masks(self, state: Encoded, number: int, chosen: Found) -> Float[Tensor, "K H W"]:
        """Mask logits of instances at their picture's size."""
        size = state.pictures[number].shape[:2]
        if chosen.mask_logits is not None:
            return enlarge(chosen.mask_logits, size, chosen.of)
        if self.segmenter is None:
            return box_logits(chosen.boxes, size)
        if not len(chosen.boxes):
            return chosen.boxes.new_zeros(0, *size)
        if number not in state.embeddings:
            state.embeddings[number] = self.segmenter.embed(state.pictures[number])
        return enlarge(self.segmenter.masks_of(state.embeddings[number], chosen.boxes).to(self.device), size)

    def _no_target(self, scores: Float[Tensor, " K"]) -> Float[Tensor, ""]:
        if not len(scores):
            return torch.tensor(-OUTSIDE, device=self.device)
        edge = torch.tensor(self.config.score_threshold, device=self.device).logit(eps=1e-6)
        return edge - scores.max().float().logit(eps=1e-6)

    def _remarks(self, cut: bool) -> list[str]:
        said = ["the expression is longer than the model reads; its end was not used"] if cut else []
        if self.boxes_alone and self.segmenter is None:
            said.append(
                "this model knows boxes: the mask is the filled box; add +facebook/sam2.1-hiera-small for masks"
            )
        return said

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Where memory runs out, an error that says what the model takes and what to do."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            said = str(error).lower()
            if isinstance(error, RuntimeError) and not any(words in said for words in OUT_OF_MEMORY):
                raise
            taken = sum(value.numel() * value.element_size() for value in self.parameters()) / 2**30
            raise RefsegError(
                f"{'+'.join(self.config.sources)}: out of memory on {self.device}; the weights alone take {taken:.1f} "
                "GiB; use --precision bfloat16, a smaller batch_size, or a smaller model of the family: refseg models"
            ) from error


def scored_boxes(title: str, found: Sequence[Found]) -> NamedMap:
    """The boxes of each expression with their scores, to be drawn."""

    def read(index: int) -> Panels:
        boxes, scores = found[index].boxes.float().clamp(0, 1), found[index].scores.float()
        return Panels(scores, ("",) * len(scores), scores, centred(boxes))

    return NamedMap(title, "boxes", read, scale="probability")


def device_of(network: nn.Module) -> torch.device:
    """Where a network's input goes: to its weights, or, of a device map, to the first accelerator, else the CPU."""
    placed = getattr(network, "hf_device_map", None)
    if not placed:
        return next(network.parameters()).device
    return torch.device(next((device for device in placed.values() if device not in ("cpu", "disk")), "cpu"))
