"""The editors' API: a picture whose masks are made or mended, the model's help, saving, history."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import Field
from sqlalchemy.orm import Session

from refseg.apps.annotate.api import api_router, models, responses
from refseg.apps.annotate.api.models import RequestModel, ResponseModel, respond
from refseg.apps.annotate.auth.access import Editor, GameDep, refuse
from refseg.apps.annotate.database.tables import Picture
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.services import editing, proposing
from refseg.apps.annotate.services.seen import note_seen

router = api_router("editing")

Coordinate = Annotated[float, Field(ge=-100_000, le=100_000)]
Encoding = Annotated[str, Field(max_length=250_000)]


class MaskIn(RequestModel):
    """A mask, run-length encoded as COCO's tools do, at the picture's own [height, width]."""

    size: Annotated[list[Annotated[int, Field(ge=1, le=10**6)]], Field(min_length=2, max_length=2)]
    counts: Encoding


class MaskOut(ResponseModel):
    """A mask, run-length encoded as COCO's tools do, at the picture's own [height, width]."""

    size: list[int]
    counts: str


class EditedOut(ResponseModel):
    """An object with its exact mask; `source` says where that is from, `score` how sure a model was."""

    id: int
    name: str
    rle: MaskOut
    source: str
    score: float | None


class EditLeaseOut(ResponseModel):
    """A hold on a picture's masks."""

    id: str
    picture_id: int
    seconds: int
    expires_at: Annotated[models.Time, Field(validation_alias="until")]


class ReportOut(ResponseModel):
    """What a validator said of a broken mask."""

    text: str
    note: str
    at: models.Time


class EditTask(ResponseModel):
    """A picture whose masks are made or mended; `names` are classes that objects have so far."""

    lease: EditLeaseOut
    picture: models.PictureOut
    revision: int
    masks: Literal["ready", "open", "broken"]
    proposed: bool
    model: bool
    objects: list[EditedOut]
    reports: list[ReportOut]
    names: list[str]


class NextMasks(RequestModel):
    """Which picture is wanted."""

    split: models.Words | None = None
    picture_id: models.Id | None = None


class EditNext(ResponseModel):
    """The picture that is held, if any."""

    task: EditTask | None


@router.post("/edit/next", responses=responses(404, 409))
def next_masks(given: NextMasks, game: GameDep, person: Editor) -> EditNext:
    """A picture whose masks are to be made or mended, broken ones first; `picture_id` takes any picture."""

    def work(session: Session) -> dict[str, Any]:
        lease = editing.take(session, game, person.id, given.split, given.picture_id)
        return {"task": None if lease is None else editing.task_of(session, game, lease)}

    content = game.database.write(work)
    if content["task"] is not None:
        _reported(game, person.id, content["task"])
    return respond(game, EditNext, content)


def _reported(game: GameDep, person_id: int, task: dict[str, Any]) -> None:
    """Who reads what is wrong with a mask knows something of what its sentence means; the numbers are not shown."""
    note_seen(game, person_id, [report.pop("id") for report in task["reports"]], page=True)


class HeldMasks(RequestModel):
    """The hold on a picture's masks."""

    lease_id: models.LeaseId


class ReleaseMasks(HeldMasks):
    """Giving a picture back; with `skip` it does not come back for a day."""

    skip: bool = False


@router.post("/edit/pictures/{picture_id}/renew", responses=responses(409))
def renew(picture_id: models.IdPath, given: HeldMasks, game: GameDep, person: Editor) -> EditLeaseOut:
    """Hold on to a picture for another while."""
    lease = game.database.write(lambda session: editing.renew(session, game, person.id, picture_id, given.lease_id))
    return respond(game, EditLeaseOut, lease)


@router.post("/edit/pictures/{picture_id}/release", responses=responses(409))
def release(picture_id: models.IdPath, given: ReleaseMasks, game: GameDep, person: Editor) -> models.Empty:
    """Give a picture back as it was last saved."""
    game.database.write(
        lambda session: editing.release(session, game, person.id, picture_id, given.lease_id, given.skip)
    )
    return models.Empty()


class Proposed(ResponseModel):
    """The picture after a model has proposed its masks; `added` objects came."""

    added: int
    task: EditTask


@router.post("/edit/pictures/{picture_id}/propose", responses=responses(409))
def propose(picture_id: models.IdPath, given: HeldMasks, game: GameDep, person: Editor) -> Proposed:
    """Let the model propose the masks of a picture that has none yet."""
    with game.database.read() as session:
        editing.held(session, person.id, picture_id, given.lease_id)
    added = proposing.propose(game, picture_id, person.id)

    def work(session: Session) -> dict[str, Any]:
        lease = editing.renew(session, game, person.id, picture_id, given.lease_id)
        return editing.task_of(session, game, lease)

    task = game.database.write(work)
    _reported(game, person.id, task)
    return respond(game, Proposed, {"added": added, "task": task})


