"""refseg segment through the command line: what is written, what is printed, and what bad input gets."""

from __future__ import annotations

import csv
import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.cli.answers import slugs
from refseg.cli.main import main
from refseg.cli.segment import sort_words
from refseg.data.rle import decode
from refseg.errors import ImageError, RefsegError
from refseg.inference.predictor import EncodedImage, load
from refseg.inference.segmentation import Segmentation


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
    assert {path.name for path in out.iterdir()} == {*names, "results.csv"}
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
    records = [json.loads(path.read_text()) for path in out.glob("*.json")]
    assert sorted(record["image"] for record in records) == sorted(map(str, pictures))
    assert sorted(record["size"][0] for record in records) == [10, 11, 12, 13]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.jpg", "a dog"], "missing.jpg"),
        (["photo.jpg", "a dog"], "did you mean 'photo.png'"),
        (["nowhere/photo.png", "a dog"], "no folder nowhere"),
        (
            ["folder", "a dog"],
            'holds no picture (files that end with .jpg, .png, ...) (if it is an expression: --text "folder")',
        ),
        (["folder/*.png", "a dog"], "no picture matches"),
        (["photo.png", "a dog", "--sort", "beauty"], "--sort orders by found, score, area, picture"),
        (["--jsonl", "photo.png", "a dog"], "takes no file"),
        (["photo.png", "a dog", "--format", "none,json"], "stands alone"),
        (["photo.png", "x" * 100_000], "100,000 letters"),
        (["photo.png", "a dog", "--model", ""], "name is empty"),
        (["photo.png", "a dog", "--model", "rela-official"], "refseg import rela FILE"),
        (["photo.png", "a dog", "--device", "cpu:1"], "'cpu' means all cores"),
        (["photo.png", "a dog", "-o", "other"], "other/results.csv: not a table"),
        (["photo.png", ""], "expression is empty"),
        (["photo.png", "   "], "expression is empty"),
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
        (["text.png", "a dog"], "text.png"),
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
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.csv").write_text("a,b\n1,2\n")
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
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
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
    (tmp_path / "empty").mkdir()
    with pytest.raises(RefsegError, match="empty: the folder holds no picture"):
        sort_words(["empty"])


