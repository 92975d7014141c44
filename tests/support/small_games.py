"""Small games for the tests: pictures of a few squares, people, browsers without a browser."""

from __future__ import annotations

import atexit
import itertools
import random
import re
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select
from starlette.testclient import TestClient

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.database.engine import Database
from refseg.apps.annotate.database.migrate import migrate
from refseg.apps.annotate.database.tables import Object
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.importing import ImportResult, import_pictures
from refseg.apps.annotate.services.judging import Judgement, judge
from refseg.apps.annotate.services.leases import take_picture, take_sample
from refseg.apps.annotate.services.sources import SourcePicture
from refseg.apps.annotate.services.submitting import Submission, submit
from refseg.apps.annotate.settings import Settings
from refseg.data.masks import bounding_box
from refseg.data.sample import Instance

PASSWORD = "correct horse"
SIZE = (24, 32)
EVERYTHING = ("annotator", "validator", "administrator")


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def found(
    number: int, categories: tuple[str, ...], split: str = "train", sentences: tuple[str, ...] = ()
) -> SourcePicture:
    """A picture with a square an object; the first object is what each sentence means."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8))
    objects = []
    for place, category in enumerate(categories):
        mask = np.zeros(SIZE, dtype=bool)
        row, column = divmod(place, 4)
        mask[row * 7 + 1 : row * 7 + 6, column * 8 + 1 : column * 8 + 7] = True
        objects.append(Instance(number * 100 + place, category, bounding_box(mask), mask))
    said = [(text, (number * 100,), None) for text in sentences]
    return SourcePicture(number, f"picture {number}.png", image, SIZE, split, objects, said)


def postgres_database(url: str, name: str) -> str:
    """A new empty database on the server; returns its address."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


NUMBERS = itertools.count(1)


def make_game(folder: Path, url: str = "", **fields: Any) -> Game:
    """A game with a clock that tests turn, and pictures: three of split train, one of val."""
    settings = Settings(folder, url, **fields)
    folder.mkdir(parents=True, exist_ok=True)
    if not url:
        shutil.copytree(_template(), folder, dirs_exist_ok=True)
    game = open_game(settings)
    if url:
        import_pictures(game, pictures(), ImportResult(), "test")
    return game


def open_game(settings: Settings) -> Game:
    """A game with a clock that tests turn, without pictures."""
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url, settings.busy_seconds)
    migrate(database)
    return Game(settings, database, Clock(), random.Random(0))


def pictures() -> list[SourcePicture]:
    """What every test's game has."""
    return [
        found(1, ("dog", "dog", "person", "car"), sentences=("the black dog", "person beside the car")),
        found(2, ("person", "person", "cup"), sentences=("woman with a cup", "tall man")),
        found(3, ("dog", "cat"), sentences=("sleeping cat", "brown dog on the left")),
        found(4, ("person", "dog"), split="val", sentences=("dog of the other split",)),
    ]


@lru_cache(maxsize=1)
def _template() -> Path:
    """A data folder to copy: SQLite's file closed, so that it is whole."""
    folder = Path(tempfile.mkdtemp(prefix="refseg-game-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    game = open_game(Settings(folder))
    import_pictures(game, pictures(), ImportResult(), "test")
    game.database.close()
    return folder


def add_people(game: Game, *names: str, roles: tuple[str, ...] = EVERYTHING) -> dict[str, int]:
    """Accounts by name, with their numbers."""
    return {
        name: game.database.write(lambda session, name=name: people.add_person(session, game, name, PASSWORD, roles).id)
        for name in names
    }


class Browser(TestClient):
    """A client that is logged in and sends its page's token."""

    def next_write(self, **given: Any) -> dict[str, Any]:
        """A picture to write about."""
        answer = self.post("/api/v1/write/next", json=given)
        assert answer.status_code == 200, answer.text
        return answer.json()["task"]

    def next_validate(self, **given: Any) -> dict[str, Any]:
        """A sample to validate."""
        answer = self.post("/api/v1/validate/next", json=given)
        assert answer.status_code == 200, answer.text
        return answer.json()["task"]

    def write(self, text: str, targets: list[int] | None = None, key: str | None = None, **more: Any) -> Any:
        """Write a sentence about the picture that comes; the first object where no targets are given."""
        task = self.next_write()
        chosen = [task["objects"][0]["id"]] if targets is None else targets
        body = {"lease_id": task["lease"]["id"], "client_key": key or f"write-{next(NUMBERS):06d}", "text": text}
        return self.post("/api/v1/samples", json={**body, "targets": chosen, "no_target": not chosen, **more})

    def judge(self, targets: list[int] | None = None, key: str | None = None, **more: Any) -> Any:
        """Answer the sample that comes."""
        task = self.next_validate()
        assert task is not None
        chosen = targets or []
        body = {
            "lease_id": task["lease"]["id"],
            "client_key": key or f"judge-{next(NUMBERS):06d}",
            "decision": "select",
        }
        body |= {"targets": chosen, "no_target": not chosen and "decision" not in more}
        return self.post(f"/api/v1/samples/{task['sample']['id']}/verdict", json={**body, **more})


def token_in(page: str) -> str:
    """The page's token."""
    match = re.search(r'name="csrf-token" content="(\w+)"', page)
    assert match is not None
    return match.group(1)


def log_in(app: Any, name: str) -> Browser:
    """A browser with somebody logged in."""
    browser = Browser(app, raise_server_exceptions=False)
    token = token_in(browser.get("/login").text)
    form = {"name": name, "password": PASSWORD, "csrf_token": token}
    answer = browser.post("/login", data=form, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    browser.headers["X-CSRF-Token"] = token_in(browser.get("/").text)
    return browser


def play(game: Game, rounds: int = 6) -> None:
    """Sentences with none, one and two targets, all accepted."""
    anna, viktor = add_people(game, "pia", "paul").values()
    for number in range(rounds):

        def work(session: object, number: int = number) -> None:
            lease = take_picture(session, game, anna)  # type: ignore[arg-type]
            assert lease is not None
            objects = session.scalars(  # type: ignore[attr-defined]
                select(Object.id).where(Object.picture_id == lease.item_id).order_by(Object.id)
            ).all()
            targets = tuple(objects[: number % 3])
            text = f'the "thing" {"abcdefghij"[number] * 3}, ünï'
            submit(session, game, anna, Submission(lease.id, f"key-{number:05d}", text, targets, not targets))  # type: ignore[arg-type]
            found_lease = take_sample(session, game, viktor)  # type: ignore[arg-type]
            assert found_lease is not None
            answer = Judgement(found_lease.id, f"key-{number:05d}", False, targets, not targets)
            judge(session, game, viktor, found_lease.item_id, answer)  # type: ignore[arg-type]

        game.database.write(work)
