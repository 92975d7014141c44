"""Reading pictures: whatever comes in, out comes an upright RGB picture of 8 bits a channel, or an `ImageError`.

Sources are paths, encoded bytes, open binary files, PIL pictures and arrays. What a viewer would show is what is read:
the EXIF orientation is applied, 16-bit values are scaled to 8 bits, palettes are resolved, transparency is laid over
white, CMYK becomes RGB, the first frame of an animation is taken. HEIC is read where pillow-heif is installed.
"""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from collections.abc import Iterable
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from refseg.errors import ImageError, did_you_mean

# A picture of 100 megapixels takes 0.3 GB as RGB; beyond that a small file can be made to fill the memory.
MAX_PIXELS = 100_000_000

# Formats that are decoded here. Those that start other programs (EPS), fetch or describe (WMF, PDF) stay closed.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "ICO", "HEIF")
_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .tga .ico "
    ".heic .heif"
)
SUFFIXES = frozenset(_SUFFIXES.split())
"""What the files of a folder that are pictures end with."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
FILENAME = "refseg_filename"
"""Key of a picture's `info` with the path that it was read from, where it comes from a file."""
ADDRESS = re.compile(r"(?:https?|ftp):/", re.IGNORECASE)
PATTERN = re.compile(r"[*?\[]")

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
        name = source.info.get(FILENAME) or getattr(source, "filename", "")
        return _named(_finish(source, "the picture", max_pixels, rotate), name)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        with _open(path) as handle:
            return _named(_decode(handle, str(path), max_pixels, rotate), path)
    if isinstance(source, (bytes, bytearray)):
        return _decode(io.BytesIO(bytes(source)), f"the picture of {len(source)} bytes", max_pixels, rotate)
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return _decode(source, name if name and isinstance(name, str) else "the open file", max_pixels, rotate)
    return _from_array(source, max_pixels)


def _named(picture: Image.Image, path: object) -> Image.Image:
    """The picture with the path that it was read from, where there is one."""
    if isinstance(path, (str, os.PathLike)) and os.fspath(path):
        picture.info[FILENAME] = os.fspath(path)
    return picture


def find_pictures(
    sources: Iterable[str | os.PathLike[str]], *, leave_out: str | os.PathLike[str] | None = None
) -> list[Path]:
    """The picture files that `sources` name, each once: files as they are, the pictures of folders and of all folders
    below them in the order of their paths, and those that patterns ("photos/**/*.jpg") match.

    Hidden files and what lies in the folder `leave_out` are passed over in folders and patterns. Raises `ImageError`
    for what is not there, holds no picture, or is an address.
    """
    skipped = None if leave_out is None else Path(leave_out).resolve()
    found: dict[str, Path] = {}
    for source in sources:
        for path in _pictures_of(os.fspath(source), skipped):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _pictures_of(source: str, skipped: Path | None) -> list[Path]:
    if ADDRESS.match(source):
        raise ImageError(NOT_FETCHED.format(source))
    path = Path(source)
    if source and path.is_file():
        return [path]
    if source and path.is_dir():
        paths = _below(path, skipped)
        if not paths:
            raise ImageError(f"{source}: the folder holds no picture (files that end with .jpg, .png, ...)")
        return paths
    if PATTERN.search(source):
        matches = sorted(Path(each) for each in glob(source, recursive=True))
        paths = [each for each in matches if each.is_file() and each.suffix.lower() in SUFFIXES]
        paths = [each for each in paths if skipped is None or skipped not in each.resolve().parents]
        if not paths:
            raise ImageError(f"{source}: no picture matches the pattern")
        return paths
    raise ImageError(f"{source}: no such picture{_near(path)}")


def _below(folder: Path, skipped: Path | None) -> list[Path]:
    paths = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(
            each for each in folders if not each.startswith(".") and Path(root, each).resolve() != skipped
        )
        paths += [Path(root, name) for name in names if Path(name).suffix.lower() in SUFFIXES and name[0] != "."]
    return sorted(paths)


def _near(path: Path) -> str:
    """A hint at files of the same folder whose names are like the missing one's."""
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent}"
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in SUFFIXES]
    hint = did_you_mean(path.name, names) if names else ""
    return f"; {hint}" if hint.startswith("did you mean") else ""


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of the picture at `path` as stored (EXIF orientation not applied), from its header alone."""
    with quiet(), _open(Path(path)) as handle:
        try:
            with Image.open(handle, formats=_formats(_is_heif(handle))) as image:
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


@lru_cache(maxsize=2)
def _formats(heif: bool = False) -> list[str]:
    """What this build of PIL can decode: AVIF, for one, is not everywhere, and HEIF comes with pillow-heif, which is
    imported when the first such file is met."""
    Image.init()
    if heif:
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise ImageError("it is HEIC, which needs another package: pip install pillow-heif") from error
        register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def _is_heif(handle: Any) -> bool:
    head = handle.read(12)
    handle.seek(0)
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS


NOT_FETCHED = "{}: pictures are not fetched from the network; download it and give the file"


def _open(path: Path) -> Any:
    if ADDRESS.match(str(path)):  # Path makes one stroke of two
        raise ImageError(NOT_FETCHED.format(str(path).replace(":/", "://", 1)))
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
    """The picture in an open file, which stays open."""
    try:
        with quiet():
            image = Image.open(handle, formats=_formats(_is_heif(handle)))
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: more than {max_pixels:,} pixels, the limit; scale it down first") from error
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Exception as error:  # the decoders raise OSError, SyntaxError, struct.error, ValueError and others
        what = "the file is empty" if _is_empty(handle) else f"not a picture that can be read ({_reason(error)})"
        raise ImageError(f"{name}: {what}; wanted is one of {', '.join(_formats())}") from error
    return _finish(image, name, max_pixels, rotate)


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
    wanted = f"a picture is a path, bytes, a PIL picture or an array, not {type(source).__name__}"
    try:
        values = np.asarray(source)
    except Exception as error:
        raise ImageError(wanted) from error
    if values.dtype.kind not in "buif" or (values.ndim == 0 and not isinstance(source, np.ndarray)):
        raise ImageError(wanted)
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


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "what is in it is of no known kind"
    text = " ".join(str(error).split())
    # Objects print as <_io.BufferedReader ...>, which tells nobody anything.
    return text if text and len(text) < 120 and "<" not in text else type(error).__name__
