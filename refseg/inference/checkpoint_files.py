"""Other people's checkpoint files, read without running any of their code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refseg.errors import CheckpointError

__all__ = ["read_state"]

_WRAPPERS = ("model", "state_dict", "module", "model_state_dict")


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors by name in a .safetensors, .pth, .pt, .bin or .pkl file; numpy arrays become tensors.

    A state dict wrapped in another one under model, state_dict or module is unwrapped (detectron2 and most training
    loops do so), a prefix `module.` on every name is removed. Pickles are opened by readers that build tensors, arrays
    and plain values alone. Raises `CheckpointError`.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; a checkpoint file is wanted here")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    values: Any = _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
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
    return state


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (hasattr(value, "__array_interface__") and getattr(value, "ndim", 0) >= 0)


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any(_is_tensor(item) for item in value.values())


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged, cannot be read: {error}") from error


def _pickle(path: Path) -> Any:
    try:
        with path.open("rb") as handle:
            begin = handle.read(2)
            if begin[:1] == b"\x80" and path.suffix == ".pkl":
                handle.seek(0)
                return _ArrayUnpickler(handle, encoding="latin1").load()
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path}: no checkpoint, or one that holds more than tensors and plain values, which could run code and is "
            f"refused ({reason})"
        ) from error
    except Exception as error:  # damaged files make the readers raise nearly anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {reason}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """detectron2's .pkl files: plain values and numpy arrays, whatever the protocol; everything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _EmptyArray()
        if name == "_frombuffer" and module in ("numpy.core.numeric", "numpy._core.numeric"):
            return _FilledArray()
        allowed: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("collections", "OrderedDict"): dict,
            ("_codecs", "encode"): _Encode(),
        }
        try:
            return allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


class _Fixed:
    """A function that a pickle may call but not change: pickles can also set attributes of what they name."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _EmptyArray(_Fixed):
    """Stands for numpy's array constructor: an empty array, which the pickle then fills."""

    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, letters: Any) -> Any:
        if kind is not np.ndarray:
            raise pickle.UnpicklingError("an array of an unknown kind")
        return np.ndarray((0,), dtype="b")


class _FilledArray(_Fixed):
    """Stands for numpy's array from bytes, as protocol 5 writes it."""

    __slots__ = ()

    def __call__(self, content: Any, kind: Any, shape: Any, order: Any) -> Any:
        return np.frombuffer(content, dtype=kind).reshape(shape, order=order).copy()


class _Encode(_Fixed):
    """Stands for codecs.encode, by which Python 3 writes bytes into the protocols of Python 2."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("an encoding other than Latin-1")
        return text.encode("latin1")
