"""Uploaded files onto the disk: nothing lands outside its folder, nothing grows beyond its limit."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.services.disk import check_room, is_full
from refseg.apps.annotate.settings import Settings

_MOST_FILES = 200_000
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_BLOCK = 1 << 20


def save_annotations(source: IO[bytes], target: Path) -> Path:
    """Write an uploaded annotation file; raises `GameError` "invalid" for one that is no JSON object."""
    with target.open("wb") as handle:
        while block := source.read(_BLOCK):
            handle.write(block)
    with target.open("rb") as handle:
        if handle.read(1000).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
            raise GameError(
                "invalid", "the annotations are a COCO-style .json file, an object in braces", "annotations"
            )
    return target


def unpack_pictures(source: IO[bytes], target: Path, settings: Settings) -> int:
    """Unpack the pictures of an uploaded .zip file into `target`; returns how many.

    Folders in the archive are kept below `target`. Raises `GameError` "invalid": not an archive; a name that leads out
    of it or is no plain file; a picture over `Settings.max_picture_bytes` or all over `max_upload` once unpacked,
    whatever the archive says about them; "disk_full" before the disk is.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(source) as archive:
            return _unpack(archive, target, settings)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        if isinstance(error, GameError) or is_full(error):
            raise
        raise GameError("invalid", f"the pictures are a .zip file that can be read ({error})", "pictures") from error


def _unpack(archive: zipfile.ZipFile, target: Path, settings: Settings) -> int:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > _MOST_FILES:
        raise GameError("invalid", f"the archive holds {len(entries):,} files; at most {_MOST_FILES:,}", "pictures")
    count, total = 0, 0
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        mode = entry.external_attr >> 16
        outside = name.is_absolute() or ".." in name.parts or ":" in entry.filename or "\0" in entry.filename
        if outside or (mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
            raise GameError("invalid", f"{entry.filename!r} leads out of the archive, or is no plain file", "pictures")
        if name.suffix.lower() not in _SUFFIXES or "__MACOSX" in name.parts or name.name.startswith("."):
            continue
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with archive.open(entry) as packed, path.open("wb") as handle:
            while block := packed.read(_BLOCK):
                check_room(settings, len(block))
                size += len(block)
                total += len(block)
                if size > settings.max_picture_bytes or total > settings.max_upload:
                    raise GameError("invalid", f"{entry.filename!r} is too large once unpacked", "pictures")
                handle.write(block)
        count += 1
    return count
