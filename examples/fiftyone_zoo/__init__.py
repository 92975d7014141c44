"""refseg as a remotely-sourced zoo model of FiftyOne: `fiftyone.zoo.register_zoo_model_source(URL of this folder)`.

>>> model = foz.load_zoo_model("refseg/referring-segmentation", expression="the dog on the left")
>>> dataset.apply_model(model, label_field="referred")

or with an expression a sample, read from a field of it:

>>> model = foz.load_zoo_model("refseg/referring-segmentation")
>>> model.needs_fields = {"expression_field": "caption"}
>>> dataset.apply_model(model, label_field="referred")
"""

from __future__ import annotations

import json
import os
from typing import Any

import fiftyone.core.labels as fol
import fiftyone.core.models as fom
import numpy as np

import refseg


def download_model(model_name: str, model_path: str) -> None:
    """Note which model is meant: weights ship with refseg, or come from the hub on loading."""
    folder = os.path.dirname(model_path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    with open(model_path, "w", encoding="utf-8") as file:
        json.dump({"model": model_name}, file)


def load_model(
    model_name: str, model_path: str, weights: str | None = None, expression: str | None = None, **options: Any
) -> ReferringModel:
    """The model. `weights` is what `refseg.load` takes (None: its default), `expression` is asked of every picture;
    `options` are threshold, no_target_threshold, device and runtime."""
    chosen = {} if weights is None else {"model": weights}
    loading = {name: options.pop(name) for name in ("device", "runtime") if name in options}
    return ReferringModel(refseg.load(**chosen, **loading), expression, **options)


def resolve_input(model_name: str, ctx: Any) -> None:
    """FiftyOne's operators offer no options of their own here."""
    return


class ReferringModel(fom.SamplesMixin, fom.Model):
    """Pictures to `Detections` with a mask each; an empty one where nothing is meant."""

    def __init__(
        self,
        segmenter: refseg.Segmenter,
        expression: str | None = None,
        threshold: float | None = None,
        no_target_threshold: float | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.expression = expression
        self.options = {"threshold": threshold, "no_target_threshold": no_target_threshold}
        self._fields: dict[str, str] = {}
        self._preprocess = True

    @property
    def media_type(self) -> str:
        return "image"

    @property
    def has_logits(self) -> bool:
        return False

    @property
    def has_embeddings(self) -> bool:
        return False

    @property
    def ragged_batches(self) -> bool:
        return True

    @property
    def transforms(self) -> None:
        return None

    @property
    def preprocess(self) -> bool:
        return self._preprocess

    @preprocess.setter
    def preprocess(self, value: bool) -> None:
        self._preprocess = value

    @property
    def needs_fields(self) -> dict[str, str]:
        """{"expression_field": name of the samples' field}; empty where one expression is asked of all."""
        return self._fields

    @needs_fields.setter
    def needs_fields(self, fields: dict[str, str]) -> None:
        self._fields = dict(fields)

    def predict(self, arg: np.ndarray, sample: Any = None) -> fol.Detections:
        """The instances that are meant in a picture (H, W, 3). Raises `ValueError` where no expression is known."""
        field = self._fields.get("expression_field")
        expression = sample[field] if field is not None and sample is not None else self.expression
        if not expression:
            raise ValueError('no expression: load the model with expression="the dog", or set needs_fields')
        answer = self.segmenter(np.asarray(arg), expression, **self.options)
        height, width = answer.mask.shape
        found = []
        for instance in answer.instances:
            rows, columns = np.flatnonzero(instance.mask.any(1)), np.flatnonzero(instance.mask.any(0))
            if not len(rows):
                continue
            top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
            found.append(
                fol.Detection(
                    label=instance.label,
                    bounding_box=[left / width, top / height, (right - left) / width, (bottom - top) / height],
                    mask=instance.mask[top:bottom, left:right],
                    confidence=instance.score,
                    expression=answer.text,
                )
            )
        return fol.Detections(detections=found, no_target_score=answer.no_target_score)

    def predict_all(self, args: Any, samples: Any = None) -> list[fol.Detections]:
        """`predict` for each picture."""
        samples = [None] * len(args) if samples is None else samples
        return [self.predict(arg, sample) for arg, sample in zip(args, samples, strict=True)]
