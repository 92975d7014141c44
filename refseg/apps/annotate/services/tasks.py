"""What a player is shown: picture, objects, lease and draft."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Literal

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from refseg.apps.annotate.database.tables import Draft, GameSample, Imported, Person, Picture, Verdict
from refseg.apps.annotate.errors import not_found
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services import drafts, rehearsing
from refseg.apps.annotate.services.browsing import page_of
from refseg.apps.annotate.services.leases import (
    Lease,
    held_lease,
    holds,
    take_picture,
    take_sample,
    why_nothing,
)
from refseg.apps.annotate.services.returning import give_back_late
from refseg.apps.annotate.services.withdrawing import nobody_has
from refseg.apps.annotate.states import LIVE

Kind = Literal["write", "validate"]


def next_task(
    game: Game, person_id: int, kind: Kind, split: str | None, item_id: int | None
) -> Callable[[Session], dict[str, Any]]:
    """The transaction that hands out the next item of a kind: `task`, and `reason` where there is none."""
    take = take_picture if kind == "write" else take_sample

    def work(session: Session) -> dict[str, Any]:
        give_back_late(session, game)
        if rehearsing.wanted(session, game, person_id):
            return {"task": None, "reason": "practice"}
        lease = take(session, game, person_id, split, item_id)
        if lease is None:
            return {"task": None, "reason": why_nothing(session, game, person_id, kind)}
        return {"task": task_of(session, person_id, lease)}

    return work


def current_task(session: Session, game: Game, person_id: int, kind: Kind) -> dict[str, Any]:
    """The `task` that the person holds, None without one; nothing is handed out."""
    lease = held_lease(session, game, person_id, kind)
    return {"task": None if lease is None else task_of(session, person_id, lease)}


def task_of(session: Session, person_id: int, lease: Lease) -> dict[str, Any]:
    """What a player is shown of a held item.

    Of a sample to validate that is the picture and the sentence, and nothing of what its author or others did; of a
    picture to write about, the number of its sentences.
    """
    if lease.kind == "write":
        picture = session.get(Picture, lease.item_id, populate_existing=True)
        assert picture is not None
        imported = select(func.count()).where(Imported.picture_id == picture.id)
        live = select(func.count()).where(GameSample.picture_id == picture.id, GameSample.state.in_(LIVE))
        shown: dict[str, Any] = {"sentences": (session.scalar(imported) or 0) + (session.scalar(live) or 0)}
    else:
        sample = session.get_one(GameSample, lease.item_id, populate_existing=True)
        picture, shown = sample.picture, {"sample": {"id": sample.id, "text": sample.text}}
    draft = drafts.find(session, person_id, lease.kind, lease.item_id)
    turn = _turn(lease, person_id, len(picture.outlines))
    return {"lease": lease, "picture": picture, "objects": picture.outlines, "turn": turn, "draft": draft, **shown}


def _turn(lease: Lease, person_id: int, objects: int) -> int:
    """By how many places the numbers that a page gives its objects are turned.

    Writers see them from the top left on. Validators never see them so: a sentence that speaks of a page's numbers
    means something else to them.
    """
    if lease.kind == "write" or objects < 2:
        return 0
    return 1 + int(hashlib.sha256(f"{lease.item_id} {person_id}".encode()).hexdigest(), 16) % (objects - 1)


def sentences_of(session: Session, person_id: int, picture_id: int) -> tuple[list[dict[str, Any]], list[int]]:
    """The sentences of a picture for the annotator who holds it, and the samples among them; the targets of samples are
    left out.

    Raises `GameError` "not_found" for a picture that the person does not hold.
    """
    held_picture(session, person_id, picture_id)
    came = session.scalars(select(Imported).where(Imported.picture_id == picture_id).order_by(Imported.id).limit(500))
    sentences: list[dict[str, Any]] = [
        {"text": row.text, "source": "imported", "targets": row.targets, "no_target": row.no_target} for row in came
    ]
    wanted = select(GameSample.id, GameSample.text).where(
        GameSample.picture_id == picture_id, GameSample.state.in_(LIVE)
    )
    samples = []
    for number, text in session.execute(wanted.order_by(GameSample.id).limit(500)):
        samples.append(number)
        sentences.append({"text": text, "source": "sample", "targets": None, "no_target": None})
    return sentences, samples


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
    if "administrator" in person.role_list or person.id in (picture.lease_person, picture.edit_person):
        return picture
    if drafts.find(session, person.id, "write", picture_id) is not None:
        return picture
    if rehearsing.practises_on(session, person.id, picture_id):
        return picture
    judged = select(Verdict.id).where(Verdict.sample_id == GameSample.id, Verdict.validator_id == person.id).exists()
    drafted = (
        select(Draft.item_id)
        .where(
            Draft.person_id == person.id,
            Draft.kind == "validate",
            Draft.item_id == GameSample.id,
        )
        .exists()
    )
    mine = or_(GameSample.lease_person == person.id, GameSample.author_id == person.id, judged, drafted)
    if session.scalar(select(GameSample.id).where(GameSample.picture_id == picture_id, mine).limit(1)) is None:
        raise not_found("picture")
    return picture


def own_samples(
    session: Session, game: Game, person_id: int, page: int, per_page: int, sample_id: int | None = None
) -> dict[str, Any]:
    """A page of a person's own sentences, the latest first; only the one of `sample_id` if given.

    Those that may be taken back are `free`.
    """
    wanted = select(GameSample).where(GameSample.author_id == person_id).order_by(GameSample.id.desc())
    if sample_id is not None:
        wanted = wanted.where(GameSample.id == sample_id)
    loaded = (joinedload(GameSample.picture), selectinload(GameSample.targets))
    found = page_of(session, wanted, page, per_page, *loaded)
    numbers = [sample.id for sample in found["items"]]
    free = set(session.scalars(select(GameSample.id).where(GameSample.id.in_(numbers), nobody_has(game.clock()))))
    for sample in found["items"]:
        sample.free = sample.id in free
    return found
