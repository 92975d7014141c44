"""The two logs: every change of state, in its own transaction; and refusals worth a look, beside it."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import Audit, Security
from refseg.apps.annotate.game import NOTED_A_MINUTE, Game
from refseg.apps.annotate.limits import hit, network_of

MOST_EVENTS = 100_000
"""Rows of the security log that are kept; the standard error has all."""
_CLEARED_EVERY = 500
LOGGER = logging.getLogger("refseg.apps.annotate.security")


def record(
    session: Session,
    game: Game,
    actor: int | None,
    entity: str,
    entity_id: int | None,
    move: str,
    start: str | None = None,
    end: str | None = None,
    reason: str = "",
    details: dict[str, Any] | None = None,
) -> None:
    """Add a row to the audit log; `actor` None is the command line."""
    session.add(
        Audit(
            at=game.clock(), actor_id=actor, entity=entity, entity_id=entity_id, move=move, start=start, end=end,
            reason=reason, details=details or {},
        )
    )  # fmt: skip


def note_security(
    game: Game, event: str, *, person: int | None = None, address: str = "", path: str = "", **details: object
) -> None:
    """Log an event (login_failed, csrf, forbidden, ...): to Python's logger always, to the database unless an address
    floods it.

    Never raises for the database's sake: a refusal must reach the one who asked.
    """
    LOGGER.warning("%s person=%s address=%s path=%r %r", event, person, address, path[:300], details)

    now, network = game.clock(), network_of(address)
    if game.noted.count(now, network) > NOTED_A_MINUTE:
        return  # without a transaction, which strangers could keep players waiting with

    def work(session: Session) -> None:
        if hit(session, now, f"security:{network}", 60) > NOTED_A_MINUTE:
            return
        row = Security(
            at=now, event=event, person_id=person, address=address[:80],
            path=path.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:500], details=details,
        )  # fmt: skip
        session.add(row)
        session.flush()
        if row.id % _CLEARED_EVERY == 0:
            session.execute(delete(Security).where(Security.id <= row.id - MOST_EVENTS))

    try:
        game.database.write(work)
    except Exception:
        LOGGER.exception("the security log could not be written")
