"""Points, the day's work, agreement and the leaderboard.

A person's days are counted beside the samples and verdicts, in the same transactions.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import Award, Board, Day, Person
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.states import POINTS

_COUNTS = (
    "points", "written", "validated", "accepted", "author_matched", "author_compared", "judge_matched",
    "judge_compared",
)  # fmt: skip

PERIODS = ("day", "week", "all")
_STILL = 60  # minutes for which the leaderboard does not move


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
    row = session.execute(select(*_sums()).where(Day.person_id == person_id)).one()
    return summary(row)


def everybody(session: Session) -> dict[int, dict[str, Any]]:
    """The totals of all people by number."""
    rows = session.execute(select(Day.person_id, *_sums()).group_by(Day.person_id))
    return {row.person_id: summary(row) for row in rows}


def leaderboard(game: Game, period: str, person_id: int, most: int = 50) -> dict[str, Any]:
    """People by points of a "day", "week" (the last seven days) or "all" time; ties by name.

    As it stood when it was last read off, at least an hour ago for the next time: points that move at once would tell a
    validator whose sentence it was. All periods are read off together, so that none shows what another does not yet.
    """
    now = int(game.clock() // 60)

    def work(session: Session) -> list[dict[str, Any]]:
        boards = {name: session.get(Board, name, with_for_update=True) for name in PERIODS}
        if not all(board is not None and now - board.hour < _STILL for board in boards.values()):
            for name, board in boards.items():
                if board is None:
                    board = boards[name] = Board(period=name, hour=now, content=[])
                    session.add(board)
                board.hour, board.content = now, _ranks(session, game, name)
            session.flush()
        kept = boards[period]
        assert kept is not None
        return kept.content

    with game.database.read() as session:
        board = session.get(Board, period)
    fresh = board is not None and now - board.hour < _STILL
    content = board.content if board is not None and fresh else game.database.write(work)
    ranked = [{**entry, "me": entry["user_id"] == person_id} for entry in content]
    own = next((entry for entry in ranked if entry["me"]), None)
    return {"period": period, "items": ranked[:most], "me": own}


def _ranks(session: Session, game: Game, period: str) -> list[dict[str, Any]]:
    wanted = select(Person.id, Person.name, *_sums()).join(Day, Day.person_id == Person.id).where(Person.active)
    if period != "all":
        wanted = wanted.where(Day.day >= game.day(game.clock() - (0 if period == "day" else 6 * 86_400)))
    rows = session.execute(wanted.group_by(Person.id, Person.name)).all()
    ranked: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (-row.points, row.name.casefold(), row.id)):
        compared = int(row.author_compared + row.judge_compared)
        ranked.append(
            {
                "rank": len(ranked) + 1, "user_id": row.id, "name": row.name,
                **{name: int(getattr(row, name)) for name in ("points", "written", "validated", "accepted")},
                "agreement": int(row.author_matched + row.judge_matched) / compared if compared else None,
            }
        )  # fmt: skip
    return ranked


def summary(row: object = None) -> dict[str, Any]:
    """The totals of a row of sums; of somebody who has done nothing yet without one."""
    sums = {name: 0 if row is None else int(getattr(row, name)) for name in _COUNTS}
    author, judge = sums["author_compared"], sums["judge_compared"]
    return {
        **{name: sums[name] for name in ("points", "written", "validated", "accepted")},
        "as_annotator": sums["author_matched"] / author if author else None,
        "as_validator": sums["judge_matched"] / judge if judge else None,
        "compared_as_annotator": author,
        "compared_as_validator": judge,
    }


def _sums() -> list[Any]:
    return [func.coalesce(func.sum(getattr(Day, name)), 0).label(name) for name in _COUNTS]
