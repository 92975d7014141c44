"""`refseg gallery`: the page shows every answer, nothing of this machine is on it, and bad input is told in a line."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from refseg.cli.gallery import _stems, read_questions
from refseg.cli.main import main
from refseg.errors import RefsegError
from refseg.inference.gallery import ANSWERS, Card, Gallery, GalleryWriter, Target, to_html, to_markdown
from refseg.inference.predictor import load
from refseg.inference.segmentation import Instance, Segmentation


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("one/a.png", "two/a.png", "two/B ü.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def gallery(model: Path, out: Path, *words: object) -> int:
    return main(["gallery", "--model", str(model), "--device", "cpu", "-o", str(out), *map(str, words)])


class Page(HTMLParser):
    """Addresses and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_answer_is_on_the_page_as_the_model_gives_it(
    photos: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = (photos, "the red ball", "-t", "a dog", "--no-target-threshold", "1")
    assert gallery(model_folder, out, *words, "--side", "100") == 0
    assert "3 pictures, 6 expressions: 6 with an answer, 0 none" in capsys.readouterr().out
    document = json.loads((out / ANSWERS).read_text())
    assert [entry["picture"] for entry in document["pictures"]] == ["one/a.png", "B ü.jpg", "two/a.png"]
    segmenter = load(model_folder, "cpu")
    for entry, path in zip(document["pictures"], ("one/a.png", "two/B ü.jpg", "two/a.png"), strict=True):
        for shown in entry["answers"]:
            answer = segmenter(photos / path, shown["expression"], no_target_threshold=1.0)
            assert shown["no_target"] is answer.no_target
            assert shown["no_target_score"] == pytest.approx(answer.no_target_score, abs=1e-3)
            assert len(shown["targets"]) == len(answer.instances)
            with Image.open(out / shown["file"]) as drawn:
                assert tuple(shown["size"]) == drawn.size == (100, 67)
    page = Page((out / "index.html").read_text())
    shown_files = {unquote(address) for address in page.addresses}
    assert shown_files | {"index.html", ANSWERS} == {path.name for path in out.iterdir()}
    assert (out / "index.html").read_text().count("<b>the red ball</b>") == 3
    assert "script" not in page.tags
    # The folder is for others: no path of this machine.
    everything = (out / "index.html").read_text() + (out / ANSWERS).read_text()
    assert str(tmp_path) not in everything
    assert str(model_folder.parent) not in everything


def test_none_is_shown_by_the_picture_once(photos: Path, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert gallery(model_folder, out, photos / "one", "a cat", "a dog", "--no-target-threshold", "0") == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg", ANSWERS, "index.html"]
    with Image.open(out / "a.jpg") as drawn, Image.open(photos / "one" / "a.png") as picture:
        shown = np.asarray(drawn.resize((60, 40), Image.Resampling.BOX), dtype=float)
        given = np.asarray(picture, dtype=float)
    assert np.corrcoef(shown.ravel(), given.ravel())[0, 1] > 0.9


def test_a_list_asks_each_picture_its_own(photos: Path, model_folder: Path, tmp_path: Path) -> None:
    rows = ["# picture, expression, note", "", "one/a.png\tthe  ball\tright", "two/a.png\ta <b>dog</b>\tpartly"]
    (tmp_path / "asks.tsv").write_text("\n".join([*rows, "two/a.png\ta cat\tright", rows[2]]) + "\r\n")
    out = tmp_path / "out"
    words = ("--expressions", tmp_path / "asks.tsv", "--images", photos, "--format", "markdown", "--title", "By *eye*")
    assert gallery(model_folder, out, *words) == 0
    document = json.loads((out / ANSWERS).read_text())
    asked = [(each["picture"], card["expression"]) for each in document["pictures"] for card in each["answers"]]
    assert asked == [("one/a.png", "the ball"), ("two/a.png", "a <b>dog</b>"), ("two/a.png", "a cat")]
    text = (out / "index.md").read_text()
    assert text.startswith("# By \\*eye\\*\n")
    assert "right: **2**, partly: **1**" in text
    assert "<b>" not in text
    assert {*re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)} == {path.name for path in out.glob("*.jpg")}


def test_a_jsonl_list_says_the_same_as_a_tsv(photos: Path, tmp_path: Path) -> None:
    (photos / "asks.tsv").write_text("one/a.png\tthe ball\nB.png\ta dog\tfalsely found\n".replace("B.", "two/a."))
    lines = [{"image": "one/a.png", "text": "the ball"}, {"image": "two/a.png", "text": "a dog"}]
    lines[1]["note"] = "falsely found"
    (tmp_path / "asks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = read_questions(photos / "asks.tsv")
    assert [each[1:] for each in own] == [("the ball", ""), ("a dog", "falsely found")]
    assert own == read_questions(tmp_path / "asks.jsonl", photos)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tsv", "one/a.png the dog\n", "line 1: picture, expression and perhaps a note are wanted"),
        ("a.tsv", "\none/a.png\t \n", "line 2: the expression is empty"),
        ("a.tsv", "one/c.png\tthe dog\n", "line 1: there is no picture"),
        ("a.tsv", "\tthe dog\n", "line 1: names no picture"),
        ("a.tsv", f"{'x' * 5000}\tthe dog\n", "line 1: there is no picture"),
        ("a.tsv", "# nothing\n", "no expression in it"),
        ("a.tsv", b"\xff\xfe\x00", "no UTF-8 text"),
        ("a.jsonl", "{\n", "line 1: not valid JSON"),
        ("a.jsonl", "[1]\n", "line 1: an object is wanted"),
        ("a.jsonl", '{"image": "one/a.png"}\n', "line 1: text is missing"),
        ("a.jsonl", '{"image": "one/a.png", "text": 5}\n', "line 1: text is no text"),
        ("a.txt", "the dog\n", ".tsv or .jsonl"),
    ],
)
def test_bad_lists_are_told_with_their_line(photos: Path, name: str, content: str | bytes, said: str) -> None:
    path = photos / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RefsegError, match=re.escape(said)) as found:
        read_questions(path)
    assert str(path) in str(found.value)


