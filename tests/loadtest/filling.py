"""A database as it is after weeks of play, made up in a minute: for measuring, and for trying pages with much in them.

Everything that play would have left is there and agrees (`replay.contradictions` finds nothing): pictures with objects
of some 40 outline points, sentences brought along, samples in all states with verdicts, points, days and audit rows.
"""

from __future__ import annotations

import io
import json
import random
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import JSON, Connection, func, select

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.database.backup import continue_numbers
from refseg.apps.annotate.database.tables import (
    ORDER,
    Audit,
    Award,
    Base,
    Day,
    GameSample,
    Imported,
    Object,
    Person,
    Picture,
    SampleTarget,
    Verdict,
    VerdictTarget,
)  # fmt: skip
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.judging import RESULTS
from refseg.apps.annotate.services.sentences import KINDS, kind_of
from refseg.apps.annotate.states import LIVE, MOVES, POINTS, REASONS, ROLES
from refseg.data.convert.common import place_picture
from refseg.errors import ConfigError, DataError
from refseg.files import write_bytes
from tests.loadtest.players import meaning

PASSWORD = "a password for the load"
SAMPLES_A_PICTURE = 14
"""As in gRefCOCO: 278,232 expressions of 19,994 pictures (Liu, Ding, Jiang, CVPR 2023, table 1)."""

_SIZE = (480, 640)
_WAYS = {
    ("match",): 70, ("differ", "match"): 14, ("differ", "differ"): 5, ("reject",): 3, (): 6, ("differ",): 2,
}  # fmt: skip
"""The moves after submission, and how many samples in a hundred went so."""
_CATEGORIES = ("person", "person", "person", "car", "dog", "chair", "bottle", "cup", "zebra", "umbrella", "surfboard")
_WORDS = (
    "the {0}",
    "both {0}s",
    "{0} and the {1}",
    "all but the {0}",
    "the {0} on the left",
    "red {0}",
    "{0} near a {1}",
)
_DAYS = 30
_AT_ONCE = 5000
_Rows = dict[type[Base], list[dict[str, Any]]]


@dataclass(frozen=True)
class Amount:
    """How much is made up. The first `people` accounts have all roles and the password `PASSWORD`."""

    samples: int
    pictures: int
    people: int

    def __post_init__(self) -> None:
        if self.samples < 0 or self.pictures < 1 or self.people < 3:
            raise ConfigError("a filled game has at least one picture and three people, and no negative samples")


def fill(game: Game, amount: Amount, on_progress: Callable[[int], None] = lambda samples: None, seed: int = 0) -> None:
    """Fill an empty database; `on_progress` is called with the number of samples made.

    Raises `DataError` where something is there.
    """
    with game.database.read() as session:
        if session.scalar(select(func.count()).select_from(Picture)) or session.scalar(
            select(func.count()).select_from(Person)
        ):
            raise DataError("the database is not empty; name one that holds nothing yet")
    rng = random.Random(seed)
    with game.database.engine.execution_options(writes=True).begin() as connection:
        objects: dict[int, list[int]] = {}
        for rows in _pictures(game, amount, rng, objects):
            _put(connection, rows)
        live: dict[int, int] = defaultdict(int)
        days: dict[tuple[int, str], dict[str, int]] = {}
        made = 0
        history = _History(game, rng, objects, amount.people, days, live)
        while made < amount.samples:
            count = min(_AT_ONCE, amount.samples - made)
            _put(connection, history.some(made + 1, count))
            made += count
            on_progress(made)
        _put(connection, {Day: [{"person_id": who, "day": day, **counts} for (who, day), counts in days.items()]})
        update = Picture.__table__.update()  # type: ignore[attr-defined]
        for number, samples in live.items():
            connection.execute(update.where(Picture.id == number).values(samples=samples))
        if not game.database.is_sqlite:
            continue_numbers(connection)
    if not game.database.is_sqlite:  # what its housekeeping does within minutes of such a load
        with game.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")


