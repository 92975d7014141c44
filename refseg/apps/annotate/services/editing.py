"""Drawing and mending masks: a picture held by one editor, its objects saved as they change, what they were kept.

A picture comes here without masks (imported as a plain photograph), or because a validator found one broken. While it
is here nobody writes about it; saved as done it goes back, and with it the sentences that waited for its masks.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session, selectinload

from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import GameSample, Object, ObjectVersion, Picture, SampleTarget, Skip, Verdict
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import Game, clean
from refseg.apps.annotate.services.importing import free_number
from refseg.apps.annotate.services.moves import make_move
from refseg.apps.annotate.services.outlines import drawn_values, rle_of
from refseg.apps.annotate.services.projects import theirs
from refseg.apps.annotate.services.proposing import model_of
from refseg.apps.annotate.states import LIVE
from refseg.data import rle
from refseg.errors import DataError

MOST_OBJECTS = 500
"""Objects of a picture."""


@dataclass(frozen=True)
class EditLease:
    """A hold on a picture's masks; `until` is when others may take it, `seconds` from now."""

    id: str
    picture_id: int
    until: float
    seconds: int


@dataclass(frozen=True)
class EditedObject:
    """An object as the editor sends it: `id` None for a new one, which `key` names in the answer; `values` None where
    its mask is unchanged. `source` says where a new mask is from: drawn or proposed."""

    id: int | None
    key: str
    name: str
    values: dict[str, Any] | None
    source: str = "drawn"
    score: float | None = None


def take(
    session: Session, game: Game, person_id: int, split: str | None = None, picture_id: int | None = None
) -> EditLease | None:
    """A picture whose masks are to be made or mended: the one that is held, a certain one, or the next; None if there
    is none. Broken ones come first. Raises `GameError` "not_found", and "lease_lost" for one that somebody else has."""
    now = game.clock()
    free = or_(Picture.edit_until.is_(None), Picture.edit_until < now)
    wanted = select(Picture).with_for_update(skip_locked=True, key_share=True)
    if picture_id is not None:
        row = session.get(Picture, picture_id)
        if row is None:
            raise not_found("picture")
        row = session.scalar(wanted.where(Picture.id == picture_id, or_(Picture.edit_person == person_id, free)))
        if row is None:
            raise GameError("lease_lost", "somebody else is at these masks now")
    else:
        mine = [Picture.edit_person == person_id, Picture.masks != "ready"]
        row = session.scalar(wanted.where(*mine).order_by(Picture.edit_until.desc()).limit(1))
        if row is not None and split is not None and row.split != split:
            row.edit_lease = row.edit_person = row.edit_until = None
            row = None
        if row is None:
            skipped = select(Skip.until).where(
                Skip.person_id == person_id, Skip.kind == "edit", Skip.item_id == Picture.id, Skip.until > now
            )
            conditions = [Picture.masks != "ready", free, theirs(person_id), ~skipped.exists()]
            if split is not None:
                conditions.append(Picture.split == split)
            broken_first = case((Picture.masks == "broken", 0), else_=1)
            row = session.scalar(wanted.where(*conditions).order_by(broken_first, Picture.id).limit(1))
        if row is None:
            return None
    if row.edit_person != person_id or row.edit_lease is None:
        row.edit_lease = secrets.token_urlsafe(24)
    row.edit_person, row.edit_until = person_id, now + game.settings.lease_seconds
    session.flush()
    return EditLease(row.edit_lease, row.id, row.edit_until, game.settings.lease_seconds)


def renew(session: Session, game: Game, person_id: int, picture_id: int, lease_id: str) -> EditLease:
    """Hold on for another while; raises `GameError` "lease_lost"."""
    row = held(session, person_id, picture_id, lease_id)
    row.edit_until = game.clock() + game.settings.lease_seconds
    return EditLease(lease_id, picture_id, row.edit_until, game.settings.lease_seconds)


def release(session: Session, game: Game, person_id: int, picture_id: int, lease_id: str, skip: bool) -> None:
    """Give a picture back as it is; with `skip` it stays away from the person for a while."""
    row = held(session, person_id, picture_id, lease_id)
    row.edit_lease = row.edit_person = row.edit_until = None
    if skip:
        until = game.clock() + game.settings.skip_seconds
        session.merge(Skip(person_id=person_id, kind="edit", item_id=picture_id, until=until))


