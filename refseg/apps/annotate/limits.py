"""How often something may happen: counters in the database, so that all workers count together, and in a process."""

from __future__ import annotations

import ipaddress
import threading
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import Rate
from refseg.apps.annotate.errors import GameError

LONGEST = 3600
"""Seconds of the longest window."""
_KEYS = 10_000
"""Keys that a `Window` tells apart."""


def network_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 address, which one person has whole."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False))
        found = found.ipv4_mapped
    return str(found)


def hit(session: Session, now: float, key: str, seconds: int) -> int:
    """Count one more of `key` in the running window of `seconds`; returns how many there are with it."""
    window = int(now // seconds) * seconds
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(Rate).values(key=key[:200], window=window, count=1)
    statement = statement.on_conflict_do_update(
        index_elements=[Rate.key, Rate.window], set_={"count": Rate.count + 1}
    ).returning(Rate.count)
    count = session.execute(statement).scalar_one()
    if count == 1:  # the first of a window clears away what is long over, whoever it was
        session.execute(delete(Rate).where(Rate.window < now - LONGEST))
    return int(count)


def check(session: Session, now: float, key: str, seconds: int, most: int) -> None:
    """Count one more of `key`; raises `GameError` "slow_down" when there are more than `most` in the window."""
    if hit(session, now, key, seconds) > most:
        wait = seconds - int(now % seconds)
        raise GameError("slow_down", f"too much at once; go on in {wait} seconds", seconds=wait)


class Window:
    """Counters of one process, for what need not be exact: requests of a person in a minute."""

    def __init__(self, most: int, seconds: int = 60) -> None:
        self.most, self.seconds = most, seconds
        self._window = 0
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def count(self, now: float, key: str) -> int:
        """Count one more of `key`; returns how many there are with it. Beyond `_KEYS` keys all others share one."""
        window = int(now // self.seconds)
        with self._lock:
            if window != self._window:
                self._window, self._counts = window, {}
            key = key if key in self._counts or len(self._counts) < _KEYS else ""
            self._counts[key] = count = self._counts.get(key, 0) + 1
        return count

    def check(self, now: float, key: str) -> None:
        """Count one more of `key`; raises `GameError` "slow_down" when there are more than `most` in the window."""
        if self.count(now, key) > self.most:
            wait = self.seconds - int(now % self.seconds)
            raise GameError("slow_down", f"too many requests; go on in {wait} seconds", seconds=wait)
