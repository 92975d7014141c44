"""Into the game and out again: what is imported from each form, what is exported, and that other tools read it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select

from refseg.apps.annotate.database.tables import GameSample, Imported, Object, Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.exporting import export, export_archive
from refseg.apps.annotate.services.importing import ImportResult, import_pictures, import_source
from refseg.apps.annotate.services.outlines import rings_of
from refseg.apps.annotate.services.pictures import picture_path
from refseg.apps.annotate.services.sources import scenes
from refseg.apps.annotate.settings import Settings
from refseg.cli.main import main
from refseg.data import open_dataset
from refseg.data.check import check
from refseg.data.sample import Instance
from refseg.errors import DataError
from tests.support.small_games import SIZE, Browser, found, make_game, open_game, play

Enter = Callable[..., Browser]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("form", "sentences"), [("grefcoco", 6), ("refcoco", 2), ("jsonl", 6)])
def test_an_export_is_read_back_whole(game: Game, tmp_path: Path, form: str, sentences: int) -> None:
    play(game)
    target = tmp_path / "out"
    assert export(game, target, form) == sentences
    dataset = open_dataset(target / "data.jsonl" if form == "jsonl" else target)
    assert not dataset.problems
    assert len(dataset) == sentences
    with game.database.read() as session:
        texts = {row.id: row for row in session.scalars(select(GameSample))}
        for sample in dataset:
            kept = texts[sample.sent_id]
            assert sample.text == kept.text
            assert sample.no_target == kept.no_target
            assert sample.split == kept.split
            picture = session.get(Picture, kept.picture_id)
            assert picture is not None
            assert sample.image_id == picture.number
            assert np.array_equal(
                np.asarray(sample.read_image()), np.asarray(Image.open(picture_path(game.settings, picture)))
            )
            assert sample.mask().sum() == 30 * len(sample.objects)
    if form != "jsonl":
        report = check(target, deep=True)
        assert report.usable
        assert not [problem for one in report.datasets for problem in one.problems]


def test_an_export_is_the_same_twice_and_grows(game: Game, tmp_path: Path) -> None:
    play(game)
    for form in ("grefcoco", "refcoco", "jsonl"):
        export(game, tmp_path / f"{form}1", form)
        export(game, tmp_path / f"{form}2", form)
        assert bytes_of(tmp_path / f"{form}1") == bytes_of(tmp_path / f"{form}2")
        export_archive(game, tmp_path / "one.zip", form)
        export_archive(game, tmp_path / "two.zip", form)
        assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
        with zipfile.ZipFile(tmp_path / "one.zip") as archive:
            assert set(archive.namelist()) == set(bytes_of(tmp_path / f"{form}1"))


def test_the_card_counts(game: Game, tmp_path: Path) -> None:
    play(game)
    export(game, tmp_path / "out", "grefcoco")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["accepted"] == card["sentences"] == 6
    assert card["targets"] == {"none": 2, "one": 2, "several": 2}
    assert sum(card["splits"].values()) == sum(card["kinds"].values()) == 6
    assert card["agreement"] == {"compared": 6, "matched": 6, "rate": 1.0, "first_rate": 1.0}
    assert (card["annotators"], card["validators"]) == (1, 1)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| sentences | 6 |" in text
    assert "100.0%" in text


def test_nothing_to_export(sqlite_game: Game, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sample is accepted yet"):
        export(sqlite_game, tmp_path / "out", "grefcoco")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="choose from"):
        export(sqlite_game, tmp_path / "out", "coco")


def test_the_download_is_the_export(enter: Enter, sqlite_game: Game) -> None:
    admin = enter("admin")
    assert admin.get("/api/v1/admin/export").json()["error"]["code"] == "not_allowed"
    play(sqlite_game)
    answer = admin.get("/api/v1/admin/export?format=jsonl")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.content[:2] == b"PK"
    assert not list(sqlite_game.settings.data.glob("export-*"))
    assert admin.get("/api/v1/admin/card").json()["accepted"] == 6


def test_an_exported_data_set_is_imported_again(game: Game, tmp_path: Path) -> None:
    play(game)
    export(game, tmp_path / "out", "grefcoco")
    other = open_game(Settings(tmp_path / "other"))
    brought = import_source(other, tmp_path / "out")
    assert brought.sentences == 6
    assert not brought.problems
    with game.database.read() as session:
        played = select(Object.number).join(Picture).where(Picture.id.in_(select(GameSample.picture_id)))
        wanted = set(session.scalars(played))
    with other.database.read() as session:
        assert set(session.scalars(select(Object.number))) == wanted, "also the objects that no sentence means"
    with other.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Imported).where(Imported.no_target)) == 2
    again = import_source(other, tmp_path / "out")
    assert (again.pictures, again.sentences) == (0, 0)
    assert {problem.kind for problem in again.problems} == {"known_picture"}
    other.database.close()


def coco_file(folder: Path, splits: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
        record = {"id": number, "file_name": f"{number}.jpg", "height": SIZE[0], "width": SIZE[1]}
        images.append({**record, **({"split": splits[number - 1]} if splits else {})})
        box = [2.0, 2.0, 10.0, 2.0, 10.0, 12.0, 2.0, 12.0]
        for place, crowd in enumerate((0, 0, 1)):
            annotations.append(
                {
                    "id": number * 10 + place, "image_id": number, "category_id": 1, "bbox": [2, 2, 8, 10],
                    "segmentation": [box], "iscrowd": crowd,
                }
            )  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dog"}]}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_a_coco_file(tmp_path: Path) -> None:
    game = open_game(Settings(tmp_path / "game"))
    brought = import_source(game, coco_file(tmp_path / "coco", ("train", "val")))
    assert (brought.pictures, brought.objects, brought.sentences) == (2, 4, 0), "groups (iscrowd) are left out"
    with game.database.read() as session:
        rows = list(session.scalars(select(Picture).order_by(Picture.number)))
        assert [(row.split, row.suffix, row.objects) for row in rows] == [("train", ".jpg", 2), ("val", ".jpg", 2)]
        assert picture_path(game.settings, rows[0]).read_bytes() == (tmp_path / "coco" / "1.jpg").read_bytes()
    game.database.close()


def test_the_same_picture_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    game = open_game(Settings(tmp_path / "game"))
    import_source(game, coco_file(tmp_path / "coco"), split="train")
    other = ImportResult()
    import_pictures(game, [found(9, ("dog",))], other, "test")
    with pytest.raises(DataError, match="it would leak into val"):
        import_source(game, coco_file(tmp_path / "coco"), split="val")
    game.database.close()


def test_a_folder_of_pictures_and_masks(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "masks" / "b").mkdir(parents=True)
    (home / "pictures").mkdir()
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "green")):
        Image.new("RGB", (SIZE[1], SIZE[0]), colour).save(home / "pictures" / f"{name}.png")
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[:5, :5], labels[10:15, 10:15] = 1, 7
    Image.fromarray(labels).save(home / "masks" / "a.png")
    for name in ("wine_glass_1", "wine_glass_2", "dog"):
        Image.fromarray((labels == 1).astype(np.uint8) * 255).save(home / "masks" / "b" / f"{name}.png")
    game = open_game(Settings(tmp_path / "game"))
    brought = import_source(game, home, split="val")
    assert (brought.pictures, brought.objects) == (2, 5)
    assert [problem.kind for problem in brought.problems] == ["no_masks"]
    with game.database.read() as session:
        names = sorted(session.scalars(select(Object.category)))
    assert names == ["dog", "object", "object", "wine glass", "wine glass"]
    game.database.close()


def test_sentences_of_a_second_split_stay_out(tmp_path: Path) -> None:
    """RefCOCOg's split by objects has pictures in two splits."""
    home = tmp_path / "refcocog"
    instances = json.loads(coco_file(home).read_text())
    refs = []
    for place, split in enumerate(("train", "val")):
        sentence = {"sent_id": place, "raw": f"dog {split}", "sent": "", "tokens": []}
        record = {"ref_id": place, "image_id": 1, "ann_id": 10 + place, "category_id": 1, "file_name": "1.jpg"}
        refs.append({**record, "split": split, "sent_ids": [place], "sentences": [sentence]})
    (home / "refs(google).json").write_text(json.dumps(refs))
    assert instances
    game = open_game(Settings(tmp_path / "game"))
    brought = import_source(game, home)
    assert brought.sentences == 1
    assert "two_splits" in {problem.kind for problem in brought.problems}
    game.database.close()


