"""What scripted players were told, and what follows from it: who held what when, what was promised, what leaked."""

from __future__ import annotations

import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.database.tables import Draft, GameSample, Person, SampleTarget, Verdict, VerdictTarget
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.importing import ImportResult, import_pictures
from refseg.apps.annotate.settings import Settings
from tests.loadtest.players import Exchange
from tests.support.small_games import NUMBERS, found, postgres_database

ROLES = "annotator validator"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_TOLERANCE = 0.005  # seconds; times in answers are rounded to milliseconds


@contextmanager
def own_postgres() -> Iterator[str]:
    """A new database on the test server, dropped in the end."""
    server = os.environ["REFSEG_TEST_POSTGRES"]
    url = postgres_database(server, f"refseg_test_{os.getpid()}_{next(NUMBERS)}")
    try:
        yield url
    finally:
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)'))
        engine.dispose()


def crowded_game(folder: Path, url: str, players: int, pictures: int, **fields: Any) -> tuple[Game, dict[str, str]]:
    """A game of few pictures and many players with tokens, by name."""
    settings = Settings(folder, url, writes_per_minute=10**6, requests_per_minute=10**6, **fields)
    game = Game.open(settings)
    kinds = [("dog", "dog", "person", "car"), ("person", "cup"), ("dog", "cat", "person"), ("car", "car", "car", "dog")]
    drawn = [
        found(number, kinds[number % 4], sentences=(f"the {kinds[number % 4][0]} marked {number}1",))
        for number in range(1, pictures + 1)
    ]
    import_pictures(game, drawn, ImportResult(), "test")
    password = people.hash_password("no player logs in by it")

    def work(session: Session) -> dict[str, str]:
        tokens = {}
        for name in (f"player {number}" for number in range(1, players + 1)):
            person = Person(name=name, key=name, password=password, roles=ROLES, active=True, created_at=game.clock())
            session.add(person)
            session.flush()
            tokens[name] = people.add_token(session, game, person.id, "test")[1]
        return tokens

    return game, game.database.write(work)


class Journal:
    """All exchanges of all players; `hear` is what clients call."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.lock = threading.Lock()

    def hear(self, exchange: Exchange) -> None:
        with self.lock:
            self.exchanges.append(exchange)

    def of(self, route: str) -> list[Exchange]:
        """Those of a route, good ones."""
        return [exchange for exchange in self.exchanges if exchange.route == route and exchange.good]


@dataclass
class Hold:
    """What is certain about a lease: held from the answer that gave it until it ran out or its end was asked for."""

    who: str
    since: float
    until: float
    ended: float = field(default=float("inf"))

    @property
    def end(self) -> float:
        return min(self.until, self.ended)


def double_held(exchanges: list[Exchange]) -> list[str]:
    """Items that two people held at the same time, as far as answers prove it."""
    holds: dict[tuple[str, int], dict[str, Hold]] = defaultdict(dict)
    by_lease: dict[str, Hold] = {}
    latest: dict[tuple[str, str], str] = {}

    def told(exchange: Exchange, lease: dict[str, Any]) -> None:
        until = datetime.fromisoformat(lease["expires_at"].replace("Z", "+00:00")).timestamp()
        hold = holds[lease["kind"], lease["item_id"]].setdefault(lease["id"], Hold(exchange.who, exchange.ended, until))
        hold.until = max(hold.until, until)
        by_lease[lease["id"]] = hold
        before = latest.get((exchange.who, lease["kind"]))
        if before is not None and before != lease["id"]:
            by_lease[before].ended = min(by_lease[before].ended, exchange.started)
        latest[exchange.who, lease["kind"]] = lease["id"]

    for exchange in sorted(exchanges, key=lambda exchange: exchange.ended):
        refused = 400 <= exchange.status < 500
        given_back = re.fullmatch(r"/api/v1/leases/([\w-]+)/release", exchange.path)
        lease_id = given_back.group(1) if given_back else None
        if exchange.route in ("POST samples", "POST verdict") and not exchange.sent.get("keep"):
            lease_id = exchange.sent["lease_id"]
        if lease_id in by_lease and not refused:
            by_lease[lease_id].ended = min(by_lease[lease_id].ended, exchange.started)
        if exchange.good and exchange.route in ("POST write/next", "POST validate/next") and exchange.body["task"]:
            told(exchange, exchange.body["task"]["lease"])
        elif exchange.good and exchange.route == "POST renew":
            told(exchange, exchange.body)
        elif exchange.good and exchange.route == "POST samples" and exchange.body["lease"]:
            told(exchange, exchange.body["lease"])
    faults = []
    for item, leases in holds.items():
        in_order = sorted(leases.values(), key=lambda hold: hold.since)
        for place, first in enumerate(in_order):
            for second in in_order[place + 1 :]:
                if first.who != second.who and second.since < first.end - _TOLERANCE and second.end > second.since:
                    faults.append(f"{item}: {first.who} until {first.end:.3f}, {second.who} since {second.since:.3f}")
    return faults


def leaked(exchanges: list[Exchange]) -> list[str]:
    """What players were told and must not know: others' selections, drafts, names beside sentences, keys."""
    keys = {e.sent["client_key"]: e.who for e in exchanges if e.route in ("POST samples", "POST verdict")}
    drafts = defaultdict(list)
    own = defaultdict(set)
    for exchange in exchanges:
        if exchange.route == "PUT draft":
            drafts[exchange.who].append(exchange.sent["content"])
            keys[exchange.sent["content"].get("client_key", "")] = exchange.who
        if exchange.route == "POST samples" and exchange.good:
            own[exchange.who].add(exchange.body["sample"]["id"])
    faults = []
    for exchange in exchanges:
        for reason in _leaks(exchange, drafts[exchange.who], own[exchange.who], keys):
            faults.append(f"{exchange.who} {exchange.method} {exchange.path}: {reason}: {exchange.text[:300]}")
    return faults


