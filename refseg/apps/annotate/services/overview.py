"""Numbers for the administrator: queues, agreement, kinds, progress of each split, throughput."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import (
    Base,
    Day,
    Draft,
    GameSample,
    Imported,
    Object,
    Person,
    Picture,
    Verdict,
)
from refseg.apps.annotate.game import Game, iso
from refseg.apps.annotate.services import rehearsing, scoring
from refseg.apps.annotate.states import OPEN, STATES

_DAYS = 30


def overview(session: Session, game: Game) -> dict[str, Any]:
    """Everything on the administrator's first page; see the API's description for the fields."""

    def number(table: type[Base], *conditions: ColumnElement[bool]) -> int:
        return session.scalar(select(func.count()).select_from(table).where(*conditions)) or 0

    now = game.clock()
    states = sample_states(session)
    oldest = session.scalar(select(func.min(GameSample.queued_at)).where(GameSample.state.in_(OPEN)))
    rejected = select(Verdict.reason, func.count()).where(Verdict.result == "rejected")
    rejections = session.execute(rejected.group_by(Verdict.reason).order_by(Verdict.reason))
    return {
        "pictures": number(Picture),
        "objects": number(Object, Object.active.is_(True)),
        "imported": number(Imported),
        "samples": states,
        "splits": _splits(session),
        "kinds": _kinds(session),
        "throughput": _throughput(session, game),
        "queues": {
            **{state: states[state] for state in OPEN},
            "held_write": number(Picture, Picture.lease_until >= now),
            "held_validate": number(GameSample, GameSample.lease_until >= now),
            "drafts": number(Draft),
            "oldest_waiting_at": iso(oldest),
        },
        "agreement": agreement(session),
        "rejections": [{"reason": reason, "n": count} for reason, count in rejections],
    }


def sample_states(session: Session, *conditions: ColumnElement[bool]) -> dict[str, int]:
    """The number of samples in each state."""
    rows = session.execute(select(GameSample.state, func.count()).where(*conditions).group_by(GameSample.state))
    return dict.fromkeys(STATES, 0) | {row[0]: row[1] for row in rows}


def agreement(session: Session, split: str | None = None) -> dict[str, Any]:
    """How often validators selected the author's objects: of all selections, and of the first one for each sample."""
    wanted = select(Verdict.result, Verdict.first, func.count()).where(Verdict.result != "rejected")
    if split is not None:
        wanted = wanted.where(Verdict.sample_id.in_(select(GameSample.id).where(GameSample.split == split)))
    counts = {(row[0], row[1]): row[2] for row in session.execute(wanted.group_by(Verdict.result, Verdict.first))}
    compared = sum(counts.values())
    firsts = sum(number for (_, first), number in counts.items() if first)
    same = sum(number for (result, _), number in counts.items() if result == "matched")
    return {
        "compared": compared,
        "matched": same,
        "rate": same / compared if compared else None,
        "first_rate": counts.get(("matched", True), 0) / firsts if firsts else None,
    }


def people(session: Session) -> list[dict[str, Any]]:
    """All accounts with what they did, by name."""
    sums = scoring.everybody(session)
    practised = rehearsing.everybody(session)
    return [
        account(row, sums.get(row.id), practised.get(row.id, (0, 0)))
        for row in session.scalars(select(Person).order_by(Person.key))
    ]


def account(person: Person, sums: dict[str, Any] | None = None, practice: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """An account for administrators, with what the person did; `practice` is (right, all) answers."""
    done = sums or scoring.summary()
    columns = {name: getattr(person, name) for name in ("id", "name", "active", "created_at", "seen_at")}
    counts = {name: done[name] for name in ("points", "written", "validated", "accepted")}
    shares = {f"agreement_{name}": done[name] for name in ("as_annotator", "as_validator")}
    return {**columns, "roles": person.role_list, **counts, **shares, "practice": practice}


def splits_of(session: Session) -> list[str]:
    """The names of the splits that have pictures."""
    return sorted(session.scalars(select(Picture.split).distinct()))


def _splits(session: Session) -> list[dict[str, Any]]:
    covered = func.sum(case((Picture.samples > 0, 1), else_=0))
    rows = session.execute(select(Picture.split, func.count(), covered).group_by(Picture.split).order_by(Picture.split))
    progress = {
        split: {
            "split": split, "pictures": pictures, "covered": int(some or 0), "states": dict.fromkeys(STATES, 0),
            "one": 0, "several": 0, "none": 0,
        }
        for split, pictures, some in rows
    }  # fmt: skip
    size = case((GameSample.target_count == 0, "none"), (GameSample.target_count == 1, "one"), else_="several")
    grouped = (GameSample.split, GameSample.state, size)
    for split, state, name, number in session.execute(select(*grouped, func.count()).group_by(*grouped)):
        progress[split]["states"][state] += number
        if state == "accepted":
            progress[split][name] += number
    return list(progress.values())


def _kinds(session: Session) -> list[dict[str, Any]]:
    accepted = func.sum(case((GameSample.state == "accepted", 1), else_=0))
    rows = session.execute(
        select(GameSample.kind, func.count(), accepted).group_by(GameSample.kind).order_by(func.count().desc())
    )
    return [{"kind": kind, "total": total, "accepted": int(some or 0)} for kind, total, some in rows]


def _throughput(session: Session, game: Game) -> list[dict[str, Any]]:
    days = [game.day(game.clock() - back * 86_400) for back in range(_DAYS - 1, -1, -1)]
    names = ("written", "validated", "accepted")
    sums = [func.sum(getattr(Day, name)) for name in names]
    rows = session.execute(select(Day.day, *sums).where(Day.day >= days[0]).group_by(Day.day))
    done = {row[0]: map(int, row[1:]) for row in rows}
    return [{"day": day, **dict(zip(names, done.get(day, (0, 0, 0)), strict=True))} for day in days]
