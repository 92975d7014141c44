"""What a player is shown: picture, objects, lease and draft as the API sends them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from refseg.apps.annotate import drafts
from refseg.apps.annotate.errors import not_found
from refseg.apps.annotate.game import Game, iso
from refseg.apps.annotate.leases import Lease, holds
from refseg.apps.annotate.states import LIVE
from refseg.apps.annotate.tables import GameSample, Imported, Object, Person, Picture, SampleTarget, Verdict


def lease_json(lease: Lease) -> dict[str, Any]:
    """A lease."""
    expires = iso(lease.until)
    return {
        "id": lease.id, "kind": lease.kind, "item_id": lease.item_id, "seconds": lease.seconds, "expires_at": expires,
    }  # fmt: skip


def picture_json(game: Game, picture: Picture) -> dict[str, Any]:
    """A picture; its address holds nothing but its number."""
    return {
        "id": picture.id,
        "url": f"{game.settings.root_path}/api/v1/pictures/{picture.id}/image",
        "width": picture.width,
        "height": picture.height,
        "split": picture.split,
    }


def objects_json(session: Session, picture_id: int) -> list[dict[str, Any]]:
    """The objects of a picture, the largest first so that small ones are drawn over them."""
    rows = session.scalars(
        select(Object).where(Object.picture_id == picture_id).order_by(Object.area.desc(), Object.id)
    )
    return [
        {
            "id": row.id, "name": row.category, "box": [row.left, row.top, row.right, row.bottom], "rings": row.rings,
            "area": row.area,
        }
        for row in rows
    ]  # fmt: skip


def write_task(session: Session, game: Game, person_id: int, lease: Lease | None) -> dict[str, Any] | None:
    """A picture to write about."""
    if lease is None:
        return None
    picture = session.get(Picture, lease.item_id, populate_existing=True)
    assert picture is not None
    draft = drafts.find(session, person_id, "write", picture.id)
    known = session.scalar(select(func.count()).where(Imported.picture_id == picture.id)) or 0
    live = select(func.count()).where(GameSample.picture_id == picture.id, GameSample.state.in_(LIVE))
    return {
        "lease": lease_json(lease),
        "picture": picture_json(game, picture),
        "objects": objects_json(session, picture.id),
        "draft": None if draft is None else drafts.as_json(draft),
        "sentences": known + (session.scalar(live) or 0),
    }


def validate_task(session: Session, game: Game, person_id: int, lease: Lease | None) -> dict[str, Any] | None:
    """A sample to validate: the picture and the sentence, and nothing of what its author or others did."""
    if lease is None:
        return None
    found = session.execute(
        select(GameSample.id, GameSample.text, Picture)
        .join(Picture, Picture.id == GameSample.picture_id)
        .where(GameSample.id == lease.item_id)
    ).one()
    draft = drafts.find(session, person_id, "validate", lease.item_id)
    return {
        "lease": lease_json(lease),
        "sample": {"id": found[0], "text": found[1]},
        "picture": picture_json(game, found[2]),
        "objects": objects_json(session, found[2].id),
        "draft": None if draft is None else drafts.as_json(draft),
    }


def sentences_of(session: Session, person_id: int, picture_id: int) -> list[dict[str, Any]]:
    """The sentences of a picture for the annotator who holds it; what samples mean is not told.

    Raises `GameError` "not_found" for a picture that the person does not hold.
    """
    held_picture(session, person_id, picture_id)
    came = session.scalars(select(Imported).where(Imported.picture_id == picture_id).order_by(Imported.id).limit(500))
    found = [
        {"text": row.text, "source": "imported", "targets": row.targets, "no_target": row.no_target} for row in came
    ]
    wanted = select(GameSample.text).where(GameSample.picture_id == picture_id, GameSample.state.in_(LIVE))
    for text in session.scalars(wanted.order_by(GameSample.id).limit(500)):
        found.append({"text": text, "source": "sample", "targets": None, "no_target": None})
    return found


def held_picture(session: Session, person_id: int, picture_id: int) -> Picture:
    """The picture, if the person holds it to write about; raises `GameError` "not_found" otherwise."""
    picture = session.get(Picture, picture_id) if holds(session, person_id, "write", picture_id) else None
    if picture is None:
        raise not_found("picture")
    return picture


def visible_picture(session: Session, person: Person, picture_id: int) -> Picture:
    """The picture, if the person holds it or a sample of it, wrote or judged one, has a draft of it, or administers.

    Raises `GameError` "not_found" otherwise.
    """
    picture = session.get(Picture, picture_id)
    if picture is None:
        raise not_found("picture")
    if "administrator" in person.role_list or picture.lease_person == person.id:
        return picture
    if drafts.find(session, person.id, "write", picture_id) is not None:
        return picture
    judged = select(Verdict.id).where(Verdict.sample_id == GameSample.id, Verdict.validator_id == person.id).exists()
    drafted = (
        select(drafts.Draft.item_id)
        .where(
            drafts.Draft.person_id == person.id,
            drafts.Draft.kind == "validate",
            drafts.Draft.item_id == GameSample.id,
        )
        .exists()
    )
    mine = or_(GameSample.lease_person == person.id, GameSample.author_id == person.id, judged, drafted)
    if session.scalar(select(GameSample.id).where(GameSample.picture_id == picture_id, mine).limit(1)) is None:
        raise not_found("picture")
    return picture


def targets_of(session: Session, sample_ids: Iterable[int]) -> dict[int, list[int]]:
    """The objects that samples mean, by sample."""
    wanted = list(sample_ids)
    found: dict[int, list[int]] = {number: [] for number in wanted}
    rows = select(SampleTarget.sample_id, SampleTarget.object_id).where(SampleTarget.sample_id.in_(wanted))
    for sample_id, object_id in session.execute(rows.order_by(SampleTarget.object_id)):
        found[sample_id].append(object_id)
    return found


def own_samples(
    session: Session, game: Game, person_id: int, page: int, per_page: int, sample_id: int | None = None
) -> tuple[list[dict[str, Any]], int]:
    """A person's own sentences with their selections, the latest first, and how many there are in all."""
    conditions = [GameSample.author_id == person_id]
    if sample_id is not None:
        conditions.append(GameSample.id == sample_id)
    total = session.scalar(select(func.count()).where(*conditions)) or 0
    rows = session.execute(
        select(GameSample, Picture)
        .join(Picture, Picture.id == GameSample.picture_id)
        .where(*conditions)
        .order_by(GameSample.id.desc())
        .limit(per_page)
        .offset((page - 1) * per_page)
    ).all()
    targets = targets_of(session, [row[0].id for row in rows])
    return [
        {
            "id": sample.id, "text": sample.text, "state": sample.state, "kind": sample.kind, "split": sample.split,
            "no_target": sample.no_target, "targets": targets[sample.id], "picture": picture_json(game, picture),
            "created_at": iso(sample.created_at), "warnings": [item["message"] for item in sample.warnings],
        }
        for sample, picture in rows
    ], total  # fmt: skip
