"""Photographs without masks: imported, proposed, drawn, mended, and out again as a data set."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sqlalchemy import select, text

from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.database.migrate import alembic_config, migrate
from refseg.apps.annotate.database.tables import GameSample, Object, ObjectVersion, Picture
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services import proposing
from refseg.apps.annotate.services.exporting import export
from refseg.apps.annotate.services.importing import import_source
from refseg.apps.annotate.settings import Settings
from refseg.data import open_dataset, rle
from refseg.data.check import check
from refseg.errors import DataError
from tests.support.replay import contradictions
from tests.support.small_games import Browser, add_people, log_in, make_game, open_game

HEIGHT, WIDTH = 60, 90


def disc(x: float, y: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def photographs(folder: Path, count: int = 2) -> Path:
    """Plain pictures with a disc and a bar each."""
    for number in range(count):
        home = folder / ("inner" if number % 2 else ".")
        home.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (WIDTH, HEIGHT), (number * 9 % 255, 120, 90))
        draw = ImageDraw.Draw(image)
        draw.ellipse((10, 10, 40, 40), fill=(220, 30, 30))
        draw.rectangle((55, 5, 75, 50), fill=(20, 20, 200))
        image.save(home / f"photo {number}.jpg", quality=95)
    return folder


class FakeModel(proposing.ModelProcess):
    """Proposes the disc and the bar, and at a point the disc there."""

    def __init__(self) -> None:
        super().__init__("fake")
        self.asked: list[dict[str, Any]] = []

    def ask(self, picture: Path, **where: list[float]) -> list[dict[str, Any]]:
        assert picture.is_file()
        self.asked.append(dict(where))
        if "point" in where:
            return [{"name": "ball", "score": 0.9, "rle": rle.encode(disc(*where["point"], 8))}]
        bar = np.zeros((HEIGHT, WIDTH), dtype=bool)
        bar[5:51, 55:76] = True
        return [
            {"name": "ball", "score": 0.8, "rle": rle.encode(disc(25, 25, 15))},
            {"name": "box", "score": 0.6, "rle": rle.encode(bar)},
        ]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    made = FakeModel()
    monkeypatch.setattr(proposing, "_PROCESSES", {"instances": made})
    return made


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Game]:
    """A game with two photographs and nothing else."""
    game = open_game(Settings(tmp_path / "game"))
    brought = import_source(game, photographs(tmp_path / "photos"))
    assert (brought.pictures, brought.plain, brought.objects) == (2, 2, 0)
    add_people(game, "anna", "viktor", "vera")
    add_people(game, "edda", roles=("editor",))
    yield game
    game.database.close()


@pytest.fixture
def edda(plain: Game) -> Browser:
    return log_in(create_app(plain.settings, plain), "edda")


def next_task(browser: Browser, **given: Any) -> dict[str, Any]:
    answer = browser.post("/api/v1/edit/next", json=given)
    assert answer.status_code == 200, answer.text
    return answer.json()["task"]


def save(browser: Browser, task: dict[str, Any], status: int = 200, **given: Any) -> Any:
    body = {"lease_id": task["lease"]["id"], "revision": task["revision"], **given}
    answer = browser.put(f"/api/v1/edit/pictures/{task['picture']['id']}/objects", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def finish(browser: Browser, task: dict[str, Any]) -> Any:
    path = f"/api/v1/edit/pictures/{task['picture']['id']}/finish"
    return browser.post(path, json={"lease_id": task["lease"]["id"]})


def drawn(mask: NDArray[np.bool_], name: str = "ball", key: str = "a", **more: Any) -> dict[str, Any]:
    return {"key": key, "name": name, "rle": rle.encode(mask), **more}


def test_a_folder_with_annotations_is_not_taken_for_photographs(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    (folder / "labels.json").write_text("{}")
    game = open_game(Settings(tmp_path / "game"))
    with pytest.raises(DataError):
        import_source(game, folder)
    game.database.close()


def test_nobody_writes_about_a_picture_without_masks(plain: Game, edda: Browser) -> None:
    anna = log_in(create_app(plain.settings, plain), "anna")
    assert anna.next_write() is None
    task = next_task(edda)
    assert (task["masks"], task["objects"], task["proposed"]) == ("open", [], False)
    assert finish(edda, task).status_code == 422  # without an object
    mask = disc(25, 25, 15)
    save(edda, task, objects=[drawn(mask)])
    assert anna.next_write() is None
    assert finish(edda, task).json() == {"sentences": 0}
    shown = anna.next_write()
    assert shown["picture"]["id"] == task["picture"]["id"]
    assert [item["area"] for item in shown["objects"]] == [float(mask.sum())]


def test_masks_are_kept_to_the_pixel(plain: Game, edda: Browser) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((HEIGHT, WIDTH)) < 0.5, disc(3, 3, 5), np.ones((HEIGHT, WIDTH), dtype=bool)]
    task = next_task(edda)
    save(edda, task, objects=[drawn(mask, key=str(place)) for place, mask in enumerate(masks)])
    again = next_task(edda)
    assert again["revision"] == 1
    found = [rle.decode(item["rle"], (HEIGHT, WIDTH)) for item in sorted(again["objects"], key=lambda item: item["id"])]
    assert all(np.array_equal(one, other) for one, other in zip(found, masks, strict=True))
    assert [item["source"] for item in again["objects"]] == ["drawn"] * 3


EMPTY = np.zeros((HEIGHT, WIDTH), dtype=bool)


@pytest.mark.parametrize(
    "mask", [{"size": [HEIGHT, WIDTH], "counts": "0"}, {"size": [5, 5], "counts": "i0"}, rle.encode(EMPTY)]
)
def test_damaged_empty_and_foreign_masks_are_refused(edda: Browser, mask: dict[str, Any]) -> None:
    task = next_task(edda)
    answer = save(edda, task, 422, objects=[{"key": "a", "name": "ball", "rle": mask}])
    assert answer["error"]["field"] == "objects"


def test_a_model_proposes_once_and_people_correct(plain: Game, edda: Browser, model: FakeModel) -> None:
    task = next_task(edda)
    assert task["model"]
    path = f"/api/v1/edit/pictures/{task['picture']['id']}"
    lease = {"lease_id": task["lease"]["id"]}
    answer = edda.post(f"{path}/propose", json=lease).json()
    assert answer["added"] == 2
    assert [(item["name"], item["source"], item["score"]) for item in answer["task"]["objects"]] == [
        ("box", "proposed", 0.6),
        ("ball", "proposed", 0.8),
    ]
    assert edda.post(f"{path}/propose", json=lease).json()["added"] == 0
    assert model.asked == [{}]
    found = edda.post(f"{path}/segment", json={**lease, "point": [40, 30]}).json()["items"]
    assert np.array_equal(rle.decode(found[0]["rle"]), disc(40, 30, 8))
    assert edda.post(f"{path}/segment", json=lease).status_code == 422
    ball = next(item for item in answer["task"]["objects"] if item["name"] == "ball")
    smaller = disc(25, 25, 12)
    save(
        edda, answer["task"],
        objects=[{"id": ball["id"], "name": "red ball", "rle": rle.encode(smaller)}],
    )  # fmt: skip
    again = next_task(edda)
    changed = next(item for item in again["objects"] if item["id"] == ball["id"])
    assert (changed["name"], changed["source"]) == ("red ball", "edited")
    history = edda.get(f"{path}/history").json()["items"]
    assert [(item["name"], item["source"], item["person"]) for item in history] == [("ball", "proposed", "edda")]
    assert np.array_equal(rle.decode(history[0]["rle"]), disc(25, 25, 15))


def test_without_a_model_the_editor_says_so(plain: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposing, "_PROCESSES", {})
    monkeypatch.setattr(proposing, "find_spec", lambda name: None)
    edda = log_in(create_app(plain.settings, plain), "edda")
    task = next_task(edda)
    assert not task["model"]
    body = {"lease_id": task["lease"]["id"], "point": [1, 1]}
    answer = edda.post(f"/api/v1/edit/pictures/{task['picture']['id']}/segment", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_allowed")


def test_two_editors_never_hold_one_picture(plain: Game, edda: Browser) -> None:
    anna = log_in(create_app(plain.settings, plain), "anna")  # an administrator edits too
    one, other = next_task(edda), next_task(anna)
    assert one["picture"]["id"] != other["picture"]["id"]
    taken = anna.post("/api/v1/edit/next", json={"picture_id": one["picture"]["id"]})
    assert taken.json()["error"]["code"] == "lease_lost"
    plain.clock.now += 901  # type: ignore[attr-defined]
    assert next_task(anna, picture_id=one["picture"]["id"])["lease"]["id"] != one["lease"]["id"]
    assert save(edda, one, 409, objects=[drawn(disc(9, 9, 4))])["error"]["code"] == "lease_lost"


def test_another_window_does_not_overwrite(edda: Browser) -> None:
    task = next_task(edda)
    save(edda, task, objects=[drawn(disc(9, 9, 4))])
    assert save(edda, task, 409, objects=[drawn(disc(30, 30, 4))])["error"]["code"] == "draft_conflict"
    assert len(next_task(edda)["objects"]) == 1


def test_only_editors_and_administrators(plain: Game) -> None:
    add_people(plain, "paul", roles=("annotator", "validator"))
    paul = log_in(create_app(plain.settings, plain), "paul")
    assert paul.post("/api/v1/edit/next", json={}).status_code == 403
    assert paul.get("/edit").status_code == 403


@pytest.fixture
def round_about(tmp_path: Path) -> Iterator[Callable[[str], Browser]]:
    game = make_game(tmp_path / "game")
    add_people(game, "anna", "viktor", "vera")
    add_people(game, "edda", roles=("editor",))
    app = create_app(game.settings, game)
    make = lambda name: log_in(app, name)  # noqa: E731
    make.game = game  # type: ignore[attr-defined]
    yield make
    with game.database.read() as session:
        assert contradictions(session) == []
    game.database.close()


def test_a_broken_mask_goes_to_the_editor_and_comes_back(round_about: Any) -> None:
    game = round_about.game
    anna, viktor, vera, edda = (round_about(name) for name in ("anna", "viktor", "vera", "edda"))
    targets = [min(item["id"] for item in anna.next_write()["objects"])]
    sample = anna.write("the thing in the corner", targets).json()["sample"]["id"]
    answer = viktor.judge(decision="reject", no_target=False, reason="broken_mask", note="too small")
    assert answer.json()["result"] == "rejected"
    with game.database.read() as session:
        row = session.get_one(GameSample, sample)
        picture = session.get_one(Picture, row.picture_id)
        assert (row.state, picture.masks, picture.objects) == ("mending", "broken", 0)
    assert vera.next_validate() is None
    task = next_task(edda)
    assert (task["picture"]["id"], task["masks"]) == (row.picture_id, "broken")
    said = [(report["text"], report["note"]) for report in task["reports"]]
    assert said == [("the thing in the corner", "too small")]
    broken = next(item for item in task["objects"] if item["id"] == targets[0])
    mask = rle.decode(broken["rle"])
    mask[0, 0] = True
    save(edda, task, objects=[{"id": broken["id"], "name": broken["name"], "rle": rle.encode(mask)}])
    assert finish(edda, task).json() == {"sentences": 1}
    shown = vera.next_validate()
    assert shown["sample"]["text"] == "the thing in the corner"
    assert next(item for item in shown["objects"] if item["id"] == targets[0])["area"] == float(mask.sum())
    assert vera.judge(targets).json()["result"] == "matched"
    with game.database.read() as session:
        assert session.get_one(GameSample, sample).state == "accepted"
        assert session.scalars(select(ObjectVersion.object_id)).all() == targets


def test_an_object_that_sentences_mean_is_not_removed_by_the_way(round_about: Any) -> None:
    game = round_about.game
    anna, ada = round_about("anna"), round_about("vera")
    task = anna.next_write()
    targets = [task["objects"][0]["id"]]
    anna.write("the thing that will go", targets)
    edit = next_task(ada, picture_id=task["picture"]["id"])
    refused = save(ada, edit, 409, removed=targets)
    assert refused["error"]["details"]["texts"] == ["the thing that will go"]
    save(ada, edit, removed=targets, discard=True)
    with game.database.read() as session:
        assert session.scalars(select(GameSample.state)).all() == ["discarded"]
        assert session.get_one(Object, targets[0]).active is False
    assert all(item["id"] not in targets for item in anna.next_write()["objects"])
    with pytest.raises(AssertionError, match="not on this picture"):
        assert anna.write("another about it", targets).status_code == 201, anna.write("again", targets).text


def test_from_photographs_to_a_checked_data_set(plain: Game, edda: Browser, model: FakeModel, tmp_path: Path) -> None:
    app = create_app(plain.settings, plain)
    anna, viktor = log_in(app, "anna"), log_in(app, "viktor")
    assert proposing.propose_all(plain) == (2, 4)
    for _ in range(2):
        assert finish(edda, next_task(edda)).status_code == 200
    assert next_task(edda) is None
    words = {}
    for number in range(2):
        ball = next(item["id"] for item in anna.next_write()["objects"] if item["name"] == "ball")
        words[anna.write(f"a round thing, {'ab'[number]}", [ball]).json()["sample"]["id"]] = [ball]
    for _ in range(2):
        task = viktor.next_validate()
        viktor.judge(words[task["sample"]["id"]])
    export(plain, tmp_path / "out", "grefcoco")
    report = check(tmp_path / "out", deep=True)
    assert report.usable
    dataset = open_dataset(tmp_path / "out")
    assert len(dataset) == 2
    assert all(np.array_equal(sample.mask(), disc(25, 25, 15)) for sample in dataset)


def test_a_model_that_dies_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, sys
            for line in sys.stdin:
                if "die" in line:
                    sys.exit(1)
                if "fail" in line:
                    print(json.dumps({"error": "no such picture"}), flush=True)
                else:
                    print(json.dumps({"objects": []}), flush=True)
            """
        )
    )
    started = subprocess.Popen
    monkeypatch.setattr(
        proposing.subprocess, "Popen", lambda command, **more: started([sys.executable, str(script)], **more)
    )
    process = proposing.ModelProcess("any", seconds=20.0)
    assert process.ask(Path("fine")) == []
    with pytest.raises(GameError, match="did not answer"):
        process.ask(Path("die"))
    assert process.ask(Path("fine")) == []
    with pytest.raises(GameError, match="no such picture"):
        process.ask(Path("fail"))
    process.close()


