"""Ask a trained model: `load` it by name, folder or hub id, then call it with images and expressions.

>>> import refseg
>>> segmenter = refseg.load()
>>> answer = segmenter("photo.jpg", "two players on the left")     # one image, one expression: a Segmentation
>>> segmenter(["a.jpg", "b.jpg"], ["the cat", "the dog"])[1][0]     # lists in, lists out: [image][expression]
>>> street = segmenter.encode("street.jpg")                         # the image is encoded once ...
>>> street.ask("the red car").save("car.png")                       # ... and asked as often as you like
>>> segmenter("photo.jpg", "a man beside a dog", phrases=["a man", "a dog"])[1].boxes     # a box and mask a phrase
>>> segmenter.explain("photo.jpg", "two players on the left").sheet().save("explained.png")
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import Unpack

from refseg.data.images import read_image
from refseg.data.transforms import place_image
from refseg.encoders.text.phrases import Place, locate_phrases
from refseg.encoders.text.tokenizer import Reading, Tokenizer, read_sentence, token_names
from refseg.errors import RefsegError
from refseg.geometry import Geometry
from refseg.inference import DEFAULT_MODEL
from refseg.inference.checkpoint import load_model
from refseg.inference.explain import Explanation, explain_output
from refseg.inference.frames import DEFAULT_FPS
from refseg.inference.hub import push_to_hub, save_pretrained
from refseg.inference.locate import PACKAGED, is_detections, locate_model, split_proposals, split_sources
from refseg.inference.phrases import decode_phrases, phrase_answers
from refseg.inference.placement import DeviceMap, check_device_map, compile_networks
from refseg.inference.postprocess import check_probability, postprocess
from refseg.inference.proposals import Proposals, over_proposals
from refseg.inference.runtime.exported import is_exported, load_exported
from refseg.inference.runtime.graphs import Runtime
from refseg.inference.segmentation import Segmentation
from refseg.inference.tracking import TrackingConfig
from refseg.inference.video import VideoFrame, segment_video
from refseg.models.foundation.base import FoundationModel
from refseg.precision import Precision, check_precision, computing_in, store_in
from refseg.types import Batch, Output, ReferringModel, TextFeatures, Tokens

__all__ = ["EncodedImage", "ImageLike", "Segmenter", "choose_device", "clean_text", "list_models", "load"]

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""A path, encoded bytes, a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4), as `read_image` takes them."""


MAX_LETTERS = 10_000
"""Letters of the longest expression that is taken; a model reads a few dozen words of it at most."""


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | torch.device = "auto",
    precision: Precision = "float32",
    runtime: Runtime | Literal["torch"] | None = None,
    proposals: Proposals | None = None,
    device_map: DeviceMap | None = None,
    compile: bool | str = False,
) -> Segmenter:
    """A `Segmenter` from a model folder, the name of packaged weights (`list_models()`), or a hub id ("owner/name", or
    "owner/name@revision" with a branch, tag or commit).

    `device` is "auto" (a CUDA GPU, else Apple's, else the CPU), "cpu", "cuda", "cuda:1" or "mps". `runtime` says what
    runs the networks of a folder that `refseg export` wrote: "onnxruntime" or "openvino", on the CPU in float32; None
    takes the one that the folder was made for, torch for other folders. `proposals` has the system `instances` choose
    among another model's instances ("facebook/sam3"), or those of a .json file of detections
    (`refseg.inference.detections`); the name "instances@facebook/sam3" says the same.

    Networks of transformers, whether they answer or propose, also take `device_map`, which lays their parts on several
    devices in place of `device` ("auto", or a table; `refseg.inference.placement`), and `compile`: True, or the name of
    a backend of torch.compile.

    Raises `RefsegError` when the device, the runtime or the compiler is not there, or the model does not choose among
    instances, `CheckpointError` when the model is not there, or its files are damaged.
    """
    chosen = choose_device(device)  # before the weights are read: a wrong name should not cost that time
    model, named = split_proposals(model)
    if named is not None and proposals is not None:
        raise RefsegError(f"proposals: {model}@{named} names its own already; leave one of them")
    proposals = proposals if named is None else named
    if device_map is not None:
        check_device_map(device_map)
        if device != "auto":
            raise RefsegError(f"device {str(device)!r}: a device_map says where the parts go; leave one of them")
    alone = len(split_sources(model)) == 1
    if runtime not in (None, "torch") or (runtime is None and alone and is_exported(locate_model(model))):
        if device != "auto" and chosen.type != "cpu":
            raise RefsegError(f"device {str(device)!r}: exported models run on the CPU; use 'cpu' or 'auto'")
        if precision != "float32":
            raise RefsegError(f"precision {precision!r}: exported models compute in float32")
        if proposals is not None:
            raise RefsegError("proposals: exported models have their own detector; give the folder that was exported")
        if device_map is not None or compile:
            raise RefsegError("device_map and compile are for networks of transformers, not for exported models")
        kind = cast(Runtime | None, runtime)
        return Segmenter(*load_exported(locate_model(model), kind), device="cpu")
    if proposals is None:
        network, tokenizer, info = load_model(model, device_map=device_map)
        store_in(network, check_precision(precision))
        chosen = chosen if device_map is None else cast(FoundationModel, network).device
        segmenter = Segmenter(network, tokenizer, info, device=chosen, precision=precision)
        if compile:
            compile_networks(segmenter.model, "inductor" if compile is True else compile)
        return segmenter
    network, tokenizer, info = load_model(model)
    store_in(network, check_precision(precision))
    if isinstance(proposals, (str, os.PathLike)) and not is_detections(proposals):
        other = load(proposals, device, precision, device_map=device_map, compile=compile)
        chosen, proposals = other.device, cast(Any, other.model)
    elif device_map is not None or compile:
        raise RefsegError("device_map and compile are for networks of transformers, not for given proposals")
    found = Path(proposals) if isinstance(proposals, (str, os.PathLike)) else proposals
    return Segmenter(over_proposals(network, found), tokenizer, info, device=chosen, precision=precision)


