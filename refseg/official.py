"""Authors' published checkpoints into our models: every tensor explained, or an error that lists those that are not."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from refseg.errors import CheckpointError, ConfigError, did_you_mean

__all__ = ["SYSTEMS", "load", "recognise"]

SYSTEMS: dict[str, str] = {
    "cris": "refseg.models.cris.official",
    "lavt": "refseg.models.lavt.official",
    "mattnet": "refseg.models.mattnet.official",
    "rela": "refseg.models.rela.official",
    "reftr": "refseg.models.reftr.official",
    "restr": "refseg.models.restr.official",
    "vlt": "refseg.models.vlt.official",
}
"""System -> module with `load_state(state, **fields) -> nn.Module`."""

_SIGNS: dict[str, tuple[str, ...]] = {
    "cris": ("neck.f1_v_proj.", "backbone.visual.attnpool."),
    "lavt": ("classifier.conv1_4.", "bert_model."),
    "mattnet": ("rnn_encoder.", "sub_encoder."),
    "rela": ("sem_seg_head.",),
    "reftr": ("vl_transformer.",),
    "restr": ("encoder_l.", "fusion_module."),
    "vlt": ("conv2d/", "conv2d_1/", "batch_normalization/"),
}
"""How names begin that a system's checkpoint has, and no other's."""


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
    try:
        return reader(state_dict, **fields)
    except CheckpointError as error:
        whose = recognise(state_dict)
        if whose is None or whose == system:
            raise
        raise CheckpointError(f"{error}; its names are those of {whose!r}: load it as that") from error


def recognise(state_dict: Mapping[str, Tensor]) -> str | None:
    """The system that published names belong to, None when they are of none that is known."""
    for system, signs in _SIGNS.items():
        if any(name.startswith(signs) for name in state_dict):
            return system
    return None
