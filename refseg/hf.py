"""refseg for the library transformers: importing this module makes the task and the models known to it.

>>> import refseg.hf
>>> from transformers import pipeline
>>> find = pipeline("referring-image-segmentation", model="owner/name")       # or a model folder
>>> find("photo.jpg", text="the second dog from the left")
{'text': ..., 'mask': <PIL.Image>, 'score': 0.93, 'no_target': False, 'no_target_score': 0.02, 'instances': [...]}

Weights that ship with the package have no folder of transformers' kind: `model=refseg.hf.RefsegModel.from_pretrained(
"rela-photo")`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from PIL import Image
from transformers import AutoConfig, Pipeline, PreTrainedConfig, PreTrainedModel
from transformers.pipelines import PIPELINE_REGISTRY

from refseg.errors import RefsegError
from refseg.inference.locate import MODEL_TYPE
from refseg.inference.predictor import ImageLike, Segmenter, load
from refseg.inference.segmentation import Segmentation

__all__ = ["TASK", "ReferringImageSegmentationPipeline", "RefsegConfig", "RefsegModel"]

TASK = "referring-image-segmentation"

Answer: TypeAlias = dict[str, Any]


class RefsegConfig(PreTrainedConfig):
    """config.json of a model folder as transformers reads it; refseg reads the file itself."""

    model_type = MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **options: Any) -> Any:
        """Nothing of the file: its fields are refseg's own, and refseg reads them."""
        return (cls(), {}) if options.get("return_unused_kwargs") else cls()


class RefsegModel(PreTrainedModel):
    """A `Segmenter` where transformers wants a model; `segmenter` is the thing itself."""

    config_class = RefsegConfig
    main_input_name = "images"

    def __init__(self, config: RefsegConfig, segmenter: Segmenter) -> None:
        super().__init__(config)
        self.network = segmenter.model
        self.segmenter = segmenter

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *arguments: object, **options: Any
    ) -> RefsegModel:
        """The model of a folder, of packaged weights, or of the hub; `revision` as everywhere.

        Of transformers' other options none has a meaning here; they are let pass, as `pipeline` gives all of them.
        """
        name = os.fspath(pretrained_model_name_or_path)
        revision = options.get("revision")
        if revision not in (None, "main") and "@" not in name and not os.path.isdir(name):
            name = f"{name}@{revision}"
        config = options.get("config")
        return cls(config if isinstance(config, RefsegConfig) else RefsegConfig(), load(name, device="cpu"))

    @property
    def device(self) -> torch.device:
        """Of the network."""
        return next((value.device for value in self.network.parameters()), torch.device("cpu"))

    def forward(self, **inputs: Any) -> Any:
        """Raises `RefsegError`: pictures and expressions go through `segmenter` or the pipeline."""
        raise RefsegError("call model.segmenter(image, text), or the pipeline referring-image-segmentation")


class ReferringImageSegmentationPipeline(Pipeline):
    """Pictures and expressions to masks; see `__call__`."""

    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        network = cast(RefsegModel, self.model)
        network.segmenter.device = self.device

    def __call__(  # type: ignore[override]
        self,
        inputs: ImageLike | Mapping[str, Any] | Sequence[Any],
        text: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Segment what `text` refers to.

        Args:
            inputs: a picture (path, bytes, PIL image, array) with `text` beside it, or {"image": ..., "text": ...}; or
                a list or a generator of such.
            text: an expression, or a list of them.
            options: threshold, no_target_threshold (0 to 1), batch_size.

        Returns a dict an expression: text, mask (PIL image of mode L, 0 or 255), score, no_target, no_target_score, and
        instances as dicts with label, score, mask and box {xmin, ymin, xmax, ymax}. Lists for lists.
        """
        if text is not None:
            if isinstance(inputs, (list, tuple)):
                inputs = [{"image": each, "text": text} for each in inputs]
            else:
                inputs = {"image": inputs, "text": text}
        return super().__call__(inputs, **options)

    def _sanitize_parameters(
        self, threshold: float | None = None, no_target_threshold: float | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        strange = [name for name in unknown if name not in ("timeout", "function_to_apply")]
        if strange:
            raise RefsegError(f"{strange[0]}: unknown option; threshold, no_target_threshold and batch_size are taken")
        return {}, {"threshold": threshold, "no_target_threshold": no_target_threshold}, {}

    def preprocess(self, input_: Any, **parameters: Any) -> dict[str, Any]:
        """The picture and the expressions, checked."""
        if not isinstance(input_, Mapping) or not {"image", "text"} <= input_.keys():
            raise RefsegError('an expression is missing: pipe(image, text="the dog"), or {"image": ..., "text": ...}')
        return {"image": [input_["image"]], "text": [input_["text"]]}

    def _forward(  # type: ignore[override]
        self, input_tensors: dict[str, Any], **parameters: Any
    ) -> dict[str, Any]:
        segmenter = cast(RefsegModel, self.model).segmenter
        rows = [
            segmenter(image, text, **parameters)
            for image, text in zip(input_tensors["image"], input_tensors["text"], strict=True)
        ]
        return {"answers": rows}

    def postprocess(self, model_outputs: dict[str, Any], **parameters: Any) -> Answer | list[Answer]:
        """`Segmentation`s as plain dicts."""
        (found,) = model_outputs["answers"]
        return to_answer(found) if isinstance(found, Segmentation) else [to_answer(each) for each in found]


def to_answer(found: Segmentation) -> Answer:
    """A `Segmentation` as the pipeline gives it."""
    return {
        "text": found.text,
        "mask": Image.fromarray(found.mask).convert("L"),
        "score": found.score,
        "no_target": found.no_target,
        "no_target_score": found.no_target_score,
        "instances": [
            {
                "label": each.label,
                "score": each.score,
                "mask": Image.fromarray(each.mask).convert("L"),
                "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), (float(value) for value in each.box), strict=True)),
            }
            for each in found.instances
        ],
        "remarks": list(found.extra.get("remarks", [])),
    }


AutoConfig.register(MODEL_TYPE, RefsegConfig, exist_ok=True)
if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(
        TASK, ReferringImageSegmentationPipeline, pt_model=RefsegModel, type="multimodal"
    )