def list_models() -> list[str]:
    """The names of the weights that come with the package, each of which `load` takes."""
    return sorted(path.parent.name for path in PACKAGED.glob("*/config.json"))


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The torch device of that name. Raises `RefsegError` for unknown names and devices that are not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        if not isinstance(device, (str, torch.device)):
            raise TypeError("a number alone would be taken for a GPU")
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise RefsegError(f"device {device!r} is unknown; use 'auto', 'cpu', 'cuda', 'cuda:0' or 'mps'") from error
    available = {
        "cpu": not chosen.index,
        "cuda": torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available() and not chosen.index,
    }
    if not available.get(chosen.type, False):
        remedy = "'cpu' means all cores" if chosen.type == "cpu" else "`refseg doctor` lists what is, 'auto' chooses"
        raise RefsegError(f"device {str(device)!r} is not available here; {remedy}")
    return chosen


def clean_text(text: str) -> str:
    """The expression with runs of white space as one space and without control characters.

    Raises `RefsegError` when nothing is left, it is longer than `MAX_LETTERS`, or `text` is not a string.
    """
    if not isinstance(text, str):
        raise RefsegError(f"a sentence is a string, not {type(text).__name__}")
    if len(text) > MAX_LETTERS:
        raise RefsegError(f"a sentence of {len(text):,} letters: at most {MAX_LETTERS:,} are taken")
    encodable = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates, from arguments that are not UTF-8
    spaced = " ".join(encodable.split())
    # Format characters (Cf) stay: they join emoji and shape scripts.
    cleaned = "".join(letter for letter in spaced if unicodedata.category(letter) != "Cc").strip()
    if not cleaned:
        raise RefsegError("the sentence is empty; say what to look for, such as 'the dog on the left'")
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


@dataclass(frozen=True)
class _Placed:
    """An image on the network's input: `image` (3, H, W) normalised, `pixel_mask` (H, W), and how it got there."""

    image: torch.Tensor
    pixel_mask: torch.Tensor
    geometry: Geometry
    picture: Image.Image | None = None
    """The original, kept for models that read it."""


@dataclass(frozen=True)
class _Images:
    """Images of one input size as a batch (N, 3, H, W) with its mask of real pixels, and what late fusion makes of
    them."""

    placed: Sequence[_Placed]
    images: torch.Tensor
    pixel_mask: torch.Tensor
    state: object


@dataclass(frozen=True)
class _Expressions:
    """The expressions of one call: cleaned, tokenised, and (late fusion) encoded."""

    texts: list[str]
    tokens: Tokens
    features: TextFeatures | None


