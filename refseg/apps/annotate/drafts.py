"""What people have typed and selected and not yet submitted: kept on the server, one for each person and item."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import Game, iso
from refseg.apps.annotate.leases import holds
from refseg.apps.annotate.tables import Draft


def save(
    session: Session, game: Game, person_id: int, kind: str, item_id: int, revision: int, content: dict[str, Any]
) -> Draft:
    """Keep a draft. `revision` is the one that the page last saw, 0 for none.

    Raises `GameError`: "draft_conflict" with the kept draft when another tab was here in between, unless both say the
    same (a repeated request); "not_found" for an item that the person neither holds nor has a draft of.
    """
    draft = session.get(Draft, (person_id, kind, item_id), with_for_update=True)
    if draft is None:
        if not holds(session, person_id, kind, item_id):
            raise not_found("item")
        if revision != 0:
            # Submitted or skipped in the meantime: an older page must not bring the draft back.
            raise GameError("draft_conflict", "this draft is gone: submitted or deleted elsewhere", draft=None)
        draft = Draft(
            person_id=person_id, kind=kind, item_id=item_id, content=content, revision=1, saved_at=game.clock()
        )
        session.add(draft)
        session.flush()
        return draft
    if draft.revision != revision:
        if draft.content == content:
            return draft
        raise GameError("draft_conflict", "this draft was changed in another window", draft=as_json(draft))
    draft.content, draft.revision, draft.saved_at = content, revision + 1, game.clock()
    session.flush()
    return draft


def find(session: Session, person_id: int, kind: str, item_id: int) -> Draft | None:
    """A person's draft for an item."""
    return session.get(Draft, (person_id, kind, item_id))


def all_of(session: Session, person_id: int) -> list[Draft]:
    """A person's drafts, the latest first."""
    wanted = select(Draft).where(Draft.person_id == person_id).order_by(Draft.saved_at.desc()).limit(200)
    return list(session.scalars(wanted))


def drop(session: Session, person_id: int, kind: str, item_id: int) -> None:
    """Delete a draft, if there is one."""
    session.execute(delete(Draft).where(Draft.person_id == person_id, Draft.kind == kind, Draft.item_id == item_id))


def as_json(draft: Draft) -> dict[str, Any]:
    """A draft as the API sends it."""
    return {
        "kind": draft.kind,
        "item_id": draft.item_id,
        "revision": draft.revision,
        "saved_at": iso(draft.saved_at),
        "content": draft.content,
    }