def _pictures(game: Game, amount: Amount, rng: random.Random, objects: dict[int, list[int]]) -> Iterator[_Rows]:
    """People, and pictures with objects and brought sentences; the files are links to a few drawn ones."""
    password, roles = people.hash_password(PASSWORD), " ".join(ROLES)
    names = [f"player {number}" for number in range(1, amount.people + 1)]
    common = {"password": password, "roles": roles, "active": True, "theme": "auto", "created_at": game.clock()}
    yield {Person: [{"id": place, "name": name, "key": name, **common} for place, name in enumerate(names, 1)]}
    drawn = [_photograph(game.settings.data / f"drawn {seed}.jpg", seed) for seed in range(8)]
    game.settings.pictures.mkdir(parents=True, exist_ok=True)
    height, width = _SIZE
    rows: _Rows = {Picture: [], Object: [], Imported: []}
    numbers = iter(range(1, 1 << 60))
    said = iter(range(1, 1 << 60))
    for number in range(1, amount.pictures + 1):
        place_picture(drawn[number % len(drawn)], game.settings.pictures / f"{number:012d}.jpg")
        mine = [next(numbers) for _ in range(rng.choice((2, 3, 4, 5, 6, 7, 8, 10, 14, 20)))]
        objects[number] = mine
        rows[Picture].append(
            {
                "id": number, "number": number, "file_name": f"{number}.jpg", "suffix": ".jpg", "width": width,
                "height": height, "digest": secrets.token_hex(32), "split": "val" if number % 10 == 0 else "train",
                "objects": len(mine), "samples": 0, "hard": 0.0, "helped": 0, "draw": rng.random(),
            }
        )  # fmt: skip
        rows[Object] += [_object(item, number, rng) for item in mine]
        for _ in range(2):
            target = rng.choice(mine)
            rows[Imported].append(
                {
                    "id": next(said), "picture_id": number, "split": rows[Picture][-1]["split"], "targets": [target],
                    "text": _words(rng), "no_target": False, "kind": None, "draw": rng.random(),
                }
            )  # fmt: skip
        if number % 500 == 0 or number == amount.pictures:
            yield rows
            rows = {table: [] for table in rows}


def _object(number: int, picture: int, rng: random.Random) -> dict[str, Any]:
    height, width = _SIZE
    size = rng.uniform(15, 110)
    across, down = rng.uniform(size, width - size), rng.uniform(size, height - size)
    turn = np.linspace(0, 2 * np.pi, rng.randrange(24, 60), endpoint=False)
    reach = size * np.array([rng.uniform(0.6, 1.0) for _ in turn])
    points = np.stack([across + reach * np.cos(turn), down + reach * np.sin(turn)], axis=1).round(2)
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    ring = points.reshape(-1).tolist()
    return {
        "id": number, "picture_id": picture, "number": number, "category": rng.choice(_CATEGORIES), "left": left,
        "top": top, "right": right, "bottom": bottom, "area": float(round(2 * size * size)), "segmentation": [ring],
        "rings": [ring],
    }  # fmt: skip


