"""What administrators should look at: flagged sentences, and pictures whose masks are said to be broken."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Text, cast, func, not_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import GameSample, Person, Picture, Verdict
from refseg.apps.annotate.errors import not_found
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.browsing import page_of
from refseg.apps.annotate.services.seen import may_validate
from refseg.apps.annotate.states import LIVE


def flagged(session: Session, page: int, per_page: int, reader: Person) -> dict[str, Any]:
    """A page of living sentences with flags that nobody has looked at since, the oldest first; without those that the
    reader may still be asked about, which flags would give away."""
    wanted = select(GameSample).where(
        GameSample.state.in_(LIVE), cast(GameSample.flags, Text) != "[]", GameSample.reviewed_at.is_(None),
        not_(may_validate(reader)),
    )  # fmt: skip
    loaded = (joinedload(GameSample.picture), joinedload(GameSample.author), selectinload(GameSample.verdicts))
    return page_of(session, wanted.order_by(GameSample.id), page, per_page, *loaded)


def broken(session: Session, most: int = 100) -> list[dict[str, Any]]:
    """Pictures with broken masks, and what validators said of them."""
    pictures = select(Picture).where(Picture.masks == "broken").order_by(Picture.id).limit(most)
    found: list[dict[str, Any]] = []
    for picture in session.scalars(pictures):
        said = (
            select(GameSample.id, GameSample.text, Verdict.note)
            .join(Verdict, Verdict.sample_id == GameSample.id)
            .where(GameSample.picture_id == picture.id, GameSample.state == "mending", Verdict.reason == "broken_mask")
            .order_by(Verdict.id)
        )
        reports = [{"sample_id": row[0], "text": row[1], "note": row[2]} for row in session.execute(said)]
        found.append({"picture": picture, "reports": reports})
    return found


def open_pictures(session: Session) -> int:
    """How many pictures still have to get their masks."""
    return session.scalar(select(func.count()).select_from(Picture).where(Picture.masks == "open")) or 0


def pass_flags(session: Session, game: Game, sample_id: int, actor: int) -> GameSample:
    """Take a flagged sentence off the list: it stays as it is."""
    sample = session.get(GameSample, sample_id, with_for_update=True)
    if sample is None:
        raise not_found("sample")
    sample.reviewed_at = game.clock()
    record(session, game, actor, "review", sample_id, "pass", details={"flags": sample.flags})
    return sample
