"""The players' API: an annotator's picture, checks and submission; a validator's sample and the answer to it."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Query, Response
from pydantic import Field
from sqlalchemy.orm import Session

from refseg.apps.annotate.api import api_router, models, responses
from refseg.apps.annotate.api.models import RequestModel, ResponseModel, respond
from refseg.apps.annotate.auth.access import Annotator, GameDep, Validator
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.services import submitting, tasks
from refseg.apps.annotate.services.helping import help_url
from refseg.apps.annotate.services.judging import Judgement, judge
from refseg.apps.annotate.services.scoring import today
from refseg.apps.annotate.services.seen import note_seen
from refseg.apps.annotate.services.suggesting import suggest
from refseg.apps.annotate.states import POINTS

router = api_router("playing")
Task = TypeVar("Task")


class NextPicture(RequestModel):
    """Which picture is wanted."""

    split: models.Words | None = None
    picture_id: models.Id | None = None


class NextSample(RequestModel):
    """Which sample is wanted."""

    split: models.Words | None = None
    sample_id: models.Id | None = None


class Next(ResponseModel, Generic[Task]):
    """The item that is held, if any; `reason` says why there is none to be handed out."""

    task: Task | None
    reason: Literal["empty", "only_yours", "seen", "held", "practice"] | None = None


class PictureTask(ResponseModel):
    """What the tasks of both players have in common; the page's numbers of the objects begin `turn` places later."""

    lease: models.LeaseOut
    picture: models.PictureOut
    objects: list[models.ObjectOut]
    turn: int
    draft: models.DraftOut | None


class WriteTask(PictureTask):
    """A picture to write about."""

    sentences: int


class SentenceOnly(ResponseModel):
    """A sample as validators see it."""

    id: int
    text: str


class ValidateTask(PictureTask):
    """A sample to validate."""

    sample: SentenceOnly


@router.post("/write/next", responses=responses(404, 409))
def next_picture(given: NextPicture, game: GameDep, person: Annotator) -> Next[WriteTask]:
    """A picture to write about: the held one, or one drawn at random, few sentences and many objects first."""
    work = tasks.next_task(game, person.id, "write", given.split, given.picture_id)
    return respond(game, Next[WriteTask], game.database.write(work))


@router.post("/validate/next", responses=responses(404, 409))
def next_sample(given: NextSample, game: GameDep, person: Validator) -> Next[ValidateTask]:
    """A sample to validate: the held one, or the one that has waited longest and is neither one's own nor seen."""
    work = tasks.next_task(game, person.id, "validate", given.split, given.sample_id)
    return respond(game, Next[ValidateTask], game.database.write(work))


@router.get("/write/current")
def current_picture(game: GameDep, person: Annotator) -> Next[WriteTask]:
    """The picture that is held; nothing new is handed out."""
    with game.database.read() as session:
        return respond(game, Next[WriteTask], tasks.current_task(session, game, person.id, "write"))


@router.get("/validate/current")
def current_sample(game: GameDep, person: Validator) -> Next[ValidateTask]:
    """The sample that is held; nothing new is handed out."""
    with game.database.read() as session:
        return respond(game, Next[ValidateTask], tasks.current_task(session, game, person.id, "validate"))


class Sentence(ResponseModel):
    """A sentence of a picture; `targets` only of imported ones."""

    text: str
    source: Literal["imported", "sample"]
    targets: list[int] | None
    no_target: bool | None


@router.get("/pictures/{picture_id}/sentences", responses=responses(404))
def sentences(picture_id: models.IdPath, game: GameDep, person: Annotator) -> models.ListOf[Sentence]:
    """The sentences that the held picture has already."""
    with game.database.read() as session:
        items, shown = tasks.sentences_of(session, person.id, picture_id)
    note_seen(game, person.id, shown)
    return respond(game, models.ListOf[Sentence], {"items": items})


class Suggestion(ResponseModel):
    """A sentence of another picture."""

    id: str
    text: str


@router.get("/pictures/{picture_id}/suggestions", responses=responses(404))
def suggestions(
    picture_id: models.IdPath, game: GameDep, person: Annotator, count: Annotated[int, Query(ge=1, le=20)] = 5
) -> models.ListOf[Suggestion]:
    """Deceptive sentences from other pictures of the held picture's split."""
    with game.database.read() as session:
        picture = tasks.held_picture(session, person.id, picture_id)
        suggested = suggest(session, game, submitting.all_nouns(session, game), picture, count)
    note_seen(game, person.id, [int(key[1:]) for key, _ in suggested if key.startswith("s")])
    return respond(game, models.ListOf[Suggestion], {"items": [{"id": key, "text": text} for key, text in suggested]})


