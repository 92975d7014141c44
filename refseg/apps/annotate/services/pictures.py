"""The folder of pictures: each file is named by its picture's number, so that no name from outside becomes a path."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from refseg.apps.annotate.database.tables import Picture
from refseg.apps.annotate.settings import Settings
from refseg.data.convert.common import place_picture
from refseg.data.images import quiet, read_image
from refseg.errors import ImageError
from refseg.files import write_bytes

MEDIA_TYPES: dict[str, str] = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
"""Suffixes of stored files; what browsers do not show, or would turn, is stored as PNG."""

_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif"}
_ORIENTATION = 0x0112


def picture_path(settings: Settings, picture: Picture) -> Path:
    """Where a picture's file lies."""
    return settings.pictures / f"{picture.number:012d}{picture.suffix}"


def digest_of(source: Path | Image.Image) -> str:
    """SHA-256 of a file, or of a picture in memory."""
    if isinstance(source, Image.Image):
        return hashlib.sha256(f"{source.size}".encode() + source.tobytes()).hexdigest()
    digest = hashlib.sha256()
    with source.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def suffix_of(source: Path | Image.Image, size: tuple[int, int]) -> tuple[str, bool]:
    """The suffix under which a picture is stored, and whether its bytes can stay as they are.

    They stay where browsers show the file upright at the annotated (height, width). Raises `ImageError` for a picture
    that cannot be read or is of another size.
    """
    if isinstance(source, Image.Image):
        _check(str(source), (source.height, source.width), size)
        return ".png", False
    try:
        with quiet(), Image.open(source) as image:
            kind, stored = image.format or "", (image.height, image.width)
            turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception as error:
        raise ImageError(f"{source}: not a picture that can be read ({type(error).__name__})") from error
    if turned:
        seen = read_image(source)
        if (seen.height, seen.width) != size and stored != size:
            _check(str(source), (seen.height, seen.width), size)
        return ".png", False
    _check(str(source), stored, size)
    return (_SUFFIXES[kind], True) if kind in _SUFFIXES else (".png", False)


def put(settings: Settings, picture: Picture, source: Path | Image.Image, as_is: bool) -> None:
    """Store a picture's file: linked or copied as it is, or decoded and written as PNG.

    An orientation in the file is applied if that gives the annotated size, and passed over otherwise (annotations are
    made on the stored pixels then).
    """
    target = picture_path(settings, picture)
    if as_is:
        assert isinstance(source, Path)
        target.unlink(missing_ok=True)  # of an import that was cut off before its row was kept
        place_picture(source, target)
        return
    if isinstance(source, Path):
        upright = read_image(source)
        if (upright.height, upright.width) != (picture.height, picture.width):
            upright = read_image(source, rotate=False)
    else:
        upright = source
    packed = io.BytesIO()
    upright.save(packed, "PNG")
    write_bytes(target, packed.getvalue())


def _check(name: str, stored: tuple[int, int], size: tuple[int, int]) -> None:
    if stored != size:
        raise ImageError(
            f"{name}: the picture is {stored[1]} x {stored[0]}, but it was annotated at {size[1]} x {size[0]}"
        )
