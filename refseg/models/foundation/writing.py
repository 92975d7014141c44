"""Networks that write where a thing is: the picture's features are computed once, each expression is one generation.

What was written is read by pure functions (`read_*`), which take text and give boxes or outlines, 0 to 1 of the
picture. The score of all instances of one answer is the geometric mean of its tokens' probabilities: such networks give
none of their own, and none of these was trained to say "none". Expressions are asked one by one, so that no padding
changes an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refseg.errors import RefsegError
from refseg.models.foundation.base import Encoded, ExpressionTexts, Features, Found, FoundationModel, Pixels
from refseg.models.foundation.placing import outline_logits

__all__ = ["Outlined", "Writer", "read_locations", "read_pixel_boxes", "read_polygons"]

_POLYGON_TOKENS = re.compile(r"(?:<loc_\d+>|<sep>|<poly>|</poly>){4,}")
_FLORENCE = re.compile(r"<loc_(\d+)>")
_PALIGEMMA = re.compile(r"<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>")
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_FOUR = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
_PAIRS = re.compile(rf"\({_NUMBER},{_NUMBER}\)\s*,\s*\({_NUMBER},{_NUMBER}\)")


@dataclass(frozen=True)
class Outlined:
    """One thing as outlines, each (P, 2) points x y, 0 to 1 of the picture."""

    outlines: tuple[np.ndarray, ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0 y0 x1 y1 around all outlines."""
        points = np.concatenate(self.outlines)
        x0, y0 = points.min(axis=0)
        x1, y1 = points.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)


def read_polygons(text: str) -> list[Outlined]:
    """Florence-2's answer: things apart by other text or <poly>...</poly>, outlines of one by <sep>, coordinates in
    1,000 bins of which the centre is meant; an odd last one is dropped."""
    plain = re.sub(r"</?s>|<pad>|\s+", "", text)
    things = []
    for run in _POLYGON_TOKENS.findall(plain):
        parts = re.findall(r"<poly>(.*?)</poly>", run) if "<poly>" in run and "</poly>" in run else [run]
        for part in parts:
            outlines = []
            for outline in part.split("<sep>"):
                bins = [int(number) for number in _FLORENCE.findall(outline)]
                points = np.array(bins[: len(bins) // 2 * 2], dtype=np.float64).reshape(-1, 2)
                if len(points):
                    outlines.append((points + 0.5) / 1000)
            if outlines:
                things.append(Outlined(tuple(outlines)))
    return things


def read_locations(text: str) -> list[tuple[float, float, float, float]]:
    """PaliGemma's boxes: four <locNNNN> each, y0 x0 y1 x1 in 1,024ths."""
    found = []
    for group in _PALIGEMMA.findall(text):
        y0, x0, y1, x1 = (int(number) / 1024 for number in group)
        found.append((x0, y0, x1, y1))
    return found


def read_pixel_boxes(text: str, size: tuple[float, float]) -> list[tuple[float, float, float, float]]:
    """Qwen-VL's boxes: [x0, y0, x1, y1] as in its JSON, or (x0,y0),(x1,y1), where (height, width) is what the numbers
    are parts of."""
    height, width = size
    groups = [*_FOUR.findall(text), *_PAIRS.findall(text)]
    return [(float(x0) / width, float(y0) / height, float(x1) / width, float(y1) / height) for x0, y0, x1, y1 in groups]


class Writer(FoundationModel, Generic[Features]):
    """A network with `generate`; subclasses say `encode`, `inputs` and `things`."""

    boxes_alone = True

    def inputs(self, features: Features, text: str) -> dict[str, Any]:
        """What `generate` takes for one expression of one picture."""
        raise NotImplementedError

    def things(self, written: str, features: Features, picture: Pixels) -> list[Outlined] | Float[Tensor, "K 4"]:
        """What was written, as outlines or as boxes x0 y0 x1 y1, 0 to 1."""
        raise NotImplementedError

    def find(self, state: Encoded, text: ExpressionTexts, index: Sequence[int]) -> list[Found]:
        """The things that the network writes of each expression."""
        found = []
        for number, expression in zip(index, text.texts, strict=True):
            features, picture = state.features[number], state.pictures[number]
            written, score = self.write(features, self.config.prompt.format(expression))
            found.append(self._found(self.things(written, features, picture), score, picture))
        return found

    def write(self, features: Features, text: str) -> tuple[str, float]:
        """The network's answer with its special tokens, and the geometric mean of its tokens' probabilities."""
        config = self.config
        made = self.network.generate(
            **self.inputs(features, text),
            do_sample=False,
            num_beams=config.num_beams,
            max_new_tokens=config.max_new_tokens,
            output_scores=True,
            return_dict_in_generate=True,
        )
        beams = getattr(made, "beam_indices", None)
        steps = self.network.compute_transition_scores(made.sequences, made.scores, beams, normalize_logits=True)[0]
        tokens = made.sequences[0, -len(steps) :]
        likely = steps[torch.isfinite(steps) & (tokens != self._padding)].float()
        score = float(likely.mean().exp()) if len(likely) else 0.0
        return self._tokenizer.decode(tokens, skip_special_tokens=False), score

    @property
    def _padding(self) -> int:
        number = self._tokenizer.pad_token_id
        return -1 if number is None else int(number)

    def _number_of(self, token: str) -> int:
        """A token's number. Raises `RefsegError` where the tokenizer does not know it."""
        number = self._tokenizer.convert_tokens_to_ids(token)
        if number is None or number == self._tokenizer.unk_token_id:
            raise RefsegError(
                f"{'+'.join(self.config.sources)}: the tokenizer has no {token}; take the published files"
            )
        return int(number)

    def _found(self, things: list[Outlined] | Float[Tensor, "K 4"], score: float, picture: Pixels) -> Found:
        if isinstance(things, Tensor):
            boxes = things.reshape(-1, 4).clamp(0, 1)
            boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
            return Found(boxes.to(self.device), torch.full((len(boxes),), score, device=self.device))
        size = picture.shape[:2]
        boxes = torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4)
        masks = [outline_logits(thing.outlines, size) for thing in things]
        logits = torch.stack(masks) if masks else torch.zeros(0, *size)
        return Found(
            boxes.to(self.device), torch.full((len(boxes),), score, device=self.device), logits.to(self.device)
        )
