"""Invitations: a link with which people make their own accounts, for some places and some days."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import Assignment, Invitation, Person, Project
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import Game, clean


def invite(
    session: Session,
    game: Game,
    label: str,
    roles: Sequence[str],
    places: int,
    days: float,
    project_id: int | None = None,
    actor: int | None = None,
) -> tuple[Invitation, str]:
    """A new invitation and its secret, which is shown once. Raises `GameError` "invalid" and "not_found"."""
    shown = clean(label)
    if not 1 <= len(shown) <= 60:
        raise GameError("invalid", "a label has 1 to 60 characters", "label")
    if "administrator" in roles:
        raise GameError("invalid", "administrators are made one by one, not by a link", "roles")
    if project_id is not None and session.get(Project, project_id) is None:
        raise not_found("project")
    secret, now = secrets.token_urlsafe(24), game.clock()
    row = Invitation(
        digest=people.digest(secret), label=shown, roles=people.checked_roles(roles), project_id=project_id,
        places=places, expires_at=now + days * 86_400, created_at=now, created_by=actor,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, game, actor, "invitation", row.id, "add", details={"label": shown, "places": places})
    return row, secret


def listed(session: Session, game: Game) -> list[dict[str, Any]]:
    """All invitations, the latest first; `open` says whether one still makes accounts."""
    now = game.clock()
    return [
        {
            "id": row.id, "label": row.label, "roles": row.roles, "project_id": row.project_id, "places": row.places,
            "expires_at": row.expires_at, "open": row.places > 0 and row.expires_at > now,
        }
        for row in session.scalars(select(Invitation).order_by(Invitation.id.desc()).limit(200))
    ]  # fmt: skip


def revoke(session: Session, game: Game, invitation_id: int, actor: int | None = None) -> None:
    """End an invitation; accounts that it made stay."""
    row = session.get(Invitation, invitation_id, with_for_update=True)
    if row is None:
        raise not_found("invitation")
    row.places = 0
    record(session, game, actor, "invitation", row.id, "revoke")


def invitation_of(session: Session, game: Game, secret: str) -> Invitation:
    """The invitation with this secret; raises `GameError` "not_found" for one that is unknown, used up or over."""
    wanted = select(Invitation).where(Invitation.digest == people.digest(secret))
    row = session.scalar(wanted.with_for_update())
    if row is None or row.places < 1 or row.expires_at < game.clock():
        raise GameError("not_found", "this invitation is unknown, used up or over; ask for a new one")
    return row


def join(session: Session, game: Game, secret: str, name: str, password: str) -> Person:
    """Make an account by an invitation. Raises `GameError` "not_found", and "invalid" for a name or password."""
    row = invitation_of(session, game, secret)
    person = people.add_person(session, game, name, password, row.roles.split())
    row.places -= 1
    if row.project_id is not None:
        session.add(Assignment(project_id=row.project_id, person_id=person.id))
    record(session, game, person.id, "invitation", row.id, "join")
    session.flush()
    return person
