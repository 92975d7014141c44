"""The validator's API: a sample without its author's selection, and the answer to it."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from sqlalchemy.orm import Session

from refseg.apps.annotate import answers, leases, tasks
from refseg.apps.annotate.access import GameDep, Validator
from refseg.apps.annotate.helping import help_url
from refseg.apps.annotate.judging import Answer, judge
from refseg.apps.annotate.routes import api_router, responses
from refseg.apps.annotate.schemas import IdPath, NextSample, VerdictRequest
from refseg.apps.annotate.scoring import today
from refseg.apps.annotate.states import POINTS

router = api_router("validating")


@router.post("/validate/next", response_model=answers.ValidateNext, responses=responses(404, 409))
def next_sample(given: NextSample, game: GameDep, person: Validator) -> Any:
    """A sample to validate: the held one, or the one that has waited longest and is neither one's own nor seen."""

    def work(session: Session) -> Any:
        lease = leases.take_sample(session, game, person.id, given.split, given.sample_id)
        reason = leases.why_nothing(session, game, person.id, "validate") if lease is None else None
        return {"task": tasks.validate_task(session, game, person.id, lease), "reason": reason}

    return game.database.write(work)


@router.get("/validate/current", response_model=answers.ValidateNext)
def current_sample(game: GameDep, person: Validator) -> Any:
    """The sample that is held; nothing new is handed out."""
    with game.database.read() as session:
        lease = leases.held_lease(session, game, person.id, "validate")
        return {"task": tasks.validate_task(session, game, person.id, lease)}


@router.post(
    "/samples/{sample_id}/verdict",
    response_model=answers.Judged,
    status_code=201,
    responses={200: {"model": answers.Judged, "description": "answered before"}, **responses(409)},
)
def verdict(sample_id: IdPath, given: VerdictRequest, response: Response, game: GameDep, person: Validator) -> Any:
    """Select what the sentence means, or reject it; the same client_key may be sent again, and counts once."""
    answer = Answer(
        given.lease_id, given.client_key, given.decision == "reject", tuple(given.targets), given.no_target,
        given.reason, given.note,
    )  # fmt: skip

    def work(session: Session) -> Any:
        found, replayed = judge(session, game, person.id, sample_id, answer)
        return {
            "result": found.result,
            "points": POINTS[found.result],
            "replayed": replayed,
            "today": today(session, game, person.id),
            "help_url": help_url(game, sample_id),
        }

    done = game.database.write(work)
    if done["replayed"]:
        response.status_code = 200
    return done
