"""Every other system as graphs: `encode` and `answer` with late fusion, `answer` alone without.

encode   images (N, 3, H, W), pixel_mask (N, H, W)                        -> state0, state1, ...
answer   state0, ... (or images, pixel_mask), image_index (B,), ids (B, L), mask (B, L)
                                                   -> mask_logits (B, h, w), no_target_logits (B,), boxes (B, P, 4)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from refseg.errors import RefsegError
from refseg.inference.export.trace import Traced
from refseg.inference.runtime.dense import OUTPUTS
from refseg.types import Batch, Output, ReferringModel, Tokens

__all__ = ["graphs_of"]


class _Encode(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, pixel_mask: Tensor) -> tuple[Tensor, ...]:
        return tuple(_tensors(cast(ReferringModel, self.model).encode_image(images, pixel_mask)))


class _Answer(nn.Module):
    """Late fusion: the state's tensors in order, then image_index, ids and mask.

    A picture's tensors are gathered for each expression before decoding: models group expressions by picture, in sizes
    that a traced graph would take for constants.
    """

    def __init__(self, model: nn.Module, rebuild: Callable[[list[Tensor]], object], by_picture: list[bool]) -> None:
        super().__init__()
        self.model = model
        self.rebuild = rebuild
        self.by_picture = by_picture

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        *state, image_index, ids, mask = values
        model = cast(ReferringModel, self.model)
        chosen = [value[image_index] if own else value for value, own in zip(state, self.by_picture, strict=True)]
        return _outputs(model.decode(self.rebuild(chosen), model.encode_text(Tokens(ids, mask))))


class _Whole(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Tensor, pixel_mask: Tensor, image_index: Tensor, ids: Tensor, mask: Tensor
    ) -> tuple[Tensor, ...]:
        return _outputs(self.model(Batch(images[image_index], pixel_mask[image_index], Tokens(ids, mask))))


def graphs_of(model: nn.Module, tokens: Tokens, size: tuple[int, int]) -> dict[str, Traced]:
    """The graphs by name.

    `tokens` are of two example expressions, `size` (height, width) of the input. Raises `RefsegError` for a system that
    answers with something that graphs do not carry.
    """
    network = cast(ReferringModel, model)
    if network.config.input.resize == "longest":
        raise RefsegError(
            "input.resize is longest: every picture has an input size of its own, and a graph has one; "
            "export a model with warp or letterbox"
        )
    pictures = {"images": {0: "pictures"}, "pixel_mask": {0: "pictures"}}
    images, pixel_mask = torch.zeros(2, 3, *size), torch.ones(2, *size, dtype=torch.bool)
    index = torch.tensor([0, 1, 1])
    ids, mask = tokens.ids[[0, 1, 0]], tokens.mask[[0, 1, 0]]
    words = {0: "expressions", 1: "words"}
    dynamic: dict[str, dict[int, str]] = {"image_index": {0: "expressions"}, "ids": words, "mask": words}
    asked = {"image_index": index, "ids": ids, "mask": mask}
    with torch.no_grad():
        example = network(Batch(images, pixel_mask, Tokens(ids, mask), image_index=index))
    if example.instances is not None:
        raise RefsegError("a system that answers with instances of its own has no graphs here")
    names = [name for name in OUTPUTS if getattr(example, name) is not None]
    answers = {name: {0: "expressions"} for name in names}
    if not network.late_fusion:
        inputs = {"images": images, "pixel_mask": pixel_mask, **asked}
        return {"answer": Traced(_Whole(model), inputs, names, {**dynamic, **pictures, **answers})}
    with torch.no_grad():
        state = network.encode_image(images, pixel_mask)
        more = network.encode_image(images[[0, 1, 1]], pixel_mask[[0, 1, 1]])
    leaves, structure = pytree.tree_flatten(state)
    strange = [leaf for leaf in leaves if not isinstance(leaf, (Tensor, int, float, str, type(None)))]
    if strange:
        raise RefsegError(f"the encoded picture holds a {type(strange[0]).__name__}, which no graph carries")
    tensors, others = _tensors(state), _tensors(more)
    parts = {f"state{number}": value for number, value in enumerate(tensors)}
    axes = {
        name: {axis: "pictures" for axis in range(value.ndim) if value.shape[axis] != other.shape[axis]}
        for (name, value), other in zip(parts.items(), others, strict=True)
    }

    def rebuild(values: list[Tensor]) -> object:
        given = iter(values)
        return pytree.tree_unflatten([next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure)

    return {
        "encode": Traced(
            _Encode(model),
            {"images": images, "pixel_mask": pixel_mask},
            list(parts),
            {**pictures, **axes},
        ),
        "answer": Traced(
            _Answer(model, rebuild, [0 in axes[name] for name in parts]),
            {**parts, **asked},
            names,
            {**dynamic, **axes, **answers},
        ),
    }


def _tensors(state: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor)]


def _outputs(output: Output) -> tuple[Tensor, ...]:
    return tuple(value for name in OUTPUTS if (value := getattr(output, name)) is not None)
