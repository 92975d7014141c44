"""Reading pictures: whatever comes in, out comes an upright RGB picture of 8 bits a channel, or an `ImageError`.

Sources are paths, encoded bytes, open binary files, PIL pictures and arrays. What a viewer would show is what is read:
the EXIF orientation is applied, 16-bit values are scaled to 8 bits, palettes are resolved, transparency is laid over
white, CMYK becomes RGB, the first frame of an animation is taken.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from refseg.errors import ImageError

# A picture of 100 megapixels takes 0.3 GB as RGB; beyond that a small file can be made to fill the memory.
MAX_PIXELS = 100_000_000

# Formats that are decoded here. Those that start other programs (EPS), fetch or describe (WMF, PDF) stay closed.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "ICO")

# PIL's own size check and its complaints about odd metadata come as warnings; `warnings` is process-wide state.
_WARNINGS = threading.Lock()
if hasattr(os, "register_at_fork"):  # a data loading worker must not inherit the lock taken by another thread
    os.register_at_fork(after_in_child=_WARNINGS._at_fork_reinit)  # type: ignore[attr-defined]

ImageSource = str | os.PathLike[str] | bytes | bytearray | Image.Image | NDArray[Any] | Any


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS, rotate: bool = True) -> Image.Image:
    """The picture in `source` as an upright PIL picture of mode RGB.

    Args:
        source: a path, encoded bytes, an open binary file, a PIL picture, or an array: (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4) of uint8 (0 to 255), uint16 (0 to 65535), bool, or floating point (0 to 1).
        max_pixels: the largest number of pixels that is decoded.
        rotate: apply the EXIF orientation.

    Raises:
        ImageError: missing, a folder, not a picture, truncated, empty or too large; the message names the source.
    """
    if isinstance(source, Image.Image):
        return _finish(source, "the picture", max_pixels, rotate)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _decode(_open(path), str(path), max_pixels, rotate)
    if isinstance(source, (bytes, bytearray)):
        return _decode(io.BytesIO(bytes(source)), f"the picture of {len(source)} bytes", max_pixels, rotate)
    if hasattr(source, "read"):
        return _decode(source, str(getattr(source, "name", "the open file")), max_pixels, rotate)
    return _from_array(source, max_pixels)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of the picture at `path` as stored (EXIF orientation not applied), from its header alone."""
    with quiet(), _open(Path(path)) as handle:
        try:
            with Image.open(handle, formats=_formats()) as image:
                return image.height, image.width
        except Exception as error:
            raise ImageError(f"{path}: cannot be read as a picture ({_reason(error)})") from error


class quiet:
    """PIL's warnings off (size and metadata); the size is checked here and metadata is nobody's worry."""

    def __enter__(self) -> None:
        _WARNINGS.acquire()
        try:
            self._context = warnings.catch_warnings()
            self._context.__enter__()
            warnings.simplefilter("ignore")
        except BaseException:
            _WARNINGS.release()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            self._context.__exit__(*error)  # type: ignore[arg-type]
        finally:
            _WARNINGS.release()


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    Image.init()  # what this build of PIL can decode: AVIF, for one, is not everywhere
    return [name for name in FORMATS if name in Image.OPEN]


def _open(path: Path) -> Any:
    if path.is_dir():
        raise ImageError(f"{path}: a folder; the path of one picture is wanted")
    try:
        return path.open("rb")
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ImageError(f"{path}: the picture cannot be opened ({reason})") from error
    except ValueError as error:  # a zero byte in the path
        raise ImageError(f"{str(path)!r}: not a path ({error})") from error


def _decode(handle: Any, name: str, max_pixels: int, rotate: bool) -> Image.Image:
    try:
        with quiet():
            image = Image.open(handle, formats=_formats())
    except Image.DecompressionBombError as error:
        _close(handle, name)
        raise ImageError(f"{name}: more than {max_pixels:,} pixels, the limit; scale it down first") from error
    except Exception as error:  # the decoders raise OSError, SyntaxError, struct.error, ValueError and others
        empty = _is_empty(handle)
        _close(handle, name)
        what = "the file is empty" if empty else f"not a picture that can be read ({_reason(error)})"
        raise ImageError(f"{name}: {what}; wanted is one of {', '.join(_formats())}") from error
    try:
        return _finish(image, name, max_pixels, rotate)
    finally:
        image.close()
        _close(handle, name)


def _finish(image: Image.Image, name: str, max_pixels: int, rotate: bool) -> Image.Image:
    _check_size(image.height, image.width, name, max_pixels)
    try:
        image.load()
    except Exception as error:
        raise ImageError(f"{name}: the picture is damaged or cut short ({_reason(error)})") from error
    if rotate:
        image = _upright(image)
    try:
        return _to_rgb(image)
    except Exception as error:
        raise ImageError(
            f"{name}: colours of mode {image.mode} cannot be turned into RGB ({_reason(error)})"
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        with quiet():
            return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata says nothing about the orientation; the pixels are sound
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_bytes(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", colours.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, colours).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of 16 or 32 bits as 8 bits: by their nominal range where they keep to one, else stretched."""
    known = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(known.min()), float(known.max())
    integers = not np.issubdtype(values.dtype, np.floating)
    if integers and low >= 0 and high <= 65535:
        known = known / 257.0
    elif not integers and low >= 0 and high <= 1:
        known = known * 255.0
    elif integers or low < 0 or high > 255:
        known = (known - low) * (255.0 / max(high - low, 1e-12))
    return np.round(known).astype(np.uint8)


def _from_array(source: Any, max_pixels: int) -> Image.Image:
    try:
        values = np.asarray(source)
    except Exception as error:
        raise ImageError(
            f"a picture is a path, bytes, a PIL picture or an array, not {type(source).__name__}"
        ) from error
    if values.dtype == object or values.dtype.kind not in "buif":
        raise ImageError(f"a picture is a path, bytes, a PIL picture or an array, not {type(source).__name__}")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise ImageError(
            f"an array picture is (H, W), (H, W, 3) or (H, W, 4), not of shape {values.shape}: channels come last"
        )
    _check_size(values.shape[0], values.shape[1], "the array", max_pixels)
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    elif values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ImageError("a floating-point picture holds finite values from 0 to 1; give 0 to 255 as uint8")
        values = np.round(values * 255.0).astype(np.uint8)
    elif values.dtype == np.uint16:
        values = np.round(values / 257.0).astype(np.uint8)
    elif values.dtype != np.uint8:
        if values.min() < 0 or values.max() > 255:
            raise ImageError(
                f"an array of {values.dtype} holds values from 0 to 255, not {values.min()} to {values.max()}"
            )
        values = values.astype(np.uint8)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(values)))


def _check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"{name}: a picture of {height} x {width} pixels holds nothing")
    if height * width > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} is {height * width:,} pixels, more than the limit of {max_pixels:,}; "
            "scale it down first"
        )


def _is_empty(handle: Any) -> bool:
    try:
        return handle.seek(0, io.SEEK_END) == 0
    except Exception:
        return False


def _close(handle: Any, name: str) -> None:
    """Close what `read_image` opened itself; a caller's open file stays open."""
    if isinstance(handle, io.BytesIO) or str(getattr(handle, "name", "")) == name:
        handle.close()


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text and len(text) < 120 and "object at 0x" not in text else type(error).__name__
