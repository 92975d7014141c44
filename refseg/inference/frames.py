"""Frames of clips, one after the other: video files (PyAV), animations (GIF, WebP, APNG by PIL), folders of pictures.

Nothing but the frame in work is kept. Frames come upright (a phone's rotation is applied), as RGB, with the time at
which they are shown, which need not be regular.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from PIL import Image, ImageSequence

from refseg.data.images import MAX_PIXELS, quiet, read_image
from refseg.errors import ImageError, RefsegError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["DEFAULT_FPS", "Frame", "VideoError", "read_frames"]

PICTURES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif"])
"""Endings of what counts as a frame in a folder."""
ANIMATIONS = frozenset([".gif", ".webp", ".apng", ".png"])
DEFAULT_FPS = 24.0
"""Frames a second of a folder of pictures, which says nothing about it."""
SHORT = 0.5
"""Seconds by which a clip may fall short of the length that its header states."""


class VideoError(RefsegError):
    """A clip that cannot be read, or only in part; the message says how far."""


@dataclass(frozen=True)
class Frame:
    """One frame: its number in the clip from 0, the time in seconds at which it is shown, the RGB picture."""

    index: int
    time: float
    image: Image.Image


def read_frames(
    source: str | os.PathLike[str],
    *,
    every: int = 1,
    start: float = 0.0,
    end: float | None = None,
    fps: float = DEFAULT_FPS,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Frame]:
    """Every `every`-th frame of a clip from `start` to before `end` (seconds); all have the first one's size.

    `source` is a video file, a GIF, WebP or APNG, or a folder of pictures in the order of their names (numbers by
    value), shown at `fps` frames a second. Raises `VideoError` where nothing can be read, and after the last good frame
    of a clip that is cut short; `RefsegError` for options out of range and where a video file is to be read without
    PyAV.
    """
    if every < 1:
        raise RefsegError(f"every is at least 1, not {every}")
    if not start >= 0 or (end is not None and not end > start):
        raise RefsegError(f"start={start}, end={end}: seconds from 0 on are wanted, the end after the start")
    if not fps > 0:
        raise RefsegError(f"fps is above 0, not {fps}")
    path = Path(source)
    if path.is_dir():
        frames = _folder(path, fps, max_pixels)
    elif not path.is_file():
        raise VideoError(f"{path}: no such clip; a video file, a GIF or a folder of pictures is wanted")
    elif path.suffix.lower() in ANIMATIONS:
        frames = _animation(path, max_pixels)
    else:
        frames = _video(path, start, max_pixels)
    return _chosen(path, frames, every, start, end)


def _chosen(path: Path, frames: Iterator[Frame], every: int, start: float, end: float | None) -> Iterator[Frame]:
    size = first = last = None
    try:
        for frame in frames:
            last = frame.time
            if end is not None and frame.time >= end:
                break
            if frame.time < start:
                continue
            first = frame.index if first is None else first
            if (frame.index - first) % every:
                continue
            size = size or frame.image.size
            if frame.image.size != size:
                raise VideoError(
                    f"{path}: frame {frame.index} is {frame.image.width} x {frame.image.height}, those before it "
                    f"{size[0]} x {size[1]}; frames of one size are wanted"
                )
            yield frame
    finally:
        frames.close()  # type: ignore[attr-defined]
    if size is None:
        found = "no frame in it" if last is None else f"no frame from {start:g} s on; it ends at {last:g} s"
        raise VideoError(f"{path}: {found}")


def _folder(folder: Path, fps: float, max_pixels: int) -> Iterator[Frame]:
    names = [entry for entry in folder.iterdir() if entry.suffix.lower() in PICTURES and not entry.name.startswith(".")]
    if not names:
        raise VideoError(f"{folder}: no pictures in it; the frames of a clip are wanted (00000.jpg, 00001.jpg, ...)")
    for index, path in enumerate(sorted(names, key=_natural)):
        try:
            image = read_image(path, max_pixels=max_pixels)
        except ImageError as error:
            raise VideoError(f"frame {index}: {error}") from error
        yield Frame(index, index / fps, image)


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that puts 2.jpg before 10.jpg."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _animation(path: Path, max_pixels: int) -> Iterator[Frame]:
    time, index = 0.0, 0
    try:
        with quiet():
            image = Image.open(path, formats=["GIF", "WEBP", "PNG"])
    except Exception as error:
        raise VideoError(f"{path}: not a picture or animation that can be read ({type(error).__name__})") from error
    with image:
        try:
            for frame in ImageSequence.Iterator(image):
                picture = read_image(frame.copy(), max_pixels=max_pixels, rotate=False)
                yield Frame(index, time, picture)
                # Browsers show a frame without a duration for a tenth of a second.
                time += (float(frame.info.get("duration") or 0) or 100.0) / 1000
                index += 1
        except ImageError:
            raise
        except (OSError, EOFError, SyntaxError, ValueError, IndexError) as error:
            raise _cut(path, index, time, str(error)) from error


def _video(path: Path, start: float, max_pixels: int) -> Iterator[Frame]:
    av = import_av()
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path}: not a video that can be read ({_reason(error)}); cut short, or no video") from error
    with container:
        if not container.streams.video:
            raise VideoError(f"{path}: no video in it, only sound or text")
        stream = container.streams.video[0]
        if stream.codec_context is None:  # FFmpeg knows the container, and not what is in it: an SVG
            raise VideoError(f"{path}: no decoder for its pictures")
        stream.thread_type = "AUTO"
        pixels = stream.codec_context.width * stream.codec_context.height
        if pixels > max_pixels:
            raise ImageError(f"{path}: frames of {pixels:,} pixels, more than the limit of {max_pixels:,}")
        yield from _decoded(path, container, stream, start)


def _decoded(path: Path, container: InputContainer, stream: VideoStream, start: float) -> Iterator[Frame]:
    av = import_av()
    rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
    base, index, time = float(stream.time_base or 0), -1, 0.0
    first: float | None = stream.start_time * base if stream.start_time is not None else None
    if start > 0 and first is not None and _seekable(container, stream, start + first):
        index = -2  # numbered by time, as what lies before is not decoded
    damage = ""
    try:
        for frame in container.decode(stream):
            stamp = float(frame.pts) * base if frame.pts is not None else None
            first = stamp if first is None else first
            before = time
            time = stamp - first if stamp is not None and first is not None else (index + 1) / rate
            index = max(0, round(time * rate)) if index == -2 else index + 1
            if frame.is_corrupt:
                damage = "a frame is damaged"
                time = before
                break
            yield Frame(index, max(0.0, time), _upright(frame))
    except av.error.FFmpegError as error:
        damage = _reason(error)
    stated = stream.duration * base if stream.duration else (container.duration or 0) / 1e6
    if not damage and index >= 0 and stated - time > SHORT + 2 / rate:
        damage = f"its header states {stated:.2f} s"
    if not damage and "mp4" in container.format.name.split(",") and _cut_box(path):
        damage = "its last box goes on behind the end of the file"
    if damage:
        raise _cut(path, index + 1, time, damage)


def _cut_box(path: Path) -> bool:
    """Whether the last top-level box of an MP4 file (ISO/IEC 14496-12, section 4.2) is longer than what is left of the
    file: recordings in fragments state no duration, and FFmpeg ends at what is missing without a word."""
    end, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= end:
            file.seek(place)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:  # a length of 64 bits follows
                size = int.from_bytes(head[8:16], "big")
            if size < 8:  # 0 is "to the end of the file"; else no box, but what somebody appended
                return False
            place += size
    return place > end


def _seekable(container: InputContainer, stream: VideoStream, seconds: float) -> bool:
    """Whether reading goes on at the key frame before `seconds`."""
    av = import_av()
    try:
        container.seek(int(seconds / float(stream.time_base or 1)), stream=stream, backward=True)
    except (av.error.FFmpegError, OSError):
        return False
    return True


def _upright(frame: av.VideoFrame) -> Image.Image:
    """As RGB, turned by the rotation that the file states (degrees counter-clockwise)."""
    image = frame.to_image()
    turn = round(getattr(frame, "rotation", 0) / 90) % 4
    turns = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}
    return image.transpose(turns[turn]) if turn else image


def import_av() -> ModuleType:
    """The module `av`. Raises `RefsegError` where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise RefsegError("video files need PyAV: pip install 'refseg[video]'") from error
    # Errors are raised, and lines of the library's own would stand beside ours. With any level its callback wants
    # Python's lock in a decoder's thread, for which a codec that is being freed waits with that lock.
    av.logging.set_level(None)
    return av


def _cut(path: Path, frames: int, time: float, reason: str) -> VideoError:
    return VideoError(f"{path}: damaged or cut short after {frames} frames ({time:.2f} s): {reason}")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or " ".join(str(error).split())
    return str(text)[:120] or type(error).__name__
