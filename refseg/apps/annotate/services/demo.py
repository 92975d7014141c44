"""A game to look at: drawn scenes, or any pictures, and accounts with passwords made for the occasion."""

from __future__ import annotations

import secrets

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.database.tables import Person, Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.importing import ImportResult, import_pictures
from refseg.apps.annotate.services.sources import scenes

ACCOUNTS: dict[str, tuple[str, ...]] = {
    "anna": ("annotator", "validator"),
    "viktor": ("annotator", "validator"),
    "admin": ("annotator", "validator", "administrator"),
}


def prepare_demo(game: Game, count: int) -> dict[str, str]:
    """Draw `count` scenes where there are no pictures yet, make the accounts; returns a new password for each."""
    with game.database.read() as session:
        empty = not session.scalar(select(func.count()).select_from(Picture))
    if empty and count:
        import_pictures(game, scenes(count), ImportResult(), "drawn scenes")
    passwords = {name: secrets.token_urlsafe(9) for name in ACCOUNTS}

    def work(session: Session) -> None:
        for name, roles in ACCOUNTS.items():
            there = session.scalar(select(Person.id).where(Person.key == name))
            if there is None:
                people.add_person(session, game, name, passwords[name], roles)
            else:
                people.change_person(session, game, there, password=passwords[name])

    game.database.write(work)
    return passwords
