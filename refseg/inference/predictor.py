"""Ask a trained model: `load` it by name, folder or hub id, then call it with pictures and sentences.

>>> import refseg
>>> segmenter = refseg.load()
>>> answer = segmenter("photo.jpg", "two players on the left")     # one picture, one sentence: a Segmentation
>>> segmenter(["a.jpg", "b.jpg"], ["the cat", "the dog"])[1][0]     # lists in, lists out: [picture][sentence]
>>> street = segmenter.encode("street.jpg")                         # the picture is encoded once ...
>>> street.ask("the red car").save("car.png")                       # ... and asked as often as you like
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from refseg.encoders.text.reading import Reading, read_sentence
from refseg.errors import RefsegError
from refseg.inference.checkpoint import PACKAGED, load_model
from refseg.inference.postprocess import check_probability, postprocess
from refseg.inference.precision import check_precision, store_in
from refseg.inference.segmentation import Geometry, Segmentation
from refseg.names import DEFAULT_MODEL
from refseg.types import Batch, Output, TextFeatures, Tokens

PRECISIONS = ("float32", "bfloat16")


def load(model: str | Path = DEFAULT_MODEL, device: str = "auto", precision: str = "float32") -> Segmenter:
    """A `Segmenter` from a model folder, the name of packaged weights (`list_models()`), or a hub id ("owner/name").

    `device` is "auto" (a CUDA GPU, else Apple's, else the CPU), "cpu", "cuda", "cuda:1" or "mps". Raises
    `RefsegError` when the device is not there, `CheckpointError` when the model is not, or its files are damaged.
    """
    chosen = choose_device(device)  # before the weights are read: a wrong name should not cost that time
    network, tokenizer, info = load_model(model)
    store_in(network, check_precision(precision))
    return Segmenter(network, tokenizer, info, device=str(chosen), precision=precision)


def list_models() -> list[str]:
    """The names of the weights that come with the package, each of which `load` takes."""
    return sorted(path.parent.name for path in PACKAGED.glob("*/config.json"))


def choose_device(device: str = "auto") -> torch.device:
    """The torch device that `device` means, checked to be there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise RefsegError(f"device {device!r} is unknown; use auto, cpu, cuda, cuda:0 or mps") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(chosen.type, False):
        raise RefsegError(
            f"device {device!r} is not available here; `refseg doctor` lists what is, --device auto chooses"
        )
    return chosen


def clean_text(text: str) -> str:
    """The sentence with runs of white space as one space and without control characters.

    Raises `RefsegError` when nothing is left, or `text` is not a string.
    """
    if not isinstance(text, str):
        raise RefsegError(f"a sentence is a string, not {type(text).__name__}")
    encodable = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates, from arguments that are not UTF-8
    spaced = " ".join(encodable.split())
    # Format characters (Cf) stay: they join emoji and shape scripts.
    cleaned = "".join(letter for letter in spaced if unicodedata.category(letter) != "Cc").strip()
    if not cleaned:
        raise RefsegError("the sentence is empty; say what to look for, such as 'the dog on the left'")
    return cleaned


@dataclass(frozen=True)
class Thresholds:
    """From which probabilities a pixel is foreground and an answer is none; see
    `refseg.inference.postprocess.postprocess`."""

    mask: float = 0.5
    no_target: float = 0.5

    def __post_init__(self) -> None:
        check_probability("threshold", self.mask)
        check_probability("no_target_threshold", self.no_target)


@dataclass(frozen=True)
class _Placed:
    """A picture on the network's input: `image` (3, H, W) normalised, `pixel_mask` (H, W), and how it got there."""

    image: torch.Tensor
    pixel_mask: torch.Tensor
    geometry: Geometry


@dataclass(frozen=True)
class _Question:
    """The sentences of one call: cleaned, tokenised, and (late fusion) encoded."""

    texts: list[str]
    tokens: Tokens
    features: TextFeatures | None


class Segmenter:
    """A model with its tokenizer, ready to answer. Thresholds default to those stored with the weights, else 0.5."""

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        info: dict[str, Any] | None = None,
        device: str = "auto",
        precision: str = "float32",
    ) -> None:
        if precision not in PRECISIONS:
            raise RefsegError(f"precision {precision!r} is unknown; use {' or '.join(PRECISIONS)}")
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.info = dict(info or {})
        self.precision = precision
        self.thresholds = Thresholds(
            float(self.info.get("threshold", 0.5)), float(self.info.get("no_target_threshold", 0.5))
        )

    def __call__(
        self,
        images: Any,
        texts: str | Sequence[str],
        *,
        threshold: float | None = None,
        no_target_threshold: float | None = None,
        batch_size: int = 16,
    ) -> Any:
        """Segment what each sentence means in each picture.

        An image is a path, bytes, a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4). One image and one text
        give a `Segmentation`; a list on one side gives a list; lists on both sides give a list for each picture of
        the answers to each sentence. `batch_size` is how many (picture, sentence) pairs are computed at once.

        `answer.extra["remarks"]` says where a sentence was cut and which words the model does not know; a sentence of
        which it knows no word is answered with none.
        """
        several_images, several_texts = _is_list_of_images(images), not isinstance(texts, str)
        thresholds = self._thresholds(threshold, no_target_threshold)
        with self._inference():
            question = self._question(texts)
            rows = list(self._answer(list(images) if several_images else [images], question, thresholds, batch_size))
        answers = rows if several_texts else [row[0] for row in rows]
        return answers if several_images else answers[0]

    def encode(self, image: Any) -> EncodedImage:
        """One picture, encoded once where the model allows it, to be asked many sentences."""
        picture = _read(image)
        with self._inference():
            placed = self._place(picture)
            batch = self._batch([placed])
            state = self.model.encode_image(*batch) if self.late_fusion else None  # type: ignore[operator]
        return EncodedImage(self, picture, placed, batch, state)

    @property
    def late_fusion(self) -> bool:
        """Whether a picture is encoded without the sentence, and so only once for many sentences."""
        return bool(getattr(self.model, "late_fusion", False))

    def _thresholds(self, threshold: float | None, no_target_threshold: float | None) -> Thresholds:
        return Thresholds(
            self.thresholds.mask if threshold is None else threshold,
            self.thresholds.no_target if no_target_threshold is None else no_target_threshold,
        )

    def _inference(self) -> Any:
        return _Inference(self.device, self.precision)

    def _place(self, picture: Image.Image) -> _Placed:
        from refseg.data.transforms import place_image

        return _Placed(*place_image(picture, self.model.config.input))  # type: ignore[union-attr, arg-type]

    def _batch(self, placed: Sequence[_Placed]) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.stack([entry.image for entry in placed]).to(self.device)
        return images, torch.stack([entry.pixel_mask for entry in placed]).to(self.device)

    def _question(self, texts: str | Sequence[str]) -> _Question:
        cleaned = [clean_text(text) for text in ([texts] if isinstance(texts, str) else texts)]
        if not cleaned:
            raise RefsegError("no sentence to look for")
        tokens = self.tokenizer(cleaned).to(self.device)
        features = self.model.encode_text(tokens) if self.late_fusion else None  # type: ignore[operator]
        return _Question(cleaned, tokens, features)

    def _answer(
        self, images: Sequence[Any], question: _Question, thresholds: Thresholds, batch_size: int
    ) -> Iterator[list[Segmentation]]:
        """The answers to all sentences, picture by picture."""
        _check_batch_size(batch_size)
        at_once = max(1, batch_size // len(question.texts))
        for group in _same_size((self._place(_read(image)) for image in images), at_once):
            batch = self._batch(group)
            state = self.model.encode_image(*batch) if self.late_fusion else None  # type: ignore[operator]
            pairs = [(p, s) for p in range(len(group)) for s in range(len(question.texts))]
            answers: list[Segmentation] = []
            for start in range(0, len(pairs), batch_size):
                answers += self._decode(group, batch, state, question, pairs[start : start + batch_size], thresholds)
            for p in range(len(group)):
                yield answers[p * len(question.texts) : (p + 1) * len(question.texts)]

    def _decode(
        self,
        placed: Sequence[_Placed],
        batch: tuple[torch.Tensor, torch.Tensor],
        state: Any,
        question: _Question,
        pairs: Sequence[tuple[int, int]],
        thresholds: Thresholds,
    ) -> list[Segmentation]:
        picture = torch.tensor([p for p, _ in pairs], device=self.device)
        sentence = torch.tensor([s for _, s in pairs], device=self.device)
        tokens = Tokens(question.tokens.ids[sentence], question.tokens.mask[sentence])
        output: Output
        if question.features is not None:
            found = question.features
            features = TextFeatures(found.words[sentence], found.sentence[sentence], found.mask[sentence])
            output = self.model.decode(state, features, picture)  # type: ignore[operator]
        else:
            output = self.model(Batch(*batch, tokens=tokens, picture=picture))
        answers = postprocess(
            output,
            [placed[p].geometry for p, _ in pairs],
            [question.texts[s] for _, s in pairs],
            thresholds.mask,
            thresholds.no_target,
            input_size=(batch[0].shape[-2], batch[0].shape[-1]),
        )
        return [_with_remarks(answer, read_sentence(self.tokenizer, answer.text)) for answer in answers]


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """A picture that a `Segmenter` has read and, with late fusion, encoded. Made by `Segmenter.encode`."""

    segmenter: Segmenter
    image: Image.Image
    _placed: _Placed
    _batch: tuple[torch.Tensor, torch.Tensor]
    _state: Any

    def ask(
        self,
        texts: str | Sequence[str],
        *,
        threshold: float | None = None,
        no_target_threshold: float | None = None,
        batch_size: int = 16,
    ) -> Any:
        """The `Segmentation` that one sentence means, or a list of them for a list of sentences."""
        _check_batch_size(batch_size)
        segmenter = self.segmenter
        thresholds = segmenter._thresholds(threshold, no_target_threshold)
        with segmenter._inference():
            question = segmenter._question(texts)
            answers: list[Segmentation] = []
            for start in range(0, len(question.texts), batch_size):
                pairs = [(0, s) for s in range(start, min(start + batch_size, len(question.texts)))]
                answers += segmenter._decode([self._placed], self._batch, self._state, question, pairs, thresholds)
        return answers[0] if isinstance(texts, str) else answers


class _Inference:
    """No gradients, and the computing precision that was asked for."""

    def __init__(self, device: torch.device, precision: str) -> None:
        self.parts = [torch.inference_mode()]
        if precision == "bfloat16":
            self.parts.append(torch.autocast(device.type, dtype=torch.bfloat16))  # type: ignore[arg-type]

    def __enter__(self) -> None:
        for part in self.parts:
            part.__enter__()

    def __exit__(self, *error: Any) -> None:
        for part in reversed(self.parts):
            part.__exit__(*error)


def _with_remarks(answer: Segmentation, reading: Reading) -> Segmentation:
    """The answer with what was not read of the sentence; none where no word of it has a meaning to the model."""
    remarks = reading.remarks()
    extra = {**answer.extra, "remarks": remarks} if remarks else answer.extra
    if reading.understood:
        return replace(answer, extra=extra) if remarks else answer
    empty = np.zeros_like(answer.mask)
    return Segmentation(empty, np.zeros((0, 4)), True, no_target_score=1.0, score=0.0, text=answer.text, extra=extra)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise RefsegError(f"batch_size is at least 1, not {batch_size}")


def _read(image: Any) -> Image.Image:
    from refseg.data.images import read_image

    return read_image(image)


def _is_list_of_images(images: Any) -> bool:
    return isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4


def _same_size(placed: Iterator[_Placed], at_once: int) -> Iterator[list[_Placed]]:
    """Neighbouring pictures of one input size, at most `at_once`: none is padded for another's sake, so that an answer
    does not depend on what else was asked."""
    group: list[_Placed] = []
    for entry in placed:
        if group and (len(group) == at_once or entry.image.shape != group[0].image.shape):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group
