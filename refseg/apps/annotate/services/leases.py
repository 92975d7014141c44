"""Handing out work: a picture to write about, a sample to validate. Two people never hold one item.

A lease stands in the item's own row. It is taken by one UPDATE that names the condition "free", on PostgreSQL after
SELECT ... FOR UPDATE SKIP LOCKED so that people do not queue for one row; SQLite's writers are alone anyway. A lease
that runs out is free to others at once, and stays its holder's until somebody else takes it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Literal, overload

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import FREE, Draft, GameSample, Person, Picture, Skip, Verdict
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.projects import theirs
from refseg.apps.annotate.services.seen import has_seen
from refseg.apps.annotate.states import OPEN

KINDS: dict[str, Any] = {"write": Picture, "validate": GameSample}
"""kind of lease -> the table of its items"""

_WINDOW = 200


@dataclass(frozen=True)
class Lease:
    """A hold on an item; `until` is when others may take it, `seconds` from now."""

    id: str
    kind: str
    item_id: int
    until: float
    seconds: int


def take_picture(
    session: Session, game: Game, person_id: int, split: str | None = None, picture_id: int | None = None
) -> Lease | None:
    """The picture that the person holds, or else a new one; None when there is none left.

    A new one is drawn at random in proportion to (objects ** draw_objects_power) / (samples + 1) ** draw_samples_power
    among up to 200 free pictures from a random place on. `picture_id` takes up a certain picture that the person has a
    draft of; raises `GameError` "lease_lost" when somebody else holds it, "not_found" without a draft.
    """
    settled, lease = _resume(session, game, person_id, "write", split, picture_id)
    candidates = [] if settled else _candidates(session, game, person_id, split)
    while lease is None and candidates:
        weights = [_weight(game, *candidate[1:]) for candidate in candidates]
        place = game.rng.choices(range(len(candidates)), weights=weights)[0]
        lease = _take(session, game, person_id, "write", candidates.pop(place)[0])
    return lease


def take_sample(
    session: Session, game: Game, person_id: int, split: str | None = None, sample_id: int | None = None
) -> Lease | None:
    """The sample that the person holds, or else the one that has waited longest; None when there is none for them.

    Never an own sample, nor one that the person has judged before, or read elsewhere (`seen`); a reopened one goes to
    those who have not seen it.
    """
    settled, lease = _resume(session, game, person_id, "validate", split, sample_id)
    if settled:
        return lease
    conditions = [*_for_validator(game, person_id), _is_free(GameSample, game.clock())]
    if split is not None:
        conditions.append(GameSample.split == split)
    wanted = select(GameSample.id, GameSample.queued_at).where(*conditions)
    wanted = wanted.order_by(GameSample.queued_at, GameSample.id).limit(1)
    wanted = wanted.with_for_update(skip_locked=True, key_share=True)
    # State by state: the index has each state's samples in order, so that the first that fits comes at once.
    longest = [session.execute(wanted.where(GameSample.state == state)).first() for state in OPEN]
    waiting = [(row.queued_at, row.id) for row in longest if row is not None]
    return _take(session, game, person_id, "validate", min(waiting)[1]) if waiting else None


def held_lease(session: Session, game: Game, person_id: int, kind: str) -> Lease | None:
    """What the person holds, without handing out anything; also a lease that ran out and that nobody took."""
    item = _held(session, game, person_id, kind)
    if item is None:
        return None
    seconds = max(0, round(item.lease_until - game.clock()))
    return Lease(item.lease_id, kind, item.id, item.lease_until, seconds)


def waiting_count(session: Session, game: Game, person_id: int) -> int:
    """How many samples wait for this validator; counted up to 500, which is work enough to say so."""
    some = select(GameSample.id).where(*_for_validator(game, person_id)).limit(500).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def why_nothing(session: Session, game: Game, person_id: int, kind: str) -> str:
    """Why there is no work: others hold the last ("held"), only own samples wait ("only_yours"), or those that the
    person has judged or read ("seen"), or all is done ("empty").
    """
    table = KINDS[kind]
    if kind == "write":
        wanted = select(Picture.id).where(Picture.objects > 0, ~_is_free(Picture, game.clock()), theirs(person_id))
        return "held" if session.scalar(wanted.limit(1)) is not None else "empty"
    if session.scalar(select(table.id).where(*_for_validator(game, person_id)).limit(1)) is not None:
        return "held"
    own = select(table.id).where(table.state.in_(OPEN), table.author_id == person_id)
    if session.scalar(own.limit(1)) is not None:
        return "only_yours"
    waiting = select(table.id).where(table.state.in_(OPEN), ~_skipped(kind, table.id, game, person_id))
    return "seen" if session.scalar(waiting.limit(1)) is not None else "empty"


@overload
def lock_held(session: Session, person_id: int, kind: Literal["write"], lease_id: str) -> Picture: ...
@overload
def lock_held(session: Session, person_id: int, kind: Literal["validate"], lease_id: str) -> GameSample: ...
def lock_held(session: Session, person_id: int, kind: str, lease_id: str) -> Picture | GameSample:
    """The item's row, locked, if the person holds it by this lease; raises `GameError` "lease_lost" otherwise."""
    item = _locked(session, person_id, kind, lease_id)
    if item is None:
        raise _lost()
    return item


