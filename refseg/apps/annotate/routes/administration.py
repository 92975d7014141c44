"""The administrator's API: numbers, samples, accounts, logs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import AfterValidator
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from refseg.apps.annotate import answers, answers_people, browsing, overview, people, scoring
from refseg.apps.annotate.access import Administrator, GameDep
from refseg.apps.annotate.moves import administer
from refseg.apps.annotate.routes import api_router, responses
from refseg.apps.annotate.schemas import (
    LARGEST,
    IdPath,
    Page,
    PerPage,
    PersonChange,
    PersonRequest,
    ReasonRequest,
    SplitQuery,
)
from refseg.apps.annotate.tables import Audit

router = api_router("administration")

Number = Annotated[int | None, Query(ge=1, le=LARGEST)]


def _plain(value: str | None) -> str | None:
    return value if value is None else value.replace("\0", "")


Short = Annotated[str | None, Query(max_length=40), AfterValidator(_plain)]


@router.get("/admin/overview", response_model=answers_people.Overview)
def numbers(game: GameDep, person: Administrator) -> Any:
    """Queues, agreement, kinds, splits, throughput."""
    with game.database.read() as session:
        return overview.overview(session, game)


@router.get("/admin/samples", response_model=answers.PageOf[answers_people.SampleRow])
def samples(
    game: GameDep,
    person: Administrator,
    state: Short = None,
    split: SplitQuery = None,
    kind: Short = None,
    author: Number = None,
    validator: Number = None,
    picture: Number = None,
    flag: Short = None,
    no_target: Annotated[bool | None, Query()] = None,
    q: Annotated[str | None, Query(max_length=200), AfterValidator(_plain)] = None,
    order: Annotated[Literal["newest", "oldest"], Query()] = "newest",
    page: Page = 1,
    per_page: PerPage = 50,
) -> Any:
    """Samples, filtered."""
    wanted = browsing.Filter(state, split, kind, author, validator, picture, flag, no_target, q, order == "oldest")
    with game.database.read() as session:
        items, total = browsing.list_samples(session, game, wanted, page, per_page)
    return {"items": items, "page": page, "per_page": per_page, "total": total}


@router.get("/admin/samples/{sample_id}", response_model=answers_people.SampleDetail, responses=responses(404))
def sample(sample_id: IdPath, game: GameDep, person: Administrator) -> Any:
    """Everything about a sample: selections, answers, history."""
    with game.database.read() as session:
        return browsing.one_sample(session, game, sample_id)


@router.post("/admin/samples/{sample_id}/reopen", response_model=answers_people.Moved, responses=responses(404, 409))
def reopen(sample_id: IdPath, given: ReasonRequest, game: GameDep, person: Administrator) -> Any:
    """Send a closed sample to validators who have not seen it."""
    return _move(game, person.id, sample_id, "reopen", given.reason)


@router.post("/admin/samples/{sample_id}/discard", response_model=answers_people.Moved, responses=responses(404, 409))
def discard(sample_id: IdPath, given: ReasonRequest, game: GameDep, person: Administrator) -> Any:
    """Take a sample out."""
    return _move(game, person.id, sample_id, "discard", given.reason)


@router.get("/admin/people", response_model=answers_people.People)
def accounts(game: GameDep, person: Administrator) -> Any:
    """All accounts with what they did."""
    with game.database.read() as session:
        return {"items": overview.people(session)}


@router.post("/admin/people", response_model=answers_people.PersonRow, status_code=201, responses=responses(409))
def add_account(given: PersonRequest, game: GameDep, person: Administrator) -> Any:
    """A new account."""

    def work(session: Session) -> Any:
        return overview.person_json(
            people.add_person(session, game, given.name, given.password, given.roles, person.id)
        )

    return game.database.write(work)


@router.patch("/admin/people/{person_id}", response_model=answers_people.PersonRow, responses=responses(404, 409))
def change_account(person_id: IdPath, given: PersonChange, game: GameDep, person: Administrator) -> Any:
    """Change an account's roles or password, close or open it."""

    def work(session: Session) -> Any:
        changed = people.change_person(
            session, game, person_id, person.id, roles=given.roles, active=given.active, password=given.password
        )
        return overview.person_json(changed, scoring.everybody(session).get(person_id))

    return game.database.write(work)


@router.get("/admin/audit", response_model=answers.PageOf[answers.HistoryRow])
def audit(
    game: GameDep,
    person: Administrator,
    entity: Short = None,
    move: Short = None,
    page: Page = 1,
    per_page: PerPage = 50,
) -> Any:
    """Every change of state, the latest first."""
    conditions: list[ColumnElement[bool]] = []
    if entity is not None:
        conditions.append(Audit.entity == entity)
    if move is not None:
        conditions.append(Audit.move == move)
    with game.database.read() as session:
        items, total = browsing.history(session, conditions, page, per_page, newest=True)
    return {"items": items, "page": page, "per_page": per_page, "total": total}


@router.get("/admin/security", response_model=answers.PageOf[answers.SecurityRow])
def security(game: GameDep, person: Administrator, page: Page = 1, per_page: PerPage = 50) -> Any:
    """Refusals worth a look, the latest first."""
    with game.database.read() as session:
        items, total = browsing.security_log(session, page, per_page)
    return {"items": items, "page": page, "per_page": per_page, "total": total}


def _move(game: GameDep, actor: int, sample_id: int, name: str, reason: str) -> Any:
    def work(session: Session) -> Any:
        moved = administer(session, game, sample_id, name, actor, reason)
        return {"id": moved.id, "state": moved.state}

    return game.database.write(work)
