"""Who has read a sentence outside of validating it: such a sample is not handed to them, and what they validate stays
blind. An administrator sees the author's selection on a sample's page, in the list of samples (of those that are not
theirs to validate just then, but may be reopened) and in exports; who practises is told what it means; an editor reads
what is wrong with its mask, and learns which objects are meant by removing them; an annotator sees the sentences of the
picture that they write about, and earlier ones that theirs repeats.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, insert, literal, or_, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import GameSample, Person, Rehearsal, Seen, Verdict
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.sentences import are_near
from refseg.apps.annotate.states import OPEN


def has_seen(person_id: int) -> ColumnElement[bool]:
    """The condition, on samples, that the person has read them, or practised with them."""
    practised = select(Rehearsal.id).where(Rehearsal.person_id == person_id, Rehearsal.sample_id == GameSample.id)
    read = select(Seen.at).where(Seen.person_id == person_id, Seen.sample_id == GameSample.id)
    return or_(read.exists(), practised.exists())


def note_seen(game: Game, person_id: int, samples: Iterable[int], *, page: bool = False) -> None:
    """Keep that the person has read these samples' sentences; with `page` also what they mean.

    Own ones and those judged are left out: they are not handed out anyway. So are those that the person holds to
    validate, unless it was the page.
    """
    wanted = set(samples)
    if not wanted:
        return
    judged = select(Verdict.id).where(Verdict.sample_id == GameSample.id, Verdict.validator_id == person_id).exists()
    new = select(GameSample.id).where(
        GameSample.id.in_(wanted), GameSample.author_id != person_id, ~judged, ~has_seen(person_id)
    )
    if not page:
        new = new.where(or_(GameSample.lease_person.is_(None), GameSample.lease_person != person_id))
    with game.database.read() as session:  # most are known: no transaction that writes for them
        found = session.scalars(new).all()

    def work(session: Session) -> None:
        for number in session.scalars(new):
            session.add(Seen(person_id=person_id, sample_id=number, at=game.clock()))

    if found:
        game.database.write(work)


def note_all_seen(session: Session, game: Game, person_id: int, *conditions: ColumnElement[bool]) -> None:
    """Keep that the person has read all samples for which the conditions hold, and what they mean: an export."""
    rows = select(literal(person_id), GameSample.id, literal(game.clock())).where(
        *conditions, GameSample.author_id != person_id, ~has_seen(person_id)
    )
    session.execute(insert(Seen).from_select(["person_id", "sample_id", "at"], rows))


def pass_on(session: Session, sample: GameSample) -> None:
    """Keep that those who have read an earlier sample of the picture that says the same, or nearly, know a new one."""
    earlier = select(GameSample.id, GameSample.text).where(
        GameSample.picture_id == sample.picture_id, GameSample.id != sample.id
    )
    same = [number for number, text in session.execute(earlier) if are_near(text, sample.text)]
    readers = select(Seen.person_id, Seen.at).where(Seen.sample_id.in_(same), Seen.person_id != sample.author_id)
    for person_id, at in dict(session.execute(readers).tuples().all()).items() if same else ():
        session.add(Seen(person_id=person_id, sample_id=sample.id, at=at))


def may_validate(person: Person) -> ColumnElement[bool]:
    """The condition, on samples, that the person may still be asked what they mean: nothing may give it away."""
    if "validator" not in person.role_list:
        return GameSample.id < 0
    judged = select(Verdict.id).where(Verdict.sample_id == GameSample.id, Verdict.validator_id == person.id).exists()
    asked = (*OPEN, "mending")  # which is open again once its mask is mended
    return GameSample.state.in_(asked) & (GameSample.author_id != person.id) & ~judged & ~has_seen(person.id)