def held(session: Session, person_id: int, picture_id: int, lease_id: str) -> Picture:
    """The picture's row, locked, if the person holds its masks by this lease; raises `GameError` "lease_lost"."""
    row = session.get(Picture, picture_id, with_for_update={"key_share": True}, populate_existing=True)
    if row is None or row.edit_lease != lease_id or row.edit_person != person_id:
        raise GameError("lease_lost", "these masks were given back or taken by somebody else")
    return row


def task_of(session: Session, game: Game, lease: EditLease) -> dict[str, Any]:
    """What the editor is shown: the picture, its objects with exact masks, and what was said of broken ones."""
    picture = session.get_one(Picture, lease.picture_id, populate_existing=True)
    size = (picture.height, picture.width)
    said = (
        select(GameSample.text, Verdict.note, Verdict.created_at, GameSample.id)
        .join(Verdict, Verdict.sample_id == GameSample.id)
        .where(GameSample.picture_id == picture.id, GameSample.state == "mending", Verdict.reason == "broken_mask")
        .order_by(Verdict.id)
    )
    names = session.scalars(select(Object.category).distinct().order_by(Object.category).limit(300))
    return {
        "lease": lease,
        "picture": picture,
        "revision": picture.revision,
        "masks": picture.masks,
        "proposed": picture.proposed_at is not None,
        "model": model_of(game) is not None,
        "objects": [
            {
                "id": row.id, "name": row.category, "rle": rle_of(row.segmentation, size), "source": row.source,
                "score": row.score,
            }
            for row in picture.outlines
        ],
        "reports": [{"text": row[0], "note": row[1], "at": row[2], "id": row[3]} for row in session.execute(said)],
        "names": list(names),
    }  # fmt: skip


