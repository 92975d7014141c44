"""Leases, drafts and pictures: what annotators and validators have in common."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from refseg.apps.annotate import answers, drafts, leases, tasks
from refseg.apps.annotate.access import GameDep, Player, refuse
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import iso
from refseg.apps.annotate.routes import api_router, responses
from refseg.apps.annotate.schemas import DraftRequest, IdPath, Kind, LeasePath, ReleaseRequest
from refseg.apps.annotate.store import MEDIA_TYPES, picture_path
from refseg.apps.annotate.tables import GameSample, Picture

router = api_router("holding")


@router.post("/leases/{lease_id}/renew", response_model=answers.LeaseOut, responses=responses(409))
def renew(lease_id: LeasePath, game: GameDep, person: Player) -> Any:
    """Hold on to an item for another while."""
    return tasks.lease_json(game.database.write(lambda session: leases.renew(session, game, person.id, lease_id)))


@router.post("/leases/{lease_id}/release", response_model=answers.Empty, responses=responses(409))
def release(lease_id: LeasePath, given: ReleaseRequest, game: GameDep, person: Player) -> Any:
    """Give an item back; with `skip` it does not come back for a day."""
    game.database.write(lambda session: leases.release(session, game, person.id, lease_id, given.skip))
    return {}


@router.get("/drafts", response_model=answers.Drafts)
def list_drafts(game: GameDep, person: Player) -> Any:
    """One's own unfinished drafts, the latest first."""
    with game.database.read() as session:
        found = []
        for draft in drafts.all_of(session, person.id):
            picture, text = _item(session, draft.kind, draft.item_id)
            if picture is not None:
                listed = {"picture": tasks.picture_json(game, picture), "text": text}
                found.append({**drafts.as_json(draft), **listed})
        return {"items": found}


@router.get("/drafts/{kind}/{item_id}", response_model=answers.DraftOut, responses=responses(404))
def one_draft(kind: Kind, item_id: IdPath, request: Request, game: GameDep, person: Player) -> Any:
    """One's own draft of a picture (write) or sample (validate)."""
    with game.database.read() as session:
        draft = drafts.find(session, person.id, kind, item_id)
    if draft is None:
        raise refuse(request, "not_found", not_found("draft"), person.id)
    return drafts.as_json(draft)


@router.put("/drafts/{kind}/{item_id}", response_model=answers.DraftSaved, responses=responses(404, 409))
def save_draft(
    kind: Kind, item_id: IdPath, given: DraftRequest, request: Request, game: GameDep, person: Player
) -> Any:
    """Save a draft of a held item, or change one that is there."""
    content = given.content.model_dump()
    try:
        draft = game.database.write(
            lambda session: drafts.save(session, game, person.id, kind, item_id, given.revision, content)
        )
    except GameError as error:
        if error.code == "not_found":
            refuse(request, "not_found", error, person.id)
        raise
    return {"revision": draft.revision, "saved_at": iso(draft.saved_at)}


@router.delete("/drafts/{kind}/{item_id}", response_model=answers.Empty)
def drop_draft(kind: Kind, item_id: IdPath, game: GameDep, person: Player) -> Any:
    """Delete one's own draft; well if there is none."""
    game.database.write(lambda session: drafts.drop(session, person.id, kind, item_id))
    return {}


@router.get(
    "/pictures/{picture_id}/image",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in sorted(set(MEDIA_TYPES.values()))}, "description": "the picture"},
        304: {"description": "the browser has it"},
        **responses(404),
    },
)
def image(picture_id: IdPath, request: Request, game: GameDep, person: Player) -> Response:
    """The picture's bytes, for those who work on it or administer."""
    with game.database.read() as session:
        try:
            picture = tasks.visible_picture(session, person, picture_id)
        except GameError as error:
            raise refuse(request, "not_found", error, person.id) from None
    headers = {"Cache-Control": "private, max-age=86400, immutable", "ETag": f'"{picture.digest[:32]}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    path = picture_path(game.settings, picture)
    if not path.is_file():
        raise not_found("picture")
    return FileResponse(path, media_type=MEDIA_TYPES[picture.suffix], headers=headers)


def _item(session: Session, kind: str, item_id: int) -> tuple[Picture | None, str | None]:
    if kind == "write":
        return session.get(Picture, item_id), None
    row = session.execute(
        select(Picture, GameSample.text)
        .join(GameSample, GameSample.picture_id == Picture.id)
        .where(GameSample.id == item_id)
    ).first()
    return (None, None) if row is None else (row[0], row[1])
