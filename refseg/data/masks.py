"""Masks from what annotation files hold: polygons, run-length encodings, and files of their own, at any size.

A mask in a file of its own (palette PNG of video, MATLAB `.mat` of SAIAPR, `.npy` of SimREC) is remembered by its file
and read when it is asked for.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refseg.data import rle
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


# Polygons as a list of flat arrays (x1, y1, x2, y2, ...), a COCO run-length encoding, the mask itself, (H, W) bool, or
# a file that holds it.
SegmentationSource = list[NDArray[np.float64]] | dict[str, Any] | NDArray[np.bool_] | MaskFile | None


def rasterise(
    segmentation: SegmentationSource, size: tuple[int, int], model_size: tuple[int, int] | None = None
) -> NDArray[np.bool_]:
    """The mask of one object.

    Args:
        segmentation: polygons in pixels of the picture, an encoding, a mask, a mask's file, or None (no pixel known).
        size: (height, width) of the picture.
        model_size: (height, width) of the mask wanted; `size` where None. Polygons are scaled first and filled at this
            size, as ReLA's published mapper does; encodings and masks are resized by the nearest pixel.

    Returns: (H, W) bool. Each polygon is filled by itself and the union is taken.
    Raises: DataError for a damaged encoding or one of another size than the picture's.
    """
    wanted = size if model_size is None else model_size
    if segmentation is None:
        return np.zeros(wanted, dtype=bool)
    if isinstance(segmentation, np.ndarray):
        if segmentation.shape != tuple(size):
            raise DataError(f"the mask is {segmentation.shape}, but the picture is {size[0]} x {size[1]}")
        return resize_nearest(segmentation.astype(bool), wanted)
    if isinstance(segmentation, dict):
        return resize_nearest(rle.decode(segmentation, size), wanted)
    if isinstance(segmentation, MaskFile):
        return resize_nearest(segmentation.read(size), wanted)
    from pycocotools import mask as coco

    if not segmentation:
        return np.zeros(wanted, dtype=bool)
    scale = np.array([wanted[1] / size[1], wanted[0] / size[0]])
    polygons = [(points.reshape(-1, 2) * scale).reshape(-1).tolist() for points in segmentation]
    return coco.decode(coco.frPyObjects(polygons, wanted[0], wanted[1])).any(axis=2)


def resize_nearest(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A (H, W) mask at another (height, width): each new pixel takes the old one under its centre."""
    height, width = mask.shape
    if (height, width) == tuple(size):
        return mask
    rows = np.minimum(((np.arange(size[0]) + 0.5) * (height / size[0])).astype(np.int64), height - 1)
    columns = np.minimum(((np.arange(size[1]) + 0.5) * (width / size[1])).astype(np.int64), width - 1)
    return mask[rows[:, None], columns[None, :]]


def bounding_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """xyxy of the True pixels of a (H, W) mask, outer edges; four zeros where there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def outline_area(segmentation: SegmentationSource, size: tuple[int, int]) -> float:
    """The area of one object in pixels, without drawing it where that is not needed; 0 for None.

    Polygons count by the shoelace formula, each by itself, as COCO's `area` does but for overlapping parts.
    """
    if segmentation is None:
        return 0.0
    if isinstance(segmentation, dict):
        from pycocotools import mask as coco

        return float(coco.area(rle.compressed(segmentation, size)))
    if isinstance(segmentation, list):
        return float(sum(_shoelace(points.reshape(-1, 2)) for points in segmentation))
    return float(rasterise(segmentation, size).sum())


def _shoelace(points: NDArray[np.float64]) -> float:
    along, down = points[:, 0], points[:, 1]
    return abs(float(np.dot(along, np.roll(down, -1)) - np.dot(down, np.roll(along, -1)))) / 2


def _merge(encodings: list[dict[str, Any]], size: tuple[int, int]) -> tuple[SegmentationSource, list[str]]:
    """Several encodings of one object (RefCLEF) as one."""
    from pycocotools import mask as coco

    try:
        parts = [rle.compressed(encoding, size) for encoding in encodings]
    except DataError as error:
        return None, [str(error)]
    if len(parts) == 1:
        return encodings[0], []
    merged = coco.merge(parts, intersect=False)
    return {"size": [int(side) for side in merged["size"]], "counts": merged["counts"].decode("ascii")}, []


def clean_segmentation(value: Any, size: tuple[int, int]) -> tuple[SegmentationSource, list[str]]:
    """An annotation's `segmentation` field checked and made light; what was wrong with it comes as a list of sentences.

    Several encodings of one object, as RefCLEF has them, become one. Polygons of fewer than 3 points, of an odd number
    of values, or with values that are not finite numbers are left out (ReLA's published loader leaves out the first
    two). Returns None for the segmentation when nothing usable is left.
    """
    if isinstance(value, dict):
        try:
            rle.validate(value, size)
        except DataError as error:
            return None, [str(error)]
        return value, []
    if not isinstance(value, list) or not value:
        return None, ["no polygons and no run-length encoding"]
    if all(isinstance(item, dict) and "counts" in item for item in value):
        return _merge(value, size)
    if all(isinstance(number, (int, float)) for number in value):
        value = [value]  # one polygon that was not wrapped into a list
    polygons: list[NDArray[np.float64]] = []
    problems: list[str] = []
    for polygon in value:
        try:
            points = np.asarray(polygon, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            problems.append("a polygon with values that are not numbers")
            continue
        if points.ndim != 1 or len(points) < 6 or len(points) % 2:
            problems.append(f"a polygon of {points.size} values; it takes an even number, at least 6")
            continue
        # The filling routine walks every edge by fifths of a pixel: far points would take all time and memory.
        if not np.isfinite(points).all() or np.abs(points).max() > 4 * max(size):
            problems.append("a polygon with values that are not finite or far outside the picture")
            continue
        polygons.append(points)
    return (polygons or None), problems


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
        raise DataError(
            f"{path}: the mask cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:100]})"
        ) from error
    if labels.ndim != 2 or labels.dtype.kind not in "buif":
        raise DataError(f"{path}: a mask is one plane of numbers, not {labels.dtype} of shape {labels.shape}")
    return labels


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
    from scipy import io as matlab

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
