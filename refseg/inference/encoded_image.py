"""An image that is encoded once and asked many expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from PIL import Image
from typing_extensions import Unpack

from refseg.encoders.text.phrases import Place
from refseg.inference.pipeline import AskOptions, EncodedBatch, check_batch_size
from refseg.inference.segmentation import Segmentation

if TYPE_CHECKING:
    from refseg.inference.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image that a `Segmenter` has read and, with late fusion, encoded. Made by `Segmenter.encode`."""

    segmenter: Segmenter
    image: Image.Image
    _encoded: EncodedBatch

    def __repr__(self) -> str:
        return f"EncodedImage({self.image.width} x {self.image.height} pixels, {self.segmenter!r})"

    @overload
    def ask(self, texts: str, **options: Unpack[AskOptions]) -> Segmentation: ...  # type: ignore[overload-overlap]
    @overload
    def ask(self, texts: Sequence[str], **options: Unpack[AskOptions]) -> list[Segmentation]: ...
    @overload
    def ask(self, texts: str, *, phrases: Sequence[Place], **options: Unpack[AskOptions]) -> list[Segmentation]: ...
    def ask(
        self,
        texts: str | Sequence[str],
        *,
        phrases: Sequence[Place] | None = None,
        threshold: float | None = None,
        no_target_threshold: float | None = None,
        batch_size: int = 16,
        probabilities: bool = False,
    ) -> Segmentation | list[Segmentation]:
        """The answer to one expression, or a list of them for a list of expressions; options as in `AskOptions`.

        With `phrases` the expression is a caption, and there is an answer for each of its phrases: by their characters
        (start, stop), stop exclusive, or as text, which stands where it occurs first, and named again where it occurs
        again. A system that reads phrases in their caption (RefTR) decodes up to 16 of them together, and gives each
        one box and one mask and never none. Any other system is asked each phrase as an expression of its own: the
        caption decides only where the phrase is. Raises `RefsegError` for a phrase that is not in the caption and for
        characters beyond it.
        """
        check_batch_size(batch_size)
        segmenter = self.segmenter
        thresholds = segmenter._thresholds(threshold, no_target_threshold)
        with segmenter._inference():
            if phrases is not None:
                return segmenter._ask_phrases(self._encoded, texts, phrases, thresholds, batch_size, probabilities)
            expressions = segmenter._expressions(texts)
            pairs = [(0, text) for text in range(len(expressions.texts))]
            answers = segmenter._decode(self._encoded, expressions, pairs, thresholds, batch_size, probabilities)
        return answers[0] if isinstance(texts, str) else answers
