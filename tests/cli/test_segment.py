"""refseg segment through the command line: what is written, what is printed, and what bad input gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.cli.main import main
from refseg.cli.segment import slugs, sort_words
from refseg.data.rle import decode
from refseg.errors import ImageError, RefsegError


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    save_noise(path, 40, 60)
    return path


def save_noise(path: Path, height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def segment(model_folder: Path, *words: object) -> int:
    return main(["segment", "--model", str(model_folder), "--device", "cpu", *map(str, words)])


def test_everything_that_was_asked_for_is_written(
    model_folder: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    formats = "overlay,mask,cutout,json"
    assert segment(model_folder, photo, "the red ball", "a dog", "-o", out, "--format", formats) == 0
    names = {
        f"photo.{slug}.{end}"
        for slug in ("the-red-ball", "a-dog")
        for end in (
            "overlay.png",
            "mask.png",
            "cutout.png",
            "json",
        )
    }
    assert {path.name for path in out.iterdir()} == names
    record = json.loads((out / "photo.a-dog.json").read_text())
    assert (record["text"], record["image"], record["size"]) == ("a dog", str(photo), [40, 60])
    mask = np.asarray(Image.open(out / "photo.a-dog.mask.png")) > 0
    assert np.array_equal(mask, decode(record["mask"]))
    assert np.array_equal(mask, np.asarray(Image.open(out / "photo.a-dog.cutout.png"))[..., 3] > 0)
    printed = capsys.readouterr().out
    assert "the red ball" in printed
    assert "photo.a-dog.*" in printed


def test_thresholds_reach_the_answer(model_folder: Path, photo: Path, tmp_path: Path) -> None:
    def areas(*options: str) -> tuple[bool, int]:
        assert segment(model_folder, photo, "a dog", "-o", tmp_path, "--format", "json", *options) == 0
        record = json.loads((tmp_path / "photo.a-dog.json").read_text())
        return record["no_target"], record["area"]

    assert areas("--threshold", "0", "--no-target-threshold", "1") == (False, 40 * 60)
    assert areas("--threshold", "1", "--no-target-threshold", "1") == (True, 0)  # no pixel: none
    assert areas("--no-target-threshold", "0") == (True, 0)


def test_pictures_of_one_name_from_two_folders_stay_apart(model_folder: Path, tmp_path: Path) -> None:
    pictures = []
    for index, name in enumerate(["a/photo.png", "b/photo.png", "b/PHOTO.jpg", "b/photo-2.png"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        save_noise(path, 10 + index, 12)
        pictures.append(path)
    out = tmp_path / "out"
    assert segment(model_folder, *pictures, pictures[0], "a dog", "a dog", "-o", out, "--format", "json") == 0
    records = [json.loads(path.read_text()) for path in out.iterdir()]
    assert sorted(record["image"] for record in records) == sorted(map(str, pictures))
    assert sorted(record["size"][0] for record in records) == [10, 11, 12, 13]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.jpg", "a dog"], "missing.jpg"),
        (["photo.jpg", "a dog"], "did you mean 'photo.png'"),
        (["nowhere/photo.png", "a dog"], "no folder nowhere"),
        (["folder", "a dog"], "folder is a folder"),
        (["photo.png", ""], "sentence is empty"),
        (["photo.png", "   "], "sentence is empty"),
        (["photo.png"], "no expression"),
        (["a dog"], "no picture"),
        (["https://example.org/photo.png", "a dog"], "download it"),
        (["photo.png", "a dog", "--format", "overlai"], "did you mean 'overlay'"),
        (["photo.png", "a dog", "--format", ","], "nothing to write"),
        (["photo.png", "a dog", "--threshold", "1.5"], "--threshold"),
        (["photo.png", "a dog", "--no-target-threshold", "nan"], "--no-target-threshold"),
        (["photo.png", "a dog", "--device", "toaster"], "toaster"),
        (["photo.png", "a dog", "-o", "photo.png"], "-o wants a folder"),
        (["photo.png", "a dog", "--model", "no-such-model"], "no-such-model"),
        (["photo.png", "a dog", "--model", "folder"], "folder"),
        (["photo.png", "a dog", "--model", "text.png"], "text.png"),
        (["photo.png", "text.png", "a dog"], "text.png"),
        (["cut.png", "text.png", "a dog"], "cut.png"),
        (["empty.png", "a dog"], "empty.png"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(
    words: list[str],
    said: str,
    model_folder: Path,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:2000])
    (tmp_path / "empty.png").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    options = [] if "--model" in words else ["--model", str(model_folder)]
    assert main(["segment", *options, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("refseg segment: ")
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_of_every_kind(model_folder: Path, tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30))
    grey.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save(tmp_path / "deep.png")
    grey.convert("RGB").quantize(8).save(tmp_path / "palette.png")
    clear = grey.convert("RGBA")
    clear.putalpha(100)
    clear.save(tmp_path / "clear.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    grey.convert("RGB").save(tmp_path / "turned.jpg", exif=turned)
    grey.resize((1, 1)).save(tmp_path / "dot.png")
    pictures = sorted(path for path in tmp_path.iterdir() if path.is_file())
    assert segment(model_folder, *pictures, "a dog", "-o", tmp_path / "out", "--no-target-threshold", "1") == 0
    sizes = {
        path.name.split(".")[0]: json.loads(path.read_text())["size"] for path in (tmp_path / "out").glob("*.json")
    }
    assert sizes == {
        "cmyk": [20, 30],
        "deep": [20, 30],
        "palette": [20, 30],
        "clear": [20, 30],
        "turned": [30, 20],
        "dot": [1, 1],
    }
    assert len(list((tmp_path / "out").glob("*.overlay.png"))) == 6


def test_sentences_of_every_kind(
    model_folder: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = [
        "the ball " * 300,
        "左の猫",
        "🐈",
        "🐕",
        "le chien à gauche",
        "../../etc passwd",
        "[red] ball [/red]",
        "a\nb",
    ]
    assert segment(model_folder, photo, *sentences, "-o", tmp_path / "out", "--format", "json") == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()]
    assert {record["text"] for record in records} == {" ".join(sentence.split()) for sentence in sentences}
    assert all(record["no_target"] for record in records if record["text"] in ("左の猫", "🐈", "🐕"))
    captured = capsys.readouterr()
    assert "no word" in captured.err
    assert "cut after" in captured.err
    assert "[red] ball [/red]" in captured.out


def test_a_sentence_that_looks_like_a_file_can_be_given_as_text(
    model_folder: Path, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert segment(model_folder, photo, "--text", "ball.png", "-o", out, "--format", "json") == 0
    assert json.loads(next(out.glob("*.json")).read_text())["text"] == "ball.png"


def test_words_are_sorted(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dog").write_bytes(photo.read_bytes())
    assert sort_words(["photo.png", "left / right dog", "./photo.png", "dog", "x" * 5000]) == (
        [Path("photo.png"), Path("dog")],
        ["left / right dog", "x" * 5000],
    )
    with pytest.raises(ImageError, match="left/right"):
        sort_words(["left/right"])
    with pytest.raises(RefsegError, match="folder"):
        sort_words(["."])


def test_slugs_tell_sentences_apart() -> None:
    sentences = ["the dog", "The dog", "the dog!", "猫", "犬", "x" * 100, "x" * 101]
    names = slugs(sentences)
    assert names[0] == "the-dog"
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name.isascii() and len(name) < 60 and "/" not in name for name in names)
    assert slugs(sentences[3:4]) == names[3:4]