class _History:
    """Samples and what became of them, some thousand rows at a time."""

    def __init__(
        self, game: Game, rng: random.Random, objects: dict[int, list[int]], people: int,
        days: dict[tuple[int, str], dict[str, int]], live: dict[int, int],
    ) -> None:  # fmt: skip
        self.game, self.rng, self.objects, self.people, self.days, self.live = game, rng, objects, people, days, live
        self.now = game.clock()
        self.pictures = sorted(objects)
        self.kinds: dict[str, str] = {}
        self.verdicts = 0

    def some(self, first: int, count: int) -> _Rows:
        """The rows of samples `first` and on."""
        rows: _Rows = {table: [] for table in (GameSample, SampleTarget, Verdict, VerdictTarget, Award, Audit)}
        for number in range(first, first + count):
            self._one(number, rows)
        return rows

    def _one(self, number: int, rows: _Rows) -> None:
        rng = self.rng
        picture, author = rng.choice(self.pictures), rng.randrange(self.people) + 1
        words = _words(rng)
        text = f"{words} marked {rng.randrange(10_000, 1_000_000_000)}"
        kind = self.kinds.setdefault(words, kind_of(words, frozenset(_CATEGORIES)))
        assert kind in KINDS
        chosen = meaning(text, self.objects[picture])
        at = self.now - rng.random() * 86_400 * _DAYS
        state = MOVES["submit"].targets[None]
        self._audit(rows, at, author, number, "submit", None, state)
        self._count(author, at, written=1)
        reason = ""
        judges = rng.sample([who for who in range(1, self.people + 1) if who != author], 2)
        for name, judge in zip(rng.choices(list(_WAYS), list(_WAYS.values()))[0], judges, strict=False):
            at = min(self.now, at + rng.random() * 3600)
            end = MOVES[name].targets[state]
            reason = rng.choice(list(REASONS)) if name == "reject" else ""
            self._verdict(rows, at, number, judge, author, name, reason, chosen, first=state == "waiting")
            self._audit(rows, at, judge, number, name, state, end)
            if end == "accepted":
                self._award(rows, at, author, number, "accepted")
                self._count(author, at, accepted=1)
            state = end
        self.live[picture] += state in LIVE
        rows[GameSample].append(
            {
                "id": number, "picture_id": picture, "split": "val" if picture % 10 == 0 else "train",
                "author_id": author, "text": text, "no_target": not chosen, "target_count": len(chosen), "kind": kind,
                "state": state, "round": 1, "reason": reason, "flags": [], "warnings": [],
                "client_key": f"made-{number}", "client_hash": "", "draw": rng.random(), "queued_at": at,
                "created_at": at, "updated_at": at,
            }
        )  # fmt: skip
        rows[SampleTarget] += [{"sample_id": number, "object_id": item} for item in chosen]

    def _verdict(
        self, rows: _Rows, at: float, sample: int, judge: int, author: int, name: str, reason: str, meant: list[int],
        first: bool,
    ) -> None:  # fmt: skip
        self.verdicts += 1
        chosen = meant if name == "match" else []
        rows[Verdict].append(
            {
                "id": self.verdicts, "sample_id": sample, "validator_id": judge, "round": 1, "result": RESULTS[name],
                "first": first, "no_target": name != "reject" and not chosen, "reason": reason or None, "note": "",
                "client_key": f"made-{self.verdicts}", "client_hash": "", "created_at": at,
            }
        )  # fmt: skip
        rows[VerdictTarget] += [{"verdict_id": self.verdicts, "object_id": item} for item in chosen]
        self._award(rows, at, judge, sample, RESULTS[name])
        self._count(judge, at, validated=1)
        if name != "reject":
            self._count(judge, at, judge_compared=1, judge_matched=int(name == "match"))
            self._count(author, at, author_compared=1, author_matched=int(name == "match"))

    def _award(self, rows: _Rows, at: float, who: int, sample: int, what: str) -> None:
        rows[Award].append({"person_id": who, "sample_id": sample, "what": what, "points": POINTS[what], "at": at})
        self._count(who, at, points=POINTS[what])

    def _audit(self, rows: _Rows, at: float, who: int, sample: int, move: str, start: str | None, end: str) -> None:
        rows[Audit].append(
            {
                "at": at, "actor_id": who, "entity": "sample", "entity_id": sample, "move": move, "start": start,
                "end": end, "reason": "", "details": {},
            }
        )  # fmt: skip

    def _count(self, who: int, at: float, **more: int) -> None:
        names = [column.name for column in Day.__table__.columns if column.name not in ("person_id", "day")]
        row = self.days.setdefault((who, self.game.day(at)), dict.fromkeys(names, 0))
        for name, number in more.items():
            row[name] += number


def _words(rng: random.Random) -> str:
    return rng.choice(_WORDS).format(rng.choice(_CATEGORIES), rng.choice(_CATEGORIES))


def _photograph(path: Path, seed: int) -> Path:
    """Write a JPEG file of a photograph's size in pixels and bytes: smooth colours with grain."""
    rng = np.random.default_rng(seed)
    height, width = _SIZE
    small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((width, height))
    grain = np.asarray(small, dtype=np.int16) + rng.integers(-14, 15, (height, width, 3), dtype=np.int16)
    packed = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(packed, "JPEG", quality=85)
    return write_bytes(path, packed.getvalue())


def _put(connection: Connection, rows: _Rows) -> None:
    """Rows straight through the driver, parents first: COPY on PostgreSQL, one prepared statement on SQLite."""
    driver: Any = connection.connection.driver_connection
    for table in sorted(rows, key=ORDER.index):
        if not rows[table]:
            continue
        columns = list(rows[table][0])
        packed = {name for name in columns if isinstance(table.__table__.columns[name].type, JSON)}
        lines = ([json.dumps(row[name]) if name in packed else row[name] for name in columns] for row in rows[table])
        names = ", ".join(f'"{name}"' for name in columns)
        if connection.dialect.name == "sqlite":
            marks = ", ".join("?" * len(columns))
            driver.executemany(f"INSERT INTO {table.__tablename__} ({names}) VALUES ({marks})", lines)
        else:
            with driver.cursor() as cursor, cursor.copy(f"COPY {table.__tablename__} ({names}) FROM STDIN") as copy:
                for line in lines:
                    copy.write_row(line)
