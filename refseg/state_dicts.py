"""Tensors by name: read from files of any origin without running their code, and put into modules strictly."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refseg.errors import CheckpointError
from refseg.files import full_disk
from refseg.unpickle import load_pickle

__all__ = ["listed", "load_weights", "not_finite", "read_state", "read_tensors", "write_tensors"]

_WRAPPERS = ("model", "state_dict", "module", "model_state_dict")
_BESIDE = ("bert_model",)
"""State dicts of other parts of a model beside the wrapped one: LAVT's published code saves its BERT so."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises `CheckpointError`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged, cannot be read: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file. Raises `CheckpointError`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with full_disk(path):
            save_file(dict(tensors), path, metadata={"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that hold a number which is not finite."""
    return [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors by name in a .safetensors, .pth, .pt, .bin or .pkl file; numpy arrays become tensors.

    A state dict wrapped in another one under model, state_dict or module is unwrapped (detectron2 and most training
    loops do so), a prefix `module.` on every name is removed. One that lies beside it under bert_model goes along, that
    word before its names. Pickles are opened by readers that build tensors, arrays and plain values alone. Raises
    `CheckpointError`.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; a checkpoint file is wanted here")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    values: Any = read_tensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    beside: dict[str, Any] = {}
    for part in _BESIDE:
        inner: Any = values.get(part) if isinstance(values, Mapping) else None
        if _is_state(inner):
            beside |= {f"{part}.{str(name).removeprefix('module.')}": value for name, value in inner.items()}
    for _ in range(3):
        wrapper = next((key for key in _WRAPPERS if isinstance(values, Mapping) and _is_state(values.get(key))), None)
        if wrapper is None:
            break
        values = values[wrapper]
    if not isinstance(values, Mapping) or not values or not _is_state(values):
        raise CheckpointError(f"{path}: no tensors by name in it; a state dict, or one under 'model', is wanted")
    try:
        state = {str(key): torch.as_tensor(value) for key, value in values.items() if _is_tensor(value)}
    except TypeError as error:
        raise CheckpointError(f"{path}: an array in it is no tensor: {error}") from error
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state | {name: torch.as_tensor(value) for name, value in beside.items() if _is_tensor(value)}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put tensors into a model, strictly: every name once, every shape equal; other float types are converted.

    Raises `CheckpointError` that begins with `where` and lists names and shapes, or tensors that hold other numbers
    than finite ones.
    """
    own = model.state_dict()
    missing, unexpected = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, wanted {tuple(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if tensors[name].shape != own[name].shape
    ]
    problems = [
        f"{kind}: {listed(names, separator=separator)}"
        for kind, names, separator in (
            ("missing", sorted(missing), ", "),
            ("unexpected", sorted(unexpected), ", "),
            ("shapes", shapes, "; "),
        )
        if names
    ]
    if problems:
        raise CheckpointError(f"{where}: the tensors do not fit the configuration; " + "; ".join(problems))
    if strange := not_finite(tensors):
        raise CheckpointError(f"{where}: damaged, these tensors hold numbers that are not finite: {listed(strange)}")
    model.load_state_dict({name: value.to(own[name].dtype) for name, value in tensors.items()}, strict=True)


def listed(names: Iterable[str], most: int = 8, separator: str = ", ") -> str:
    """The first `most` names, and how many more there are."""
    ordered = list(names)
    return separator.join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (hasattr(value, "__array_interface__") and getattr(value, "ndim", 0) >= 0)


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any(_is_tensor(item) for item in value.values())


def _read_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as handle:
            begin = handle.read(1)
        if begin == b"\x80" and path.suffix == ".pkl":
            return load_pickle(path, arrays=True, max_bytes=None, error=CheckpointError)
        # Training loops keep their options beside the weights; a Namespace holds plain values and runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path}: no checkpoint, or one that holds more than tensors and plain values, which could run code and is "
            f"refused ({reason})"
        ) from error
    except Exception as error:  # damaged files make the readers raise nearly anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {reason}") from error
