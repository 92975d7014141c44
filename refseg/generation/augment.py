"""Augmentation that keeps expressions true: flips, crops and colours of pictures, paraphrases and negatives.

    samples of one picture -> paraphrase -> crop around all objects -> flip (left is right) -> colour jitter -> samples

A crop never leaves out an object that some expression of the picture is about, and no object changes its half of the
picture. Colours stay where an expression names one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from refseg.config import Config, Probability
from refseg.data.masks import bounding_box
from refseg.data.sample import Sample
from refseg.generation.language.lexicon import RARE, TOKENS, look_alikes, normal_name
from refseg.generation.language.paraphrase import mirror_words, paraphrase
from refseg.palette import COLOR_WORDS as BASIC_COLORS

_TRIES = 6
_CALLED = frozenset(TOKENS)
_HALF_MARGIN = 0.02  # of the side: objects nearer to the middle belong to neither half


@dataclass(frozen=True)
class AugmentConfig(Config):
    """How often what is done; 0 everywhere changes nothing."""

    hflip: Probability = 0.0
    "share of pictures that are mirrored, with left and right exchanged in their expressions"
    random_crop: Probability = 0.0
    "share of pictures of which another window is taken: a part around all objects, or more than all with a margin"
    color_jitter: Probability = 0.0
    "share of pictures whose brightness and contrast change, and saturation where no expression names a colour"
    paraphrase: Probability = 0.0
    "share of expressions that are paraphrased"
    plain: Probability = 0.0
    "share of superlatives that become the bare noun, in pictures of which nothing but superlatives is said"
    negative_noun: Probability = 0.0
    "share of expressions whose noun becomes that of something that is not in the picture: without target"
    negative_nonsense: Probability = 0.0
    "share of expressions that become words without sense, or too vague to refer to anything: without target"

    def __bool__(self) -> bool:
        return self != AugmentConfig()


class Augmenter:
    """Applies a configuration; `words` are common words, some of which are thrown in."""

    def __init__(self, config: AugmentConfig, words: Sequence[str] = ()) -> None:
        self.config = config
        self.words = tuple(word for word in words if word.isalpha() and len(word) > 2)
        # What people say for categories, and for parts and looks of things, may be said of something in the picture.
        self.strangers = tuple(word for word in self.words if word not in _CALLED)

    def __call__(self, chosen: Sequence[Sample], every: Sequence[Sample], rng: random.Random) -> list[Sample]:
        """The `chosen` sentences about one picture, changed; `every` are all that there are about it."""
        texts = [self._say(sample, every, rng) for sample in chosen]
        config = self.config
        flip, crop, jitter = (rng.random() < share for share in (config.hflip, config.random_crop, config.color_jitter))
        if not (flip or crop or jitter):
            return [replace(sample, **changes) for sample, changes in zip(chosen, texts, strict=True)]
        picture = np.asarray(chosen[0].read_image())
        shown = {item.ann_id: item for sample in chosen for item in (*sample.objects, *sample.surroundings)}
        masks = {key: item.mask(chosen[0].size) for key, item in shown.items()}
        if crop:
            boxes = {item.ann_id: item.bbox for sample in every for item in sample.objects}
            frame = self._frame(picture.shape[:2], list(boxes.values()), rng)
            if frame is not None:
                picture = _cut(picture, frame, tuple(int(v) for v in picture.mean(axis=(0, 1))))
                masks = {key: _cut(mask, frame, False) for key, mask in masks.items()}
        if flip:
            picture = picture[:, ::-1]
            masks = {key: mask[:, ::-1] for key, mask in masks.items()}
        if jitter:
            named = any(not COLOR_WORDS.isdisjoint(changes["text"].split()) for changes in texts)
            picture = _jittered(picture, rng, named)
        picture = np.ascontiguousarray(picture)
        size = (picture.shape[0], picture.shape[1])
        boxes_now = {key: bounding_box(mask) for key, mask in masks.items()}
        around = tuple(
            replace(item, segmentation=masks[item.ann_id], bbox=boxes_now[item.ann_id])
            for item in chosen[0].surroundings
        )
        result = []
        for sample, changes in zip(chosen, texts, strict=True):
            text = mirror_words(changes["text"]) if flip else changes["text"]
            objects = tuple(
                replace(item, segmentation=masks[item.ann_id], bbox=boxes_now[item.ann_id])
                for item in changes.get("objects", sample.objects)
            )
            moved = {"objects": objects, "text": text, "image": picture, "size": size, "image_path": None}
            result.append(replace(sample, **{**changes, **moved}, stored=None, surroundings=around, phrases=()))
        return result

    def _say(self, sample: Sample, every: Sequence[Sample], rng: random.Random) -> dict[str, Any]:
        """The fields of a sample that its new wording changes."""
        config, text = self.config, sample.text
        nothing: dict[str, Any] = {"objects": (), "no_target": True, "kind": "no_target"}
        if rng.random() < config.negative_nonsense:
            return {"text": self._nonsense(rng), **nothing}
        drawn = sample.dataset == "scenes"
        categories = {normal_name(item.category) for each in every for item in each.objects}
        if not sample.no_target and rng.random() < config.negative_noun:
            changed = self._negative_noun(sample, categories, rng)
            if changed is not None:
                return {"text": paraphrase(changed, rng, photograph=not drawn), **nothing}
        if config.plain and rng.random() < config.plain and {each.kind for each in every} <= {"comparison", "compound"}:
            text = re.sub(r"\b(?:biggest|largest) ", "", text)
        if rng.random() < config.paraphrase:
            single = len(sample.objects) == 1 and len(categories) == 1
            others = self.words if len(sample.objects) == 1 else ()
            text = paraphrase(text, rng, photograph=not drawn, alone=single, others=others)
        return {"text": text}

    def _negative_noun(self, sample: Sample, categories: set[str], rng: random.Random) -> str | None:
        """The sentence with another noun in place of its object's, None where the noun is not found in it."""
        names = sorted({normal_name(item.category) for item in sample.objects})
        alike = {look_alikes(name) for name in categories} | categories
        for name in names:
            if re.search(rf"\b{re.escape(name)}\b", sample.text):
                others = [word for word in RARE if look_alikes(word) not in alike and word not in categories]
                word = rng.choice(self.strangers) if self.strangers and rng.random() < 0.2 else rng.choice(others)
                if word in sample.text or word in COLOR_WORDS:
                    return None
                return re.sub(rf"\b{re.escape(name)}\b", word, sample.text)
        return None

    def _nonsense(self, rng: random.Random) -> str:
        kind = rng.random()
        if kind < 0.35:
            return " ".join(
                "".join(rng.choices("abcdefghijklmnoprstuvwz", k=rng.randint(3, 8))) for _ in range(rng.randint(1, 3))
            )
        if kind < 0.6:
            return rng.choice(
                ("it", "that", "this", "something", "what", "is", "hello", "yes", "no", "the", "and", "of it")
            )
        if self.words:
            return " ".join(rng.choice(self.words) for _ in range(rng.randint(1, 4)))
        return "it"

    @staticmethod
    def _frame(
        size: tuple[int, ...], boxes: Sequence[tuple[float, float, float, float]], rng: random.Random
    ) -> tuple[int, int, int, int] | None:
        """left, top, right, bottom of a window, possibly past the edges; None where none keeps every half."""
        height, width = float(size[0]), float(size[1])
        left = min((box[0] for box in boxes), default=width * 0.3)
        top = min((box[1] for box in boxes), default=height * 0.3)
        right = max((box[2] for box in boxes), default=width * 0.7)
        bottom = max((box[3] for box in boxes), default=height * 0.7)
        centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in boxes]
        for _ in range(_TRIES):
            if rng.random() < 0.3:  # more than the picture
                x, y = rng.uniform(0, 0.2) * width, rng.uniform(0, 0.2) * height
                frame = (
                    -x * rng.random(),
                    -y * rng.random(),
                    width + x * rng.random(),
                    height + y * rng.random(),
                )
            else:
                frame = (
                    rng.uniform(0, left),
                    rng.uniform(0, top),
                    rng.uniform(right, width),
                    rng.uniform(bottom, height),
                )
            wide, high = frame[2] - frame[0], frame[3] - frame[1]
            if wide < 48 or high < 48 or not 0.5 < (wide / high) / (width / height) < 2:
                continue
            if all(
                _side(x, width) == _side(x - frame[0], wide) and _side(y, height) == _side(y - frame[1], high)
                for x, y in centres
            ):
                return int(frame[0]), int(frame[1]), int(np.ceil(frame[2])), int(np.ceil(frame[3]))
        return None


COLOR_WORDS = frozenset((*BASIC_COLORS, "blond", "golden", "dark", "light", "silver"))


def _side(place: float, length: float) -> int:
    offset = place / length - 0.5
    return 0 if abs(offset) < _HALF_MARGIN else int(np.sign(offset))


def _cut(array: NDArray[Any], frame: tuple[int, int, int, int], filling: Any) -> NDArray[Any]:
    """The window of a picture or mask; what lies outside is filled."""
    left, top, right, bottom = frame
    height, width = array.shape[:2]
    result = np.empty((bottom - top, right - left, *array.shape[2:]), dtype=array.dtype)
    result[:] = filling
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    result[y0 - top : y1 - top, x0 - left : x1 - left] = array[y0:y1, x0:x1]
    return result


def _jittered(picture: NDArray[np.uint8], rng: random.Random, named: bool) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(picture))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.25))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.75, 1.25))
    if not named:
        image = ImageEnhance.Color(image).enhance(rng.uniform(0.3, 1.4))
    return np.asarray(image)
