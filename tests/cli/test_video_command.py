"""`refseg video` and what it writes: each format read back, damaged clips, a full disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.apps.video.draw import draw_frame
from refseg.apps.video.writers import open_writer
from refseg.cli.main import main
from refseg.data.rle import decode
from refseg.errors import RefsegError
from refseg.inference.frames import read_frames
from refseg.inference.segmentation import Segmentation
from refseg.inference.video import VideoFrame
from tests.support.clips import Redness, moving, segmenter_of, square, write_folder, write_video

av = pytest.importorskip("av")


def answered(folder: Path, times: list[float] | None = None) -> list[VideoFrame]:
    frames = list(segmenter_of(Redness()).video(folder, "red", fps=10.0))
    if times is None:
        return frames
    return [VideoFrame(f.index, t, f.image, f.answers, f.tracks) for f, t in zip(frames, times, strict=True)]


def write(format: str, folder: Path, frames: list[VideoFrame]) -> Path:
    with open_writer(format, folder, "clip.red", "red", 10.0) as writer:
        for frame in frames:
            writer.add(frame, frame.answer, frame.tracks[0])
    return writer.path


def test_masks_and_json_hold_the_answers(tmp_path: Path) -> None:
    frames = answered(write_folder(tmp_path / "c", [*moving(9)[:3], square((30, 24), brightness=20)]))
    folder = write("masks", tmp_path / "out", frames)
    content = json.loads(write("json", tmp_path / "out", frames).read_text())
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:05d}.png" for number in range(4)]
    assert [entry["no_target"] for entry in content["frames"]] == [False, False, False, True]
    assert content["size"] == [48, 64]
    assert content["tracks"] == {"1": {"label": "red", "first": 0, "frames": 3, "last": 2}}
    assert content["remark"] is None
    for number, frame in enumerate(frames):
        drawn = np.asarray(Image.open(folder / f"{number:05d}.png"))
        assert np.array_equal(drawn > 0, frame.answer.mask)
        assert set(np.unique(drawn)) <= {0, 1}
        assert np.array_equal(decode(content["frames"][number]["mask"]), frame.answer.mask)


def test_overlay_keeps_times_that_are_not_regular(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.55, 0.6]
    path = write("overlay", tmp_path / "out", answered(write_folder(tmp_path / "c", moving(4)), times))
    back = list(read_frames(path))
    assert [frame.time for frame in back] == pytest.approx(times, abs=1e-3)
    assert back[0].image.width == 64
    # The caption's band is below the picture.
    assert back[0].image.height > 48
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_webm_is_transparent_around_the_target(tmp_path: Path) -> None:
    frames = answered(write_folder(tmp_path / "c", moving(4)))
    path = write("webm", tmp_path / "out", frames)
    decoder = av.CodecContext.create("libvpx-vp9", "r")  # the decoder that reads alpha
    with av.open(str(path)) as container:
        assert container.streams.video[0].metadata["alpha_mode"] == "1"
        pictures = [frame for packet in container.demux(video=0) for frame in decoder.decode(packet)]
    assert len(pictures) == 4
    for picture, frame in zip(pictures, frames, strict=True):
        opaque = picture.to_ndarray(format="rgba")[..., 3] > 128
        both, either = opaque & frame.answer.mask, opaque | frame.answer.mask
        assert both.sum() / either.sum() > 0.8


def test_colours_belong_to_tracks_and_sides_are_even() -> None:
    image = Image.new("RGB", (311, 211))
    left, right = np.zeros((211, 311), dtype=bool), np.zeros((211, 311), dtype=bool)
    left[40:160, 30:130] = True
    right[40:160, 180:280] = True
    both = Segmentation(left | right)
    numbers = tuple(1 if instance.corner[1] < 100 else 2 for instance in both.instances)
    drawn = draw_frame(image, both, numbers)
    assert drawn.shape == (212, 312, 3)
    alone = draw_frame(image, Segmentation(right), (2,))
    assert np.array_equal(drawn[159, 200], alone[159, 200])
    assert not np.array_equal(drawn[159, 50], drawn[159, 200])
    assert draw_frame(image, both, numbers, "a long expression that does not fit here").shape[0] > 212


def test_writer_that_is_left_with_an_error_leaves_nothing(tmp_path: Path) -> None:
    frames = answered(write_folder(tmp_path / "c", moving(2)))

    def stop_in_the_middle(format: str) -> None:
        with open_writer(format, tmp_path / "out", "clip", "red") as writer:
            writer.add(frames[0], frames[0].answer, frames[0].tracks[0])
            raise KeyError

    for format in ("overlay", "webm", "masks", "json"):
        with pytest.raises(KeyError):
            stop_in_the_middle(format)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(RefsegError, match="choose from overlay"):
        open_writer("avi", tmp_path, "clip", "red")


def written_to_a_full_disk(folder: Path) -> list[str]:
    """The errors of writers in a process whose files may not grow beyond 20 kB."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # a write beyond it fails as on a full disk
    rng = np.random.default_rng(0)
    errors = []
    for format in ("overlay", "webm", "json"):
        try:
            with open_writer(format, folder, "clip", "red") as writer:
                for number in range(60):
                    image = Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
                    answer = Segmentation(rng.random((64, 96)) > 0.5, instances=())
                    writer.add(VideoFrame(number, number / 10, image, (answer,), ((),)), answer, ())
        except RefsegError as error:
            errors.append(f"{format}: {error}")
    return errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file sizes are POSIX")
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    told, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(end, "\n".join(written_to_a_full_disk(tmp_path / "out")).encode())
        finally:
            os._exit(0)
    os.close(end)
    with os.fdopen(told) as reader:
        lines = reader.read().splitlines()
    os.waitpid(child, 0)
    assert [line.split(":")[0] for line in lines] == ["overlay", "webm", "json"]
    assert all("cannot be written" in line for line in lines)
    assert list((tmp_path / "out").iterdir()) == []


