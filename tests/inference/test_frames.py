"""Reading clips: folders, animations, video files of several kinds, rotated, of variable rate, and damaged ones."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.errors import ImageError, RefsegError
from refseg.inference.frames import VideoError, read_frames
from tests.support.clips import moving, square, write_folder, write_video


def centre(image: Image.Image) -> tuple[float, float]:
    """Of the red square, (x, y)."""
    pixels = np.asarray(image).astype(int)
    rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 2] > 100)
    return float(columns.mean()) + 0.5, float(rows.mean()) + 0.5


def test_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    frames = list(read_frames(write_folder(tmp_path / "clip", moving(12)), fps=4.0))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == [number / 4 for number in range(12)]
    places = [centre(frame.image)[0] for frame in frames]
    assert places == sorted(places)
    assert places[0] < places[-1]


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("mkv", "mpeg4")])
def test_video_files_show_their_frames_at_their_times(tmp_path: Path, suffix: str, codec: str) -> None:
    frames = list(read_frames(write_video(tmp_path / f"clip.{suffix}", moving(8), codec)))
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time for frame in frames] == pytest.approx([number / 10 for number in range(8)], abs=2e-3)
    for frame, expected in zip(frames, moving(8), strict=True):
        assert centre(frame.image) == pytest.approx(centre(expected), abs=1.0)


def test_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0.0, 0.05, 0.4, 0.45, 1.5]
    path = write_video(tmp_path / "clip.mp4", moving(5), times=lambda number: times[number])
    assert [frame.time for frame in read_frames(path)] == pytest.approx(times, abs=2e-3)


def test_every_start_and_end_choose_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(20), options={"g": "5"})
    whole = list(read_frames(path))
    part = list(read_frames(path, start=0.65, end=1.5, every=3))
    assert [frame.time for frame in part] == pytest.approx([0.7, 1.0, 1.3], abs=2e-3)
    assert [frame.index for frame in part] == [7, 10, 13]
    for frame in part:
        assert np.array_equal(np.asarray(frame.image), np.asarray(whole[frame.index].image))


def test_rotation_that_a_file_states_is_applied(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [square((12, 24))] * 3)
    content = bytearray(path.read_bytes())
    # ISO/IEC 14496-12, 8.3.2: of the track header's matrix a, b, u, c, d, v, x, y, w (16.16, u, v, w 2.30).
    place = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    assert struct.unpack_from(">9i", content, place)[:5] == (1 << 16, 0, 0, 0, 1 << 16)
    struct.pack_into(">9i", content, place, 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(content)
    image = next(read_frames(path)).image
    # The matrix turns a quarter clockwise: (x, y) of 64 x 48 goes to (48 - y, x) of 48 x 64.
    assert image.size == (48, 64)
    assert centre(image) == pytest.approx((48 - 24, 12), abs=1.5)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations_have_the_times_that_they_state(tmp_path: Path, suffix: str) -> None:
    first, *rest = moving(4)
    path = tmp_path / f"clip.{suffix}"
    first.save(path, save_all=True, append_images=rest, duration=[100, 200, 50, 80], lossless=True)
    frames = list(read_frames(path))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.35])
    for frame, expected in zip(frames, moving(4), strict=True):
        assert centre(frame.image) == pytest.approx(centre(expected), abs=0.6)


def test_clip_that_is_cut_short_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    frames = [Image.fromarray(noise.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(40)]
    path = write_video(tmp_path / "clip.mkv", frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = []
    with pytest.raises(VideoError, match=r"clip\.mkv: damaged or cut short after \d+ frames") as failure:
        read += read_frames_into(read, path)
    assert 5 < len(read) < 40
    assert f"after {len(read)} frames" in str(failure.value)


def read_frames_into(read: list[object], path: Path) -> list[object]:
    for frame in read_frames(path):
        read.append(frame)
    return []


def test_mp4_without_its_index_cannot_be_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(10))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"clip\.mp4: not a video that can be read"):
        list(read_frames(path))


def test_recording_in_fragments_that_is_cut_short_is_told(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    with av.open(str(whole), "w", options={"movflags": "frag_keyframe+empty_moov"}) as output:
        stream = output.add_stream("libx264", rate=10, options={"g": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in moving(10):
            output.mux(stream.encode(av.VideoFrame.from_image(frame)))
        output.mux(stream.encode(None))
    content = whole.read_bytes()
    assert len(list(read_frames(whole))) == 10
    # In the middle of the last fragment's frames: no header states how many there should be.
    cut.write_bytes(content[: content.rindex(b"mdat") + 6])
    read: list[object] = []
    with pytest.raises(VideoError, match=r"cut\.mp4: damaged or cut short after \d+ frames"):
        read_frames_into(read, cut)
    assert 5 <= len(read) < 10


def test_gif_that_is_cut_short_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    first, *rest = [Image.fromarray(noise.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(6)]
    path = tmp_path / "clip.gif"
    first.save(path, save_all=True, append_images=rest, duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    read: list[object] = []
    with pytest.raises(RefsegError, match=r"cut short"):
        read_frames_into(read, path)
    assert 1 <= len(read) < 6


def test_what_is_no_clip_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_bytes(b"not a video" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "program.gif").write_bytes(b"\x7fELF" + bytes(200))
    (tmp_path / "nothing").mkdir()
    write_folder(tmp_path / "mixed", [square((20, 20)), Image.new("RGB", (30, 30))])
    write_folder(tmp_path / "broken", [square((20, 20))] * 2)
    (tmp_path / "broken" / "1.png").write_bytes(b"\x89PNG")
    for name, message in (
        ("absent.mp4", "no such clip"),
        ("text.mp4", "not a video that can be read"),
        ("empty.mp4", "not a video that can be read"),
        ("program.gif", "not a picture or animation"),
        ("nothing", "no pictures in it"),
        ("mixed", "frame 1 is 30 x 30, those before it 64 x 48"),
        ("broken", r"frame 1: .*1\.png"),
    ):
        with pytest.raises(VideoError, match=message):
            list(read_frames(tmp_path / name))


def test_options_out_of_range(tmp_path: Path) -> None:
    clip = write_folder(tmp_path / "clip", moving(2))
    for options, message in (
        ({"every": 0}, "every is at least 1"),
        ({"start": -1.0}, "seconds from 0 on"),
        ({"start": 2.0, "end": 1.0}, "the end after the start"),
        ({"fps": 0.0}, "fps is above 0"),
    ):
        with pytest.raises(RefsegError, match=message):
            read_frames(clip, **options)
    with pytest.raises(VideoError, match=r"no frame from 5 s on; it ends at 0\.0"):
        list(read_frames(clip, start=5.0))


def test_too_large_frames_are_not_decoded(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="more than the limit"):
        list(read_frames(write_video(tmp_path / "clip.mp4", moving(2)), max_pixels=1000))


def test_without_pyav_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RefsegError, match=r"pip install 'refseg\[video\]'"):
        list(read_frames(path))
    assert len(list(read_frames(write_folder(tmp_path / "clip", moving(2))))) == 2


def test_no_callback_of_python_waits_in_decoder_threads(tmp_path: Path) -> None:
    """With any level PyAV's callback takes Python's lock in a decoder's thread; a codec that is freed meanwhile, by who
    has the lock, waits for that thread: a damaged clip was waited for without end."""
    import av

    av.logging.set_level(av.logging.PANIC)
    clip = write_video(tmp_path / "clip.mp4", moving(3))
    assert len(list(read_frames(clip))) == 3
    assert av.logging.get_level() is None
