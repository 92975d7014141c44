"""`refseg video CLIP EXPRESSION...`: which pixels of a clip's frames expressions refer to, the things tracked."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, opt
from refseg.errors import RefsegError, did_you_mean
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refseg.apps.video.writers import FrameWriter
    from refseg.inference.video import VideoFrame

FORMATS = ("overlay", "masks", "json", "webm")

app = App()


@app.command("video")
def video(
    clip: Annotated[str, arg("CLIP", "a video file, a GIF, or a folder of pictures in the order of their names")],
    expressions: Annotated[list[str], arg("EXPRESSION...", "what to look for")],
    output: Annotated[Path, options.output("folder for the results")] = Path("out"),
    format: Annotated[
        str, opt("LIST", f"with commas: {', '.join(FORMATS)}", names=lambda: FORMATS, group=options.WRITING)
    ] = "overlay,json",
    every: Annotated[int, opt("N", "look at every N-th frame only", "--every", check=options.at_least(1))] = 1,
    start: Annotated[float, opt("S", "seconds from the beginning", "--start", check=options.at_least(0))] = 0.0,
    end: Annotated[float | None, opt("S", "seconds from the beginning", "--end", check=options.at_least(0))] = None,
    fps: Annotated[float, opt("N", "frames a second of a folder of pictures", "--fps")] = 24.0,
    model: options.Model = DEFAULT_MODEL,
    threshold: options.Threshold = None,
    no_target_threshold: options.NoTargetThreshold = None,
    device: options.Device = "auto",
) -> int:
    """Segment what expressions refer to in a clip, with the things that are meant linked over its frames.

    Of a clip that is cut short what can be read is written, and the exit code is 1.
    """
    from refseg.inference.frames import VideoError, import_av, read_frames
    from refseg.inference.predictor import clean_text, load
    from refseg.progress import progress

    formats = _formats(format)
    texts = list(dict.fromkeys(clean_text(text) for text in expressions))
    options.check_folder(output)
    if {"overlay", "webm"} & set(formats):
        import_av()
    # A clip of which nothing can be read is told of before the model is loaded.
    first = read_frames(clip, start=start, end=end, every=every, fps=fps)
    next(first)
    first.close()  # type: ignore[attr-defined]
    segmenter = load(model, device)
    frames = segmenter.video(
        clip,
        texts,
        every=every,
        start=start,
        end=end,
        fps=fps,
        threshold=threshold,
        no_target_threshold=no_target_threshold,
    )
    seen = _Seen(texts)
    damage = ""
    with ExitStack() as stack:
        writers = _writers(stack, output, Path(clip), texts, formats, fps / every)
        update = stack.enter_context(progress("frames", lines=True))
        try:
            for frame in frames:
                seen.add(frame)
                update(seen.frames, None)
                for place, row in enumerate(writers):
                    for writer in row:
                        writer.add(frame, frame.answers[place], frame.tracks[place])
        except VideoError as error:
            if not seen.frames:
                raise
            damage = " ".join(str(error).split())
            for writer in (writer for row in writers for writer in row if hasattr(writer, "remark")):
                writer.remark = damage
    seen.print([[writer.path for writer in row] for row in writers])
    if damage:
        print(f"refseg video: {damage}; what was read is written", file=sys.stderr)
    return 1 if damage else 0


class _Seen:
    """What the table at the end tells."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.frames = 0
        self.cuts = 0
        self.shown = [0] * len(texts)
        self.tracks: list[set[int]] = [set() for _ in texts]
        self.remarks: dict[tuple[str, str], None] = {}

    def add(self, frame: VideoFrame) -> None:
        self.frames += 1
        self.cuts += frame.cut
        for place, (answer, numbers) in enumerate(zip(frame.answers, frame.tracks, strict=True)):
            self.shown[place] += not answer.no_target
            self.tracks[place].update(numbers)
            for remark in answer.extra.get("remarks", []):
                self.remarks[answer.text, remark] = None

    def print(self, files: Sequence[Sequence[Path]]) -> None:
        from refseg.cli.tables import print_table

        rows = [
            (text, f"{shown} of {self.frames}", str(len(tracks)), ", ".join(map(str, paths)))
            for text, shown, tracks, paths in zip(self.texts, self.shown, self.tracks, files, strict=True)
        ]
        print_table(("expression", "frames with it", "things", "files"), rows, left=4)
        if self.cuts:
            print(f"{self.cuts + 1} scenes", file=sys.stderr)
        for text, remark in list(self.remarks)[:8]:
            print(f"note: “{text[:60]}”: {remark}", file=sys.stderr)


def _formats(text: str) -> list[str]:
    chosen = [entry.strip().lower() for entry in text.split(",") if entry.strip()]
    for entry in chosen:
        if entry not in FORMATS:
            raise RefsegError(f"--format: {entry!r} is not possible; {did_you_mean(entry, FORMATS)}")
    if not chosen:
        raise RefsegError(f"--format: nothing to write; choose from {', '.join(FORMATS)}")
    return list(dict.fromkeys(chosen))


def _writers(
    stack: ExitStack, folder: Path, clip: Path, texts: Sequence[str], formats: Sequence[str], fps: float
) -> list[list[FrameWriter]]:
    from refseg.apps.video.writers import open_writer
    from refseg.cli.answers import slugs

    stem = clip.resolve().name if clip.is_dir() else clip.stem
    return [
        [stack.enter_context(open_writer(each, folder, f"{stem}.{slug}", text, fps)) for each in formats]
        for text, slug in zip(texts, slugs(texts), strict=True)
    ]