def run(clip: Path, model: Path, *more: str) -> int:
    return main(["video", str(clip), *more, "--model", str(model), "--device", "cpu"])


def test_command_writes_a_set_of_files_for_each_expression(tmp_path: Path, model_folder: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving(6))
    words = ["the red ball", "the dog", "-o", str(tmp_path / "out"), "--format", "overlay,json,masks", "--every", "2"]
    assert run(clip, model_folder, *words) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stems = {f"clip.{name}.{end}" for name in ("the-red-ball", "the-dog") for end in ("mp4", "json", "masks")}
    assert names == stems
    content = json.loads((tmp_path / "out" / "clip.the-dog.json").read_text())
    assert [entry["frame"] for entry in content["frames"]] == [0, 2, 4]
    assert [entry["time"] for entry in content["frames"]] == pytest.approx([0.0, 0.2, 0.4], abs=1e-3)


def test_damaged_clip_is_written_as_far_as_it_goes(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    clip = write_video(
        tmp_path / "clip.mkv", [Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(20)]
    )
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    assert run(clip, model_folder, "the dog", "-o", str(tmp_path / "out"), "--format", "json") == 1
    error = capsys.readouterr().err
    assert "damaged or cut short after" in error
    assert "what was read is written" in error
    content = json.loads((tmp_path / "out" / "clip.the-dog.json").read_text())
    assert 3 < len(content["frames"]) < 20
    assert "cut short" in content["remark"]


def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    clip = write_folder(tmp_path / "clip", moving(2))
    out = ["-o", str(tmp_path / "out")]
    for words, message in (
        ((tmp_path / "absent.mp4", "the dog"), "no such clip"),
        ((tmp_path / "text.mp4", "the dog"), "not a video that can be read"),
        ((clip, " "), "the expression is empty"),
        ((clip, "the dog", "--format", "avi"), "'avi' is not possible"),
        ((clip, "the dog", "--start", "9"), "no frame from 9 s on"),
        ((clip, "the dog", "--fps", "0"), "fps is above 0"),
    ):
        assert run(words[0], model_folder, *words[1:], *out) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
