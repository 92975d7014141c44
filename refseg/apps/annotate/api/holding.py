"""Leases, drafts and pictures: what annotators and validators have in common."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request, Response
from fastapi.responses import FileResponse
from pydantic import Field

from refseg.apps.annotate.api import api_router, models, responses
from refseg.apps.annotate.api.models import RequestModel, respond
from refseg.apps.annotate.auth.access import GameDep, Player, refuse
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.services import drafts, leases, tasks
from refseg.apps.annotate.services.pictures import MEDIA_TYPES, picture_path

router = api_router("holding")


class ReleaseRequest(RequestModel):
    """Giving an item back."""

    skip: bool = False


@router.post("/leases/{lease_id}/renew", responses=responses(409))
def renew(lease_id: models.LeasePath, game: GameDep, person: Player) -> models.LeaseOut:
    """Hold on to an item for another while."""
    lease = game.database.write(lambda session: leases.renew(session, game, person.id, lease_id))
    return respond(game, models.LeaseOut, lease)


@router.post("/leases/{lease_id}/release", responses=responses(409))
def release(lease_id: models.LeasePath, given: ReleaseRequest, game: GameDep, person: Player) -> models.Empty:
    """Give an item back; with `skip` it does not come back for a day."""
    game.database.write(lambda session: leases.release(session, game, person.id, lease_id, given.skip))
    return models.Empty()


class DraftListed(models.DraftOut):
    """A draft with its picture and, for a validator, the sentence."""

    picture: models.PictureOut
    text: str | None


@router.get("/drafts")
def list_drafts(game: GameDep, person: Player) -> models.ListOf[DraftListed]:
    """One's own unfinished drafts, the latest first."""
    with game.database.read() as session:
        return respond(game, models.ListOf[DraftListed], {"items": drafts.listed(session, person.id)})


@router.get("/drafts/{kind}/{item_id}", responses=responses(404))
def one_draft(
    kind: models.Kind, item_id: models.IdPath, request: Request, game: GameDep, person: Player
) -> models.DraftOut:
    """One's own draft of a picture (write) or sample (validate)."""
    with game.database.read() as session:
        draft = drafts.find(session, person.id, kind, item_id)
    if draft is None:
        raise refuse(request, "not_found", not_found("draft"), person.id)
    return respond(game, models.DraftOut, draft)


class DraftContent(RequestModel):
    """What has been typed and selected; `history` is the page's undo stack."""

    text: models.Words = ""
    targets: models.Ids = Field([])
    no_target: bool = False
    suggestion_id: Annotated[str, Field(max_length=20)] | None = None
    client_key: Annotated[str, Field(max_length=64)] | None = None
    reason: Annotated[str, Field(max_length=40)] | None = None
    note: models.Words = ""
    history: Annotated[list[models.Ids], Field(max_length=50)] = Field([])


class DraftRequest(RequestModel):
    """A draft and the revision that the page last saw (0: none)."""

    revision: Annotated[int, Field(ge=0, le=2**31 - 1)]
    content: DraftContent


@router.put("/drafts/{kind}/{item_id}", responses=responses(404, 409))
def save_draft(
    kind: models.Kind, item_id: models.IdPath, given: DraftRequest, request: Request, game: GameDep, person: Player
) -> models.DraftSaved:
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
    return respond(game, models.DraftSaved, draft)


@router.delete("/drafts/{kind}/{item_id}")
def drop_draft(kind: models.Kind, item_id: models.IdPath, game: GameDep, person: Player) -> models.Empty:
    """Delete one's own draft; well if there is none."""
    game.database.write(lambda session: drafts.drop(session, person.id, kind, item_id))
    return models.Empty()


@router.get(
    "/pictures/{picture_id}/image",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in sorted(set(MEDIA_TYPES.values()))}, "description": "the picture"},
        304: {"description": "the browser has it"},
        **responses(404),
    },
)
def image(picture_id: models.IdPath, request: Request, game: GameDep, person: Player) -> Response:
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
