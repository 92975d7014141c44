"""Weights of DarkNet-53 into our encoder: `.weights` files of the Darknet project, and arrays under Keras's names.

A `.weights` file is a header (three 32-bit numbers: major, minor, revision; then the pictures seen, in 64 bits from
version 0.2 on, in 32 before) and 32-bit floats: for each convolution in turn the normalisation's bias, scale, mean and
variance, and the kernel (out, in, height, width). A whole YOLOv3, whose detectors follow, is read as far as needed.

Keras counts layers by kind, `conv2d/kernel:0` and `batch_normalization/gamma:0` to `..._57`, or from 1 on in older
files; kernels are (height, width, in, out). VLT's published code reads such a file (YOLOv3 trained on COCO without the
pictures of RefCOCO's val and test).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from refseg.encoders.vision.darknet import DarkNet
from refseg.errors import CheckpointError
from refseg.nn.conv import ConvNorm
from refseg.state_dicts import read_state

__all__ = ["from_keras", "from_weights_file", "kernel_of", "read_arrays", "read_darknet"]

_KERAS = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?/(\w+)(?::0)?")
_NORM = {
    "gamma": "norm.weight",
    "beta": "norm.bias",
    "moving_mean": "norm.running_mean",
    "moving_variance": "norm.running_var",
}
_YOLO_LAYERS = (75, 72)
"""Convolutions and normalisations of a whole YOLOv3."""


def read_darknet(path: Path, model: DarkNet) -> dict[str, Tensor]:
    """The weights in a file under the names of `model.state_dict()`, whatever the file's format.

    `.weights` as above; `.npz`, `.h5` (with the package h5py), `.safetensors` or a pickle of tensors with Keras's
    names, or ours. Raises `CheckpointError`.
    """
    if path.suffix == ".weights":
        return from_weights_file(path, model)
    state = read_arrays(path)
    if "stem.conv.weight" in state:
        return dict(state)
    try:
        return from_keras(state, model)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Arrays by name from .npz or .h5, or what `read_state` reads. In .h5 a layer's group has its weights under the
    names that Keras calls them by (its attribute `weight_names`), such as bidirectional_1/forward_gru_1/kernel:0."""
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: torch.from_numpy(file[name]) for name in file.files}
        except Exception as error:  # damaged archives make the reader raise nearly anything
            raise CheckpointError(f"{path}: not an archive of arrays: {error}") from error
    if path.suffix in (".h5", ".hdf5", ".keras"):
        return _read_h5(path)
    return read_state(path)


def _read_h5(path: Path) -> dict[str, Tensor]:
    try:
        import h5py
    except ImportError as error:
        raise CheckpointError(
            f"{path}: reading HDF5 needs h5py: pip install 'refseg[keras]'; or save the arrays by name with numpy.savez"
        ) from error
    found: dict[str, str] = {}
    unnamed: dict[str, str] = {}

    def look(place: str, item: object) -> None:
        if place.startswith("optimizer_weights"):
            return
        if isinstance(item, h5py.Group):
            for name in item.attrs.get("weight_names", ()):
                text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
                found[text] = f"{place}/{text}"
        elif item.dtype.kind == "f":  # type: ignore[attr-defined]
            # Without the attribute: a layer's name, then that of its weight, which begins with it again.
            parts = place.removeprefix("model_weights/").split("/")
            unnamed["/".join(parts[1:] if len(parts) > 2 else parts)] = place

    arrays: dict[str, Tensor] = {}
    try:
        with h5py.File(path, "r") as file:
            file.visititems(look)
            for name, place in (found or unnamed).items():
                if name in arrays or place not in file:
                    raise CheckpointError(f"{path}: the weight {name} is listed and not there, or is there twice")
                arrays[name] = torch.from_numpy(np.asarray(file[place], dtype=np.float32))
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not an HDF5 file that can be read: {error}") from error
    return arrays


def from_weights_file(path: Path, model: DarkNet) -> dict[str, Tensor]:
    """A Darknet `.weights` file under our names. Raises `CheckpointError` that says which convolution is cut, or how
    many numbers are left over."""
    header, numbers = _read_numbers(path)
    ours: dict[str, Tensor] = {}
    at, convolutions = 0, _named(model)
    for index, (name, conv) in enumerate(convolutions):
        channels = conv.conv.out_channels
        shapes = [(key, (channels,)) for key in ("norm.bias", "norm.weight", "norm.running_mean", "norm.running_var")]
        for key, shape in (*shapes, ("conv.weight", tuple(conv.conv.weight.shape))):
            size = int(np.prod(shape))
            if at + size > len(numbers):
                raise CheckpointError(
                    f"{path}: cut short at byte {header + 4 * len(numbers)}, in convolution {index + 1} of "
                    f"{len(convolutions)} ({key}): {at + size - len(numbers)} more of its {size} numbers are wanted"
                    + ("; without the head the model has less" if index >= len(convolutions) - 6 else "")
                )
            ours[f"{name}.{key}"] = torch.from_numpy(numbers[at : at + size].reshape(shape).copy())
            at += size
        ours[f"{name}.norm.num_batches_tracked"] = torch.tensor(0)
    rest = len(numbers) - at
    if rest and not _is_detector(model, rest):
        raise CheckpointError(
            f"{path}: {rest} numbers are left over after convolution {len(convolutions)}, at byte {header + 4 * at}, "
            "which is not the rest of a YOLOv3; the file is of another network"
        )
    return ours