def renew(session: Session, game: Game, person_id: int, lease_id: str) -> Lease:
    """Hold on for another while; raises `GameError` "lease_lost"."""
    kind, item = _find(session, person_id, lease_id)
    item.lease_until = game.clock() + game.settings.lease_seconds
    return Lease(lease_id, kind, item.id, item.lease_until, game.settings.lease_seconds)


def release(session: Session, game: Game, person_id: int, lease_id: str, skip: bool) -> None:
    """Give an item back; with `skip` it stays away from the person for a while, and its draft is dropped."""
    kind, item = _find(session, person_id, lease_id)
    free(item)
    if skip:
        mine = {"person_id": person_id, "kind": kind, "item_id": item.id}
        session.execute(delete(Draft).filter_by(**mine))
        session.merge(Skip(**mine, until=game.clock() + game.settings.skip_seconds))


def free(item: Picture | GameSample) -> None:
    """Give back an item whose row is locked."""
    item.lease_id = item.lease_person = item.lease_until = None


def holds(session: Session, person_id: int, kind: str, item_id: int) -> bool:
    """Whether the person holds the item (also by a lease that ran out and that nobody took)."""
    table = KINDS[kind]
    return session.scalar(select(table.id).where(table.id == item_id, table.lease_person == person_id)) is not None


def _weight(game: Game, objects: int, samples: int, hard: float) -> float:
    settings = game.settings
    easy = objects**settings.draw_objects_power / (samples + 1) ** settings.draw_samples_power
    return float(easy * (1 + settings.draw_hard_weight * hard))


def _candidates(session: Session, game: Game, person_id: int, split: str | None) -> list[tuple[int, int, int, float]]:
    conditions = [Picture.objects > 0, _is_free(Picture, game.clock()), ~_skipped("write", Picture.id, game, person_id)]
    conditions.append(theirs(person_id))
    if split is not None:
        conditions.append(Picture.split == split)
    start = game.rng.random()
    columns = (Picture.id, Picture.objects, Picture.samples, Picture.hard)
    candidates: list[tuple[int, int, int, float]] = []
    for side in (Picture.draw >= start, Picture.draw < start):
        wanted = select(*columns).where(*conditions, side).order_by(Picture.draw).limit(_WINDOW - len(candidates))
        candidates += [(row[0], row[1], row[2], row[3]) for row in session.execute(wanted)]
        if len(candidates) >= _WINDOW:
            break
    return candidates


def _for_validator(game: Game, person_id: int) -> list[ColumnElement[bool]]:
    judged = select(Verdict.id).where(Verdict.sample_id == GameSample.id, Verdict.validator_id == person_id).exists()
    return [
        GameSample.state.in_(OPEN),
        GameSample.author_id != person_id,
        ~judged,
        ~has_seen(person_id),
        theirs(person_id, GameSample),
        ~_skipped("validate", GameSample.id, game, person_id),
    ]