def test_what_is_missing_is_told(
    photos: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asks = photos / "asks.tsv"
    asks.write_text("one/a.png\tthe ball\n")
    for words, said in (
        ((), "nothing is asked"),
        ((photos,), "no expression is given for the pictures"),
        ((photos, "--expressions", asks), "--images DIR is where the pictures of"),
        (("the dog",), "no picture is given for the expressions"),
        ((photos, "the dog", "--images", photos), "--expressions FILE, which is not given"),
        ((photos, "the dog", "--side", "10"), "from 64 to 4096"),
        (("--expressions", photos / "gone.tsv"), "cannot be read"),
    ):
        assert gallery(model_folder, out, *words) == 2, words
        printed = capsys.readouterr().err
        assert said in printed
        assert printed.count("\n") == 1
    assert not out.exists()


def test_only_a_gallery_is_replaced(
    photos: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gallery(model_folder, photos, photos / "one", "a dog") == 2
    assert "holds no gallery" in capsys.readouterr().err
    assert (photos / "one" / "a.png").is_file()
    out = tmp_path / "out"
    assert gallery(model_folder, out, photos / "one", "a dog", "a cat") == 0
    before = {path.name for path in out.iterdir()}
    assert gallery(model_folder, out, photos / "one", "a dog", "--format", "markdown") == 0
    after = {path.name for path in out.iterdir()}
    assert "index.md" in after
    assert not {name for name in before - after if not name.endswith(("html", "jpg"))}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_bad_pictures_are_left_out_and_named(
    photos: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "one" / "a.png").write_bytes(b"\x89PNG\r\n")
    out = tmp_path / "out"
    assert gallery(model_folder, out, photos, "a dog") == 1
    assert "left out: " in capsys.readouterr().err
    text = (out / "index.html").read_text()
    assert "Left out" in text
    assert "one/a.png: " in text
    assert str(tmp_path) not in text
    for path in photos.glob("two/*"):
        path.write_bytes(b"no picture")
    before = (out / ANSWERS).read_bytes()
    assert gallery(model_folder, out, photos, "a dog") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (out / ANSWERS).read_bytes() == before, "a run without any answer leaves what was there"


def test_instances_remarks_and_notes_are_shown_and_marks_are_letters(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:15, 5:15] = mask[20:30, 30:50] = True
    parts = []
    for rows, columns, label, score in (
        (slice(5, 15), slice(5, 15), "dog", 0.9),
        (slice(20, 30), slice(30, 50), "cat", 0.4),
    ):
        own = np.zeros_like(mask)
        own[rows, columns] = True
        parts.append(Instance.from_mask(own, score, label))
    evil = '<script>alert("x")</script> | [a](b) *c* `d`'
    answer = Segmentation(mask, instances=parts, text=evil, extra={"remarks": ["not used: <i>"]})
    writer = GalleryWriter(tmp_path, evil, "model & co", 384)
    writer.add("a|b.jpg", "a-b", Image.new("RGB", (60, 40), (90, 90, 90)), [("evil", answer, "wrong")])
    writer.leave_out("c.jpg", "not a picture")
    writer.finish("html")
    with Image.open(tmp_path / "a-b.evil.jpg") as picture:
        drawn = np.asarray(picture, dtype=int)
    assert drawn.shape == (256, 384, 3)
    assert np.ptp(drawn[60, 60]) > 40 > np.ptp(drawn[250, 10]), "targets are coloured, the rest is grey"
    page = Page((tmp_path / "index.html").read_text())
    assert "script" not in page.tags
    assert page.tags.count("li") == 3
    for words in (evil, "2 targets", "dog 0.90", "cat 0.40", "not used: <i>", "wrong", "model & co", "not a picture"):
        assert words in page.text
    text = to_markdown(writer.gallery)
    assert "<script" not in text
    row = next(line for line in text.splitlines() if "2 targets" in line)
    assert row.count("|") == 2, "a bar in an expression is no border of the table"
    assert "1: dog 0.90<br>2: cat 0.40" in row
    assert "*not used: &lt;i&gt;*" in row


def test_notes_are_counted_while_they_are_classes() -> None:
    def cards(notes: list[str]) -> Gallery:
        own = [
            Card("x", "none", True, 0.9, 0.1, (Target("dog", 0.5, (0.0, 0.0, 1.0, 1.0)),), (), note, "x.jpg", (1, 1))
            for note in notes
        ]
        return Gallery("title", "model", [("x", own)])

    assert cards(["right", "wrong", "right", ""]).notes == {"right": 2, "wrong": 1}
    assert "right: <b>2</b>, wrong: <b>1</b>" in to_html(cards(["right", "wrong", "right", ""]))
    assert cards([str(number) for number in range(13)]).notes == {}


def test_files_of_pictures_of_one_name_differ() -> None:
    paths = [Path(name) for name in ("a/x.png", "b/X.jpg", "c/x-2.png", "Ünï.png", "日本.png", "日.png")]
    assert _stems(paths) == ["x", "x-2", "x-2-2", "uni", "picture", "picture-2"]
