"""Masks that a data set keeps in files of their own: palette PNG (video), MATLAB `.mat` (SAIAPR), `.npy` (SimREC).

Such a mask is remembered by its file and read when it is asked for. No torch in this file; scipy only where a `.mat` is
read (optional extra `data`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refseg.data.images import MAX_PIXELS, quiet
from refseg.errors import DataError, RefsegError

# The variable of a SAIAPR region's file that holds the mask; 0 is the region, anything else is not
# (text_objseg's reader, the only published use).
MAT_VARIABLE = "segimg_t"


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file: the pixels of `path` that equal `value`.

    `.png`: palette numbers (or grey values), object `value`. `.mat`: `segimg_t`, 0 inside the region. `.npy`: a numeric
    array of the picture's size; `value` None takes everything that is not 0.
    """

    path: Path
    value: int | None = 1

    def read(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask, (H, W) bool; raises `DataError` when the file is missing, damaged or of another size."""
        labels = read_labels(self.path)
        if labels.shape != tuple(size):
            raise DataError(f"{self.path}: the mask is {labels.shape}, but the picture is {size[0]} x {size[1]}")
        return labels != 0 if self.value is None else labels == self.value


def read_labels(path: Path) -> NDArray[Any]:
    """The numbers in a mask file, (H, W). Raises `DataError`."""
    suffix = path.suffix.lower()
    readers = {".png": _from_png, ".mat": _from_mat, ".npy": _from_npy}
    if suffix not in readers:
        raise DataError(f"{path}: a mask is read from {', '.join(readers)}")
    try:
        labels = readers[suffix](path)
    except RefsegError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: the mask's file is missing") from error
    except Exception as error:  # damaged files make the decoders raise nearly anything
        raise DataError(f"{path}: the mask cannot be read ({type(error).__name__}: {_short(error)})") from error
    if labels.ndim != 2 or labels.dtype.kind not in "buif":
        raise DataError(f"{path}: a mask is one plane of numbers, not {labels.dtype} of shape {labels.shape}")
    return labels


def palette_numbers(path: Path) -> list[int]:
    """The object numbers of a palette PNG, 0 (background) and 255 (void) left out; raises `DataError`."""
    return [int(value) for value in np.unique(read_labels(path)) if value not in (0, 255)]


def _from_png(path: Path) -> NDArray[Any]:
    with quiet(), Image.open(path, formats=["PNG"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{path}: {image.width} x {image.height} is more than {MAX_PIXELS:,} pixels, the limit")
        if image.mode not in ("P", "L", "1"):
            raise DataError(f"{path}: colours of mode {image.mode}; a mask is a palette or grey PNG")
        # A palette's own numbers are the objects; converting would turn them into colours.
        return np.array(image)


def _from_npy(path: Path) -> NDArray[Any]:
    _limit(path)
    return np.load(path, allow_pickle=False)


def _from_mat(path: Path) -> NDArray[Any]:
    try:
        from scipy import io as matlab
    except ImportError as error:
        raise DataError(f"{path}: reading .mat masks needs scipy: pip install 'refseg[data]'") from error
    _limit(path)
    content = path.read_bytes()
    # scipy allocates what a header promises: look at the promise first.
    shapes = {name: shape for name, shape, _ in matlab.whosmat(io.BytesIO(content))}
    if MAT_VARIABLE not in shapes:
        raise DataError(f"{path}: there is no variable {MAT_VARIABLE}, but {', '.join(sorted(shapes)) or 'none'}")
    if int(np.prod(np.asarray(shapes[MAT_VARIABLE], dtype=np.float64))) > MAX_PIXELS:
        raise DataError(f"{path}: {MAT_VARIABLE} of {shapes[MAT_VARIABLE]} is more than {MAX_PIXELS:,} pixels")
    return np.asarray(matlab.loadmat(io.BytesIO(content), variable_names=[MAT_VARIABLE])[MAT_VARIABLE])


def _limit(path: Path) -> None:
    if path.stat().st_size > 8 * MAX_PIXELS:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes are more than a mask takes")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
