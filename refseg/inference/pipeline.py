"""From images with expressions to their answers: what `segmenter(image, "the red car")` does, from top to bottom.

images -> place (network's input size) -> encode (late fusion) -+
expressions -> tokens -> encode (late fusion) ------------------+-> forward, pairs in batches -> postprocess
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypedDict, TypeVar, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import Unpack

from refseg.data.images import read_image
from refseg.encoders.text.phrases import Place, locate_phrases
from refseg.encoders.text.tokenizer import Reading, read_expression
from refseg.errors import RefsegError
from refseg.geometry import Geometry, placed_pixels
from refseg.inference.device import choose_device
from refseg.inference.postprocess import Thresholds, postprocess
from refseg.inference.segmentation import Segmentation
from refseg.precision import Precision, check_precision, computing_in
from refseg.types import Batch, Output, ReadsPictures, ReferringModel, TextFeatures, Tokens

__all__ = [
    "MAX_LETTERS", "AskOptions", "EncodedBatch", "Expressions", "ImageLike", "Pipeline", "Placed", "check_batch_size",
    "clean_text", "encode_images",
]  # fmt: skip

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""A path, encoded bytes, a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4), as `read_image` takes them."""

MAX_LETTERS = 10_000
"""Letters of the longest expression that is taken; a model reads a few dozen words of it at most."""

State = TypeVar("State")


class AskOptions(TypedDict, total=False):
    """Keyword arguments of `Segmenter.__call__` and `EncodedImage.ask`."""

    threshold: float | None
    """Probability above which a pixel is foreground; None takes the model's."""
    no_target_threshold: float | None
    """Probability above which there is no target; None takes the model's."""
    batch_size: int
    """(image, expression) pairs computed at once."""
    probabilities: bool
    """Whether each answer carries its probability map."""


@dataclass(frozen=True)
class Placed:
    """An image on the network's input: `image` (3, H, W) normalised, `pixel_mask` (H, W), and how it got there."""

    image: torch.Tensor
    pixel_mask: torch.Tensor
    geometry: Geometry
    picture: Image.Image | None = None
    """The original, kept for models that read it."""


@dataclass(frozen=True)
class EncodedBatch:
    """Images of one input size as a batch (N, 3, H, W) with its mask of real pixels, and what late fusion makes of
    them."""

    placed: Sequence[Placed]
    images: torch.Tensor
    pixel_mask: torch.Tensor
    state: object


@dataclass(frozen=True)
class Expressions:
    """The expressions of one call: cleaned, tokenised, and (late fusion) encoded."""

    texts: list[str]
    tokens: Tokens
    features: TextFeatures | None


