"""Points, the day's work, agreement and the leaderboard.

A person's days are counted beside the samples and verdicts, in the same transactions.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from refseg.apps.annotate.game import Game
from refseg.apps.annotate.states import POINTS
from refseg.apps.annotate.tables import Award, Day, Person

_COUNTS = (
    "points", "written", "validated", "accepted", "author_matched", "author_compared", "judge_matched",
    "judge_compared",
)  # fmt: skip


def count(session: Session, game: Game, person_id: int, **more: int) -> None:
    """Add to the counters of a person's day; names are columns of `Day`."""
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = dict.fromkeys(_COUNTS, 0) | more
    statement = insert(Day).values(person_id=person_id, day=game.day(), **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[Day.person_id, Day.day],
            set_={name: getattr(Day, name) + value for name, value in more.items()},
        )
    )


def award(session: Session, game: Game, person_id: int, sample_id: int, what: str, sign: int = 1) -> int:
    """Give (or with `sign` -1 take back) the points of `POINTS[what]`; returns them."""
    points = sign * POINTS[what]
    session.add(Award(person_id=person_id, sample_id=sample_id, what=what, points=points, at=game.clock()))
    count(session, game, person_id, points=points)
    return points


def today(session: Session, game: Game, person_id: int) -> dict[str, Any]:
    """What a person did today, beside the goal."""
    row = session.get(Day, (person_id, game.day()), populate_existing=True)
    written, validated, points = (row.written, row.validated, row.points) if row is not None else (0, 0, 0)
    return {
        "day": game.day(), "written": written, "validated": validated, "points": points,
        "goal": game.settings.daily_goal, "done": written + validated,
    }  # fmt: skip


def totals(session: Session, person_id: int) -> dict[str, Any]:
    """A person's sums over all days, with agreement (share of compared selections that matched, None without any)."""
    columns = [func.coalesce(func.sum(getattr(Day, name)), 0) for name in _COUNTS]
    row = session.execute(select(*columns).where(Day.person_id == person_id)).one()
    return _summary(dict(zip(_COUNTS, (int(value) for value in row), strict=True)))


def leaderboard(session: Session, game: Game, period: str, person_id: int, most: int = 50) -> dict[str, Any]:
    """People by points of a "day", "week" (the last seven days) or "all" time; ties by name."""
    sums = [func.sum(getattr(Day, name)).label(name) for name in _COUNTS]
    wanted = select(Person.id, Person.name, *sums).join(Day, Day.person_id == Person.id).where(Person.active)
    if period != "all":
        back = 0 if period == "day" else 6
        first = datetime.fromtimestamp(game.clock(), timezone.utc) - timedelta(days=back)
        wanted = wanted.where(Day.day >= first.strftime("%Y-%m-%d"))
    rows = session.execute(wanted.group_by(Person.id, Person.name)).all()
    ranked: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (-row.points, row.name.casefold(), row.id)):
        found = _summary({name: int(getattr(row, name)) for name in _COUNTS})
        compared = found["compared_as_annotator"] + found["compared_as_validator"]
        matched = int(row.author_matched) + int(row.judge_matched)
        ranked.append(
            {
                "rank": len(ranked) + 1, "user_id": row.id, "name": row.name, "points": found["points"],
                "written": found["written"], "validated": found["validated"], "accepted": found["accepted"],
                "agreement": matched / compared if compared else None, "me": row.id == person_id,
            }
        )  # fmt: skip
    own = next((entry for entry in ranked if entry["me"]), None)
    return {"period": period, "items": ranked[:most], "me": own}


def everybody(session: Session) -> dict[int, dict[str, Any]]:
    """The totals of all people by number."""
    sums = [func.sum(getattr(Day, name)) for name in _COUNTS]
    rows = session.execute(select(Day.person_id, *sums).group_by(Day.person_id))
    return {row[0]: _summary(dict(zip(_COUNTS, (int(v) for v in row[1:]), strict=True))) for row in rows}


def nothing() -> dict[str, Any]:
    """The totals of somebody who has done nothing yet."""
    return _summary(dict.fromkeys(_COUNTS, 0))


def _summary(sums: dict[str, int]) -> dict[str, Any]:
    author, judge = sums["author_compared"], sums["judge_compared"]
    return {
        "points": sums["points"],
        "written": sums["written"],
        "validated": sums["validated"],
        "accepted": sums["accepted"],
        "as_annotator": sums["author_matched"] / author if author else None,
        "as_validator": sums["judge_matched"] / judge if judge else None,
        "compared_as_annotator": author,
        "compared_as_validator": judge,
    }
