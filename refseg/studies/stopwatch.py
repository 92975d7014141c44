"""Time by stage of a model's work, and what a table of times says of the machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from refseg import __version__

__all__ = ["Stopwatch", "describe_machine"]

PARTS = {
    "text": "text",
    "vision": "vision",
    "proposer.detector": "vision",
    "pixel_decoder": "mask",
    "proposer.fine_masks": "mask",
    "mask_features": "mask",
    "mask_decoder": "mask",
    "mask_head": "mask",
    "segmentation": "mask",
    "refinement": "mask",
    "projector": "mask",
    "language_stages": "fusion",
}
"""Stage of a model's part, by the attribute that holds it; what belongs to none of them is fusion."""


class Stopwatch:
    """Time by stage; a stage that begins inside another one stops the outer one meanwhile."""

    def __init__(self, device: torch.device, stages: Sequence[str]) -> None:
        self.device = device
        self.times = dict.fromkeys(stages, 0.0)
        self._running: list[str] = []
        self._since = 0.0

    def begin(self, stage: str) -> None:
        """Start counting for `stage`."""
        self._charge()
        self._running.append(stage)

    def end(self) -> None:
        """Go back to the stage that was interrupted."""
        self._charge()
        self._running.pop()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the block takes."""
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Count the calls of a model's parts for their stages."""
        handles = []
        for attribute, stage in PARTS.items():
            part: Any = model
            for name in attribute.split("."):
                part = getattr(part, name, None)
            if not isinstance(part, nn.Module):
                continue
            # A container is never called itself; its children's children are.
            called = [module for kind in part.children() for module in kind.children()] if stage == "fusion" else [part]
            for module in called:
                handles.append(module.register_forward_pre_hook(lambda *_, stage=stage: self.begin(stage)))
                handles.append(module.register_forward_hook(lambda *_: self.end(), always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _charge(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._running:
            self.times[self._running[-1]] += now - self._since
        self._since = now


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Versions, and what computes, ready for JSON."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "refseg": __version__,
        "torch": torch.__version__,
        "device": str(device),
        "name": name,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
