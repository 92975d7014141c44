"""Modules to ONNX files, by tracing.

The tracing exporter of torch is used (`dynamo=False`): it takes 8 seconds for the packaged model where the exporter
that compiles took 240 on one core, and both give graphs of any batch size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jaxtyping
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import RefsegError

__all__ = ["OPSET", "Traced", "trace"]

OPSET = 18


@dataclass(frozen=True)
class Traced:
    """One graph to be: a module, example inputs by name, names of its outputs, and which of the inputs' sizes vary.

    `dynamic`: {input or output: {axis: name of the size}}.
    """

    module: nn.Module
    examples: Mapping[str, Tensor]
    outputs: Sequence[str]
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


def trace(traced: Traced, path: Path) -> None:
    """Write the graph to `path`. Raises `RefsegError` where an operation has no counterpart in ONNX."""
    _require_onnx()
    with warnings.catch_warnings(), torch.no_grad(), _plain_pooling(), _stable_sort(), _unchecked():
        warnings.simplefilter("ignore")  # on Python numbers that become constants: parity says whether that holds
        try:
            torch.onnx.export(
                traced.module.eval(),
                tuple(traced.examples.values()),
                str(path),
                dynamo=False,
                input_names=list(traced.examples),
                output_names=list(traced.outputs),
                dynamic_axes={name: dict(axes) for name, axes in traced.dynamic.items()},
                opset_version=OPSET,
            )
        except Exception as error:  # the exporter's own classes, by operation
            reason = " ".join(str(error).split())[:300]
            raise RefsegError(f"{path.stem}: the model cannot be written as ONNX: {reason}") from error


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise RefsegError("onnx is not installed: pip install 'refseg[onnx]'") from error


@contextmanager
def _unchecked() -> Iterator[None]:
    """Where shapes are checked at run time, as in the tests: while tracing, sizes are tensors and no numbers."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@contextmanager
def _stable_sort() -> Iterator[None]:
    """`argsort(stable=True)`, for which the exporter has no rule: ONNX's TopK keeps the order of equal values."""
    from torch.onnx import register_custom_op_symbolic, symbolic_helper, unregister_custom_op_symbolic

    def sort(graph, values, *rest):  # type: ignore[no-untyped-def]
        axis, descending = (
            symbolic_helper._get_const(each, kind, "sort") for each, kind in zip(rest[-2:], "ii", strict=True)
        )
        shape = graph.op("Shape", values)
        size = graph.op("Gather", shape, graph.op("Constant", value_t=torch.tensor([axis])), axis_i=0)
        return graph.op("TopK", values, size, axis_i=axis, largest_i=int(bool(descending)), sorted_i=1, outputs=2)

    register_custom_op_symbolic("aten::sort", sort, OPSET)
    try:
        yield
    finally:
        unregister_custom_op_symbolic("aten::sort", OPSET)


@contextmanager
def _plain_pooling() -> Iterator[None]:
    """Adaptive pooling as what ONNX has: a matrix product for the mean, slices for the maximum. The sizes are those of
    the example, as everywhere in a traced graph."""
    replaced: dict[str, Callable[..., Tensor]] = {
        "adaptive_avg_pool1d": lambda maps, size: _pooled(maps, size, 1, _mean),
        "adaptive_avg_pool2d": lambda maps, size: _pooled(maps, size, 2, _mean),
        "adaptive_max_pool1d": lambda maps, size: _pooled(maps, size, 1, _largest),
        "adaptive_max_pool2d": lambda maps, size: _pooled(maps, size, 2, _largest),
    }
    kept = {name: getattr(F, name) for name in replaced}
    for name, function in replaced.items():
        setattr(F, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(F, name, function)


def _pooled(
    maps: Tensor, size: int | Sequence[int | None] | None, axes: int, pool: Callable[[Tensor, list[slice]], Tensor]
) -> Tensor:
    wanted = [size] * axes if size is None or isinstance(size, int) else list(size)
    for offset, bins in enumerate(reversed(wanted)):
        axis = maps.ndim - 1 - offset
        length = int(maps.shape[axis])
        if bins is None or bins == length:
            continue
        parts = [slice(at * length // bins, -(-(at + 1) * length // bins)) for at in range(bins)]
        maps = pool(maps.transpose(axis, -1), parts).transpose(axis, -1)
    return maps


def _mean(maps: Tensor, parts: list[slice]) -> Tensor:
    weights = torch.zeros(int(maps.shape[-1]), len(parts))
    for column, part in enumerate(parts):
        weights[part, column] = 1 / (part.stop - part.start)
    return maps @ weights


def _largest(maps: Tensor, parts: list[slice]) -> Tensor:
    return torch.stack([maps[..., part].amax(dim=-1) for part in parts], dim=-1)
