from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refseg.data.images import find_pictures, image_size, read_image
from refseg.errors import ImageError

RED_LEFT = np.zeros((4, 6, 3), dtype=np.uint8)
RED_LEFT[:, :3, 0] = 255


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("form", ["path", "str", "bytes", "file", "pil", "array"])
def test_every_kind_of_source_gives_the_same_pixels(form: str, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(RED_LEFT))
    path = tmp_path / "a.png"
    path.write_bytes(content)
    sources = {
        "path": path,
        "str": str(path),
        "bytes": content,
        "file": io.BytesIO(content),
        "pil": Image.fromarray(RED_LEFT),
        "array": RED_LEFT,
    }
    assert (pixels(read_image(sources[form])) == RED_LEFT).all()


def test_exif_orientation_is_applied_on_request() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: a viewer turns it a quarter clockwise
    content = encoded(Image.fromarray(RED_LEFT), "PNG", exif=exif)
    upright = pixels(read_image(content))
    assert upright.shape == (6, 4, 3)
    assert (upright[:3, :, 0] == 255).all()
    assert (upright[3:] == 0).all()
    assert pixels(read_image(content, rotate=False)).shape == (4, 6, 3)


def test_cmyk_becomes_the_colour_it_shows() -> None:
    cyan = Image.new("CMYK", (5, 5), (255, 0, 0, 0))
    assert np.abs(pixels(read_image(encoded(cyan, "JPEG"))) - [0, 255, 255]).max() < 12


def test_sixteen_bits_scale_to_eight() -> None:
    values = np.array([[0, 257, 65535], [32896, 25700, 514]], dtype=np.uint16)
    wanted = [[0, 1, 255], [128, 100, 2]]
    assert (pixels(read_image(encoded(Image.fromarray(values))))[..., 0] == wanted).all()
    assert (pixels(read_image(values))[..., 1] == wanted).all()


def test_float_tiff_with_gaps_is_stretched() -> None:
    values = np.array([[np.nan, -10.0], [0.0, 10.0]], dtype=np.float32)
    grey = pixels(read_image(encoded(Image.fromarray(values), "TIFF")))[..., 0]
    assert grey.tolist() == [[128, 0], [128, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    if mode == "PA":
        content = encoded(image.quantize(4))
    else:
        content = encoded(image.convert(mode))
    assert pixels(read_image(content)).tolist() == [[[255, 255, 255], [0, 0, 0]]]


def test_half_transparent_mixes_with_white() -> None:
    array = np.array([[[255, 0, 0, 128]]], dtype=np.uint8)
    assert np.abs(pixels(read_image(array))[0, 0] - [255, 127, 127]).max() <= 1


def test_palette_and_palette_with_transparent_entry() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert pixels(read_image(encoded(image))).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert pixels(read_image(encoded(image, transparency=0))).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_bilevel_grey_and_one_pixel() -> None:
    assert pixels(read_image(Image.new("1", (1, 1), 1))).tolist() == [[[255, 255, 255]]]
    assert pixels(read_image(np.array([[7]], dtype=np.uint8))).tolist() == [[[7, 7, 7]]]


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(read_image(content))[0, 0].tolist() == [255, 0, 0]


def test_a_damaged_orientation_is_ignored() -> None:
    content = encoded(Image.fromarray(RED_LEFT), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff junk")
    assert pixels(read_image(content)).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 8, 8), np.uint8), "channels come last"),
        (np.zeros((8, 8, 2), np.uint8), "channels come last"),
        (np.zeros(8, np.uint8), "channels come last"),
        (np.zeros((0, 8, 3), np.uint8), "holds nothing"),
        (np.full((2, 2), 1.5), "from 0 to 1"),
        (np.full((2, 2), np.nan), "from 0 to 1"),
        (np.full((2, 2, 3), 300), "0 to 255"),
        (np.full((2, 2), -1), "0 to 255"),
        (np.array([["a"]]), "not ndarray"),
        (None, "not NoneType"),
        (object(), "not object"),
        (5, "not int"),
    ],
)
def test_arrays_that_are_no_pictures(array: object, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read_image(array)


def test_float_arrays_and_integers() -> None:
    assert pixels(read_image(np.array([[0.0, 0.5, 1.0]]))).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert pixels(read_image(np.array([[[1, 2, 3]]]))).tolist() == [[[1, 2, 3]]]
    assert pixels(read_image(np.array([[True, False]])))[..., 0].tolist() == [[255, 0]]


def test_paths_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "words.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, words in [
        ("", "a folder"),
        ("gone.jpg", "no such file"),
        ("words.jpg", "not a picture"),
        ("empty.png", "empty"),
    ]:
        with pytest.raises(ImageError, match=words):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="not a path"):
        read_image("a\0b")


def test_formats_that_start_programs_stay_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.eps"
    Image.fromarray(RED_LEFT).save(path)
    with pytest.raises(ImageError, match="wanted is one of JPEG"):
        read_image(path)


