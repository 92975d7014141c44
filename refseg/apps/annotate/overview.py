"""Numbers for the administrator: queues, agreement, kinds, progress of each split, throughput."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate import scoring
from refseg.apps.annotate.game import Game, iso
from refseg.apps.annotate.states import OPEN, STATES
from refseg.apps.annotate.tables import Day, Draft, GameSample, Imported, Object, Person, Picture, Verdict

_DAYS = 30


def overview(session: Session, game: Game) -> dict[str, Any]:
    """Everything on the administrator's first page; see the API's description for the fields."""
    now = game.clock()

    def number(statement: Any) -> int:
        return session.scalar(statement) or 0

    states = dict.fromkeys(STATES, 0)
    for state, found in session.execute(select(GameSample.state, func.count()).group_by(GameSample.state)):
        states[state] = found
    held = {table: number(select(func.count()).where(table.lease_until >= now)) for table in (Picture, GameSample)}
    return {
        "pictures": number(select(func.count()).select_from(Picture)),
        "objects": number(select(func.count()).select_from(Object)),
        "imported": number(select(func.count()).select_from(Imported)),
        "samples": states,
        "splits": _splits(session),
        "kinds": _kinds(session),
        "throughput": _throughput(session, game),
        "queues": {
            "waiting": states["waiting"],
            "second": states["second"],
            "held_write": held[Picture],
            "held_validate": held[GameSample],
            "drafts": number(select(func.count()).select_from(Draft)),
            "oldest_waiting_at": iso(
                session.scalar(select(func.min(GameSample.queued_at)).where(GameSample.state.in_(OPEN)))
            ),
        },
        "agreement": agreement(session),
        "rejections": [
            {"reason": reason, "n": found}
            for reason, found in session.execute(
                select(Verdict.reason, func.count())
                .where(Verdict.result == "rejected")
                .group_by(Verdict.reason)
                .order_by(Verdict.reason)
            )
        ],
    }


def agreement(session: Session, split: str | None = None) -> dict[str, Any]:
    """How often validators selected the author's objects: of all selections, and of the first one for each sample."""
    wanted = select(Verdict.result, Verdict.first, func.count()).where(Verdict.result != "rejected")
    if split is not None:
        wanted = wanted.where(Verdict.sample_id.in_(select(GameSample.id).where(GameSample.split == split)))
    found = {(row[0], row[1]): row[2] for row in session.execute(wanted.group_by(Verdict.result, Verdict.first))}
    compared = sum(found.values())
    firsts = sum(number for (_, first), number in found.items() if first)
    same = sum(number for (result, _), number in found.items() if result == "matched")
    return {
        "compared": compared,
        "matched": same,
        "rate": same / compared if compared else None,
        "first_rate": found.get(("matched", True), 0) / firsts if firsts else None,
    }


def people(session: Session) -> list[dict[str, Any]]:
    """All accounts with what they did."""
    sums = scoring.everybody(session)
    return [person_json(row, sums.get(row.id)) for row in session.scalars(select(Person).order_by(Person.key))]


def person_json(person: Person, sums: dict[str, Any] | None = None) -> dict[str, Any]:
    """An account for administrators."""
    found = sums or scoring.nothing()
    return {
        "id": person.id, "name": person.name, "roles": person.role_list, "active": person.active,
        "created_at": iso(person.created_at), "last_seen_at": iso(person.seen_at), "points": found["points"],
        "written": found["written"], "validated": found["validated"], "accepted": found["accepted"],
        "agreement_as_annotator": found["as_annotator"], "agreement_as_validator": found["as_validator"],
    }  # fmt: skip


def splits_of(session: Session) -> list[str]:
    """The names of the splits that have pictures."""
    return sorted(session.scalars(select(Picture.split).distinct()))


def _splits(session: Session) -> list[dict[str, Any]]:
    covered = func.sum(case((Picture.samples > 0, 1), else_=0))
    rows = session.execute(select(Picture.split, func.count(), covered).group_by(Picture.split).order_by(Picture.split))
    found = {
        split: {
            "split": split, "pictures": pictures, "covered": int(some or 0), "states": dict.fromkeys(STATES, 0),
            "one": 0, "several": 0, "none": 0,
        }
        for split, pictures, some in rows
    }  # fmt: skip
    size = case((GameSample.target_count == 0, "none"), (GameSample.target_count == 1, "one"), else_="several")
    grouped = (GameSample.split, GameSample.state, size)
    for split, state, name, number in session.execute(select(*grouped, func.count()).group_by(*grouped)):
        found[split]["states"][state] += number
        if state == "accepted":
            found[split][name] += number
    return list(found.values())


def _kinds(session: Session) -> list[dict[str, Any]]:
    accepted = func.sum(case((GameSample.state == "accepted", 1), else_=0))
    rows = session.execute(
        select(GameSample.kind, func.count(), accepted).group_by(GameSample.kind).order_by(func.count().desc())
    )
    return [{"kind": kind, "total": total, "accepted": int(some or 0)} for kind, total, some in rows]


def _throughput(session: Session, game: Game) -> list[dict[str, Any]]:
    today = datetime.fromtimestamp(game.clock(), timezone.utc)
    days = [(today - timedelta(days=back)).strftime("%Y-%m-%d") for back in range(_DAYS - 1, -1, -1)]
    sums = [func.sum(column) for column in (Day.written, Day.validated, Day.accepted)]
    rows = session.execute(select(Day.day, *sums).where(Day.day >= days[0]).group_by(Day.day)).all()
    done = {row[0]: [int(value) for value in row[1:]] for row in rows}
    names = ("written", "validated", "accepted")
    return [{"day": day, **dict(zip(names, done.get(day, [0, 0, 0]), strict=True))} for day in days]
