"""Small clips, written and in memory, and models of which one knows what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.geometry import InputConfig
from refseg.inference.predictor import Segmenter
from refseg.models.instances.chooser import Choice
from refseg.types import Batch, Output, TextFeatures, Tokens
from tests.support.answering import AnsweringModel

SIZE = (48, 64)
"""Height and width."""


def square(centre: tuple[float, float], brightness: int = 250, side: int = 16, ground: int = 20) -> Image.Image:
    """A red square on dark ground; `centre` is (x, y)."""
    pixels = np.full((*SIZE, 3), ground, np.uint8)
    left, top = round(centre[0] - side / 2), round(centre[1] - side / 2)
    pixels[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = (brightness, 10, 10)
    return Image.fromarray(pixels)


def moving(count: int) -> list[Image.Image]:
    """A square that goes to the right."""
    return [square((12 + 40 * number / max(1, count - 1), 24)) for number in range(count)]


def write_folder(folder: Path, frames: Sequence[Image.Image]) -> Path:
    """Frames as 0.png, 1.png, ...: an order of names that is not that of letters."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        frame.save(folder / f"{number}.png")
    return folder


def write_video(
    path: Path,
    frames: Sequence[Image.Image],
    codec: str = "libx264",
    times: Callable[[int], float] = lambda number: number / 10,
    options: dict[str, str] | None = None,
) -> Path:
    """A video file whose frame i is shown at `times(i)` seconds."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=10, options=options or {})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_image(frame)
            picture.pts, picture.time_base = round(times(number) * 1000), Fraction(1, 1000)
            for packet in stream.encode(picture):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return path


@dataclass(frozen=True)
class ClipConfig:
    input: InputConfig


class Redness(AnsweringModel):
    """Says of each pixel how red it is: brightness 128 has probability one half, 16 more or less one logit."""

    late_fusion = False

    def __init__(self) -> None:
        super().__init__()
        self.config = ClipConfig(InputConfig(size=64, resize="longest", divisor=16))
        self.asked = 0

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += len(images)
        mean, std = self.config.input.mean[0], self.config.input.std[0]
        return (images[:, 0] * std + mean - 128) / 16

    def forward(self, batch: Batch) -> Output:
        images = batch.images if batch.image_index is None else batch.images[batch.image_index]
        return Output(self.logits(images))


class ClipRedness(Redness):
    """The same with late fusion, and for clips at once, in which it notes how many frames it is shown."""

    late_fusion = True

    def __init__(self) -> None:
        super().__init__()
        self.clips: list[int] = []

    def encode_image(self, images: torch.Tensor, pixel_mask: torch.Tensor) -> torch.Tensor:
        return images

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        words = tokens.ids[..., None].float()
        return TextFeatures(words, words[:, 0], tokens.mask)

    def encode_clip(self, images: torch.Tensor, pixel_mask: torch.Tensor) -> torch.Tensor:
        return images

    def decode_clip(self, state: torch.Tensor, text: TextFeatures) -> Output:
        self.clips.append(len(state))
        return Output(self.logits(state))


@dataclass(frozen=True)
class Thing:
    """A proposal of a scripted frame: its box in hundredths, detection score, evidence, class."""

    box: tuple[int, int, int, int]
    evidence: float
    score: float = 0.9
    kind: int = 0


class Scripted(AnsweringModel):
    """Chooses among proposals that a script gives for each frame, which tells its number by its brightness.

    `several`: a set is asked for, and evidence is a logit. A frame's no-target logit is -3 unless `none` has it.
    """

    late_fusion = True
    class_names = ("dog", "cat", "car")

    def __init__(self, script: Sequence[Sequence[Thing]], several: bool = False, none: dict[int, float] | None = None):
        super().__init__()
        self.config = ClipConfig(InputConfig(size=64, resize="longest", divisor=16))
        self.script, self.several, self.none = script, several, none or {}

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        words = tokens.ids[..., None].float()
        return TextFeatures(words, words[:, 0], tokens.mask)

    def encode_image(self, images: torch.Tensor, pixel_mask: torch.Tensor) -> list[SimpleNamespace]:
        mean, std = self.config.input.mean[0], self.config.input.std[0]
        number = round(float(images[0, 0, 0, 0]) * std + mean) // 4
        things = self.script[number]
        boxes = torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4) / 100
        classes = torch.nn.functional.one_hot(torch.tensor([thing.kind for thing in things], dtype=torch.long), 3)
        scores = torch.tensor([thing.score for thing in things])
        proposals = SimpleNamespace(
            boxes=boxes, scores=scores, class_probs=classes * scores[:, None], features=torch.ones(len(things), 4)
        )
        return [SimpleNamespace(number=number, proposals=proposals)]

    def choose(self, state: SimpleNamespace, text: TextFeatures) -> tuple[list[Choice], list[list[str]]]:
        evidence = torch.tensor([thing.evidence for thing in self.script[state.number]])
        labels = state.proposals.class_probs.argmax(1) if len(evidence) else evidence.long()
        none = torch.tensor(self.none.get(state.number, -3.0))
        choice = Choice(evidence, evidence[None], none, labels, several=self.several)
        return [choice] * len(text.words), [[]] * len(text.words)

    def masks_of(self, state: SimpleNamespace, boxes: torch.Tensor) -> torch.Tensor:
        height, width = SIZE
        logits = torch.full((len(boxes), height, width), -8.0)
        for row, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            logits[row, round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = 8.0
        return logits


def numbered(count: int, scenes: Sequence[int] = ()) -> list[Image.Image]:
    """Plain frames for `Scripted`: the brightness of the first pixel is four times the number; from the frames `scenes`
    on the rest has other colours."""
    colours = [(30, 30, 30), (240, 220, 40), (20, 60, 250)]
    frames = []
    for number in range(count):
        pixels = np.full((*SIZE, 3), colours[sum(number >= scene for scene in scenes)], np.uint8)
        pixels[:2, :2] = 4 * number
        frames.append(Image.fromarray(pixels))
    return frames


def segmenter_of(model: torch.nn.Module) -> Segmenter:
    """The model with a tokenizer that knows three words."""
    return Segmenter(model, WordTokenizer(["the", "red", "thing"], 4), {"threshold": 0.5}, device="cpu")
