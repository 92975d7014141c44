"""What the services share: settings, database, clock and chance."""

from __future__ import annotations

import random
import re
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone

from refseg.apps.annotate.database.engine import Database
from refseg.apps.annotate.database.migrate import migrate
from refseg.apps.annotate.limits import Window
from refseg.apps.annotate.settings import Settings

NOTED_A_MINUTE = 100
"""Refusals of an address that the security log keeps in a minute."""


@dataclass
class Game:
    """One running game. `clock` gives seconds since 1970; `rng` draws pictures and suggestions."""

    settings: Settings
    database: Database
    clock: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.SystemRandom)
    categories: tuple[float, frozenset[str]] | None = None  # of all objects, with the time when they were read
    noted: Window = field(default_factory=lambda: Window(NOTED_A_MINUTE))  # refusals in the security log, by address

    @classmethod
    def open(cls, settings: Settings) -> Game:
        """The game of these settings; the database is brought up to date first."""
        settings.make_folder()
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
    """The sentence as it is kept: Unicode's composed form, single spaces, no control characters, nothing invisible."""
    spaced = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign for sign in text)
    shown = "".join(sign for place, sign in enumerate(spaced) if not _is_hidden(spaced, place))
    return " ".join(unicodedata.normalize("NFC", shown).split())


def hidden_letters(text: str) -> list[str]:
    """The letters of a text that nobody sees, each once, as U+200B."""
    found = dict.fromkeys(text[place] for place in range(len(text)) if _is_hidden(text, place))
    return [f"U+{ord(sign):04X}" for sign in found]


_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffc")  # letters and marks without a shape
_JOINERS = frozenset("\u200c\u200d")  # shape letters of Persian, of India's scripts, and pictures made of several


def _is_hidden(text: str, place: int) -> bool:
    sign = text[place]
    if sign.isascii():
        return False
    if sign in _JOINERS:
        around = (text[place - 1 : place], text[place + 1 : place + 2])
        return any(not one or one.isascii() or one.isspace() or one in _JOINERS for one in around)
    if _SELECTORS.match(sign):
        return not _chooses(text[place - 1 : place], text[place + 1 : place + 2])
    return sign in _BLANK or unicodedata.category(sign) in ("Cf", "Co") or _NO_LETTER.match(sign) is not None


# They choose between the shapes of the letter before them: Mongolian ones, all others.
_SELECTORS = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Never letters, or kept free for ones without a shape (Unicode's Default_Ignorable_Code_Point).
_NO_LETTER = re.compile("[\u2065\ufdd0-\ufdef\ufff0-\ufff8\ufffe\uffff\U000e0000-\U000e0fff]")


def _chooses(before: str, after: str) -> bool:
    """Whether a selector is between letters where it changes what is seen: behind a picture, an ideograph, a Mongolian
    letter; behind a digit only within a picture of a key."""
    if before.isascii():
        return after == "\u20e3"
    return not _SELECTORS.match(before) and unicodedata.category(before) in ("So", "Sm", "Sk", "Lo", "Po", "Pd")
