"""`Segmenter`: a trained model that answers expressions about images, lists of them, collections and clips."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from refseg.data.images import read_image
from refseg.encoders.text.tokenizer import Tokenizer, token_names
from refseg.errors import RefsegError
from refseg.inference.encoded_image import EncodedImage
from refseg.inference.frames import DEFAULT_FPS
from refseg.inference.pipeline import ImageLike, Pipeline, Placed, check_batch_size
from refseg.inference.segmentation import Segmentation

if TYPE_CHECKING:  # imported by the methods that need them
    from refseg.inference.explain import Explanation
    from refseg.inference.tracking import TrackingConfig
    from refseg.inference.video import VideoFrame


class Segmenter(Pipeline):
    """A model with its tokenizer, ready to answer: call it with images and expressions (`Pipeline.__call__`).

    Thresholds default to those stored with the weights, else 0.5.
    """

    def encode(self, image: ImageLike) -> EncodedImage:
        """One image, encoded once where the model allows it, to be asked many expressions."""
        picture = read_image(image)
        with self._inference():
            return EncodedImage(self, picture, self._encode([self._place(picture)]))

    def explain(
        self,
        image: ImageLike,
        text: str,
        *,
        threshold: float | None = None,
        no_target_threshold: float | None = None,
    ) -> Explanation:
        """The answer, and all that the system can show of the way to it: attention, minimap, responses, choices, as
        far as it has them (`Output.maps`). Raises as calling does."""
        from refseg.inference.explain import explain_output

        picture = read_image(image)
        thresholds = self._thresholds(threshold, no_target_threshold)
        with self._inference():
            encoded, expressions = self._encode([self._place(picture)]), self._expressions(text)
            output = self._forward(encoded, expressions, [(0, 0)])
            (answer,) = self._answers(output, encoded, expressions, [(0, 0)], thresholds, True)
            words = token_names(self.tokenizer, expressions.texts[0])
            return explain_output(output, 0, picture, answer, words, encoded.placed[0].geometry)

    def stream(
        self,
        images: Iterable[ImageLike],
        texts: str | Sequence[str],
        *,
        threshold: float | None = None,
        no_target_threshold: float | None = None,
        batch_size: int = 16,
        probabilities: bool = False,
    ) -> Iterator[list[Segmentation] | RefsegError]:
        """The answers to each expression, image by image and in their order, as many at a time as a batch holds.

        For collections: `images` is read as it is needed, and where one cannot be read its error stands in the place of
        its answers, so that it ends nothing. Options as in `AskOptions`; raises `RefsegError` for expressions and
        options as calling does.
        """
        thresholds = self._thresholds(threshold, no_target_threshold)
        check_batch_size(batch_size)
        with self._inference():
            expressions = self._expressions(texts)
        at_once = max(1, batch_size // len(expressions.texts))
        waiting = iter(images)
        while sources := list(islice(waiting, at_once)):
            entries: list[Placed | RefsegError] = []
            for source in sources:
                try:
                    entries.append(self._place(read_image(source)))
                except RefsegError as error:
                    entries.append(error)
            # The block ends before the answers are handed out: the caller's own torch code stays as it is.
            with self._inference():
                placed = (entry for entry in entries if not isinstance(entry, RefsegError))
                rows = iter(list(self._rows(placed, expressions, thresholds, batch_size, probabilities)))
            for entry in entries:
                yield entry if isinstance(entry, RefsegError) else next(rows)

    def answer_pairs(
        self,
        images: Sequence[ImageLike],
        pairs: Sequence[tuple[int, str]],
        *,
        threshold: float | None = None,
        no_target_threshold: float | None = None,
        batch_size: int = 16,
    ) -> list[Segmentation]:
        """The answers to pairs of an image's number in `images` and an expression, in the order of the pairs.

        For batches put together from several askers: each image is encoded once, images of one input size at once, and
        no expression is asked of an image that it was not paired with. Options as in `AskOptions`.
        """
        thresholds = self._thresholds(threshold, no_target_threshold)
        check_batch_size(batch_size)
        if not pairs:
            return []
        with self._inference():
            expressions = self._expressions([text for _, text in pairs])
            placed = [self._place(read_image(image)) for image in images]
            by_size: dict[tuple[int, ...], list[int]] = {}
            for number, entry in enumerate(placed):
                by_size.setdefault(tuple(entry.image.shape), []).append(number)
            groups = [same[at : at + batch_size] for same in by_size.values() for at in range(0, len(same), batch_size)]
            answers: dict[int, Segmentation] = {}
            for group in groups:
                asked = [at for at, (image, _) in enumerate(pairs) if image in group]
                local = [(group.index(pairs[at][0]), at) for at in asked]
                encoded = self._encode([placed[number] for number in group])
                made = self._decode(encoded, expressions, local, thresholds, batch_size, False) if local else []
                answers.update(zip(asked, made, strict=True))
        return [answers[at] for at in range(len(pairs))]

    def video(
        self,
        source: str | os.PathLike[str],
        texts: str | Sequence[str],
        *,
        every: int = 1,
        start: float = 0.0,
        end: float | None = None,
        fps: float = DEFAULT_FPS,
        threshold: float | None = None,
        no_target_threshold: float | None = None,
        tracking: TrackingConfig | None = None,
    ) -> Iterator[VideoFrame]:
        """The frames of a clip with the answers to one or several expressions, one after the other.

        `source` is a video file (needs PyAV: `pip install 'refseg[video]'`), a GIF, WebP or APNG, or a folder of
        pictures, shown at `fps` frames a second. Every `every`-th frame from `start` to before `end` (seconds) is
        looked at. What is meant is chosen over the tracks of things (`refseg.inference.tracking`), online and in
        constant memory. Raises as `read_frames`; after the last good frame where a clip is cut short.
        """
        from refseg.inference.video import segment_video

        options = (every, start, end, fps, threshold, no_target_threshold, tracking)
        return segment_video(self, source, texts, *options)

    def save_pretrained(self, folder: str | os.PathLike[str], *, half: bool = False) -> Path:
        """Write a model folder that `load` takes, with a card made from what is stored with the weights.

        `half` stores 16 bits a float. Raises `RefsegError` where it cannot be written, and for exported models.
        """
        from refseg.inference.hub import save_pretrained

        return save_pretrained(folder, self.model, cast(Tokenizer, self.tokenizer), self.info, half=half)

    def push_to_hub(
        self,
        repository: str,
        *,
        half: bool = False,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        message: str = "Upload model",
    ) -> str:
        """Put the model with its card on the hub as "owner/name"; returns the commit. See `refseg.inference.hub`."""
        from refseg.inference.hub import push_to_hub

        tokenizer = cast(Tokenizer, self.tokenizer)
        return push_to_hub(
            repository,
            self.model,
            tokenizer,
            self.info,
            half=half,
            private=private,
            revision=revision,
            token=token,
            message=message,
        )
