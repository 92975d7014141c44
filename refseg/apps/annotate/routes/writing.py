"""The annotator's API: a picture, what is known of it, checks, submission."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Response
from sqlalchemy.orm import Session

from refseg.apps.annotate import answers, leases, tasks
from refseg.apps.annotate.access import Annotator, GameDep
from refseg.apps.annotate.helping import help_url
from refseg.apps.annotate.routes import api_router, responses
from refseg.apps.annotate.schemas import CheckRequest, IdPath, NextPicture, SampleRequest
from refseg.apps.annotate.scoring import today
from refseg.apps.annotate.submitting import Submission, all_nouns, checked_targets, checked_text, examine, submit
from refseg.apps.annotate.suggesting import suggest

router = api_router("writing")


@router.post("/write/next", response_model=answers.WriteNext, responses=responses(404, 409))
def next_picture(given: NextPicture, game: GameDep, person: Annotator) -> Any:
    """A picture to write about: the held one, or one drawn at random, few sentences and many objects first."""

    def work(session: Session) -> Any:
        lease = leases.take_picture(session, game, person.id, given.split, given.picture_id)
        reason = leases.why_nothing(session, game, person.id, "write") if lease is None else None
        return {"task": tasks.write_task(session, game, person.id, lease), "reason": reason}

    return game.database.write(work)


@router.get("/write/current", response_model=answers.WriteNext)
def current_picture(game: GameDep, person: Annotator) -> Any:
    """The picture that is held; nothing new is handed out."""
    with game.database.read() as session:
        lease = leases.held_lease(session, game, person.id, "write")
        return {"task": tasks.write_task(session, game, person.id, lease)}


@router.get("/pictures/{picture_id}/sentences", response_model=answers.Sentences, responses=responses(404))
def sentences(picture_id: IdPath, game: GameDep, person: Annotator) -> Any:
    """The sentences that the held picture has already."""
    with game.database.read() as session:
        return {"items": tasks.sentences_of(session, person.id, picture_id)}


@router.get("/pictures/{picture_id}/suggestions", response_model=answers.Suggestions, responses=responses(404))
def suggestions(
    picture_id: IdPath, game: GameDep, person: Annotator, count: Annotated[int, Query(ge=1, le=20)] = 5
) -> Any:
    """Deceptive sentences from other pictures of the held picture's split."""
    with game.database.read() as session:
        picture = tasks.held_picture(session, person.id, picture_id)
        found = suggest(session, game, all_nouns(session, game), picture, count)
    return {"items": [{"id": key, "text": text} for key, text in found]}


@router.post("/check", response_model=answers.Checked, responses=responses(404))
def check(given: CheckRequest, game: GameDep, person: Annotator) -> Any:
    """What the rules would say about a sentence on the held picture."""
    with game.database.read() as session:
        picture = tasks.held_picture(session, person.id, given.picture_id)
        text = checked_text(game, given.text)
        # While somebody still selects, nothing may be selected yet: only what is selected is looked at.
        chosen = checked_targets(session, picture.id, given.targets, False) if given.targets else []
        report = examine(session, game, picture, text, chosen)
    refusal = report.refusal
    return {
        "kind": report.kind,
        "refusal": None
        if refusal is None
        else {"code": refusal.code, "message": refusal.message, "earlier": refusal.details["earlier"]},
        "warnings": report.warnings if chosen or given.no_target else [],
    }


@router.post(
    "/samples",
    response_model=answers.Submitted,
    status_code=201,
    responses={200: {"model": answers.Submitted, "description": "submitted before"}, **responses(409)},
)
def submit_sample(given: SampleRequest, response: Response, game: GameDep, person: Annotator) -> Any:
    """Submit a sentence; the same client_key may be sent again and again, and counts once."""
    submission = Submission(
        given.lease_id, given.client_key, given.text, tuple(given.targets), given.no_target, given.suggestion_id,
        given.keep,
    )  # fmt: skip

    def work(session: Session) -> Any:
        sample, lease, replayed = submit(session, game, person.id, submission)
        return {
            "sample": {"id": sample.id, "state": sample.state, "kind": sample.kind},
            "replayed": replayed,
            "warnings": sample.warnings,
            "today": today(session, game, person.id),
            "lease": None if lease is None else tasks.lease_json(lease),
            "help_url": help_url(game, sample.id),
        }

    found = game.database.write(work)
    if found["replayed"]:
        response.status_code = 200
    return found