def _read_numbers(path: Path) -> tuple[int, np.ndarray]:
    """Bytes of the header, and the floats behind it."""
    content = path.read_bytes()
    if len(content) < 16:
        raise CheckpointError(f"{path}: {len(content)} bytes are too few for the header of a Darknet file")
    major, minor, _ = np.frombuffer(content, dtype="<i4", count=3)
    if not (0 <= major < 1000 and 0 <= minor < 1000):
        raise CheckpointError(f"{path}: version {major}.{minor} in the header; not a Darknet file")
    header = 20 if major * 10 + minor >= 2 else 16
    if (len(content) - header) % 4:
        raise CheckpointError(f"{path}: {len(content)} bytes are not a header of {header} and whole 32-bit numbers")
    return header, np.frombuffer(content, dtype="<f4", offset=header)


def _is_detector(model: DarkNet, rest: int) -> bool:
    """Whether this count of numbers is what YOLOv3 has behind its first 58 convolutions, for any number of classes."""
    if not model.config.head:
        head = model.config.widths[5]
        half = head // 2
        rest -= 3 * (4 * half + half * head + 4 * head + 9 * half * head)
    first, *wide = model.config.widths[5], model.config.widths[4], model.config.widths[3]
    numbers, before = 0, first // 2
    for width in wide:
        half = width // 2
        numbers += before * half + 4 * half  # towards the finer map
        inputs = half + width
        for _ in range(3):
            numbers += inputs * half + 4 * half + 9 * half * width + 4 * width
            inputs = width
        before = half
    outputs, left = divmod(rest - numbers, first + sum(wide) + 3)
    return left == 0 and outputs > 15 and outputs % 3 == 0  # three boxes of four sides, a score, and the classes


def from_keras(arrays: Mapping[str, Tensor], model: DarkNet) -> dict[str, Tensor]:
    """Arrays under Keras's names under ours. Raises `CheckpointError` for names that are no layer of it, and for layers
    that are missing; those of YOLOv3's detectors are left out."""
    layers: dict[tuple[str, int], dict[str, Tensor]] = {}
    strangers = []
    for name, value in arrays.items():
        match = _KERAS.fullmatch(name)
        if match is None:
            strangers.append(name)
        else:
            layers.setdefault((match[1], int(match[2] or 0)), {})[match[3]] = value
    convolutions = _named(model)
    count = len(convolutions)
    own: dict[str, list[dict[str, Tensor]]] = {}
    for kind in ("conv2d", "batch_normalization"):
        numbers = sorted(number for each, number in layers if each == kind)
        own[kind] = [layers[kind, number] for number in numbers]
    counts = (len(own["conv2d"]), len(own["batch_normalization"]))
    if strangers or (counts != (count, count) and counts != _YOLO_LAYERS):
        raise CheckpointError(
            f"not the DarkNet of the configuration: {counts[0]} convolutions and {counts[1]} normalisations, "
            f"{count} of each wanted (or a YOLOv3's {_YOLO_LAYERS[0]} and {_YOLO_LAYERS[1]})"
            + (f"; unexplained: {', '.join(strangers[:8])}" if strangers else "")
        )
    ours: dict[str, Tensor] = {}
    for (name, _), conv, norm in zip(convolutions, own["conv2d"], own["batch_normalization"], strict=False):
        if conv.keys() != {"kernel"} or norm.keys() != _NORM.keys():
            raise CheckpointError(
                f"the arrays of {name} are {', '.join((*conv, *norm))}; kernel and four of the norm's"
            )
        ours[f"{name}.conv.weight"] = kernel_of(conv["kernel"])
        ours |= {f"{name}.{key}": norm[part].float() for part, key in _NORM.items()}
        ours[f"{name}.norm.num_batches_tracked"] = torch.tensor(0)
    return ours


def kernel_of(array: Tensor) -> Tensor:
    """Keras's (height, width, in, out) as (out, in, height, width)."""
    return array.permute(3, 2, 0, 1).contiguous().float()


def _named(model: DarkNet) -> list[tuple[str, ConvNorm]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, ConvNorm)]
