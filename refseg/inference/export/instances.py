"""The networks of `instances` as graphs: detector, regions, masks, words.

    detector   images (N, 3, S, S)                        -> pyramid8, 16, 32, prototypes, boxes, logits, second_*
    regions    pyramid8, 16, 32, prototypes of one picture, boxes (K, 4) -> features (K, D), masks (K, 28, 28)
    masks      crops (K, S, S, 3) uint8                   -> logits (K, S, S), rough (K, s, s)
    words      ids (B, L), mask (B, L)                    -> words (B, L, C), sentence (B, C)

What stands between them (resizing, suppression, colours, parsing, choosing, pasting) is no network: Python here,
JavaScript in the page without a server.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from refseg.encoders.text.minilm import Int8Linear, MiniLM
from refseg.inference.export.trace import Traced
from refseg.models.instances.masks import InstanceMasks
from refseg.models.instances.model import Instances
from refseg.models.instances.proposals import Detections, Proposer
from refseg.types import Tokens

__all__ = ["DETECTOR_OUTPUTS", "graphs_of", "pack_words", "rest_of"]

_PYRAMID = ("pyramid8", "pyramid16", "pyramid32")
DETECTOR_OUTPUTS = (*_PYRAMID, *Detections._fields[1:])


class _Detector(nn.Module):
    def __init__(self, proposer: Proposer) -> None:
        super().__init__()
        self.proposer = proposer

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        detected = self.proposer.detect(images)
        return (*detected.pyramid, *detected[1:])


class _Regions(nn.Module):
    def __init__(self, proposer: Proposer) -> None:
        super().__init__()
        self.proposer = proposer

    def forward(
        self, eighth: Tensor, sixteenth: Tensor, thirtysecond: Tensor, prototypes: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.proposer.describe([eighth, sixteenth, thirtysecond], prototypes, boxes)


class _Masks(nn.Module):
    def __init__(self, masks: InstanceMasks) -> None:
        super().__init__()
        self.masks = masks

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        return self.masks(crops)


class _Words(nn.Module):
    def __init__(self, text: MiniLM) -> None:
        super().__init__()
        self.text = text

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        found = self.text(Tokens(ids, mask))
        return found.words, found.sentence


def graphs_of(model: Instances) -> dict[str, Traced]:
    """The graphs by name."""
    proposer = model.proposer
    side, crop = proposer.config.detector.side, proposer.config.masks.crop
    images = torch.zeros(2, 3, side, side)
    with torch.no_grad():
        detected = proposer.detect(images)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.4], [0.2, 0.1, 0.9, 1.0], [0.4, 0.4, 0.6, 0.6]]) * side
    parts = dict(zip((*_PYRAMID, "prototypes"), [each[0] for each in (*detected.pyramid, detected[1])], strict=True))
    pictures = {name: {0: "pictures"} for name in ("images", *DETECTOR_OUTPUTS)}
    things = {name: {0: "boxes"} for name in ("boxes", "features", "masks")}
    crops = torch.zeros(2, crop, crop, 3, dtype=torch.uint8)
    graphs = {
        "detector": Traced(_Detector(proposer), {"images": images}, DETECTOR_OUTPUTS, pictures),
        "regions": Traced(_Regions(proposer), {**parts, "boxes": boxes}, ("features", "masks"), things),
        "masks": Traced(
            _Masks(proposer.fine_masks),
            {"crops": crops},
            ("logits", "rough"),
            {name: {0: "crops"} for name in ("crops", "logits", "rough")},
        ),
    }
    if model.text is not None:
        ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
        sizes = {0: "words", 1: "pieces"}
        graphs["words"] = Traced(
            _Words(model.text),
            {"ids": ids, "mask": ids > 0},
            ("words", "sentence"),
            {"ids": sizes, "mask": sizes, "words": sizes, "sentence": {0: "words"}},
        )
    return graphs


def rest_of(model: Instances) -> dict[str, Tensor]:
    """The tensors of what is no network, by the names of the model's state."""
    networks = ("proposer.", "text.")
    return {name: value for name, value in model.state_dict().items() if not name.startswith(networks)}


def pack_words(path: Path, text: MiniLM) -> int:
    """Store the weights of the graph `words` in the eight bits that they have, as DequantizeLinear of integers.

    Tracing has unpacked them to float32. The products are the same floats (the scales have 16 bits). Returns how many
    matrices were packed; of an encoder in 32 bits none.
    """
    import onnx
    from onnx import helper, numpy_helper

    graph = onnx.load(str(path))
    by_shape: dict[tuple[int, ...], list[onnx.TensorProto]] = {}
    for initializer in graph.graph.initializer:
        by_shape.setdefault(tuple(initializer.dims), []).append(initializer)
    packed = 0
    nodes = []
    for name, module in text.named_modules():
        if not isinstance(module, Int8Linear):
            continue
        scale = module.scale.float()
        full = module.weight.float() * scale[:, None]
        for axis, wanted, integers in ((0, full, module.weight), (1, full.T, module.weight.T)):
            for initializer in by_shape.get(tuple(wanted.shape), []):
                if not initializer.raw_data or not torch.equal(
                    torch.from_numpy(numpy_helper.to_array(initializer).copy()), wanted
                ):
                    continue
                base = f"{name}.packed"
                graph.graph.initializer.append(numpy_helper.from_array(integers.contiguous().numpy(), f"{base}.weight"))
                graph.graph.initializer.append(numpy_helper.from_array(scale.numpy(), f"{base}.scale"))
                nodes.append(
                    helper.make_node(
                        "DequantizeLinear", [f"{base}.weight", f"{base}.scale"], [initializer.name], axis=axis
                    )
                )
                by_shape[tuple(wanted.shape)].remove(initializer)
                graph.graph.initializer.remove(initializer)
                packed += 1
                break
            else:
                continue
            break
    for node in reversed(nodes):
        graph.graph.node.insert(0, node)
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))
    return packed
