"""Who has read a sentence outside of validating it: such a sample is not handed to them, and what they validate stays
blind. An administrator who opens a sample's page sees its author's selection; an annotator sees the sentences of the
picture that they write about, and earlier ones that theirs repeats.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import GameSample, Person, Seen, Verdict
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.states import OPEN


def has_seen(person_id: int) -> ColumnElement[bool]:
    """The condition, on samples, that the person has read them."""
    return select(Seen.at).where(Seen.person_id == person_id, Seen.sample_id == GameSample.id).exists()


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


def may_validate(person: Person) -> ColumnElement[bool]:
    """The condition, on samples, that the person may still be asked what they mean: nothing may give it away."""
    if "validator" not in person.role_list:
        return GameSample.id < 0
    judged = select(Verdict.id).where(Verdict.sample_id == GameSample.id, Verdict.validator_id == person.id).exists()
    asked = (*OPEN, "mending")  # which is open again once its mask is mended
    return GameSample.state.in_(asked) & (GameSample.author_id != person.id) & ~judged & ~has_seen(person.id)
