"""`refseg index` and `refseg search` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from refseg.apps.search import index as index_module
from refseg.cli import search as verbs
from refseg.cli.main import main
from tests.support.painted_things import paint, paint_segmenter


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    segmenter = paint_segmenter(fine_masks=True)
    monkeypatch.setattr(index_module, "load", lambda model, device="auto": segmenter)
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "photos" / "a.png", ("dog", (60, 40), 20), ("car", (60, 110), 25))
    paint(tmp_path / "photos" / "b.png", ("cat", (60, 40), 20))
    (tmp_path / "photos" / "torn.jpg").write_bytes(b"no picture")
    return tmp_path / "photos"


def run(*words: str) -> int:
    return main(list(words))


def test_from_pictures_to_an_answer(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("index", "photos", "-o", "my.index") == 0
    printed = capsys.readouterr()
    assert "3 pictures; 3 added" in printed.out
    assert "torn.jpg" in printed.err
    assert run("search", "my.index", "the dog", "--json", "found.json", "--sheet", "sheet.png") == 0
    assert str(photos / "a.png") in capsys.readouterr().out
    document = json.loads(Path("found.json").read_text())
    assert set(document) == {"hits", "nothing", "looked_at"}
    assert document["looked_at"] == 2
    assert document["nothing"] is False
    (hit,) = document["hits"]
    assert set(hit) == {"path", "score", "no_target_score", "boxes"}
    assert hit["path"] == str(photos / "a.png")
    assert len(hit["boxes"]) == 1
    with Image.open("sheet.png") as sheet:
        assert min(sheet.size) > 100
    assert run("search", "my.index", "the zebra", "--json", "--sheet", "none.png") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"hits": [], "nothing": True, "looked_at": 2}
    assert not Path("none.png").exists()
    assert run("search", "my.index", "the zebra") == 0
    assert "nothing found" in capsys.readouterr().out
    assert run("search", "my.index", "the zebra", "--reject", "0", "--top", "1", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["hits"]) == 1


def test_a_sheet_without_the_pictures(photos: Path) -> None:
    assert run("index", "photos", "-o", "my.index") == 0
    for path in photos.iterdir():
        path.unlink()
    assert run("search", "my.index", "the dog", "--sheet", "sheet.jpg") == 0
    assert Path("sheet.jpg").stat().st_size > 1000


def test_bringing_up_to_date(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("index", "photos", "-o", "my.index") == 0
    paint(photos / "c.png", ("dog", (60, 60), 30))
    (photos / "b.png").unlink()
    capsys.readouterr()
    assert run("index", "photos", "-o", "my.index", "--prune", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["added"], document["unchanged"], document["removed"]) == (1, 2, 1)
    assert run("index", "-o", "my.index", "--remove", "photos/c.png") == 0
    capsys.readouterr()
    assert run("index", "-o", "my.index", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["pictures"] == 2
    assert document["bad"][0]["path"] == str(photos / "torn.jpg")
    assert run("index", "photos", "-o", "my.index", "--rebuild") == 0
    assert "3 pictures; 3 added" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["index"], "no picture is given"),
        (["index", "nowhere", "-o", "x.index"], "no such picture"),
        (["index", "photos", "-o", "photos"], "no index; choose another"),
        (["index", "photos", "-o", "photos", "--rebuild"], "holds more than an index"),
        (["index", "http://example.org/a.jpg", "-o", "x.index"], "not fetched"),
        (["index", "--remove", "a.png", "-o", "x.index"], "nothing to remove"),
        (["index", "photos", "-o", "x.index", "--views", "9"], "from 1 to 4"),
        (["search", "photos", "the dog"], "is no index"),
        (["search", "photos", " "], "empty"),
        (["search", "photos", "the dog", "--reject", "2"], "probability"),
        (["search", "photos", "the dog", "--top", "0"], "at least 1"),
        (["search", "photos", "the dog", "--sheet", "x.gif"], "neither .png nor .jpg"),
        (["search", "photos", "the dog", "--json", "photos"], "is a folder"),
    ],
)
def test_wrong_command_lines(photos: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert run(*words) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert (photos / "a.png").is_file()


def test_without_the_extra(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(verbs, "find_spec", lambda name: None)
    for words in (["index", "photos"], ["search", "x", "the dog"]):
        assert run(*words) == 2
        assert "pip install 'refseg[search]'" in capsys.readouterr().err
