"""What a model costs: parameters, and multiply-accumulates of one picture with one expression, part by part.

Products are counted by `torch.utils.flop_counter` (matrix products, convolutions, attention; two operations each make
one multiply-accumulate) on tensors without data where the model allows that, so that large models cost nothing to ask
about. What is no product (normalisations, activations, interpolation) does not count, as in the literature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from refseg.errors import RefsegError
from refseg.models import build
from refseg.types import Batch, ModelConfig, Regions, SystemConfig, TextModelConfig, Tokens

__all__ = ["Cost", "Part", "count_cost", "count_flops"]

REST = "(between parts)"
"""Parameters and products that belong to no part of the model."""

REGIONS = 10
"""Regions of a two-stage model's picture."""


@dataclass(frozen=True)
class Part:
    """One attribute of the model that holds a module; `macs` are multiply-accumulates."""

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """A model's cost at an input of `size` x `size` pixels and an expression of `words` words."""

    size: int
    words: int
    parts: tuple[Part, ...]
    further_sentence: int | None
    """Multiply-accumulates of a further expression on the same picture; None where the picture is encoded anew."""

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return sum(part.parameters for part in self.parts)

    @property
    def macs(self) -> int:
        """Of one picture with one expression."""
        return sum(part.macs for part in self.parts)


LARGEST = 8192
"""Side of a picture in pixels: what is counted by running it needs the memory."""


def count_cost(config: ModelConfig, size: int | None = None, words: int | None = None) -> Cost:
    """The cost of a configuration's model; `size` and `words` stand in for the configuration's own.

    Raises `RefsegError` for a size or a number of words that the model cannot take, and for a system that reads no
    words of its own.
    """
    if not isinstance(config, TextModelConfig):
        raise RefsegError(f"{type(config).__name__}: no text encoder of its own, so its operations cannot be counted")
    size = config.input.size if size is None else size
    words = config.text.max_words if words is None else words
    if not 1 <= size <= LARGEST or not 1 <= words <= config.text.max_words:
        raise RefsegError(f"size={size}, words={words}: 1 to {LARGEST} pixels and 1 to {config.text.max_words} words")
    try:
        return _count(config, size, words, torch.device("meta"))
    except (NotImplementedError, RuntimeError):  # a step that looks at its data
        return _count(config, size, words, torch.device("cpu"))


@torch.no_grad()
def _count(config: TextModelConfig, size: int, words: int, device: torch.device) -> Cost:
    with device:
        # The counter's hooks ask for gradient functions of whatever requires a gradient.
        model = build(config).eval().requires_grad_(False)
        batch = Batch(
            torch.zeros(1, 3, size, size),
            torch.ones(1, size, size, dtype=torch.bool),
            Tokens(torch.ones(1, words, dtype=torch.long), torch.ones(1, words, dtype=torch.bool)),
            regions=_regions() if isinstance(config, SystemConfig) and config.needs.regions else None,
        )
        found, total = _macs(model, lambda: model(batch))
        further = None
        if model.late_fusion:
            given = () if batch.regions is None else (batch.regions,)
            state = model.encode_image(batch.images, batch.pixel_mask, *given)  # type: ignore[operator]
            further = _macs(model, lambda: model.decode(state, model.encode_text(batch.tokens)))[1]  # type: ignore[operator]
    parts = []
    for name, child in model.named_children():
        parts.append(Part(name, _parameters(child), found.get(name, 0)))
    known = sum(part.macs for part in parts), sum(part.parameters for part in parts)
    rest = Part(REST, _parameters(model) - known[1], total - known[0])
    if rest.macs or rest.parameters:
        parts.append(rest)
    return Cost(size, words, tuple(parts), further)


def _regions() -> Regions:
    """What a two-stage model chooses among here: `REGIONS` boxes, since one with fresh weights proposes anything."""
    starts = torch.arange(REGIONS) / (2 * REGIONS)
    boxes = torch.stack([starts, starts, starts + 0.5, starts + 0.5], dim=1)
    return Regions([boxes], [["thing"] * REGIONS])


def _macs(model: nn.Module, call: Callable[[], object]) -> tuple[Mapping[str, int], int]:
    """Multiply-accumulates of the model's children by name, and of everything."""
    with FlopCounterMode(display=False) as counter:
        call()
    own = type(model).__name__
    counts = counter.get_flop_counts()
    by_name = {name.removeprefix(f"{own}."): sum(ops.values()) // 2 for name, ops in counts.items()}
    return by_name, counter.get_total_flops() // 2


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class _Flops(TorchDispatchMode):
    """Counts the products of everything that runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products, convolutions and attention in a call, its backward pass
    included where it has one; recurrent layers are not counted."""
    with _Flops() as counter:
        call()
    return counter.total