def mask_values(given: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """An object's columns from a run-length encoding; raises `GameError` "invalid" for one that is damaged or empty."""
    try:
        return drawn_values(rle.decode(given, size))
    except DataError as error:
        raise GameError("invalid", f"a mask cannot be kept: {error}", "objects") from None


def save(
    session: Session,
    game: Game,
    person_id: int,
    picture_id: int,
    lease_id: str,
    revision: int,
    objects: Sequence[EditedObject],
    removed: Sequence[int],
    discard: bool,
) -> tuple[Picture, dict[str, int]]:
    """Keep new, changed and removed objects; returns the picture, and the numbers of new objects by their keys.

    Raises `GameError`: "lease_lost"; "draft_conflict" where another window saved since `revision`; "invalid";
    "not_allowed" where living sentences mean a removed object, unless they may be discarded with it.
    """
    picture = held(session, person_id, picture_id, lease_id)
    if picture.revision != revision:
        raise GameError(
            "draft_conflict", "these masks were changed in another window; load them again", revision=picture.revision
        )
    there = {row.id: row for row in session.scalars(select(Object).where(Object.picture_id == picture_id))}
    known = {number for number, row in there.items() if row.active}
    if unknown := ({item.id for item in objects} - {None} | set(removed)) - known:
        raise GameError(
            "invalid", f"the picture has no object {min(number for number in unknown if number)}", "objects"
        )
    if len(known) + sum(item.id is None for item in objects) > MOST_OBJECTS:
        raise GameError("invalid", f"a picture has at most {MOST_OBJECTS} objects", "objects")
    _let_go(session, game, person_id, removed, discard)
    for number in removed:
        _remember(session, game, person_id, lease_id, there[number])
        there[number].active = False
    numbers: dict[str, int] = {}
    for item in objects:
        name = clean(item.name)[:200] or "object"
        if item.id is None:
            if item.values is None:
                raise GameError("invalid", "a new object has a mask", "objects")
            row = Object(
                picture_id=picture_id, number=free_number(session, Object), category=name, source=item.source,
                score=item.score, **item.values,
            )  # fmt: skip
            session.add(row)
            session.flush()
            numbers[item.key] = row.id
            continue
        row = there[item.id]
        if name == row.category and item.values is None:
            continue
        _remember(session, game, person_id, lease_id, row)
        row.category = name
        if item.values is not None:
            row.source = "edited"
            for column, value in item.values.items():
                setattr(row, column, value)
    picture.revision = revision + 1
    session.flush()
    if picture.masks == "ready":
        picture.objects = _count(session, picture_id)
    return picture, numbers


def finish(session: Session, game: Game, person_id: int, picture_id: int, lease_id: str) -> int:
    """Say that the masks are whole: the picture is written about, and sentences that waited go to validators again.

    Returns how many sentences these are. Raises `GameError` "lease_lost", and "invalid" for a picture without objects.
    """
    picture = held(session, person_id, picture_id, lease_id)
    objects = _count(session, picture_id)
    if not objects:
        raise GameError("invalid", "draw at least one object, or skip the picture", "objects")
    before, picture.masks, picture.objects = picture.masks, "ready", objects
    picture.edit_lease = picture.edit_person = picture.edit_until = None
    wanted = select(GameSample).where(GameSample.picture_id == picture_id, GameSample.state == "mending")
    waiting = session.scalars(wanted.with_for_update()).all()
    for sample in waiting:
        make_move(session, game, sample, "mend", person_id)
        sample.round += 1
        sample.queued_at = game.clock()
    details = {"objects": objects, "sentences": len(waiting)}
    record(session, game, person_id, "picture", picture_id, "masks", before, "ready", details=details)
    session.flush()
    return len(waiting)


def history(session: Session, picture_id: int) -> list[dict[str, Any]]:
    """What the objects of a picture were, the latest change first; those that were removed too."""
    picture = session.get(Picture, picture_id)
    if picture is None:
        raise not_found("picture")
    size = (picture.height, picture.width)
    rows = session.scalars(
        select(ObjectVersion)
        .join(Object, Object.id == ObjectVersion.object_id)
        .where(Object.picture_id == picture_id)
        .order_by(ObjectVersion.id.desc())
        .options(selectinload(ObjectVersion.person))
        .limit(200)
    )
    active = set(session.scalars(select(Object.id).where(Object.picture_id == picture_id, Object.active)))
    return [
        {
            "object_id": row.object_id, "there": row.object_id in active, "name": row.category, "source": row.source,
            "area": row.area, "rle": rle_of(row.segmentation, size), "person": row.person, "at": row.at,
        }
        for row in rows
    ]  # fmt: skip


def report_broken(session: Session, picture_id: int) -> None:
    """Send a picture to the editors: nobody writes about it until its masks are whole."""
    picture = session.get_one(Picture, picture_id, with_for_update={"key_share": True}, populate_existing=True)
    picture.masks, picture.objects = "broken", 0


def waiting_count(session: Session, game: Game, person_id: int) -> int:
    """How many pictures wait for masks that this person may make."""
    wanted = select(func.count()).select_from(Picture).where(Picture.masks != "ready", theirs(person_id))
    return session.scalar(wanted) or 0


def _count(session: Session, picture_id: int) -> int:
    wanted = select(func.count()).select_from(Object).where(Object.picture_id == picture_id, Object.active)
    return session.scalar(wanted) or 0


def meaning(session: Session, objects: Sequence[int]) -> list[GameSample]:
    """The living sentences that mean one of these objects."""
    if not objects:
        return []
    wanted = (
        select(GameSample)
        .join(SampleTarget, SampleTarget.sample_id == GameSample.id)
        .where(SampleTarget.object_id.in_(objects), GameSample.state.in_(LIVE))
        .distinct()
    )
    return list(session.scalars(wanted))


def _let_go(session: Session, game: Game, person_id: int, removed: Sequence[int], discard: bool) -> None:
    """Discard the living sentences that mean an object which is removed, if that was agreed to."""
    meant = meaning(session, removed)
    if meant and not discard:
        texts = [sample.text for sample in meant[:5]]
        raise GameError("not_allowed", f"{len(meant)} sentences mean an object that is removed", "removed", texts=texts)
    for sample in meant:
        make_move(session, game, sample, "discard", person_id, "an object that it means was removed in the editor")
        sample.lease_id = sample.lease_person = sample.lease_until = None


def _remember(session: Session, game: Game, person_id: int, lease_id: str, row: Object) -> None:
    """Keep an object as it was before this editor held the picture."""
    wanted = select(ObjectVersion.id).where(ObjectVersion.object_id == row.id, ObjectVersion.lease == lease_id)
    if session.scalar(wanted.limit(1)) is None:
        session.add(
            ObjectVersion(
                object_id=row.id, category=row.category, segmentation=row.segmentation, area=row.area,
                source=row.source, lease=lease_id, person_id=person_id, at=game.clock(),
            )
        )  # fmt: skip
