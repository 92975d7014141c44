"""Where networks of transformers compute and how: parts of one on several devices, and torch.compile.

A device map is accelerate's: "auto", "balanced", "balanced_low_0" or "sequential", or {part: device} with parts as
in `network.named_modules()` and devices such as 0, "cuda:1", "cpu" and "disk"; {"": "cuda:0"} is one device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, TypeAlias

import torch
from torch import nn

from refseg.errors import RefsegError, did_you_mean
from refseg.models.foundation.base import FoundationModel

__all__ = ["DEVICE_MAPS", "DeviceMap", "check_device_map", "compile_networks"]

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
DeviceMap: TypeAlias = str | Mapping[str, int | str | torch.device]


def check_device_map(device_map: DeviceMap) -> None:
    """Raises `RefsegError` for what is no device map, and where accelerate is missing."""
    if isinstance(device_map, str):
        if device_map not in DEVICE_MAPS:
            raise RefsegError(f"device_map {device_map!r} is unknown; {did_you_mean(device_map, DEVICE_MAPS)}")
    elif not isinstance(device_map, Mapping) or not device_map:
        raise RefsegError(f"device_map is one of {', '.join(DEVICE_MAPS)}, or a table of parts with their devices")
    if find_spec("accelerate") is None:
        raise RefsegError("device_map needs accelerate: pip install 'refseg[train]'")


def compile_networks(model: nn.Module, backend: str) -> None:
    """Have torch.compile translate the encoders and decoders of a network of transformers, each at its first call.

    `backend` is torch's name of a compiler ("inductor"). Raises `RefsegError` for other models, unknown backends, and
    where the compiler does not work here.
    """
    if not isinstance(model, FoundationModel):
        raise RefsegError("compile: networks of transformers alone are compiled; leave it out for this model")
    if backend not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise RefsegError(f"compile: torch has no backend {backend!r}; {did_you_mean(backend, known)}")
    _try(backend, model.device)
    for network in (model.network, getattr(model.segmenter, "network", None)):
        for part in () if network is None else _parts(network):
            part.compile(backend=backend)


def _parts(network: Any) -> Iterator[nn.Module]:
    """Encoders and decoders: what a network, and the one that it wraps, is made of. Adapters call methods of the
    network itself, which are not compiled."""
    inner = network.base_model
    for part in {id(part): part for part in [*network.children(), *inner.children()]}.values():
        if part is not inner and not isinstance(part, (nn.ModuleList, nn.Embedding)) and any(part.children()):
            yield part


def _try(backend: str, device: torch.device) -> None:
    """Compile something small, so that a missing compiler is told of before a picture is asked about."""

    def small(values: torch.Tensor) -> torch.Tensor:
        return values * 2 + 1

    try:
        torch.compile(small, backend=backend)(torch.zeros(3, device=device))
    except Exception as error:  # a backend raises what it likes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise RefsegError(
            f"compile: torch's compiler {backend!r} does not work here ({reason}); a C++ compiler is wanted on the "
            "CPU, Triton on CUDA, or leave it out"
        ) from error
