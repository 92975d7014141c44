"""Low precision where it is safe: in matrix products. Sums, normalisations, softmax and sampling stay in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from refseg.errors import RefsegError

__all__ = [
    "PRECISIONS", "Precision", "answering_in_float32", "check_precision", "computing_in", "in_float32", "store_in",
]  # fmt: skip

T = TypeVar("T")
Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_OTHER_NAMES: dict[str, Precision] = {"no": "float32", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def check_precision(name: str) -> Precision:
    """The name itself; raises `RefsegError` when it is none of `PRECISIONS`."""
    for precision in PRECISIONS:
        if name == precision:
            return precision
    hint = f"it is called {_OTHER_NAMES[name]}" if name in _OTHER_NAMES else f"use {' or '.join(PRECISIONS)}"
    raise RefsegError(f"precision {name!r} is unknown; {hint}")


def computing_in(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context in which a model computes in that precision: autocast, or nothing for float32."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, dtype=getattr(torch, precision))


def store_in(model: nn.Module, precision: Precision) -> nn.Module:
    """The same `model`, for answering inside `computing_in`, with its linear and convolution weights in that precision.

    Autocast alone converts every weight anew in each call, which for a Swin-B and a BERT takes as long as the fusion.
    Everything else keeps float32, and so do modules with a true `answers_in_float32`. There is no way back to the
    digits that are dropped: load the model again for that.
    """
    if precision != "float32":
        _lower(model, getattr(torch, precision))
    return model


def answering_in_float32(device: torch.device) -> AbstractContextManager[object]:
    """For parts with `answers_in_float32`: float32 whatever surrounds them; training chooses for itself."""
    return nullcontext() if torch.is_grad_enabled() else torch.autocast(device.type, enabled=False)


def _lower(module: nn.Module, dtype: torch.dtype) -> None:
    if getattr(module, "answers_in_float32", False):
        return
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        module.to(dtype)
    for child in module.children():
        _lower(child, dtype)


def in_float32(value: T) -> T:
    """An `Output`, or anything in one, with every float tensor in float32: losses are not summed in 16 bits."""
    return cast(T, _in_float32(value))


def _in_float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _in_float32(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_in_float32(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: _in_float32(getattr(value, item.name)) for item in fields(value)})
    return value
