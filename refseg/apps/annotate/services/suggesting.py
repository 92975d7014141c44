"""Sentences lent from other pictures of the same split, to be without target on this one.

gRefCOCO's second rule for sentences without target: annotators may choose a deceptive expression drawn from other
pictures of the same split, so that no split leaks into another (Liu, Ding, Jiang, CVPR 2023, section 3).
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import GameSample, Imported, Object, Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.nouns import Nouns, deceptive
from refseg.apps.annotate.services.sentences import are_near
from refseg.apps.annotate.states import LIVE

_WINDOW = 150
_TABLES: dict[str, type[Imported] | type[GameSample]] = {"i": Imported, "s": GameSample}


def suggest(session: Session, game: Game, nouns: Nouns, picture: Picture, count: int) -> list[tuple[str, str]]:
    """Up to `count` sentences as (id, text): with targets on their own picture, naming something that this one has.

    Imported sentences and accepted samples of other pictures of the split are looked through from a random place on.
    Those that the picture has already, or nearly, are left out.
    """
    present = set(
        session.scalars(select(Object.category).where(Object.picture_id == picture.id, Object.active).distinct())
    )
    here = list(session.scalars(select(Imported.text).where(Imported.picture_id == picture.id)))
    live = select(GameSample.text).where(GameSample.picture_id == picture.id, GameSample.state.in_(LIVE))
    here += session.scalars(live)
    suggestions: dict[str, str] = {}
    pool = _pool(session, game, picture)
    game.rng.shuffle(pool)
    for key, text in pool:
        if len(suggestions) >= count:
            break
        if (
            text in suggestions.values()
            or not deceptive(text, nouns, present)
            or any(are_near(text, other) for other in here)
        ):
            continue
        suggestions[key] = text
    return list(suggestions.items())


def suggested_text(session: Session, picture: Picture, key: str | None) -> str | None:
    """The lent sentence of a suggestion's id, None for one that is unknown or of another split."""
    if not key or key[:1] not in _TABLES or not key[1:].isdecimal() or len(key) > 18:
        return None
    table = _TABLES[key[0]]
    wanted = select(table.text).where(table.id == int(key[1:]), table.split == picture.split)
    return session.scalar(wanted)


def _pool(session: Session, game: Game, picture: Picture) -> list[tuple[str, str]]:
    start = game.rng.random()
    pool: list[tuple[str, str]] = []
    for letter, table in _TABLES.items():
        conditions = [table.split == picture.split, table.picture_id != picture.id, table.no_target.is_(False)]
        if table is GameSample:
            conditions.append(GameSample.state == "accepted")
        room = _WINDOW
        for side in (table.draw >= start, table.draw < start):
            wanted = select(table.id, table.text).where(*conditions, side).order_by(table.draw).limit(room)
            rows = session.execute(wanted).all()
            pool += [(f"{letter}{row[0]}", row[1]) for row in rows]
            room -= len(rows)
            if room <= 0:
                break
    return pool