def test_a_turned_picture_is_stored_upright(tmp_path: Path) -> None:
    home = tmp_path / "coco"
    path = coco_file(home)
    turned = Image.fromarray(np.zeros((SIZE[1], SIZE[0], 3), dtype=np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(home / "1.jpg", exif=exif)
    game = open_game(Settings(tmp_path / "game"))
    assert import_source(game, path).pictures == 2
    with game.database.read() as session:
        picture = session.scalars(select(Picture).where(Picture.number == 1)).one()
    with Image.open(picture_path(game.settings, picture)) as stored:
        assert (stored.format, stored.size) == ("PNG", (SIZE[1], SIZE[0]))
    game.database.close()


def test_rings_fill_to_the_mask() -> None:
    """Filled by the nonzero rule, as pages do."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = rng.random(SIZE) < 0.5
        rings, _, area = rings_of(Instance(1, "x", (0.0, 0.0, 1.0, 1.0), mask), SIZE)
        winding = np.zeros(SIZE, dtype=int)
        for ring in rings:
            points = np.asarray(ring).reshape(-1, 2)
            for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
                if x1 == x2:  # a vertical edge changes the winding of all pixels right of it
                    low, high = int(min(y1, y2)), int(max(y1, y2))
                    winding[low:high, int(x1) :] += 1 if y2 < y1 else -1
        assert np.array_equal(winding != 0, mask)
        assert area == mask.sum()
    polygons = [np.array([1.0, 1, 9, 1, 9, 9, 1, 9]), np.array([4.0, 4, 4, 12, 12, 12, 12, 4])]
    rings, kept, _ = rings_of(Instance(1, "x", (0.0, 0.0, 1.0, 1.0), polygons), SIZE)
    turns = [np.sign(_area(np.asarray(ring).reshape(-1, 2))) for ring in rings]
    assert turns == [1, 1], "the same way round: their overlap stays filled"
    assert kept == [polygon.tolist() for polygon in polygons]


def _area(points: np.ndarray) -> float:
    along, down = points[:, 0], points[:, 1]
    return float(np.dot(along, np.roll(down, -1)) - np.dot(down, np.roll(along, -1)))


def test_drawn_scenes(tmp_path: Path) -> None:
    game = open_game(Settings(tmp_path / "game"))
    brought = ImportResult()
    import_pictures(game, scenes(4, size=96), brought, "scenes")
    assert brought.pictures == 4
    assert brought.sentences > 4
    assert not brought.problems
    game.database.close()


def test_sources_that_are_nothing(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game")
    with pytest.raises(DataError, match="no such file"):
        import_source(game, tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        import_source(game, tmp_path / "empty")
    game.database.close()


def test_the_command_line_from_nothing_to_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(tmp_path / "game")]
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    assert main(["annotate", "migrate", *data]) == 0
    assert main(["annotate", "import", str(coco_file(tmp_path / "coco")), "--split", "val", *data]) == 0
    add = ["annotate", "user", "add", "anna", "--roles", "administrator", "--password-file", str(password), *data]
    assert main(add) == 0
    assert main(add) == 2
    assert main(["annotate", "user", "role", "anna", "annotator", *data]) == 2, "nobody would administer"
    assert main(["annotate", "user", "list", *data]) == 0
    assert "administrator" in capsys.readouterr().out
    assert main(["annotate", "user", "token", "anna", *data]) == 0
    assert capsys.readouterr().out.startswith("refseg_")
    assert main(["annotate", "export", str(tmp_path / "out"), *data]) == 2
    game = open_game(Settings(tmp_path / "game"))
    with game.database.read() as session:
        assert set(session.scalars(select(Picture.split))) == {"val"}
    play(game)
    game.database.close()
    assert main(["annotate", "export", str(tmp_path / "out"), *data]) == 0
    assert main(["data", "check", str(tmp_path / "out")]) == 0
    assert main(["annotate", "stats", *data]) == 0
    assert "6 accepted" in capsys.readouterr().out
    assert main(["annotate", "stats", "--json", *data]) == 0
    assert json.loads(capsys.readouterr().out)["samples"]["accepted"] == 6
    assert main(["annotate", "backup", str(tmp_path / "copy.jsonl.gz"), *data]) == 0
    assert main(["annotate", "restore", str(tmp_path / "copy.jsonl.gz"), *data]) == 2
    assert main(["annotate", "restore", str(tmp_path / "copy.jsonl.gz"), "--data", str(tmp_path / "new")]) == 0


def test_the_demonstration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(tmp_path / "game"), "--prepare-only", "--scenes", "2"]
    assert main(["annotate", "demo", *data]) == 0
    shown = capsys.readouterr().out
    assert "anna" in shown
    assert "viktor" in shown
    assert main(["annotate", "demo", *data, "--from", str(coco_file(tmp_path / "coco"))]) == 0
    assert "2 pictures with 4 objects imported" in capsys.readouterr().out


LICENCE = {"id": 4, "name": "Attribution", "url": "http://licences.example/by/2.0/"}


def coco_with_origin(folder: Path) -> Path:
    path = coco_file(folder)
    content = json.loads(path.read_text())
    content["licenses"] = [LICENCE]
    content["images"][0] |= {"license": 4, "coco_url": "http://pictures.example/1.jpg"}
    content["images"][1] |= {"flickr_url": "http://pictures.example/two"}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("form", ["grefcoco", "refcoco", "jsonl"])
def test_an_export_says_where_its_pictures_come_from(tmp_path: Path, form: str) -> None:
    game = open_game(Settings(tmp_path / "game"))
    import_source(game, coco_with_origin(tmp_path / "coco"))
    play(game, 6)
    export(game, tmp_path / "out", form)
    records = {row["image_id"]: row for row in json.loads((tmp_path / "out" / "pictures.json").read_text())}
    assert records[1] == {
        "image_id": 1, "file_name": "000000000001.jpg", "split": "train", "original_name": "1.jpg",
        "license": f"{LICENCE['name']} {LICENCE['url']}", "source_url": "http://pictures.example/1.jpg",
    }  # fmt: skip
    assert records[2]["license"] == ""
    assert records[2]["source_url"] == "http://pictures.example/two"
    if form != "jsonl":
        home = tmp_path / "out" / ("refcoco" if form == "refcoco" else "converted")
        instances = json.loads((home / "instances.json").read_text())
        assert instances["licenses"] == [{**LICENCE, "id": 1}]
        images = {record["id"]: record for record in instances["images"]}
        assert (images[1]["license"], images[1]["coco_url"]) == (1, "http://pictures.example/1.jpg")
        assert "license" not in images[2]
        assert (images[1]["original_name"], images[2]["original_name"]) == ("1.jpg", "2.jpg")
        other = open_game(Settings(tmp_path / "other"))
        import_source(other, tmp_path / "out")
        with other.database.read() as session:
            again = session.scalars(select(Picture).where(Picture.number == 1)).one()
            assert (again.license, again.source_url) == (records[1]["license"], records[1]["source_url"])
            assert again.file_name == "1.jpg"
        other.database.close()
    game.database.close()


def test_the_form_with_one_target_each_says_what_it_left_out(
    sqlite_game: Game, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(sqlite_game)
    assert export(sqlite_game, tmp_path / "out", "refcoco") == 2
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["sentences"] == card["accepted"] == 2
    assert card["targets"] == {"none": 0, "one": 2, "several": 0}
    assert sum(card["splits"].values()) == sum(card["kinds"].values()) == card["objects"] == 2
    assert card["left_out"] == {"none": 2, "several": 2}
    refs = json.loads((tmp_path / "out" / "refcoco" / "instances.json").read_text())
    assert card["pictures"] == len(refs["images"])
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| sentences | 2 |" in text
    assert "| accepted, and not in this form: without target, several | 2, 2 |" in text
    data = ["--data", str(sqlite_game.settings.data)]
    assert main(["annotate", "export", str(tmp_path / "again"), "--format", "refcoco", *data]) == 0
    shown = capsys.readouterr().out
    assert "2 expressions written" in shown
    assert "left out, as refcoco has one target each: 2 without, 2 with several" in shown
    assert main(["annotate", "export", str(tmp_path / "whole"), *data]) == 0
    assert "left out" not in capsys.readouterr().out