def _leaks(exchange: Exchange, drafts: list[Any], own: set[int], keys: dict[str, str]) -> Iterator[str]:
    others = {name for name in re.findall(r"private to (player \d+)", exchange.text) if name != exchange.who}
    if others:
        yield f"a draft of {others}"
    for key in _UUID.findall(exchange.text):
        if keys.get(key, exchange.who) != exchange.who:
            yield f"a key of {keys[key]}"
    if exchange.body is None:
        return
    if exchange.route == "POST validate/next" and exchange.good and exchange.body["task"]:
        task = exchange.body["task"]
        known = {"lease", "sample", "picture", "objects", "turn", "draft"}
        if set(task) != known or set(task["sample"]) != {"id", "text"}:
            yield f"more than a sentence and a picture: {sorted(task)}, {sorted(task['sample'])}"
        if any(set(item) != {"id", "name", "box", "rings", "area"} for item in task["objects"]):
            yield "more than outlines of objects"
    for place, part in _parts(exchange.body):
        if not {"targets", "no_target", "selected", "author", "validator", "flags"}.intersection(part):
            continue
        if place[-1:] == ("content",) and any(
            saved["targets"] == part["targets"] and saved["note"] == part["note"] for saved in drafts
        ):
            continue  # one's own draft
        if exchange.route in ("GET me/samples", "GET sample") and part.get("id") in own:
            continue
        if exchange.route == "GET sentences" and (part["source"] == "imported" or part["targets"] is None):
            continue
        if exchange.route in ("POST samples", "POST check") and part.keys() == {"selected"}:
            continue  # the remark on how many one has selected oneself
        yield f"a selection at {place}"


def _parts(body: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    if isinstance(body, dict):
        yield place, body
    pairs = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in pairs:
        yield from _parts(value, (*place, key))


def broken_promises(game: Game, exchanges: list[Exchange]) -> list[str]:
    """Acknowledged submissions and verdicts that are not there exactly once, and rows that nobody has sent."""
    sent: dict[tuple[str, str], Exchange] = {}
    promised: dict[tuple[str, str], set[Any]] = defaultdict(set)
    for exchange in exchanges:
        if exchange.route not in ("POST samples", "POST verdict"):
            continue
        key = (exchange.who, exchange.sent["client_key"])
        sent[key] = exchange
        if exchange.good:
            promised[key].add(exchange.body["sample"]["id"] if "sample" in exchange.body else exchange.path)
    faults = [f"{key}: answered as {what}" for key, what in promised.items() if len(what) != 1]
    with game.database.read() as session:
        rows = _kept(session)
    for key, exchange in sent.items():
        there = rows.pop(key, [])
        if key in promised and len(there) != 1:
            faults.append(f"{key}: was acknowledged, and is there {len(there)} times")
        wanted = {"text": exchange.sent.get("text"), "targets": sorted(exchange.sent.get("targets", []))}
        faults += [f"{key}: sent {wanted}, kept {row}" for row in there if row != wanted]
    return faults + [f"{key}: is there, and was never sent" for key in rows]


def _kept(session: Session) -> dict[tuple[str, str], list[dict[str, Any]]]:
    names: dict[int, str] = {row[0]: row[1] for row in session.execute(select(Person.id, Person.name))}
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for sample in session.scalars(select(GameSample)):
        targets = session.scalars(select(SampleTarget.object_id).where(SampleTarget.sample_id == sample.id))
        row = {"text": sample.text, "targets": sorted(targets)}
        found[names[sample.author_id], sample.client_key].append(row)
    for verdict in session.scalars(select(Verdict)):
        targets = session.scalars(select(VerdictTarget.object_id).where(VerdictTarget.verdict_id == verdict.id))
        row = {"text": None, "targets": sorted(targets)}
        found[names[verdict.validator_id], verdict.client_key].append(row)
    return found


def lost_drafts(game: Game, exchanges: list[Exchange]) -> list[str]:
    """Acknowledged drafts that are gone or older, though nothing asked for afterwards deletes or changes them."""
    last: dict[tuple[str, str, int], Exchange | None] = {}
    leases: dict[str, tuple[str, int]] = {}
    for exchange in sorted(exchanges, key=lambda exchange: exchange.started):
        if exchange.good and exchange.route.endswith("/next") and exchange.body["task"]:
            lease = exchange.body["task"]["lease"]
            leases[lease["id"]] = (lease["kind"], lease["item_id"])
        item = re.fullmatch(r"/api/v1/drafts/(\w+)/(\d+)", exchange.path)
        if item and exchange.route == "PUT draft" and exchange.status in (0, 200):
            last[exchange.who, item.group(1), int(item.group(2))] = exchange if exchange.good else None
        elif exchange.route in ("POST samples", "POST verdict", "POST release") and not 400 <= exchange.status < 500:
            lease_id = exchange.path.split("/")[-2] if exchange.route == "POST release" else exchange.sent["lease_id"]
            last[(exchange.who, *leases[lease_id])] = None
    with game.database.read() as session:
        names: dict[int, str] = {row[0]: row[1] for row in session.execute(select(Person.id, Person.name))}
        kept = {(names[row.person_id], row.kind, row.item_id): row for row in session.scalars(select(Draft))}
    faults = []
    for key, exchange in last.items():
        if exchange is None:
            continue
        wanted, there = (exchange.body["revision"], exchange.sent["content"]["targets"]), kept.get(key)
        if there is None or (there.revision, there.content["targets"]) != wanted:
            faults.append(f"{key}: acknowledged as {wanted}, kept {there and (there.revision, there.content)}")
    return faults
