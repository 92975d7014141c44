"""What the services share: settings, database, clock and chance."""

from __future__ import annotations

import random
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone

from refseg.apps.annotate.database.engine import Database
from refseg.apps.annotate.database.migrate import migrate
from refseg.apps.annotate.settings import Settings


@dataclass
class Game:
    """One running game. `clock` gives seconds since 1970; `rng` draws pictures and suggestions."""

    settings: Settings
    database: Database
    clock: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.SystemRandom)
    categories: tuple[float, frozenset[str]] | None = None  # of all objects, with the time when they were read

    @classmethod
    def open(cls, settings: Settings) -> Game:
        """The game of these settings; the database is brought up to date first."""
        settings.data.mkdir(parents=True, exist_ok=True)
        database = Database(settings.url, settings.busy_seconds)
        migrate(database)
        return cls(settings, database)

    def day(self, at: float | None = None) -> str:
        """The day (UTC) of a time, now if None: 2026-07-01."""
        return datetime.fromtimestamp(self.clock() if at is None else at, timezone.utc).strftime("%Y-%m-%d")


def iso(at: float | str | None) -> str | None:
    """A time (seconds since 1970) as the API writes it: ISO 8601, UTC, with a Z; a text stays as it is."""
    if at is None or isinstance(at, str):
        return at
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clean(text: str) -> str:
    """The sentence as it is kept: Unicode's composed form, single spaces, no control characters at all."""
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign for sign in composed)
    return " ".join(visible.split())
