"""The folder of pictures: each file is named by its picture's number, so that no name from outside becomes a path.

A stored file is the game's own: nothing that happens to the imported one changes it. It says nothing but the picture
(`metadata`), unless it was imported so.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from refseg.apps.annotate.database.tables import Picture
from refseg.apps.annotate.services.metadata import stripped
from refseg.apps.annotate.settings import Settings
from refseg.data.images import quiet, read_image
from refseg.errors import ImageError
from refseg.files import copy_file, digest, replacing, write_bytes

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
    return digest(source)


def suffix_of(source: Path | Image.Image, size: tuple[int, int], keep_metadata: bool = False) -> tuple[str, bool]:
    """The suffix under which a picture is stored, and whether its coded pixels can stay as they are.

    They stay where browsers show the file upright at the annotated (height, width), and what else it says can be taken
    out of it. Raises `ImageError` for a picture that cannot be read or is of another size.
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
    if kind not in _SUFFIXES or not (keep_metadata or _can_be_stripped(source, size)):
        return ".png", False
    return _SUFFIXES[kind], True


def put(
    settings: Settings, picture: Picture, source: Path | Image.Image, as_is: bool, keep_metadata: bool = False
) -> str:
    """Store a picture's file, and return its SHA-256: a copy, or decoded and written as PNG.

    An orientation in the file is applied if that gives the annotated size, and passed over otherwise (annotations are
    made on the stored pixels then). With `keep_metadata` a copy keeps place, camera and whatever else the file says.
    """
    target = picture_path(settings, picture)
    if as_is:
        assert isinstance(source, Path)
        if keep_metadata:
            with replacing(target) as temporary:
                copy_file(source, temporary)
            return digest(target)
        bare = stripped(source.read_bytes())
        if bare is None:
            raise ImageError(f"{source}: changed while it was imported")
        write_bytes(target, bare)
        return hashlib.sha256(bare).hexdigest()
    if isinstance(source, Path):
        upright = read_image(source)
        if (upright.height, upright.width) != (picture.height, picture.width):
            upright = read_image(source, rotate=False)
    else:
        upright = source
    packed = io.BytesIO()
    upright.save(packed, "PNG", icc_profile=upright.info.get("icc_profile"), exif=b"")
    write_bytes(target, packed.getvalue())
    return hashlib.sha256(packed.getvalue()).hexdigest()


def _can_be_stripped(source: Path, size: tuple[int, int]) -> bool:
    """Whether the file without what it says beside the picture is read as the same picture."""
    bare = stripped(source.read_bytes())
    if bare is None:
        return False
    try:
        with quiet(), Image.open(io.BytesIO(bare)) as image:
            image.load()
            return (image.height, image.width) == size
    except Exception:  # whatever the decoder says: the file was read before, so the parts were not told apart well
        return False


def _check(name: str, stored: tuple[int, int], size: tuple[int, int]) -> None:
    if stored != size:
        raise ImageError(
            f"{name}: the picture is {stored[1]} x {stored[0]}, but it was annotated at {size[1]} x {size[0]}"
        )