class Segmenter:
    """A model with its tokenizer, ready to answer. Thresholds default to those stored with the weights, else 0.5."""

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
        several_images, several_texts = _is_list_of_images(images), not isinstance(texts, str)
        if phrases is not None:
            if several_images:
                raise RefsegError("phrases belong to one caption about one picture; call once a picture")
            options: AskOptions = {
                "threshold": threshold,
                "no_target_threshold": no_target_threshold,
                "batch_size": batch_size,
                "probabilities": probabilities,
            }
            return self.encode(cast(ImageLike, images)).ask(cast(str, texts), phrases=phrases, **options)
        thresholds = self._thresholds(threshold, no_target_threshold)
        with self._inference():
            expressions = self._expressions(texts)
            sources = list(cast(Sequence[ImageLike], images)) if several_images else [cast(ImageLike, images)]
            rows = list(self._answer(sources, expressions, thresholds, batch_size, probabilities))
        if several_texts:
            return rows if several_images else rows[0]
        answers = [row[0] for row in rows]
        return answers if several_images else answers[0]

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
        _check_batch_size(batch_size)
        with self._inference():
            expressions = self._expressions(texts)
        at_once = max(1, batch_size // len(expressions.texts))
        waiting = iter(images)
        while sources := list(islice(waiting, at_once)):
            entries: list[_Placed | RefsegError] = []
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
        _check_batch_size(batch_size)
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
        options = (every, start, end, fps, threshold, no_target_threshold, tracking)
        return segment_video(self, source, texts, *options)

    def save_pretrained(self, folder: str | os.PathLike[str], *, half: bool = False) -> Path:
        """Write a model folder that `load` takes, with a card made from what is stored with the weights.

        `half` stores 16 bits a float. Raises `RefsegError` where it cannot be written, and for exported models.
        """
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

    @property
    def late_fusion(self) -> bool:
        """Whether an image is encoded without the expression, and so only once for many expressions."""
        return bool(getattr(self.model, "late_fusion", False))

    def _thresholds(self, threshold: float | None, no_target_threshold: float | None) -> Thresholds:
        return Thresholds(
            self.thresholds.mask if threshold is None else threshold,
            self.thresholds.no_target if no_target_threshold is None else no_target_threshold,
        )

    def _inference(self) -> AbstractContextManager[object]:
        """No gradients, and the computing precision that was asked for."""
        stack = ExitStack()
        stack.enter_context(torch.inference_mode())
        stack.enter_context(computing_in(self.device, self.precision))
        return stack

    def _place(self, picture: Image.Image) -> _Placed:
        original = picture if getattr(self.model, "reads_pictures", False) else None
        return _Placed(*place_image(picture, self._network.config.input), original)

    def _encode(self, placed: Sequence[_Placed]) -> _Images:
        images = torch.stack([entry.image for entry in placed]).to(self.device)
        pixel_mask = torch.stack([entry.pixel_mask for entry in placed]).to(self.device)
        pictures = [entry.picture for entry in placed if entry.picture is not None]
        more = {"pictures": pictures} if pictures else {}
        state = None
        if self.late_fusion:
            encode: Any = self._network.encode_image
            state = encode(images, pixel_mask, **more)
        return _Images(placed, images, pixel_mask, state)

    def _expressions(self, texts: str | Sequence[str]) -> _Expressions:
        if isinstance(texts, (bytes, bytearray)) or not isinstance(texts, (str, Iterable)):
            raise RefsegError(f"sentences are a string or a list of strings, not {type(texts).__name__}")
        cleaned = [clean_text(text) for text in ([texts] if isinstance(texts, str) else texts)]
        if not cleaned:
            raise RefsegError("no sentence to look for")
        tokens = self.tokenizer(cleaned).to(self.device)
        return _Expressions(cleaned, tokens, self._network.encode_text(tokens) if self.late_fusion else None)

    def _answer(
        self,
        sources: Sequence[ImageLike],
        expressions: _Expressions,
        thresholds: Thresholds,
        batch_size: int,
        probabilities: bool,
    ) -> Iterator[list[Segmentation]]:
        """The answers to all expressions, image by image."""
        _check_batch_size(batch_size)
        placed = (self._place(read_image(each)) for each in sources)
        return self._rows(placed, expressions, thresholds, batch_size, probabilities)

    def _rows(
        self,
        placed: Iterator[_Placed],
        expressions: _Expressions,
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
        images: _Images,
        expressions: _Expressions,
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
        images: _Images,
        expressions: _Expressions,
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
        return [_with_remarks(answer, read_sentence(self.tokenizer, answer.text)) for answer in answers]

    def _ask_phrases(
        self,
        images: _Images,
        caption: str,
        phrases: Sequence[Place],
        thresholds: Thresholds,
        batch_size: int,
        probabilities: bool,
    ) -> list[Segmentation]:
        """An answer a phrase of the caption about the only image."""
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

    def _forward(self, images: _Images, expressions: _Expressions, pairs: Sequence[tuple[int, int]]) -> Output:
        image_index, text_index = torch.tensor(pairs, device=self.device).unbind(dim=1)
        if expressions.features is not None:
            return self._network.decode(images.state, expressions.features.select(text_index), image_index)
        tokens = Tokens(expressions.tokens.ids[text_index], expressions.tokens.mask[text_index])
        return self._network(Batch(images.images, images.pixel_mask, tokens, image_index=image_index))


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image that a `Segmenter` has read and, with late fusion, encoded. Made by `Segmenter.encode`."""

    segmenter: Segmenter
    image: Image.Image
    _encoded: _Images

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
        _check_batch_size(batch_size)
        segmenter = self.segmenter
        thresholds = segmenter._thresholds(threshold, no_target_threshold)
        with segmenter._inference():
            if phrases is not None:
                if not isinstance(texts, str):
                    raise RefsegError("phrases are parts of one caption: give one string")
                return segmenter._ask_phrases(self._encoded, texts, phrases, thresholds, batch_size, probabilities)
            expressions = segmenter._expressions(texts)
            pairs = [(0, text) for text in range(len(expressions.texts))]
            answers = segmenter._decode(self._encoded, expressions, pairs, thresholds, batch_size, probabilities)
        return answers[0] if isinstance(texts, str) else answers


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


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise RefsegError(f"batch_size is at least 1, not {batch_size}")


def _is_list_of_images(images: object) -> bool:
    return isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4


def _same_size(placed: Iterator[_Placed], at_once: int) -> Iterator[list[_Placed]]:
    """Neighbouring images of one input size, at most `at_once`: none is padded for another's sake, so that an answer
    does not depend on what else was asked."""
    group: list[_Placed] = []
    for entry in placed:
        if group and (len(group) == at_once or entry.image.shape != group[0].image.shape):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group
