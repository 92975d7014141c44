"""The folder of pictures against the database: which files are gone, or are not what was stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.pictures import picture_path
from refseg.apps.annotate.settings import Settings
from refseg.files import digest

_LOOKED_AT = 20


@dataclass(frozen=True)
class Missing:
    """A picture's file that is "missing" or "changed"; `samples` is how many live sentences speak about it."""

    name: str
    fault: str
    samples: int

    def __str__(self) -> str:
        return f"{self.name}: {self.fault}" + (f", with {self.samples} sentences" if self.samples else "")


def missing_pictures(game: Game) -> Iterator[Missing]:
    """The files that are not as they were stored, by the hash that was kept then; reads all pictures."""
    with game.database.read() as session:
        pictures = list(session.scalars(select(Picture).order_by(Picture.number)))
    for picture in pictures:
        path = picture_path(game.settings, picture)
        if not path.is_file():
            yield Missing(path.name, "missing", picture.samples)
        elif picture.stored_digest and digest(path) != picture.stored_digest:
            yield Missing(path.name, "changed", picture.samples)


def some_missing(session: Session, settings: Settings) -> list[str]:
    """Names of files that are gone among the first and the last few pictures: a look that costs next to nothing."""
    names = []
    for order in (Picture.id, Picture.id.desc()):
        for picture in session.scalars(select(Picture).order_by(order).limit(_LOOKED_AT)):
            path = picture_path(settings, picture)
            if not path.is_file():
                names.append(path.name)
    return names


def note_digests(game: Game) -> int:
    """Keep the hashes of files that were stored before hashes were kept; returns how many."""
    with game.database.read() as session:
        pictures = list(session.scalars(select(Picture).where(Picture.stored_digest == "")))
    found = {
        picture.id: digest(path) for picture in pictures if (path := picture_path(game.settings, picture)).is_file()
    }

    def work(session: Session) -> None:
        for number, kept in found.items():
            session.execute(update(Picture).where(Picture.id == number).values(stored_digest=kept))

    if found:
        game.database.write(work)
    return len(found)