class CheckRequest(RequestModel):
    """A sentence to be looked at before it is submitted."""

    picture_id: models.Id
    text: models.Words
    targets: models.Ids = Field([])
    no_target: bool = False


class Earlier(ResponseModel):
    """The earlier sentence that a refused one repeats."""

    text: str
    source: Literal["imported", "sample"]


class Refusal(ResponseModel):
    """Why a sentence would be refused."""

    code: str
    message: str
    earlier: Earlier


class Checked(ResponseModel):
    """What the rules say about a sentence."""

    kind: str
    refusal: Refusal | None
    warnings: list[models.Warned]


@router.post("/check", responses=responses(404))
def check(given: CheckRequest, game: GameDep, person: Annotator) -> Checked:
    """What the rules would say about a sentence on the held picture."""
    with game.database.read() as session:
        picture = tasks.held_picture(session, person.id, given.picture_id)
        text = submitting.checked_text(game, given.text)
        # While somebody still selects, nothing may be selected yet: only what is selected is looked at.
        chosen = submitting.checked_targets(session, picture.id, given.targets, False) if given.targets else []
        report = submitting.examine(session, game, picture, text, chosen)
    refusal = report.refusal
    if refusal is not None:
        note_seen(game, person.id, _shown(refusal))
    content = {
        "kind": report.kind,
        "refusal": refusal and {"code": refusal.code, "message": refusal.message, **refusal.details},
        "warnings": report.warnings if chosen or given.no_target else [],
    }
    return respond(game, Checked, content)


def _shown(error: GameError) -> list[int]:
    return [] if error.shown_sample is None else [error.shown_sample]


class SampleRequest(RequestModel):
    """A sentence and what it means."""

    lease_id: models.LeaseId
    client_key: models.Key
    text: models.Words
    targets: models.Ids = Field([])
    no_target: bool = False
    suggestion_id: Annotated[str, Field(max_length=20, pattern=r"^[is][0-9]+$")] | None = None
    keep: bool = False


class SampleBrief(ResponseModel):
    """A submitted sample."""

    id: int
    state: models.State
    kind: str


class Received(ResponseModel):
    """What comes of a submission and of a judgement; `replayed` where the same client_key was sent before."""

    replayed: bool
    today: models.Today
    help_url: str | None


class Submitted(Received):
    """What came of a submission."""

    sample: SampleBrief
    warnings: list[models.Warned]
    lease: models.LeaseOut | None


@router.post(
    "/samples",
    status_code=201,
    responses={200: {"model": Submitted, "description": "submitted before"}, **responses(409)},
)
def submit_sample(given: SampleRequest, response: Response, game: GameDep, person: Annotator) -> Submitted:
    """Submit a sentence; the same client_key may be sent again and again, and counts once."""

    def work(session: Session) -> dict[str, Any]:
        sample, lease, replayed = submitting.submit(
            session, game, person.id, submitting.Submission(**given.model_dump())
        )
        return {
            "sample": sample,
            "replayed": replayed,
            "warnings": sample.warnings,
            "today": today(session, game, person.id),
            "lease": lease,
            "help_url": help_url(game, sample.id),
        }

    try:
        content = game.database.write(work)
    except GameError as error:
        note_seen(game, person.id, _shown(error))
        raise
    done = respond(game, Submitted, content)
    if done.replayed:
        response.status_code = 200
    return done


class VerdictRequest(RequestModel):
    """A validator's selection or rejection."""

    lease_id: models.LeaseId
    client_key: models.Key
    decision: Literal["select", "reject"]
    targets: models.Ids = Field([])
    no_target: bool = False
    reason: Literal["inappropriate", "ambiguous", "irrelevant", "broken_mask"] | None = None
    note: models.Words = ""


class Judged(Received):
    """What came of a validator's answer."""

    result: Literal["matched", "differed", "rejected"]
    points: int


@router.post(
    "/samples/{sample_id}/verdict",
    status_code=201,
    responses={200: {"model": Judged, "description": "answered before"}, **responses(409)},
)
def verdict(
    sample_id: models.IdPath, given: VerdictRequest, response: Response, game: GameDep, person: Validator
) -> Judged:
    """Select what the sentence means, or reject it; the same client_key may be sent again, and counts once."""
    judgement = Judgement(reject=given.decision == "reject", **given.model_dump(exclude={"decision"}))

    def work(session: Session) -> dict[str, Any]:
        kept, replayed = judge(session, game, person.id, sample_id, judgement)
        return {
            "result": kept.result,
            "points": POINTS[kept.result],
            "replayed": replayed,
            "today": today(session, game, person.id),
            "help_url": help_url(game, sample_id),
        }

    done = respond(game, Judged, game.database.write(work))
    if done.replayed:
        response.status_code = 200
    return done
