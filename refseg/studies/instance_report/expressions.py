"""Referring expressions of one picture: what is answered, and what would be if words, choice or boxes were right.

    now        the answer, as a `Segmenter` gives it
    words      the noun of an expression with one phrase is read as the targets' category where it was read otherwise
    choice     for each target the proposal whose box fits it best, with the mask that an answer would give it
    proposals  the union of proposals that fits the target best: no choice among them reaches more
    masks      masks made in the targets' true boxes

`words` - `now` is lost by reading, `choice` - `words` by choosing, `masks` - `choice` by missing or inexact boxes, 1 -
`masks` by masks. Reading ends with the noun's category: a picture in which the detector takes a goat for a sheep is
not mended by knowing that a goat is meant. Where a data set does not say the category, it is that for which the
detector takes the target, so that what the detector mistakes counts as read right (the loss by words is then a little
too large, never the other way round). Expressions without a noun, of several phrases, or about things of several
categories stay as they were read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from refseg.data.sample import Instance, Sample
from refseg.data.transforms import place_image
from refseg.errors import ConfigError
from refseg.geometry import Geometry
from refseg.inference.postprocess import postprocess
from refseg.inference.predictor import Segmenter, clean_text
from refseg.inference.segmentation import Segmentation
from refseg.metrics import Row, count_masks
from refseg.metrics.grounding import box_iou, count_boxes
from refseg.models.instances.classes import CLASSES, PART_OF, PEOPLE, class_index
from refseg.models.instances.expression import Expression
from refseg.models.instances.model import (
    ExpressionFeatures,
    ImageState,
    Instances,
)
from refseg.models.instances.summary import summarise
from refseg.nn.boxes import OUTSIDE
from refseg.training.instances.judge import iou
from refseg.types import Output

__all__ = ["Examiner", "View"]

SEVERAL = 3
"""Proposals a target, best boxes first, among which `proposals` looks for the best union."""
NEAR = 0.1
"""IoU of boxes from which a proposal may stand for a target."""
FOUND = 0.5
"""IoU of boxes from which a proposal is a target's."""
READ = 0.5
"""Weight of a category from which a noun is read as it."""
_BATCH = 16
_IS_PART = torch.tensor([name in PART_OF for name in CLASSES])


@dataclass(frozen=True)
class View:
    """One picture as the model sees it."""

    states: list[ImageState]
    geometry: Geometry
    input_size: tuple[int, int]

    @property
    def state(self) -> ImageState:
        """Of the picture."""
        return self.states[0]

    def boxes(self) -> Float[np.ndarray, "K 4"]:
        """Of the proposals, xyxy in pixels of the picture."""
        height, width = self.geometry.original_size
        return self.state.proposals.boxes.numpy().astype(np.float64) * [width, height, width, height]


@dataclass(frozen=True)
class _Targets:
    """The annotated objects of a picture, and what the proposals have of each."""

    items: Mapping[int, Instance]
    masks: Mapping[int, Bool[np.ndarray, "H W"]]
    made: Mapping[int, Bool[np.ndarray, "H W"]]
    near: Mapping[int, list[int]]
    """Proposals near each object, best boxes first."""
    overlap: Mapping[int, float]
    own: Mapping[int, int]
    """How many of them are the object's."""
    proposed: Mapping[int, Bool[np.ndarray, "H W"]]
    """Masks of the proposals that are near any object."""


