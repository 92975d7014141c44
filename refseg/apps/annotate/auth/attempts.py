"""Guessing passwords: waits that grow, by name *and* address, so that nobody can lock an owner out from elsewhere.

A name that fails too often from an address waits there, and only there; an address that fails with too many names waits
as a whole. A browser in which the name has logged in before is counted by itself: strangers at the same address do not
count for it. An attempt is counted before the password is looked at, so that many at once are no way around.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth.people import key_of
from refseg.apps.annotate.database.tables import Attempt
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.limits import network_of

LONGEST_WAIT = 3600
"""Seconds beyond which a wait does not grow."""
FORGOTTEN = 86_400
"""Seconds without an attempt after which failures are forgotten."""
MOST_ROWS = 20_000
"""Names and addresses that are kept; beyond that the oldest go."""
NAMES = 10
"""An address has so many times as many attempts as one name from it: a team may sit behind one address."""


def keys_of(name: str, address: str, device: str | None) -> dict[str, int]:
    """What an attempt is counted under, and how many times `Settings.login_attempts` each may fail."""
    who = hashlib.sha256(key_of(name).encode()).hexdigest()[:24]
    if device is not None:
        return {f"device {hashlib.sha256(device.encode()).hexdigest()[:24]}": 1}
    network = network_of(address)
    return {f"name {who} {network}": 1, f"address {network}": NAMES}


def attempt(session: Session, game: Game, keys: Mapping[str, int]) -> int:
    """Count an attempt; returns the seconds to wait where it may not be made, 0 where it may."""
    now = game.clock()
    rows = {key: session.get(Attempt, key, with_for_update=True) for key in sorted(keys)}
    wait = max((row.until - now for row in rows.values() if row is not None), default=0.0)
    if wait > 0:
        return max(1, round(wait))
    for key, times in keys.items():
        row = rows[key]
        if row is None:
            _make_room(session, now)
            row = Attempt(key=key, failures=0, last_at=now, until=0.0)
            session.add(row)
        elif now - row.last_at > FORGOTTEN:
            row.failures = 0
        row.failures += 1
        row.last_at = now
        beyond = row.failures - times * game.settings.login_attempts
        if beyond >= 0:
            row.until = now + min(LONGEST_WAIT, game.settings.login_wait * 2 ** min(beyond, 20))
    session.flush()
    return 0


def succeeded(session: Session, keys: Mapping[str, int]) -> None:
    """The attempt was the owner's: it does not count, and the name's failures there are forgotten."""
    for key, times in keys.items():
        row = session.get(Attempt, key, with_for_update=True)
        if row is None:
            continue
        if times == 1:
            session.delete(row)
        else:
            row.failures, row.until = max(0, row.failures - 1), 0.0
    session.flush()


def _make_room(session: Session, now: float) -> None:
    session.execute(delete(Attempt).where(Attempt.last_at < now - FORGOTTEN))
    if (session.scalar(select(func.count()).select_from(Attempt)) or 0) >= MOST_ROWS:
        oldest = select(Attempt.last_at).order_by(Attempt.last_at).limit(1).offset(MOST_ROWS // 10)
        session.execute(delete(Attempt).where(Attempt.last_at <= oldest.scalar_subquery()))