def test_slugs_tell_sentences_apart() -> None:
    sentences = ["the dog", "The dog", "the dog!", "猫", "犬", "x" * 100, "x" * 101]
    names = slugs(sentences)
    assert names[0] == "the-dog"
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name.isascii() and len(name) < 60 and "/" not in name for name in names)
    assert slugs(sentences[3:4]) == names[3:4]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two folders with a picture of one name each, a hidden one, a text, and a picture that is none."""
    for index, name in enumerate(["d1/img.jpg", "d2/img.jpg", "d2/deep/other.png", ".hidden/img.jpg"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_noise(path, 10 + index, 12)
    (tmp_path / "photos" / "notes.txt").write_text("nothing")
    (tmp_path / "photos" / "d1" / "bad.png").write_bytes(b"junk")
    return tmp_path / "photos"


def table(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_folder_is_gone_through_and_a_bad_picture_ends_nothing(
    model_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out"  # inside: what is written there is no picture to be asked about
    for _ in range(2):
        assert segment(model_folder, folder, "a dog", "a cat", "-o", out, "--format", "mask,json") == 1
        rows = table(out)
        assert [(Path(row["picture"]).relative_to(folder).as_posix(), row["expression"]) for row in rows] == [
            (name, text) for name in ("d1/img.jpg", "d2/deep/other.png", "d2/img.jpg") for text in ("a dog", "a cat")
        ]
        for row in rows:
            record = json.loads((out / f"{row['name']}.json").read_text())
            assert record["image"] == row["picture"]
            assert record["size"] == [int(row["height"]), int(row["width"])]
            assert np.array_equal(decode(record["mask"]), np.asarray(Image.open(out / f"{row['name']}.mask.png")) > 0)
        (error,) = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
        assert error["image"] == str(folder / "d1" / "bad.png")
        assert "bad.png: not a picture" in error["error"]
        told = capsys.readouterr().err
        assert "left out: " in told
        assert "1 of 4 pictures gave no answer" in told
    (folder / "d1" / "bad.png").unlink()
    assert segment(model_folder, folder, "a dog", "-o", out) == 0
    assert not (out / "errors.jsonl").exists()


def test_names_do_not_collide_between_runs(model_folder: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("d1", "d2", "d1"):
        assert segment(model_folder, folder / name / "img.jpg", "a dog", "-o", out, "--format", "json") == 0
    first, second = sorted(table(out), key=lambda row: row["picture"])
    assert (first["name"], second["name"]) == ("img.a-dog", "d2-img.a-dog")
    for row in (first, second):
        assert json.loads((out / f"{row['name']}.json").read_text())["image"] == row["picture"]
    long = tmp_path / f"{'n' * 240}.png"
    save_noise(long, 5, 5)
    assert segment(model_folder, long, "x " * 400, "-o", out) == 0


def test_patterns_are_matched_where_the_shell_did_not(model_folder: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert segment(model_folder, f"{folder}/**/*.jpg", "a dog", "-o", out, "--format", "none") == 0
    assert {Path(row["picture"]).parent.name for row in table(out)} == {"d1", "d2"}
    assert [path.name for path in out.iterdir()] == ["results.csv"]


def test_resume_does_what_is_missing_and_nothing_else(
    model_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    ask = EncodedImage.ask
    monkeypatch.setattr(
        EncodedImage, "ask", lambda self, texts, **kw: asked.append(tuple(texts)) or ask(self, texts, **kw)
    )
    (folder / "d1" / "bad.png").unlink()
    out = tmp_path / "out"

    def run(*words: object) -> list[tuple[str, ...]]:
        asked.clear()
        assert segment(model_folder, folder, *words, "-o", out, "--resume", "--format", "json") == 0
        return list(asked)

    assert run("a dog") == [("a dog",)] * 3
    whole = (out / "results.csv").read_bytes()
    assert run("a dog") == []
    assert (out / "results.csv").read_bytes() == whole
    assert run("a dog", "a cat") == [("a cat",)] * 3
    assert run("a dog", "--threshold", "0.4") == [("a dog",)] * 3
    assert run("a dog") == [("a dog",)] * 3
    (out / "d1-img.a-dog.json").unlink()
    assert run("a dog") == [("a dog",)]
    picture = folder / "d2" / "img.jpg"
    save_noise(picture, 20, 20)
    os.utime(picture, (time.time() + 5,) * 2)
    assert run("a dog") == [("a dog",)]
    # Killed while it wrote a line: the torn one is done again.
    lines = (out / "results.csv").read_text().splitlines(keepends=True)
    torn = "".join(line for line in lines if "a cat" not in line)
    (out / "results.csv").write_text(torn[:-20])
    os.utime(picture, (0, 0))
    assert run("a dog") == [("a dog",)]


def test_json_lines_and_order(
    model_folder: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [folder, "a dog", "a cat", "-o", out, "--format", "none"]
    assert segment(model_folder, *words, "--jsonl") == 1
    plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["text"] for record in plain] == ["a dog", "a cat"] * 3
    for key, value in (
        ("found", lambda record: record["no_target_score"]),
        ("area", lambda record: -record["area"]),
        ("picture", lambda record: record["image"]),
        ("score", lambda record: (record["no_target"], -record["score"])),
    ):
        assert segment(model_folder, *words, "--jsonl", "-", "--sort", key) == 1
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert sorted(map(json.dumps, records)) == sorted(map(json.dumps, plain))
        assert records == sorted(records, key=lambda record: (record["text"] != "a dog", value(record)))
        assert [(row["picture"], row["expression"]) for row in table(out)] == [
            (record["image"], record["text"]) for record in records
        ]
    assert Segmentation.from_dict(plain[0]).to_dict().items() <= plain[0].items()


def test_probability_maps_are_written(model_folder: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert segment(model_folder, photo, "a dog", "-o", out, "--format", "probabilities,mask", "--threshold", "0.3") == 0
    stored = np.asarray(Image.open(out / "photo.a-dog.probabilities.png"))
    assert stored.dtype == np.uint16
    answer = load(model_folder, "cpu")(str(photo), "a dog", probabilities=True)
    assert answer.probabilities is not None
    assert np.abs(stored / 65535 - answer.probabilities).max() <= 0.5 / 65535 + 1e-6


def test_long_paths_are_printed_whole(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    path = tmp_path / ("a-very-long-folder-name-" * 5) / "photo-with-a-long-name-of-a-camera-0001.png"
    path.parent.mkdir()
    save_noise(path, 10, 10)
    out = path.parent / "out"
    assert segment(model_folder, path, "a dog", "-o", out) == 0
    printed = capsys.readouterr().out.splitlines()
    assert f"{out}/{path.stem}.a-dog.*" in printed
    assert str(out / "results.csv") in printed
    assert "…" not in "".join(printed)


def test_a_full_disk_is_one_line(
    model_folder: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert segment(model_folder, photo, "a dog", "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())


def test_phrases_of_a_caption(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is an answer of its own, by its words or its characters; words that stand twice have them in their name."""
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    command = ["segment", str(tmp_path / "photo.png"), "a dog and a  dog", "-o", str(tmp_path / "out")]
    command += ["--model", str(model_folder), "--device", "cpu"]
    asked = ["--phrase", "a dog", "--phrase", "a dog", "--phrase", "6:9"]
    assert main([*command, *asked, "--jsonl", "-"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == ["a dog [0:5]", "a dog [10:16]", "and"]
    assert [line["characters"] for line in lines] == [[0, 5], [10, 16], [6, 9]]
    assert {line["caption"] for line in lines} == {"a dog and a  dog"}
    for words, message in ((["--phrase", "a cat"], "is not in its expression"), (["--phrase", "0:99"], "which has")):
        assert main([*command[:-4], "-o", str(tmp_path / "none"), *command[-4:], *words]) == 2
        told = capsys.readouterr().err
        assert message in told
        assert len(told.splitlines()) == 1
    assert main([*command, "another", *asked]) == 2
    assert "parts of one caption" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_pictures_of_one_name_are_told_apart_by_their_folders() -> None:
    from refseg.cli.segment import short_names

    names = short_names(["a/d1/img.jpg", "a/d2/img.jpg", "b/d2/img.jpg", "b/other.jpg", "img.jpg"])
    assert names == {
        "a/d1/img.jpg": str(Path("d1/img.jpg")),
        "a/d2/img.jpg": str(Path("a/d2/img.jpg")),
        "b/d2/img.jpg": str(Path("b/d2/img.jpg")),
        "b/other.jpg": "other.jpg",
        "img.jpg": "img.jpg",
    }
    assert short_names(["a/x.png", "a/x.png"]) == {"a/x.png": "x.png"}