def _skipped(kind: str, item: Any, game: Game, person_id: int) -> ColumnElement[bool]:
    wanted = select(Skip.until).where(
        Skip.person_id == person_id, Skip.kind == kind, Skip.item_id == item, Skip.until > game.clock()
    )
    return wanted.exists()


def _is_free(table: Any, now: float) -> ColumnElement[bool]:
    return or_(table.lease_until.is_(None), table.lease_until < now)


def _held(session: Session, game: Game, person_id: int, kind: str) -> Any:
    table = KINDS[kind]
    wanted = select(table).where(table.lease_person == person_id)
    if kind == "validate":
        wanted = wanted.where(*_for_validator(game, person_id))
    return session.scalar(wanted.order_by(table.lease_until.desc()).limit(1))


def _take(session: Session, game: Game, person_id: int, kind: str, item_id: int) -> Lease | None:
    """Take an item if it is free or the person's own; None if another was faster."""
    table = KINDS[kind]
    mine = or_(table.lease_person == person_id, _is_free(table, game.clock()))
    row = session.execute(
        select(table.lease_id, table.lease_person)
        .where(table.id == item_id, mine)
        .with_for_update(skip_locked=True, key_share=True)
    ).first()
    if row is None:
        return None
    # The same lease goes on when its holder asks again: another tab or a reloaded page must not end it.
    lease_id = row[0] if row[1] == person_id else secrets.token_urlsafe(24)
    until = game.clock() + game.settings.lease_seconds
    values = {"lease_id": lease_id, "lease_person": person_id, "lease_until": until}
    done = session.execute(update(table).where(table.id == item_id, mine).values(**values))
    if done.rowcount != 1:  # type: ignore[attr-defined]
        return None
    return Lease(lease_id, kind, item_id, until, game.settings.lease_seconds)


def _resume(
    session: Session, game: Game, person_id: int, kind: str, split: str | None, item_id: int | None
) -> tuple[bool, Lease | None]:
    """The item `item_id`, or the one that the person holds if it is of the split; one of another split is given back.

    Returns whether that settles the request, and the lease. Two requests of one person wait for each other here: a
    person holds one item of a kind.
    """
    session.scalar(select(Person.id).where(Person.id == person_id).with_for_update(key_share=True))
    held = _held(session, game, person_id, kind)
    if item_id is None:
        if held is not None and (split is None or held.split == split):
            return True, _take(session, game, person_id, kind, held.id)
        if held is not None:
            _free(session, kind, held.id)
        return False, None
    if session.get(Draft, (person_id, kind, item_id)) is None and not holds(session, person_id, kind, item_id):
        raise GameError("not_found", "there is no draft of yours for this item")
    if kind == "validate":
        wanted = select(GameSample.id).where(GameSample.id == item_id, *_for_validator(game, person_id))
        if session.scalar(wanted) is None:
            raise GameError("lease_lost", "this sample no longer waits for you")
    if held is not None and held.id != item_id:
        _free(session, kind, held.id)
    lease = _take(session, game, person_id, kind, item_id)
    if lease is None:
        raise GameError("lease_lost", "somebody else has this item now; your draft is kept")
    return True, lease


def _free(session: Session, kind: str, item_id: int) -> None:
    table = KINDS[kind]
    session.execute(update(table).where(table.id == item_id).values(**FREE))


def _locked(session: Session, person_id: int, kind: str, lease_id: str) -> Any:
    table = KINDS[kind]
    return session.scalar(
        select(table)
        .where(table.lease_id == lease_id, table.lease_person == person_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


def _find(session: Session, person_id: int, lease_id: str) -> tuple[str, Any]:
    for kind in KINDS:
        item = _locked(session, person_id, kind, lease_id)
        if item is not None:
            return kind, item
    raise _lost()


def _lost() -> GameError:
    return GameError("lease_lost", "this item was given back or taken by somebody else; your draft is kept")
