"""Weight files as Keras 2 writes them, for tests of their reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def write_keras(file: Any, arrays: Mapping[str, np.ndarray], prefix: str = "", named: bool = True) -> None:
    """Arrays by the names of their weights, which begin with their layer's, into an open HDF5 file: a group a layer, in
    it each weight under its whole name; `named` writes the attributes by which Keras finds them again."""
    layers: dict[str, list[str]] = {}
    for name, value in arrays.items():
        layer = name.split("/")[0]
        layers.setdefault(layer, []).append(name)
        file[f"{prefix}{layer}/{name}"] = value
    if named:
        top = file[prefix] if prefix else file
        top.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, names in layers.items():
            top[layer].attrs["weight_names"] = [name.encode() for name in names]
