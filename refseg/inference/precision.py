"""bfloat16 where it is safe: in matrix products. Sums, normalisations, softmax and sampling places stay in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn

from refseg.errors import RefsegError

__all__ = ["PRECISIONS", "Precision", "answering_in_float32", "check_precision", "computing_in", "store_in"]

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def computing_in(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context in which a model computes in that precision: autocast, or nothing for float32."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, dtype=torch.bfloat16)


def store_in(model: nn.Module, precision: Precision) -> nn.Module:
    """The same `model`, for answering inside `computing_in`, with its linear and convolution weights in that precision.

    Autocast alone converts every weight anew in each call, which for a Swin-B and a BERT takes as long as the fusion.
    Everything else keeps float32, and so do modules with a true `answers_in_float32`. There is no way back to the
    digits that are dropped: load the model again for that.
    """
    if precision == "bfloat16":
        _lower(model)
    return model


def answering_in_float32(device: torch.device) -> AbstractContextManager[object]:
    """For parts with `answers_in_float32`: float32 whatever surrounds them; training chooses for itself."""
    return nullcontext() if torch.is_grad_enabled() else torch.autocast(device.type, enabled=False)


def _lower(module: nn.Module) -> None:
    if getattr(module, "answers_in_float32", False):
        return
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        module.to(torch.bfloat16)
    for child in module.children():
        _lower(child)


def check_precision(name: str) -> Precision:
    """The name itself; raises `RefsegError` when it is none of `PRECISIONS`."""
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise RefsegError(f"precision {name!r} is unknown; use {' or '.join(PRECISIONS)}")
