"""Samples that nobody is left to validate go back to their authors, as drafts that can be reworded or dropped.

Two people alone would otherwise wait for ever: where the second one differs, nobody is there to decide.
"""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import GameSample, Person, Seen, Verdict
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.moves import give_back

_AT_ONCE = 5
REASON = "the validator selected other objects, and nobody else was here to decide: put it differently, or drop it"


def give_back_late(session: Session, game: Game) -> int:
    """Give back some of what has waited too long for a second validator; returns how many.

    Those only of which no active validator, who has neither written, judged nor seen them, has been here since.
    """
    days = game.settings.return_days
    if not days:
        return 0
    now = game.clock()
    late = (
        select(GameSample)
        .where(
            GameSample.state == "second",
            GameSample.queued_at < now - days * 86_400,
            or_(GameSample.lease_until.is_(None), GameSample.lease_until < now),
        )
        .order_by(GameSample.queued_at)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True, key_share=True)
    )
    count = 0
    for sample in session.scalars(late).all():
        if _somebody_else(session, sample):
            continue
        give_back(session, game, sample, None, REASON)
        count += 1
    return count


def _somebody_else(session: Session, sample: GameSample) -> bool:
    judged = select(Verdict.id).where(Verdict.sample_id == sample.id, Verdict.validator_id == Person.id).exists()
    seen = select(Seen.at).where(Seen.sample_id == sample.id, Seen.person_id == Person.id).exists()
    others = select(Person.id).where(
        Person.active, Person.roles.contains("validator"), Person.id != sample.author_id,
        Person.seen_at > sample.queued_at, ~judged, ~seen,
    )  # fmt: skip
    return session.scalar(others.limit(1)) is not None
