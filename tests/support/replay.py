"""Whether the database agrees with itself: the audit log is played again from the start, and everything counted anew.

Each change of state is one transaction with its audit row, so that the log alone says what the states must be. This
reads all samples; the tests and `python -m tests.loadtest` ask for it after play.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import Audit, Award, Day, GameSample, Picture, SampleTarget, Verdict
from refseg.apps.annotate.services.judging import RESULTS
from refseg.apps.annotate.states import LIVE, MOVES, OPEN

_MOST = 50


def contradictions(session: Session) -> list[str]:
    """What does not agree, one line each, 50 at most; [] for a sound database."""
    found: list[str] = []
    for check in (_states, _verdicts, _targets, _pictures, _leases, _days):
        for line in check(session):
            found.append(line)
            if len(found) >= _MOST:
                return found
    return found


def _states(session: Session) -> Iterable[str]:
    """Every move of the log starts where the one before ended, stands in the table, and the last is the sample's."""
    states: dict[int | None, str | None] = {}
    rows = select(Audit.entity_id, Audit.move, Audit.start, Audit.end).where(Audit.entity == "sample")
    for number, name, start, end in session.execute(rows.order_by(Audit.id)):
        if start != states.get(number):
            yield f"sample {number}: {name} starts from {start}, but the log had left it {states.get(number)}"
        move = MOVES.get(name)
        if move is None or move.targets.get(start) != end:
            yield f"sample {number}: the table has no move {name} from {start} to {end}"
        states[number] = end
    rows_now = session.execute(select(GameSample.id, GameSample.state))
    kept: dict[int | None, str] = {row[0]: row[1] for row in rows_now}
    for number in states.keys() | kept.keys():
        if states.get(number) != kept.get(number):
            yield f"sample {number}: is {kept.get(number)}, by the log {states.get(number)}"


def _verdicts(session: Session) -> Iterable[str]:
    """A verdict for each of a validator's moves and the other way round, none of the author's own, none twice."""
    moved: Counter[tuple[Any, ...]] = Counter()
    rows = select(Audit.entity_id, Audit.actor_id, Audit.move).where(
        Audit.entity == "sample", Audit.move.in_(list(RESULTS))
    )
    for number, actor, name in session.execute(rows):
        moved[number, actor, RESULTS[name]] += 1
    kept = Counter(
        tuple(row) for row in session.execute(select(Verdict.sample_id, Verdict.validator_id, Verdict.result))
    )
    for key in moved.keys() | kept.keys():
        if moved[key] != 1 or kept[key] != 1:
            yield f"sample {key[0]}: {kept[key]} verdicts {key[2]} of person {key[1]}, by the log {moved[key]}"
    own = select(Verdict.sample_id).join(GameSample).where(Verdict.validator_id == GameSample.author_id)
    for number in session.scalars(own):
        yield f"sample {number}: its author has validated it"


def _targets(session: Session) -> Iterable[str]:
    counted = func.count(SampleTarget.object_id)
    rows = select(GameSample.id, GameSample.target_count, GameSample.no_target, counted).outerjoin(SampleTarget)
    for number, kept, none, there in session.execute(rows.group_by(GameSample.id)):
        if kept != there or none != (there == 0):
            yield f"sample {number}: says {kept} targets (none: {none}), {there} are kept"


def _pictures(session: Session) -> Iterable[str]:
    live = select(GameSample.picture_id, func.count()).where(GameSample.state.in_(LIVE)).group_by(GameSample.picture_id)
    counted: dict[int, int] = {row[0]: row[1] for row in session.execute(live)}
    for number, kept in session.execute(select(Picture.id, Picture.samples)):
        if kept != counted.get(number, 0):
            yield f"picture {number}: says {kept} live samples, {counted.get(number, 0)} are there"


def _leases(session: Session) -> Iterable[str]:
    for name, table in (("picture", Picture), ("sample", GameSample)):
        held = select(table.id, table.lease_id, table.lease_person, table.lease_until).where(
            table.lease_id.is_not(None) | table.lease_person.is_not(None) | table.lease_until.is_not(None)
        )
        for row in session.execute(held):
            if None in tuple(row):
                yield f"{name} {row[0]}: half a lease {tuple(row[1:])}"
    closed = select(GameSample.id).where(GameSample.state.not_in(OPEN), GameSample.lease_id.is_not(None))
    for number in session.scalars(closed):
        yield f"sample {number}: is closed and held"


def _days(session: Session) -> Iterable[str]:
    """The sums that are kept by day, against the rows that they count."""
    counted: dict[str, Counter[int]] = defaultdict(Counter)

    def add(name: str, statement: Any) -> None:
        for person, number in session.execute(statement):
            counted[name][person] += int(number)

    verdicts, author = func.count(Verdict.id), GameSample.author_id
    judged = select(Verdict.validator_id, verdicts).group_by(Verdict.validator_id)
    theirs = select(author, verdicts).join(Verdict, Verdict.sample_id == GameSample.id).group_by(author)
    chosen, same = Verdict.result != "rejected", Verdict.result == "matched"
    add("written", select(author, func.count()).group_by(author))
    add("validated", judged)
    add("judge_compared", judged.where(chosen))
    add("judge_matched", judged.where(same))
    add("author_compared", theirs.where(chosen))
    add("author_matched", theirs.where(same))
    add("accepted", select(author, func.count()).where(GameSample.state == "accepted").group_by(author))
    add("points", select(Award.person_id, func.sum(Award.points)).group_by(Award.person_id))
    for name, people in counted.items():
        sums = select(Day.person_id, func.sum(getattr(Day, name))).group_by(Day.person_id)
        kept: dict[int, int] = {row[0]: int(row[1]) for row in session.execute(sums)}
        for person in kept.keys() | people.keys():
            if kept.get(person, 0) != people[person]:
                yield f"person {person}: {name} {kept.get(person, 0)} by days, {people[person]} by rows"
