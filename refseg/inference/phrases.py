"""Several phrases of a caption at once, for systems that read them in it (RefTR): a box and a mask each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from refseg.encoders.text.phrases import Place, place_phrases
from refseg.encoders.text.tokenizer import WordPieceTokenizer, WordTokenizer
from refseg.errors import RefsegError
from refseg.geometry import Geometry
from refseg.inference.postprocess import corners_of, postprocess
from refseg.inference.segmentation import Segmentation
from refseg.types import Batch, Output, ReferringModel, Tokens

__all__ = ["AT_ONCE", "decode_phrases", "phrase_answers"]

AT_ONCE = 16
"""Phrases that are decoded together, since they see one another: what RefTR is trained with on Flickr30k Entities."""


def decode_phrases(
    model: ReferringModel,
    tokenizer: Callable[[list[str]], Tokens],
    images: Float[Tensor, "1 3 H W"],
    pixel_mask: Bool[Tensor, "1 H W"],
    state: object,
    caption: str,
    phrases: Sequence[Place],
) -> Iterator[Output]:
    """The answers to phrases of one caption about one image, `AT_ONCE` at a time: an output whose expressions are the
    phrases, each with one box.

    `state` is the encoded image where the model fuses late. Raises `RefsegError` for a phrase that stands behind the
    words that the model reads.
    """
    if not isinstance(tokenizer, (WordTokenizer, WordPieceTokenizer)):
        raise RefsegError("phrases are found among words or word pieces, which this tokenizer does not make")
    device = images.device
    network = cast(Any, model)  # `decode` of a system that reads phrases takes them
    tokens = tokenizer([caption]).to(device)
    for start in range(0, len(phrases), AT_ONCE):
        part = phrases[start : start + AT_ONCE]
        placed = place_phrases([caption], [part], tokenizer).to(device)
        if model.late_fusion:
            output = network.decode(state, model.encode_text(tokens), phrases=placed)
        else:
            output = model(Batch(images, pixel_mask, tokens, phrases=placed))
        yield _one_each(output)


def phrase_answers(
    output: Output,
    geometry: Geometry,
    texts: Sequence[str],
    threshold: float,
    input_size: tuple[int, int],
    probabilities: bool = False,
) -> list[Segmentation]:
    """What `decode_phrases` gave as answers at the picture's own size. A caption's phrases are there: an answer of a
    system that gives boxes has one even where its mask stays empty."""
    answers = postprocess(
        output, [geometry] * len(texts), texts, threshold, 1.0, input_size=input_size, probabilities=probabilities
    )
    if output.boxes is None:
        return answers
    return [
        _with_box(answer, corners_of(boxes, geometry)) if answer.no_target else answer
        for answer, boxes in zip(answers, output.boxes, strict=True)
    ]


def _with_box(answer: Segmentation, boxes: NDArray[np.float64]) -> Segmentation:
    score, probabilities = 1.0 - answer.no_target_score, answer.probabilities
    return Segmentation(answer.mask, boxes, False, 0.0, score, answer.text, probabilities=probabilities)


def _one_each(output: Output) -> Output:
    """The P phrases of one expression as P expressions."""
    masks = output.phrase_mask_logits
    assert masks is not None
    boxes = None if output.boxes is None else output.boxes[0, :, None]
    # A no-target head speaks of the whole caption: none of its phrases is none by it.
    return Output(masks[0], torch.full_like(masks[0, :, 0, 0], -torch.inf), boxes)
