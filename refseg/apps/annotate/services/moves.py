"""Making a move of the states' table: the sample's row, the picture's count, points and audit, in one transaction."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import Award, Draft, GameSample, Picture, Verdict
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import Game, clean
from refseg.apps.annotate.services.scoring import award, count
from refseg.apps.annotate.states import LIVE, MOVES, allowed_moves

Kept = TypeVar("Kept", GameSample, Verdict)
"""What a person's request leaves."""


def make_move(
    session: Session,
    game: Game,
    sample: GameSample,
    name: str,
    actor: int | None,
    reason: str = "",
    details: dict[str, Any] | None = None,
) -> str:
    """Take a locked sample along the move `name`; returns the new state. `actor` None is the game itself.

    The count of the picture's live samples and the author's points for an accepted sample follow. Raises `GameError`:
    "not_allowed" where the table has no such move from the sample's state, "invalid" where a reason is missing.
    """
    move = MOVES[name]
    start = sample.state
    if start not in move.targets:
        raise GameError("not_allowed", f"a sample that is {start} cannot be moved by {name}", state=start)
    if move.reason and not reason:
        raise GameError("invalid", "say why", "reason")
    end = move.targets[start]
    sample.state, sample.updated_at = end, game.clock()
    if move.reason or name in ("match", "differ"):
        sample.reason = reason
    change = (end in LIVE) - (start in LIVE)
    if change:
        session.execute(update(Picture).where(Picture.id == sample.picture_id).values(samples=Picture.samples + change))
    if end == "accepted":
        award(session, game, sample.author_id, sample.id, "accepted")
        count(session, game, sample.author_id, accepted=1)
    elif start == "accepted" and _has_award(session, sample):
        award(session, game, sample.author_id, sample.id, "accepted", -1)
        count(session, game, sample.author_id, accepted=-1)
    record(session, game, actor, "sample", sample.id, name, start, end, reason, details)
    session.flush()
    return end


def administer(session: Session, game: Game, sample_id: int, name: str, actor: int, reason: str) -> GameSample:
    """Reopen, return or discard a sample; a lease on it ends. Raises as `make_move`, and "not_found"."""
    reason = clean(reason)
    if not 3 <= len(reason) <= 500:
        raise GameError("invalid", "a reason has 3 to 500 characters", "reason")
    sample = session.get(GameSample, sample_id, with_for_update=True, populate_existing=True)
    if sample is None:
        raise not_found("sample")
    if name not in allowed_moves(sample.state, "administrator"):
        raise GameError("not_allowed", f"a sample that is {sample.state} cannot be moved by {name}", state=sample.state)
    if name == "return":
        give_back(session, game, sample, actor, reason)
        return sample
    make_move(session, game, sample, name, actor, reason)
    sample.lease_id = sample.lease_person = sample.lease_until = None
    if name == "reopen":
        sample.round += 1
        sample.queued_at = game.clock()
    session.flush()
    return sample


def give_back(session: Session, game: Game, sample: GameSample, actor: int | None, reason: str) -> None:
    """Make a locked sample its author's draft again; one that the author has for the picture is left alone."""
    make_move(session, game, sample, "return", actor, reason)
    sample.lease_id = sample.lease_person = sample.lease_until = None
    keep_as_draft(session, game, sample, reason)


def keep_as_draft(session: Session, game: Game, sample: GameSample, note: str) -> None:
    """Make a sample a draft of its author's; one that the author has for the picture is left alone."""
    key = (sample.author_id, "write", sample.picture_id)
    if session.get(Draft, key) is None:
        content = {
            "text": sample.text, "targets": sample.target_ids, "no_target": sample.no_target, "suggestion_id": None,
            "client_key": None, "reason": None, "note": note, "history": [],
        }  # fmt: skip
        row = Draft(person_id=key[0], kind=key[1], item_id=key[2], content=content, revision=1, saved_at=game.clock())
        session.add(row)
    session.flush()


def fingerprint(*content: object) -> str:
    """The hash by which a repeated request is told from another one with the same key."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def replayed(session: Session, wanted: Select[Kept], content: str, what: str) -> Kept | None:
    """The row that an earlier request with the same key left; raises `GameError` "key_reused" for other content."""
    before = session.scalar(wanted)
    if before is not None and before.client_hash != content:
        raise GameError("key_reused", f"this client_key was used for another {what}; make a new one", "client_key")
    return before


def _has_award(session: Session, sample: GameSample) -> bool:
    wanted = select(Award.points).where(Award.sample_id == sample.id, Award.what == "accepted")
    return sum(session.scalars(wanted)) > 0
