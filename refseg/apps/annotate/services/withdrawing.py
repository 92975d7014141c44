"""One's own sentence, taken back while nobody has it: dropped, or put differently."""

from __future__ import annotations

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import Draft, GameSample, Verdict
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.moves import keep_as_draft, make_move


def nobody_has(now: float) -> ColumnElement[bool]:
    """The condition, on samples, that nobody has one in hand or has judged it."""
    judged = select(Verdict.id).where(Verdict.sample_id == GameSample.id).exists()
    return (
        (GameSample.state == "waiting") & ~judged & or_(GameSample.lease_until.is_(None), GameSample.lease_until < now)
    )


def withdraw(session: Session, game: Game, person_id: int, sample_id: int, draft: bool) -> GameSample:
    """Take back one's own sentence; with `draft` it can be put differently and submitted again.

    Raises `GameError`: "not_found" for another's; "not_allowed" where somebody has it, has judged it, or where there is
    a draft on its picture already.
    """
    sample = session.get(GameSample, sample_id, with_for_update=True, populate_existing=True)
    if sample is None or sample.author_id != person_id:
        raise not_found("sample")
    free = select(GameSample.id).where(GameSample.id == sample_id, nobody_has(game.clock()))
    if session.scalar(free) is None:
        raise GameError(
            "not_allowed", "somebody has this sentence, or has answered it: it cannot be taken back", state=sample.state
        )
    if draft and session.get(Draft, (person_id, "write", sample.picture_id)) is not None:
        raise GameError("not_allowed", "you have begun another sentence on this picture: finish that one first")
    make_move(session, game, sample, "withdraw", person_id)
    sample.lease_id = sample.lease_person = sample.lease_until = None
    if draft:
        keep_as_draft(session, game, sample, "")
    session.flush()
    return sample
