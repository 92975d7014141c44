"""What people have typed and selected and not yet submitted: kept on the server, one for each person and item."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import Draft, GameSample, Picture
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import Game, iso
from refseg.apps.annotate.services.leases import holds


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
        raise GameError("draft_conflict", "this draft was changed in another window", draft=as_dict(draft))
    draft.content, draft.revision, draft.saved_at = content, revision + 1, game.clock()
    session.flush()
    return draft


def find(session: Session, person_id: int, kind: str, item_id: int) -> Draft | None:
    """A person's draft for an item."""
    return session.get(Draft, (person_id, kind, item_id))


def listed(session: Session, person_id: int) -> list[dict[str, Any]]:
    """A person's drafts, the latest 200, each with its picture and, for a validator, the sentence."""
    wanted = select(Draft).where(Draft.person_id == person_id).order_by(Draft.saved_at.desc()).limit(200)
    rows = []
    for draft in session.scalars(wanted):
        sample = session.get(GameSample, draft.item_id) if draft.kind == "validate" else None
        picture = sample.picture if sample is not None else None
        if draft.kind == "write":
            picture = session.get(Picture, draft.item_id)
        if picture is not None:
            rows.append({**as_dict(draft), "picture": picture, "text": sample and sample.text})
    return rows


def drop(session: Session, person_id: int, kind: str, item_id: int) -> None:
    """Delete a draft, if there is one."""
    session.execute(delete(Draft).where(Draft.person_id == person_id, Draft.kind == kind, Draft.item_id == item_id))


def as_dict(draft: Draft) -> dict[str, Any]:
    """A draft's kind, item, revision, content and time of saving."""
    shown = {name: getattr(draft, name) for name in ("kind", "item_id", "revision", "content")}
    return {**shown, "saved_at": iso(draft.saved_at)}