class Examiner:
    """Measures pictures with a segmenter of the system `instances`.

    Raises `ConfigError` for another system, or one whose answers have coarse masks.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        if not isinstance(segmenter.model, Instances):
            raise ConfigError("the report is of `instances`, or of a folder that was trained from it")
        if not segmenter.model.config.fine_masks:
            raise ConfigError("fine_masks=False: the report measures fine masks")
        self.segmenter = segmenter
        self.model: Instances = segmenter.model

    @torch.inference_mode()
    def view(self, sample: Sample) -> View:
        """A sample's picture, encoded. Raises `ImageError`."""
        image, mask, geometry = place_image(sample.read_image(), self.model.config.input)
        states = self.model.encode_image(image[None], mask[None])
        return View(states, geometry, (image.shape[-2], image.shape[-1]))

    @torch.inference_mode()
    def read(self, texts: Sequence[str]) -> ExpressionFeatures:
        """Expressions, parsed."""
        return self.model.encode_text(self.segmenter.tokenizer([clean_text(text) for text in texts]))

    @torch.inference_mode()
    def examine(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """A record a sample; all are about one picture.

        Keys: `row` (a `Row` as plain values; None where the data set has boxes alone), `instances` answered,
        `exact` (boxes match the targets' one to one at an IoU of .5), `grec` (the same by GREC's rule), `names` (of
        the instances), and of expressions with a target `category`, `misread`, `words`, `words_exact`, `choice`,
        `proposals`, `masks` (IoU of masks; None without annotated masks), `reached` (share of the targets that have a
        proposal).
        """
        view = self.view(samples[0])
        features = self.read([sample.text for sample in samples])
        targets = self._targets(view, samples)
        answers = self.answers(view, features)
        classes = [self._category(view, targets, sample) for sample in samples]
        corrected = [
            _corrected(expression, name, self.model)
            for expression, (name, _) in zip(features.expressions, classes, strict=True)
        ]
        changed = [row for row, expression in enumerate(corrected) if expression is not None]
        other: dict[int, Segmentation] = {}
        if changed:
            parsed = tuple(corrected[row] or features.expressions[row] for row in range(len(samples)))
            again = replace(features, expressions=parsed).select(torch.tensor(changed))
            other = dict(zip(changed, self.answers(view, again), strict=True))
        return [
            self._record(sample, answers[row], other.get(row), targets, classes[row])
            for row, sample in enumerate(samples)
        ]

    @torch.inference_mode()
    def answers(self, view: View, features: ExpressionFeatures) -> list[Segmentation]:
        """The answers to parsed expressions."""
        found: list[Segmentation] = []
        thresholds = self.segmenter.thresholds
        for start in range(0, len(features.expressions), _BATCH):
            rows = torch.arange(start, min(start + _BATCH, len(features.expressions)))
            part = features.select(rows)
            output = self.model.decode(view.states, part, torch.zeros_like(rows))
            found += postprocess(
                output,
                [view.geometry] * len(rows),
                [expression.text for expression in part.expressions],
                thresholds.mask,
                thresholds.no_target,
                input_size=view.input_size,
            )
        return found

    def _targets(self, view: View, samples: Sequence[Sample]) -> _Targets:
        items = {item.ann_id: item for sample in samples for item in sample.objects}
        height, width = view.geometry.original_size
        boxes = np.array([item.bbox for item in items.values()], dtype=np.float64).reshape(-1, 4)
        overlaps = box_iou(boxes, view.boxes())
        near: dict[int, list[int]] = {}
        for number, row in zip(items, overlaps, strict=True):
            order = np.argsort(-row, kind="stable")[:SEVERAL]
            near[number] = [int(index) for index in order if row[index] >= NEAR]
        own = {number: int((row >= FOUND).sum()) for number, row in zip(items, overlaps, strict=True)}
        best = {number: float(row.max(initial=0.0)) for number, row in zip(items, overlaps, strict=True)}
        size = (height, width)
        masks = {number: item.mask(size) for number, item in items.items() if item.segmentation is not None}
        if not masks:
            return _Targets(items, {}, {}, near, best, own, {})
        scaled = torch.from_numpy(boxes / [width, height, width, height]).float().clamp(0, 1)
        made = self.model.proposer.mask_logits(view.state.image, scaled)
        rows = sorted({row for listed in near.values() for row in listed})
        if rows:
            logits = self.model.proposer.mask_logits(view.state.image, view.state.proposals.boxes[rows])
            view.state.masks.update(zip(rows, logits, strict=True))
        proposed = self._masks(view, [view.state.masks[row] for row in rows])
        return _Targets(
            items,
            masks,
            dict(zip(items, self._masks(view, list(made)), strict=True)),
            near,
            best,
            own,
            dict(zip(rows, proposed, strict=True)),
        )

    def _masks(self, view: View, logits: Sequence[Float[np.ndarray, "h w"]]) -> list[NDArray[np.bool_]]:
        """Masks at the picture's size, made as those of answers are."""
        top, left, bottom, right = view.state.content
        found: list[NDArray[np.bool_]] = []
        for start in range(0, len(logits), _BATCH):
            part = logits[start : start + _BATCH]
            whole = torch.full((len(part), *view.input_size), OUTSIDE)
            whole[:, top:bottom, left:right] = torch.from_numpy(np.stack(part))
            output = Output(whole, torch.full((len(part),), OUTSIDE))
            geometries, threshold = [view.geometry] * len(part), self.segmenter.thresholds.mask
            made = postprocess(output, geometries, ["mask"] * len(part), threshold, 1.0, input_size=view.input_size)
            found += [answer.mask for answer in made]
        return found

    def _category(self, view: View, targets: _Targets, sample: Sample) -> tuple[str | None, str]:
        """The one category of a sample's targets, and who says so; None where there are several or none is known."""
        said = {item.category for item in sample.objects}
        if all(class_index(name) is not None for name in said):
            return (said.pop() if len(said) == 1 else None), "annotation"
        seen: set[str] = set()
        for item in sample.objects:
            rows = targets.near[item.ann_id][: targets.own[item.ann_id]]
            if not rows:
                return None, "detector"
            # Parts lie on the thing: a face that fills a person's box is no reading of "guy".
            chance = view.state.proposals.class_probs[rows].amax(0).masked_fill(_IS_PART, 0.0)
            name = CLASSES[int(chance.argmax())]
            seen.add("person" if name in PEOPLE else name)
        return (seen.pop() if len(seen) == 1 else None), "detector"

    def _record(
        self,
        sample: Sample,
        answer: Segmentation,
        corrected: Segmentation | None,
        targets: _Targets,
        category: tuple[str | None, str],
    ) -> dict[str, Any]:
        masked = sample.no_target or all(item.ann_id in targets.masks for item in sample.objects)
        boxes = _matches(sample, answer)
        record: dict[str, Any] = {
            "text": sample.text,
            "targets": len(sample.objects),
            "no_target": sample.no_target,
            "none": answer.no_target,
            "none_score": answer.no_target_score,
            "row": _row(sample, answer).to_dict() if masked else None,
            "instances": len(answer.instances),
            "exact": boxes[0],
            "grec": boxes[1],
            "names": [item.label for item in answer.instances],
        }
        if sample.no_target:
            return record
        numbers = [item.ann_id for item in sample.objects]
        record |= {
            "category": category[0],
            "category_by": category[1],
            "misread": corrected is not None,
            "words_exact": boxes[0] if corrected is None else _matches(sample, corrected)[0],
            "reached": float(np.mean([targets.overlap[number] >= FOUND for number in numbers])),
        }
        if not masked:
            return record
        truth = sample.mask()
        near = {number: targets.near[number] for number in numbers}
        chosen = {rows[0] for rows in near.values() if rows}
        record |= {
            "words": iou((answer if corrected is None else corrected).mask, truth),
            "choice": iou(_union([targets.proposed[row] for row in sorted(chosen)], sample.size), truth),
            "masks": iou(_union([targets.made[number] for number in numbers], sample.size), truth),
            "proposals": best_union(
                [targets.proposed[row] for row in sorted({row for rows in near.values() for row in rows})], truth
            ),
        }
        return record


def best_union(masks: Sequence[Bool[np.ndarray, "H W"]], truth: Bool[np.ndarray, "H W"]) -> float:
    """IoU of the union of some of the masks with a target, each added while it helps, the one that helps most first."""
    union, best, rest = np.zeros_like(truth), 0.0, list(masks)
    while rest:
        values = [iou(union | mask, truth) for mask in rest]
        first = int(np.argmax(values))
        if values[first] <= best:
            break
        best = values[first]
        union = union | rest.pop(first)
    return best


def _union(masks: Sequence[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.bool_]:
    union = np.zeros(size, dtype=bool)
    for mask in masks:
        union |= mask
    return union


def _corrected(expression: Expression, category: str | None, model: Instances) -> Expression | None:
    """The expression with its noun read as a category, None where that changes nothing or there is no noun to read."""
    column = None if category is None else class_index(category)
    if column is None or len(expression.phrases) != 1:
        return None
    summary = summarise(model.chooser, expression)[0]
    if not summary.weights and summary.constant is None:
        return None
    if dict(summary.weights).get(column, 0.0) >= READ:
        return None
    return replace(expression, phrases=(replace(expression.phrases[0], head=CLASSES[column], also=(), unknown=()),))


def _matches(sample: Sample, answer: Segmentation) -> tuple[bool, bool]:
    """Whether an answer's boxes are the targets', one to one, by plain IoU and by GREC's rule."""
    boxes = [item.box for item in answer.instances]
    counted = count_boxes(sample.id, boxes, None, sample.boxes(), sample.no_target)
    return counted.correct_plain, counted.correct


def _row(sample: Sample, answer: Segmentation) -> Row:
    return Row(
        id=sample.id,
        no_target=sample.no_target,
        predicted_no_target=answer.no_target,
        no_target_score=answer.no_target_score,
        picture=str(sample.image_id),
        text=sample.text,
        kind=sample.kind,
        targets=len(sample.objects),
        split=sample.split or None,
        dataset=sample.dataset or None,
        **count_masks(answer.mask, sample.mask()),
    )