class Pipeline:
    """A model with its tokenizer on a device: calling it goes through all stages, from images to answers.

    `Segmenter` adds what else is done with it. The stages are private to `refseg.inference`; they compute inside
    `_inference()`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Callable[[list[str]], Tokens],
        info: Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        precision: Precision = "float32",
    ) -> None:
        self.precision: Precision = check_precision(precision)
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self._network = cast(ReferringModel, self.model)
        self.tokenizer = tokenizer
        self.info = dict(info or {})
        self.thresholds = Thresholds(
            float(self.info.get("threshold", 0.5)), float(self.info.get("no_target_threshold", 0.5))
        )

    def __repr__(self) -> str:
        return f"Segmenter({type(self.model).__name__}, device={str(self.device)!r}, precision={self.precision!r})"

    # A string is a sequence of strings, too: the overload that comes first holds.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, images: ImageLike, texts: str, **options: Unpack[AskOptions]
    ) -> Segmentation: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, images: ImageLike, texts: Sequence[str], **options: Unpack[AskOptions]
    ) -> list[Segmentation]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, images: Sequence[ImageLike], texts: str, **options: Unpack[AskOptions]
    ) -> list[Segmentation]: ...
    @overload
    def __call__(
        self, images: Sequence[ImageLike], texts: Sequence[str], **options: Unpack[AskOptions]
    ) -> list[list[Segmentation]]: ...
    @overload
    def __call__(
        self, images: ImageLike, texts: str, *, phrases: Sequence[Place], **options: Unpack[AskOptions]
    ) -> list[Segmentation]: ...
    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        texts: str | Sequence[str],
        *,
        phrases: Sequence[Place] | None = None,
        threshold: float | None = None,
        no_target_threshold: float | None = None,
        batch_size: int = 16,
        probabilities: bool = False,
    ) -> Segmentation | list[Segmentation] | list[list[Segmentation]]:
        """Segment the targets of each expression in each image; options as in `AskOptions`.

        One image and one text give a `Segmentation`; a list (of images: also a tuple or an array (N, H, W, 3)) on one
        side gives a list; lists on both sides give a list for each image of the answers to each expression.

        With `phrases` of one caption about one image: a list with an answer a phrase, as `EncodedImage.ask`.

        `answer.extra["remarks"]` says where an expression was cut and which words the model does not know; one of which
        it knows no word is answered with none. Raises `ImageError` for what is no image, `RefsegError` for empty
        expressions and options out of range.
        """
        several_images, several_texts = is_list_of_images(images), not isinstance(texts, str)
        if phrases is not None:
            if several_images:
                raise RefsegError("phrases belong to one caption about one picture; call once a picture")
            with self._inference():
                encoded = self._encode([self._place(read_image(cast(ImageLike, images)))])
                check_batch_size(batch_size)
                thresholds = self._thresholds(threshold, no_target_threshold)
                return self._ask_phrases(encoded, texts, phrases, thresholds, batch_size, probabilities)
        thresholds = self._thresholds(threshold, no_target_threshold)
        with self._inference():
            expressions = self._expressions(texts)
            check_batch_size(batch_size)
            sources = cast(Sequence[ImageLike], images) if several_images else [cast(ImageLike, images)]
            placed = (self._place(read_image(source)) for source in sources)
            rows = list(self._rows(placed, expressions, thresholds, batch_size, probabilities))
        if several_texts:
            return rows if several_images else rows[0]
        answers = [row[0] for row in rows]
        return answers if several_images else answers[0]

    @property
    def late_fusion(self) -> bool:
        """Whether an image is encoded without the expression, and so only once for many expressions."""
        return self._network.late_fusion

    def _thresholds(self, threshold: float | None, no_target_threshold: float | None) -> Thresholds:
        return Thresholds(
            self.thresholds.mask if threshold is None else threshold,
            self.thresholds.no_target if no_target_threshold is None else no_target_threshold,
        )

    def _inference(self) -> AbstractContextManager[object]:
        """No gradients, and the computing precision that was asked for."""
        stack = ExitStack()
        stack.enter_context(torch.inference_mode())
        if self.precision != "float32":
            stack.enter_context(computing_in(self.device, self.precision))
        return stack

    def _place(self, picture: Image.Image) -> Placed:
        original = picture if self._network.needs.reads_pictures else None
        pixels, real, geometry = placed_pixels(picture, self._network.config.input)
        return Placed(torch.from_numpy(pixels), torch.from_numpy(real), geometry, original)

    def _encode(self, placed: Sequence[Placed]) -> EncodedBatch:
        images = torch.stack([entry.image for entry in placed]).to(self.device)
        pixel_mask = torch.stack([entry.pixel_mask for entry in placed]).to(self.device)
        pictures = [entry.picture for entry in placed if entry.picture is not None]
        state = encode_images(self._network, images, pixel_mask, pictures) if self.late_fusion else None
        return EncodedBatch(placed, images, pixel_mask, state)

    def _expressions(self, texts: str | Sequence[str]) -> Expressions:
        if isinstance(texts, (bytes, bytearray)) or not isinstance(texts, (str, Iterable)):
            raise RefsegError(f"expressions are a string or a list of strings, not {type(texts).__name__}")
        cleaned = [clean_text(text) for text in ([texts] if isinstance(texts, str) else texts)]
        if not cleaned:
            raise RefsegError("no expression to look for")
        tokens = self.tokenizer(cleaned)
        tokens = Tokens(tokens.ids.to(self.device), tokens.mask.to(self.device))
        return Expressions(cleaned, tokens, self._network.encode_text(tokens) if self.late_fusion else None)

    def _rows(
        self,
        placed: Iterator[Placed],
        expressions: Expressions,
        thresholds: Thresholds,
        batch_size: int,
        probabilities: bool,
    ) -> Iterator[list[Segmentation]]:
        count = len(expressions.texts)
        for group in _same_size(placed, max(1, batch_size // count)):
            pairs = [(image, text) for image in range(len(group)) for text in range(count)]
            answers = self._decode(self._encode(group), expressions, pairs, thresholds, batch_size, probabilities)
            for image in range(len(group)):
                yield answers[image * count : (image + 1) * count]

    def _decode(
        self,
        images: EncodedBatch,
        expressions: Expressions,
        pairs: Sequence[tuple[int, int]],
        thresholds: Thresholds,
        batch_size: int,
        probabilities: bool,
    ) -> list[Segmentation]:
        """The answers to (number of the image, number of the expression), `batch_size` at once."""
        answers: list[Segmentation] = []
        for start in range(0, len(pairs), batch_size):
            chosen = pairs[start : start + batch_size]
            output = self._forward(images, expressions, chosen)
            answers += self._answers(output, images, expressions, chosen, thresholds, probabilities)
        return answers

    def _answers(
        self,
        output: Output,
        images: EncodedBatch,
        expressions: Expressions,
        pairs: Sequence[tuple[int, int]],
        thresholds: Thresholds,
        probabilities: bool,
    ) -> list[Segmentation]:
        answers = postprocess(
            output,
            [images.placed[image].geometry for image, _ in pairs],
            [expressions.texts[text] for _, text in pairs],
            thresholds.mask,
            thresholds.no_target,
            input_size=(images.images.shape[-2], images.images.shape[-1]),
            probabilities=probabilities,
        )
        return [_with_remarks(answer, read_expression(self.tokenizer, answer.text)) for answer in answers]

    def _ask_phrases(
        self,
        images: EncodedBatch,
        caption: str | Sequence[str],
        phrases: Sequence[Place],
        thresholds: Thresholds,
        batch_size: int,
        probabilities: bool,
    ) -> list[Segmentation]:
        """An answer a phrase of the caption about the only image."""
        from refseg.inference.phrases import decode_phrases, phrase_answers

        if not isinstance(caption, str):
            raise RefsegError("phrases are parts of one caption: give one string")
        clean_text(caption)  # for its errors alone: it moves characters, which phrases are told by
        caption = caption.encode("utf-8", "replace").decode("utf-8")
        spans = locate_phrases(caption, phrases)
        texts = [clean_text(caption[start:stop]) for start, stop in spans]
        if not self._network.needs.reads_phrases:
            expressions = self._expressions(texts)
            pairs = [(0, number) for number in range(len(texts))]
            return self._decode(images, expressions, pairs, thresholds, batch_size, probabilities)
        size = (images.images.shape[-2], images.images.shape[-1])
        answers: list[Segmentation] = []
        seen = images.images, images.pixel_mask, images.state
        for output in decode_phrases(self._network, self.tokenizer, *seen, caption, spans):
            part = texts[len(answers) : len(answers) + len(output.mask_logits)]
            geometry = images.placed[0].geometry
            answers += phrase_answers(output, geometry, part, thresholds.mask, size, probabilities)
        return answers

    def _forward(self, images: EncodedBatch, expressions: Expressions, pairs: Sequence[tuple[int, int]]) -> Output:
        image_index, text_index = torch.tensor(pairs, device=self.device).unbind(dim=1)
        if expressions.features is not None:
            every = [text for _, text in pairs] == list(range(len(expressions.texts)))
            features = expressions.features if every else expressions.features.select(text_index)
            return self._network.decode(images.state, features, image_index)
        tokens = Tokens(expressions.tokens.ids[text_index], expressions.tokens.mask[text_index])
        return self._network(Batch(images.images, images.pixel_mask, tokens, image_index=image_index))


def clean_text(text: str) -> str:
    """The expression with runs of white space as one space and without control characters.

    Raises `RefsegError` when nothing is left, it is longer than `MAX_LETTERS`, or `text` is not a string.
    """
    if not isinstance(text, str):
        raise RefsegError(f"an expression is a string, not {type(text).__name__}")
    if len(text) > MAX_LETTERS:
        raise RefsegError(f"an expression of {len(text):,} letters: at most {MAX_LETTERS:,} are taken")
    encodable = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates, from arguments that are not UTF-8
    spaced = " ".join(encodable.split())
    # Format characters (Cf) stay: they join emoji and shape scripts.
    cleaned = "".join(letter for letter in spaced if unicodedata.category(letter) != "Cc").strip()
    if not cleaned:
        raise RefsegError("the expression is empty; say what to look for, such as 'the dog on the left'")
    return cleaned


def check_batch_size(batch_size: int) -> None:
    """Raises `RefsegError` for a number of pairs computed at once below 1."""
    if batch_size < 1:
        raise RefsegError(f"batch_size is at least 1, not {batch_size}")


def is_list_of_images(images: object) -> bool:
    """Whether an argument is several images: a list, a tuple, or an array (N, H, W, C)."""
    return isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4


def encode_images(
    model: ReferringModel[State], images: torch.Tensor, pixel_mask: torch.Tensor, pictures: Sequence[Image.Image]
) -> State:
    """The state of N images for `decode`; `pictures`, their N originals, go to models that read them."""
    if model.needs.reads_pictures:
        return cast(ReadsPictures[State], model).encode_image(images, pixel_mask, pictures)
    return model.encode_image(images, pixel_mask)


def _with_remarks(answer: Segmentation, reading: Reading) -> Segmentation:
    """The answer with remarks on its expression; none where no word of it has a meaning to the model."""
    remarks = reading.remarks()
    if not remarks:
        return answer
    extra = {**answer.extra, "remarks": [*answer.extra.get("remarks", []), *remarks]}
    if reading.understood:
        return replace(answer, extra=extra)
    empty = np.zeros_like(answer.mask)
    zeros = None if answer.probabilities is None else np.zeros_like(answer.probabilities)
    return Segmentation(empty, None, True, 1.0, 0.0, answer.text, extra, probabilities=zeros)


def _same_size(placed: Iterator[Placed], at_once: int) -> Iterator[list[Placed]]:
    """Neighbouring images of one input size, at most `at_once`: none is padded for another's sake, so that an answer
    does not depend on what else was asked."""
    group: list[Placed] = []
    for entry in placed:
        if group and (len(group) == at_once or entry.image.shape != group[0].image.shape):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group
