"""Authors' published checkpoints into our models: every tensor explained, or an error that lists those that are not."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from refseg.errors import ConfigError, did_you_mean

__all__ = ["SYSTEMS", "load"]

SYSTEMS: dict[str, str] = {
    "rela": "refseg.official.rela",
    "reftr": "refseg.official.reftr",
    "restr": "refseg.official.restr",
}
"""System -> module with `load_state(state, **fields) -> nn.Module`."""


def load(system: str, state_dict: Mapping[str, Tensor], **fields: Any) -> nn.Module:
    """The model that a published state dict belongs to, in eval mode.

    Sizes are read off the tensors; `fields` say what tensors do not tell (see the system's `load_state`: heads,
    input size). Integer buffers are ignored, since they follow from the sizes. Raises `ConfigError` for an unknown
    system or field, `CheckpointError` with the names of tensors that are missing, unexplained or of the wrong shape.
    """
    if system not in SYSTEMS:
        raise ConfigError(f"{system!r} has no importer; {did_you_mean(system, list(SYSTEMS))}")
    reader = import_module(SYSTEMS[system]).load_state
    known = [name for name in inspect.signature(reader).parameters if name != "state"]
    for name in fields:
        if name not in known:
            raise ConfigError(f"{name}: no such field for {system}; {did_you_mean(name, known)}")
    return reader(state_dict, **fields)
