"""`export`: a model's networks as graphs, with everything that answering needs beside them, checked on pictures."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from refseg import __version__
from refseg.encoders.text.tokenizer import Tokenizer
from refseg.errors import RefsegError
from refseg.files import replacing_folder
from refseg.inference.checkpoint import write_config
from refseg.inference.export import dense, instances
from refseg.inference.export.parity import BATCHES, Parity, answers_of, compare
from refseg.inference.export.quantize import quantize_graph
from refseg.inference.export.trace import Traced, trace
from refseg.inference.predictor import ImageLike, Segmenter
from refseg.inference.runtime.exported import FORMAT, MANIFEST, REST, load_exported
from refseg.inference.runtime.graphs import Runtime
from refseg.models.foundation.base import FoundationModel
from refseg.models.instances.masks import crop_of
from refseg.models.instances.model import Instances
from refseg.types import ModelConfig

__all__ = ["FLIPS", "Report", "Target", "example_feeds", "export"]

Target: TypeAlias = Literal["onnx", "openvino"]
FLIPS = 1e-3
"""Distance from the threshold, as a probability, below which a float32 pixel may fall on the other side: sums in
another order differ by about 1e-6 of the logits, and a hundred layers multiply that."""


@dataclass(frozen=True)
class Report:
    """What was written and how it compares with torch, by expressions at once; `seconds` of the whole export."""

    folder: Path
    files: Mapping[str, int]
    """Bytes by file name."""
    parity: Sequence[Parity]
    seconds: float


def export(
    segmenter: Segmenter,
    folder: str | os.PathLike[str],
    to: Target = "onnx",
    int8: bool = False,
    images: Sequence[ImageLike] = (),
    texts: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Write a model as graphs for ONNX Runtime or OpenVINO; `refseg.load(folder, runtime=...)` reads the folder.

    Args:
        segmenter: the model, on the CPU in float32.
        int8: convolutions and matrix products of `masks`, or of another system's picture encoder, in eight bits, with
            ranges measured on `images`.
        images, texts: what torch and the graphs are compared on (every text about every image).
        say: is told what is being done.

    Raises `RefsegError` where a package is missing, the model cannot be written as graphs, or (in float32) an answer
    differs from torch's by more than `FLIPS`; then nothing is written.
    """
    if to not in ("onnx", "openvino"):
        raise RefsegError(f"to={to!r} is unknown; use onnx or openvino")
    if segmenter.device.type != "cpu" or segmenter.precision != "float32":
        raise RefsegError("a model is exported from the CPU in float32; load it with device='cpu'")
    if not images or not texts:
        raise RefsegError("an export is checked on pictures and expressions: give at least one of each")
    started = time.monotonic()
    with replacing_folder(folder) as temporary:
        traced = graphs_of(segmenter)
        for name, graph in traced.items():
            say(f"tracing {name}")
            trace(graph, temporary / f"{name}.onnx")
        kind = "instances" if isinstance(segmenter.model, Instances) else "dense"
        if isinstance(segmenter.model, Instances):
            _pack(segmenter.model, temporary)
        if int8:
            for name, feeds in example_feeds(segmenter, images, texts).items():
                say(f"measuring ranges of {name}")
                quantize_graph(temporary / f"{name}.onnx", feeds)
        files = {name: f"{name}.onnx" for name in traced}
        if to == "openvino":
            files = {name: _to_openvino(temporary / file) for name, file in files.items()}
        _describe(temporary, segmenter, kind, files, int8)
        runtime: Runtime = "openvino" if to == "openvino" else "onnxruntime"
        loaded = Segmenter(*load_exported(temporary, runtime), device="cpu")
        parity = []
        say("answers of torch")
        reference = answers_of(segmenter, images, texts, max(BATCHES))
        for batch in BATCHES:
            say(f"the graphs' answers, {batch} expression{'s' * (batch > 1)} at once")
            answers = answers_of(loaded, images, texts, batch)
            parity.append(compare(reference, answers, batch, segmenter.thresholds.mask))
        if not int8:
            _check(parity)
        _note(temporary, parity)
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
    return Report(Path(folder), sizes, parity, time.monotonic() - started)


def graphs_of(segmenter: Segmenter) -> dict[str, Traced]:
    """The graphs of a model by name."""
    if isinstance(segmenter.model, Instances):
        return instances.graphs_of(segmenter.model)
    if isinstance(segmenter.model, FoundationModel):
        raise RefsegError("networks of transformers are not exported here; its own tools (optimum) do that")
    tokenizer = cast(Tokenizer, segmenter.tokenizer)
    tokens = tokenizer(["the red cup on the left", "a dog"])
    placed = segmenter._place(Image.new("RGB", (64, 64)))
    return dense.graphs_of(segmenter.model, tokens, (placed.image.shape[1], placed.image.shape[2]))