def huge_png(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_001, 12_000, 60_000])
def test_a_small_file_cannot_ask_for_all_memory(side: int) -> None:
    with pytest.raises(ImageError, match="more than"):
        read_image(huge_png(side))


def test_the_limit_is_a_parameter() -> None:
    assert read_image(RED_LEFT, max_pixels=24).size == (6, 4)
    with pytest.raises(ImageError, match="limit of 23"):
        read_image(RED_LEFT, max_pixels=23)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_every_cut_of_a_file_is_read_or_named(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), form)
    whole = 0
    for length in range(0, len(content), max(1, len(content) // 60)):
        try:
            read_image(content[:length])
            whole += 1
        except ImageError as error:
            assert str(error).startswith("the picture of")  # noqa: PT017
    assert whole <= 3  # a few formats can do without their last bytes


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6),
    st.sampled_from(["PNG", "JPEG", "TIFF"]),
)
def test_flipped_bytes_are_read_or_named(changes: list[tuple[int, int]], form: str) -> None:
    content = bytearray(encoded(Image.fromarray(RED_LEFT.repeat(4, axis=0)), form))
    for position, value in changes:
        content[position % len(content)] = value
    with contextlib.suppress(ImageError):
        assert read_image(bytes(content)).mode == "RGB"


def test_size_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RED_LEFT).save(path)
    assert image_size(path) == (4, 6)
    path.write_bytes(b"junk")
    with pytest.raises(ImageError):
        image_size(path)


def test_the_source_is_not_changed() -> None:
    image = Image.fromarray(RED_LEFT)
    out = read_image(image)
    out.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_errors_name_the_source_and_never_print_an_object(tmp_path: Path) -> None:
    path = tmp_path / "words.jpg"
    path.write_text("no picture")
    with path.open("rb") as handle, pytest.raises(ImageError) as caught:
        read_image(handle)
    assert str(caught.value).startswith(f"{path}: not a picture that can be read (what is in it is of no known kind)")
    with pytest.raises(ImageError, match=r"the open file: not a picture") as caught:
        read_image(io.BytesIO(b"no picture"))
    assert "<" not in str(caught.value)


def test_a_caller_s_open_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Image.fromarray(RED_LEFT).save(path)
    with path.open("rb") as handle:
        read_image(handle)
        assert not handle.closed
        handle.seek(0)
        assert read_image(handle).size == (6, 4)


@pytest.mark.parametrize("address", ["https://example.org/a.jpg", "HTTP://example.org/a.jpg", "ftp://example.org/a"])
def test_addresses_are_not_fetched(address: str) -> None:
    for read in (read_image, image_size, lambda source: find_pictures([source])):
        with pytest.raises(ImageError, match="not fetched from the network"):
            read(address)
    with pytest.raises(ImageError, match="not fetched from the network"):
        read_image(Path(address))


def test_pictures_are_found_in_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["b/2.JPG", "b/1.png", "b/c/3.webp", "b/.4.png", "b/.hidden/5.png", "b/6.txt", "b/out/7.png", "8.bin"]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")

    def found(*sources: str, **options: str) -> list[str]:
        return [path.as_posix() for path in find_pictures(sources, **options)]

    assert found("b") == ["b/1.png", "b/2.JPG", "b/c/3.webp", "b/out/7.png"]
    assert found("b", leave_out="b/out") == ["b/1.png", "b/2.JPG", "b/c/3.webp"]
    assert found("b/c", "8.bin", "b", "./8.bin", leave_out="b/out") == ["b/c/3.webp", "8.bin", "b/1.png", "b/2.JPG"]
    assert found("b/*.png") == ["b/1.png"]
    assert found("b/**/*.*", leave_out="b/out") == ["b/1.png", "b/2.JPG", "b/c/3.webp"]
    for source, said in (
        ("b/.hidden/no.png", "no such picture"),
        ("b/11.png", "did you mean 'b/1.png'|did you mean '1.png'"),
        ("nowhere/1.png", "no folder nowhere"),
        ("x*.png", "no picture matches"),
        ("", "no such picture"),
    ):
        with pytest.raises(ImageError, match=said):
            find_pictures([source])
    Path("empty").mkdir()
    with pytest.raises(ImageError, match="holds no picture"):
        find_pictures(["empty"])


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def test_heic_asks_for_its_package_or_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(HEIC)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"a\.heic.*pip install pillow-heif"):
            read(path)
    monkeypatch.delitem(sys.modules, "pillow_heif")
    pillow_heif = pytest.importorskip("pillow_heif")
    with pytest.raises(ImageError, match=r"a\.heic: not a picture"):
        read_image(path)
    pillow_heif.from_pillow(Image.fromarray(RED_LEFT.repeat(16, 0).repeat(16, 1))).save(path, quality=95)
    assert np.abs(pixels(read_image(path)) - RED_LEFT.repeat(16, 0).repeat(16, 1)).mean() < 12
    assert image_size(path) == (64, 96)
