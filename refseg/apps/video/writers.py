"""Files of a clip's answers, written frame by frame; each is whole, or it is not there.

    overlay   NAME.mp4           H.264, targets coloured and outlined, times as in the clip
    webm      NAME.webm          VP9 with alpha: the targets on a transparent ground
    masks     NAME.masks/        a palette PNG a frame as DAVIS has them: 0 is ground, then the tracks' numbers
    json      NAME.json          an object with the frames' times, masks (COCO run-length encoding) and tracks

Sound is not carried over.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from refseg.apps.video.draw import draw_frame, track_colour
from refseg.errors import RefsegError
from refseg.files import replacing, replacing_folder
from refseg.inference.frames import import_av
from refseg.inference.segmentation import Segmentation
from refseg.inference.video import VideoFrame

__all__ = ["FORMATS", "FrameWriter", "open_writer"]

FORMATS = ("overlay", "masks", "json", "webm")
TICKS = 90_000
"""Time stamps a second in what is written."""


@runtime_checkable
class FrameWriter(Protocol):
    """Takes frames in order; a context manager. Left with an error, it leaves nothing behind."""

    path: Path

    def add(self, frame: VideoFrame, answer: Segmentation, tracks: tuple[int, ...]) -> None:
        """The next frame. Raises `RefsegError` where it cannot be written."""

    def __enter__(self) -> FrameWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_writer(format: str, folder: Path, name: str, text: str, fps: float = 24.0) -> FrameWriter:
    """The writer of one of `FORMATS`; `fps` is how long the last frame is shown, and the first guess of rate."""
    if format == "overlay":
        return _Overlay(folder / f"{name}.mp4", text, fps)
    if format == "webm":
        return _Transparent(folder / f"{name}.webm", fps)
    if format == "masks":
        return _Masks(folder / f"{name}.masks")
    if format == "json":
        return _Json(folder / f"{name}.json", text)
    raise RefsegError(f"format {format!r} is not possible; choose from {', '.join(FORMATS)}")


class _Writer:
    """Opens at the first frame, so that a clip of which nothing can be read leaves nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def _finish(self) -> None: ...

    def _failure(self, error: OSError) -> RefsegError:
        return RefsegError(f"{self.path}: cannot be written ({error.strerror or error})")


