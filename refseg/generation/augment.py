"""Augmentation that keeps expressions true: flips, crops, affine maps and colours of pictures, paraphrases, negatives.

    samples of one picture -> paraphrase -> crop around all objects -> flip (left is right) -> affine -> colours

A crop never leaves out an object that some expression of the picture is about, and no object changes its half of the
picture. `color_jitter` leaves colours where an expression names one. Boxes, outlines and the objects of phrases move
with the picture; objects of which only the box is known keep a box. Where nothing moves, they stay as annotated.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from refseg.data.masks import bounding_box
from refseg.data.sample import Instance, Sample
from refseg.generation.augment_config import AugmentConfig
from refseg.generation.language.lexicon import RARE, TOKENS, look_alikes, normal_name
from refseg.generation.language.paraphrase import mirror_words, paraphrase
from refseg.generation.moves import Affine, Box, Crop, Flip, Move, scale_colours
from refseg.palette import COLOR_WORDS as BASIC_COLORS

_TRIES = 6
_CALLED = frozenset(TOKENS)
_HALF_MARGIN = 0.02  # of the side: objects nearer to the middle belong to neither half


class Augmenter:
    """Applies a configuration; `words` are common words, some of which are thrown in."""

    def __init__(self, config: AugmentConfig, words: Sequence[str] = ()) -> None:
        self.config = config
        self.words = tuple(word for word in words if word.isalpha() and len(word) > 2)
        # What people say for categories, and for parts and looks of things, may be said of something in the picture.
        self.strangers = tuple(word for word in self.words if word not in _CALLED)

    def __call__(self, chosen: Sequence[Sample], every: Sequence[Sample], rng: random.Random) -> list[Sample]:
        """The `chosen` expressions about one picture, changed; `every` are all that there are about it."""
        texts = [self._say(sample, every, rng) for sample in chosen]
        config = self.config
        flip, crop, jitter = (rng.random() < share for share in (config.hflip, config.random_crop, config.color_jitter))
        slant = bool(config.affine) and rng.random() < config.affine
        coloured = jitter or config.intensity or config.saturation
        if not (flip or crop or slant or coloured):
            return [_said(sample, changes) for sample, changes in zip(chosen, texts, strict=True)]
        picture = np.asarray(chosen[0].read_image())
        moves: list[Move] = []
        boxes = list({item.ann_id: item.bbox for sample in every for item in sample.objects}.values())
        size = (picture.shape[0], picture.shape[1])
        if crop and (frame := self._frame(size, boxes, rng)) is not None:
            moves.append(Crop(size, frame))
        if flip:
            moves.append(Flip(moves[-1].size if moves else size))
        if slant:
            for move in moves:
                boxes = [move.box(box) for box in boxes]
            affine = self._affine(moves[-1].size if moves else size, boxes, rng)
            moves += [] if affine is None else [affine]
        for move in moves:
            picture = move.picture(picture)
        if jitter:
            named = any(not COLOR_WORDS.isdisjoint(changes["text"].split()) for changes in texts)
            picture = _jittered(picture, rng, named)
        if config.intensity or config.saturation:
            picture = scale_colours(picture, *self._factors(rng))
        picture = np.ascontiguousarray(picture)
        mover = _Mover(size, moves)
        shown: dict[str, Any] = {"image": picture, "size": mover.new_size, "image_path": None, "stored": None}
        around = tuple(mover.item(item) for item in chosen[0].surroundings)
        result = []
        for sample, changes in zip(chosen, texts, strict=True):
            changed = _said(sample, changes)
            if flip:
                changed = mirrored(changed)
            objects = tuple(mover.item(item) for item in changed.objects)
            phrases = tuple(
                replace(phrase, objects=tuple(mover.item(item) for item in phrase.objects))
                for phrase in changed.phrases
            )
            result.append(replace(changed, objects=objects, phrases=phrases, surroundings=around, **shown))
        return result

    def _factors(self, rng: random.Random) -> tuple[float, float]:
        """Of saturation and value, drawn in the published code's order."""
        config = self.config
        return tuple(1 + share * rng.uniform(-1, 1) for share in (config.saturation, config.intensity))  # type: ignore[return-value]

    def _affine(self, size: tuple[int, int], boxes: Sequence[Box], rng: random.Random) -> Affine | None:
        """An affine map that keeps the middle and half the area of every box inside; None where none is found."""
        config, (height, width) = self.config, size
        for _ in range(_TRIES):
            turn, *slants = (
                math.radians(rng.uniform(-most, most))
                for most in (config.affine_degrees, config.affine_shear, config.affine_shear)
            )
            scale = 1 + rng.uniform(-config.affine_scale, config.affine_scale)
            shift = [rng.uniform(-1, 1) * config.affine_translate * side for side in (width, height)]
            affine = Affine.about_the_middle(size, turn, scale, (slants[0], slants[1]), (shift[0], shift[1]))
            if all(affine.keeps(box) for box in boxes):
                return affine
        return None

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
        """The expression with another noun in place of its object's, None where the noun is not found in it."""
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


def _said(sample: Sample, changes: dict[str, Any]) -> Sample:
    """The sample in its new wording, whose characters are not those of its phrases any more."""
    same = changes["text"] == sample.text and "objects" not in changes
    return replace(sample, **changes, phrases=sample.phrases if same else ())


def mirrored(sample: Sample) -> Sample:
    """The sample with left and right exchanged in its expression, and phrases where their words stand then."""
    text = mirror_words(sample.text)

    def at(place: int) -> int:  # no word crosses a phrase's border
        return len(mirror_words(sample.text[:place]))

    phrases = tuple(
        replace(phrase, text=mirror_words(phrase.text), start=at(phrase.start), stop=at(phrase.stop))
        for phrase in sample.phrases
    )
    return replace(sample, text=text, phrases=phrases)


class _Mover:
    """Objects carried through the changes of a picture of (height, width), each once."""

    def __init__(self, size: tuple[int, int], moves: Sequence[Move]) -> None:
        self.size, self.moves = size, moves
        self.new_size = moves[-1].size if moves else size
        self._moved: dict[tuple[int, Box], Instance] = {}

    def item(self, item: Instance) -> Instance:
        """The object where it is now: its mask if it has an outline, with the box around it, or else its box alone."""
        if not self.moves:
            return item
        key = (item.ann_id, item.bbox)
        if key not in self._moved:
            if item.segmentation is None:
                box = item.bbox
                for move in self.moves:
                    box = move.box(box)
                self._moved[key] = replace(item, bbox=box)
            else:
                mask = item.mask(self.size)
                for move in self.moves:
                    mask = move.mask(mask)
                self._moved[key] = replace(item, segmentation=mask, bbox=bounding_box(mask))
        return self._moved[key]


COLOR_WORDS = frozenset((*BASIC_COLORS, "blond", "golden", "dark", "light", "silver"))


def _side(place: float, length: float) -> int:
    offset = place / length - 0.5
    return 0 if abs(offset) < _HALF_MARGIN else int(np.sign(offset))


def _jittered(picture: NDArray[np.uint8], rng: random.Random, named: bool) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(picture))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.25))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.75, 1.25))
    if not named:
        image = ImageEnhance.Color(image).enhance(rng.uniform(0.3, 1.4))
    return np.asarray(image)