def test_the_games_process_never_imports_torch(tmp_path: Path) -> None:
    """Without torch the game imports, serves its pages, and draws masks by hand; nothing of it asks for torch."""
    photographs(tmp_path / "photos")
    code = f"""
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "safetensors", "huggingface_hub"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
from refseg.cli.main import main
assert main(["annotate", "import", {str(tmp_path / "photos")!r}, "--data", {str(tmp_path / "game")!r}]) == 0
from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.settings import Settings
from refseg.apps.annotate.services import helping, proposing
from starlette.testclient import TestClient
proposing.find_spec = lambda name: None
game = Game.open(Settings({str(tmp_path / "game")!r}))
from tests.support.small_games import add_people, log_in
add_people(game, "anna")
anna = log_in(create_app(game.settings, game), "anna")
task = anna.post("/api/v1/edit/next", json={{}}).json()["task"]
assert task["model"] is False, task
for path in ("/", "/edit", "/write", "/validate", "/admin", "/api/v1/admin/overview"):
    assert anna.get(path).status_code == 200, path
assert not [name for name in sys.modules if name.partition(".")[0] in ("torch", "transformers")]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_model_process_holds_torch_and_the_game_does_not() -> None:
    code = "import sys, refseg.apps.annotate.app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert done.stdout.strip() == "False", done.stderr


def test_a_played_game_is_carried_into_this_version(tmp_path: Path) -> None:
    """Rows of the first version keep their references, and their pictures are ready."""
    from refseg.apps.annotate.database.engine import Database

    database = Database(f"sqlite:///{tmp_path / 'game.db'}")
    migrate(database, "0001")
    with database.engine.execution_options(writes=True).begin() as connection:
        for statement in (
            "INSERT INTO people VALUES (1, 'a', 'a', 'x', 'annotator', 1, 'auto', 0, NULL)",
            "INSERT INTO pictures (id, number, file_name, suffix, digest, width, height, split, objects, samples, hard,"
            " helped, draw) VALUES (1, 1, 'a', '.png', 'd', 9, 9, 'train', 1, 1, 0, 0, 0.5)",
            "INSERT INTO objects (id, picture_id, number, category, \"left\", top, \"right\", bottom, area,"
            " segmentation, rings) VALUES (1, 1, 1, 'dog', 0, 0, 2, 2, 4, '[]', '[]')",
            "INSERT INTO samples (id, picture_id, split, author_id, text, no_target, target_count, kind, state,"
            " round, reason, flags, warnings, client_key, client_hash, draw, queued_at, created_at, updated_at) VALUES"
            " (1, 1, 'train', 1, 'dog', 0, 1, 'category', 'waiting', 1, '', '[]', '[]', 'k', 'h', 0, 0, 0, 0)",
            "INSERT INTO sample_targets VALUES (1, 1)",
        ):  # fmt: skip
            connection.exec_driver_sql(statement)
    migrate(database)
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT masks, objects FROM pictures")).one() == ("ready", 1)
        assert connection.execute(text("SELECT active, source FROM objects")).one() == (1, "imported")
        assert connection.execute(text("SELECT sample_id, object_id FROM sample_targets")).one() == (1, 1)
        connection.execute(text("UPDATE samples SET state = 'withdrawn'"))
    config = alembic_config()
    with database.engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        connection.execute(text("DELETE FROM sample_targets"))
        connection.execute(text("DELETE FROM samples"))
        connection.execute(text("DELETE FROM objects"))
        command.downgrade(config, "0001")
    database.close()