class _Video(_Writer):
    """A video file; `_pixels` makes what is shown."""

    codec, container, format, pixel_format = "libx264", "mp4", "rgb24", "yuv420p"
    options: dict[str, str] = {"crf": "20", "preset": "veryfast"}  # noqa: RUF012

    def __init__(self, path: Path, fps: float) -> None:
        super().__init__(path)
        self.fps = fps
        self._av = import_av()
        self._output: Any = None
        self._stream: Any = None
        self._last = -1
        self._start: float | None = None

    def _pixels(self, frame: VideoFrame, answer: Segmentation, tracks: tuple[int, ...]) -> UInt8[np.ndarray, "H W C"]:
        raise NotImplementedError

    def add(self, frame: VideoFrame, answer: Segmentation, tracks: tuple[int, ...]) -> None:
        pixels = self._pixels(frame, answer, tracks)
        try:
            if self._stream is None:
                self._open(pixels.shape[1], pixels.shape[0])
            picture = self._av.VideoFrame.from_ndarray(pixels, format=self.format)
            self._start = frame.time if self._start is None else self._start
            # Two frames never share a time stamp, whatever the clip says.
            self._last = max(self._last + 1, round((frame.time - self._start) * TICKS))
            picture.pts, picture.time_base = self._last, Fraction(1, TICKS)
            for packet in self._stream.encode(picture):
                self._output.mux(packet)
        except OSError as error:
            raise self._failure(error) from error

    def _open(self, width: int, height: int) -> None:
        temporary = self._stack.enter_context(replacing(self.path))
        # Moving the index to the front would need the file to be read again: not for a stream.
        self._output = self._av.open(str(temporary), "w", format=self.container)
        self._stack.callback(self._close)
        rate = Fraction(self.fps).limit_denominator(1001)
        self._stream = self._output.add_stream(self.codec, rate=rate, options=self.options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, self.pixel_format
        self._stream.codec_context.time_base = Fraction(1, TICKS)
        self._stream.codec_context.thread_count = 1

    def _close(self) -> None:
        if self._output is not None:
            output, self._output = self._output, None
            try:
                output.close()
            except OSError as error:
                raise self._failure(error) from error

    def _finish(self) -> None:
        if self._stream is None:
            return
        try:
            for packet in self._stream.encode(None):
                self._output.mux(packet)
        except OSError as error:
            raise self._failure(error) from error
        self._close()


class _Overlay(_Video):
    def __init__(self, path: Path, text: str, fps: float) -> None:
        super().__init__(path, fps)
        self.text = text

    def _pixels(self, frame: VideoFrame, answer: Segmentation, tracks: tuple[int, ...]) -> UInt8[np.ndarray, "H W C"]:
        return draw_frame(frame.image, answer, tracks, self.text)


class _Transparent(_Video):
    codec, container, format, pixel_format = "libvpx-vp9", "webm", "rgba", "yuva420p"
    options = {"crf": "28", "b": "0", "deadline": "realtime", "cpu-used": "6", "auto-alt-ref": "0"}  # noqa: RUF012

    def _pixels(self, frame: VideoFrame, answer: Segmentation, tracks: tuple[int, ...]) -> UInt8[np.ndarray, "H W C"]:
        pixels = np.dstack([np.asarray(frame.image), answer.mask.astype(np.uint8) * 255])
        height, width = pixels.shape[:2]
        return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


class _Masks(_Writer):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._folder: Path | None = None
        colours = [(0, 0, 0), *(track_colour(number) for number in range(1, 256))]
        self._palette = [value for colour in colours for value in colour]

    def add(self, frame: VideoFrame, answer: Segmentation, tracks: tuple[int, ...]) -> None:
        if self._folder is None:
            self._folder = self._stack.enter_context(replacing_folder(self.path))
        labels = np.zeros(answer.mask.shape, dtype=np.uint8)
        for instance, number in zip(reversed(answer.instances), reversed(tracks), strict=True):
            labels[instance.rows_and_columns][instance.region] = (number - 1) % 255 + 1
        picture = Image.fromarray(labels, mode="P")
        picture.putpalette(self._palette)
        try:
            picture.save(self._folder / f"{frame.index:05d}.png")
        except OSError as error:
            raise self._failure(error) from error


class _Json(_Writer):
    def __init__(self, path: Path, text: str) -> None:
        super().__init__(path)
        self.text = text
        self._file: IO[str] | None = None
        self._tracks: dict[int, dict[str, Any]] = {}
        self.remark: str | None = None
        """What went wrong with the clip, where it did; told before the end."""

    def add(self, frame: VideoFrame, answer: Segmentation, tracks: tuple[int, ...]) -> None:
        try:
            if self._file is None:
                temporary = self._stack.enter_context(replacing(self.path))
                self._file = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
                size = [frame.image.height, frame.image.width]
                self._file.write(f'{{"text": {json.dumps(self.text)}, "size": {size}, "frames": [\n')
            else:
                self._file.write(",\n")
            self._file.write(json.dumps(self._record(frame, answer, tracks)))
        except OSError as error:
            raise self._failure(error) from error

    def _record(self, frame: VideoFrame, answer: Segmentation, tracks: tuple[int, ...]) -> dict[str, Any]:
        instances = []
        for instance, number in zip(answer.instances, tracks, strict=True):
            instances.append({"track": number, **instance.to_dict()})
            about = self._tracks.setdefault(number, {"label": instance.label, "first": frame.index, "frames": 0})
            about["last"] = frame.index
            about["frames"] += 1
        return {
            "frame": frame.index,
            "time": round(frame.time, 6),
            "cut": frame.cut,
            "no_target": answer.no_target,
            "no_target_score": round(answer.no_target_score, 6),
            "score": round(answer.score, 6),
            "mask": answer.to_rle(),
            "instances": instances,
        }

    def _finish(self) -> None:
        if self._file is None:
            return
        tracks = {str(number): about for number, about in self._tracks.items()}
        try:
            self._file.write(f'\n], "tracks": {json.dumps(tracks)}, "remark": {json.dumps(self.remark)}}}\n')
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from error