def _pack(model: Instances, folder: Path) -> None:
    from safetensors.torch import save_file

    if model.text is not None:
        instances.pack_words(folder / "words.onnx", model.text)
    rest = {name: value.contiguous().clone() for name, value in instances.rest_of(model).items()}
    save_file(rest, folder / REST)


def example_feeds(
    segmenter: Segmenter, images: Sequence[ImageLike], texts: Sequence[str]
) -> dict[str, list[dict[str, NDArray[np.generic]]]]:
    """Example inputs by graph, of those graphs that are made eight bits wide."""
    from refseg.data.images import read_image

    pictures = [read_image(image) for image in images]
    if not isinstance(segmenter.model, Instances):
        name = "encode" if segmenter.late_fusion else "answer"
        placed = [segmenter._place(picture) for picture in pictures]
        feeds = [{"images": each.image[None].numpy(), "pixel_mask": each.pixel_mask[None].numpy()} for each in placed]
        if name == "answer":
            tokens = cast(Tokenizer, segmenter.tokenizer)([texts[0]])
            asked: dict[str, Tensor] = {
                "image_index": torch.zeros(1, dtype=torch.long),
                "ids": tokens.ids,
                "mask": tokens.mask,
            }
            feeds = [{**feed, **{key: value.numpy() for key, value in asked.items()}} for feed in feeds]
        return {name: feeds}
    proposer = segmenter.model.proposer
    crop = proposer.config.masks.crop
    crops: list[dict[str, NDArray[np.generic]]] = []
    for picture in pictures:
        pixels = np.asarray(picture.convert("RGB"))
        scale = np.array([pixels.shape[1], pixels.shape[0]] * 2)
        boxes = proposer.propose(pixels).boxes[:4].double().numpy() * scale
        if len(boxes):
            crops.append({"crops": np.stack([crop_of(pixels, box, crop) for box in boxes])})
    if not crops:
        raise RefsegError("int8: nothing is detected in the pictures to measure on; give others")
    # The detector stays: with its class probabilities in eight bits 8 of 48 decisions changed.
    return {"masks": crops}


def _to_openvino(path: Path) -> str:
    """The graph as .xml and .bin in the place of the ONNX file; the name of the .xml."""
    try:
        import openvino
    except ImportError as error:
        raise RefsegError("openvino is not installed: pip install 'refseg[openvino]'") from error
    target = path.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(str(path)), str(target), compress_to_fp16=False)
    path.unlink()
    return target.name


def _describe(folder: Path, segmenter: Segmenter, kind: str, files: Mapping[str, str], int8: bool) -> None:
    write_config(folder, cast(ModelConfig, segmenter.model.config), segmenter.info)
    cast(Tokenizer, segmenter.tokenizer).save(folder)
    document = {
        "format": FORMAT,
        "refseg": __version__,
        "kind": kind,
        "graphs": dict(files),
        "int8": int8,
        "preprocessing": _PREPROCESSING[kind],
        "postprocessing": _POSTPROCESSING[kind],
        "thresholds": {"mask": segmenter.thresholds.mask, "no_target": segmenter.thresholds.no_target},
    }
    (folder / MANIFEST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


_PREPROCESSING = {
    "dense": "the picture as config.input says (size, resize, interpolation), then (value - mean) / std by channel; "
    "expressions by the tokenizer's files; image_index is the picture of each expression",
    "instances": "the picture at config.input.size on its longer side; for detector resized to side x side "
    "(antialiased bilinear), (value - mean) / std; for masks crops of each chosen box as "
    "refseg.models.instances.masks.crop_of makes them; expressions are parsed, a noun that no list holds goes through "
    "words as word pieces",
}
_POSTPROCESSING = {
    "dense": "mask_logits enlarged to the input's size (bilinear, corners not aligned), read at each pixel of the "
    "picture; foreground where the sigmoid is above thresholds.mask; none where that of no_target_logits is above "
    "thresholds.no_target",
    "instances": "suppression and merging of the boxes (refseg.models.instances.proposals), regions for those that "
    "stay, colours, choice (refseg.models.instances.chooser, weights in rest.safetensors), masks for what is chosen",
}


def _check(parity: Sequence[Parity]) -> None:
    for entry in parity:
        if entry.decisions or entry.instances or entry.tolerance > FLIPS:
            raise RefsegError(
                f"the graphs do not answer as torch does ({entry.batch} at once): {entry.pixels} of {entry.of_pixels} "
                f"mask pixels, {entry.decisions} no-target decisions, {entry.instances} numbers of instances differ, "
                f"pixels by up to {entry.tolerance:.1e} from the threshold; nothing was written"
            )


def _note(folder: Path, parity: Sequence[Parity]) -> None:
    path = folder / MANIFEST
    document = json.loads(path.read_text(encoding="utf-8"))
    document["parity"] = [entry.to_dict() for entry in parity]
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