class SegmentRequest(HeldMasks):
    """A place of the picture, in pixels: a point [x, y], or a box [x0, y0, x1, y1]."""

    point: Annotated[list[Coordinate], Field(min_length=2, max_length=2)] | None = None
    box: Annotated[list[Coordinate], Field(min_length=4, max_length=4)] | None = None


class CandidateOut(ResponseModel):
    """A mask that the model finds there."""

    name: str
    score: float
    rle: MaskOut


@router.post("/edit/pictures/{picture_id}/segment", responses=responses(409))
def segment(
    picture_id: models.IdPath, given: SegmentRequest, game: GameDep, person: Editor
) -> models.ListOf[CandidateOut]:
    """What the model finds at a point or in a box, the best first; nothing is kept of it."""
    if (given.point is None) == (given.box is None):
        raise GameError("invalid", "give a point or a box", "point")
    where = {"point": given.point} if given.point is not None else {"box": given.box or []}
    with game.database.read() as session:
        picture = editing.held(session, person.id, picture_id, given.lease_id)
    return respond(game, models.ListOf[CandidateOut], {"items": proposing.ask(game, picture, **where)})


class ObjectIn(RequestModel):
    """An object: `id` of one that is there, or `key` for a new one; `rle` where the mask is new or changed."""

    id: models.Id | None = None
    key: Annotated[str, Field(max_length=64)] = ""
    name: Annotated[str, Field(max_length=200), models.NoNul]
    rle: MaskIn | None = None
    source: Literal["drawn", "proposed"] = "drawn"
    score: Annotated[float, Field(ge=0, le=1)] | None = None


class SaveRequest(HeldMasks):
    """What changed since `revision`; `discard` agrees to lose sentences that mean a removed object."""

    revision: Annotated[int, Field(ge=0, le=2**31 - 1)]
    objects: Annotated[list[ObjectIn], Field(max_length=editing.MOST_OBJECTS)] = Field([])
    removed: models.Ids = Field([])
    discard: bool = False


class SavedOut(ResponseModel):
    """The masks' new revision, and the numbers of new objects by their keys."""

    revision: int
    numbers: dict[str, int]


@router.put("/edit/pictures/{picture_id}/objects", responses=responses(404, 409))
def save(picture_id: models.IdPath, given: SaveRequest, request: Request, game: GameDep, person: Editor) -> SavedOut:
    """Keep what changed; what it was before is kept too."""
    with game.database.read() as session:
        picture = session.get(Picture, picture_id)
    if picture is None:
        raise refuse(request, "not_found", not_found("picture"), person.id)
    size = (picture.height, picture.width)
    # Decoding and tracing take time and no database: outside of the transaction.
    objects = [
        editing.EditedObject(
            id=item.id,
            key=item.key,
            name=item.name,
            values=None if item.rle is None else editing.mask_values(item.rle.model_dump(), size),
            source=item.source,
            score=item.score,
        )
        for item in given.objects
    ]

    if given.removed:  # the refusal tells which objects are meant, and by which sentences
        with game.database.read() as session:
            known = [sample.id for sample in editing.meaning(session, given.removed)]
        note_seen(game, person.id, known, page=True)

    def work(session: Session) -> dict[str, Any]:
        kept, numbers = editing.save(
            session, game, person.id, picture_id, given.lease_id, given.revision, objects, given.removed, given.discard
        )
        return {"revision": kept.revision, "numbers": numbers}

    return respond(game, SavedOut, game.database.write(work))


class FinishedOut(ResponseModel):
    """`sentences` that had waited for the masks go to validators again."""

    sentences: int


@router.post("/edit/pictures/{picture_id}/finish", responses=responses(409))
def finish(picture_id: models.IdPath, given: HeldMasks, game: GameDep, person: Editor) -> FinishedOut:
    """Say that the masks are whole; the picture is written about from now on."""
    count = game.database.write(lambda session: editing.finish(session, game, person.id, picture_id, given.lease_id))
    return FinishedOut(sentences=count)


class VersionOut(ResponseModel):
    """An object as it was before `person` changed or removed it; `there` says whether it still exists."""

    object_id: int
    there: bool
    name: str
    source: str
    area: float
    rle: MaskOut
    person: models.PersonName
    at: models.Time


@router.get("/edit/pictures/{picture_id}/history", responses=responses(404))
def history(picture_id: models.IdPath, game: GameDep, person: Editor) -> models.ListOf[VersionOut]:
    """What the objects were, the latest change first."""
    with game.database.read() as session:
        return respond(game, models.ListOf[VersionOut], {"items": editing.history(session, picture_id)})
