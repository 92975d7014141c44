"""What a `Segmenter` is asked with: images, expressions, thresholds and options, and how they are checked."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

from numpy.typing import NDArray
from PIL import Image

from refseg.errors import RefsegError
from refseg.inference.postprocess import check_probability

__all__ = [
    "MAX_LETTERS",
    "AskOptions",
    "ImageLike",
    "Thresholds",
    "check_batch_size",
    "clean_text",
    "is_list_of_images",
]

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""A path, encoded bytes, a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4), as `read_image` takes them."""

MAX_LETTERS = 10_000
"""Letters of the longest expression that is taken; a model reads a few dozen words of it at most."""


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


@dataclass(frozen=True)
class Thresholds:
    """Probabilities above which a pixel is foreground and an answer is none; see `postprocess`."""

    mask: float = 0.5
    no_target: float = 0.5

    def __post_init__(self) -> None:
        check_probability("threshold", self.mask)
        check_probability("no_target_threshold", self.no_target)


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


def check_batch_size(batch_size: int) -> None:
    """Raises `RefsegError` for a number of pairs computed at once below 1."""
    if batch_size < 1:
        raise RefsegError(f"batch_size is at least 1, not {batch_size}")


def is_list_of_images(images: object) -> bool:
    """Whether an argument is several images: a list, a tuple, or an array (N, H, W, C)."""
    return isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4
