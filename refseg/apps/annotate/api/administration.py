"""The administrator's API: numbers, samples, accounts, logs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import AfterValidator, AliasPath, BeforeValidator, Field
from sqlalchemy.orm import Session

from refseg.apps.annotate.api import api_router, models, responses
from refseg.apps.annotate.api.models import RequestModel, ResponseModel, respond
from refseg.apps.annotate.auth import people
from refseg.apps.annotate.auth.access import Administrator, GameDep
from refseg.apps.annotate.services import agreement, browsing, overview, scoring
from refseg.apps.annotate.services.moves import administer
from refseg.apps.annotate.services.seen import note_seen
from refseg.apps.annotate.states import allowed_moves

router = api_router("administration")


class SplitRow(ResponseModel):
    """Progress of a split: `one`, `several`, `none` count accepted samples by targets."""

    split: str
    pictures: int
    covered: int
    states: dict[str, int]
    one: int
    several: int
    none: int


class KindRow(ResponseModel):
    """Samples of a kind of sentence."""

    kind: str
    total: int
    accepted: int


class DayRow(ResponseModel):
    """What was done on a day."""

    day: str
    written: int
    validated: int
    accepted: int


class Queues(ResponseModel):
    """What waits, and what is held."""

    waiting: int
    second: int
    held_write: int
    held_validate: int
    drafts: int
    oldest_waiting_at: str | None


class AgreementNumbers(ResponseModel):
    """Compared selections and how many matched."""

    compared: int
    matched: int
    rate: float | None
    first_rate: float | None


class ReasonCount(ResponseModel):
    """Rejections for a reason."""

    reason: str
    n: int


class Overview(ResponseModel):
    """The administrator's first page."""

    pictures: int
    objects: int
    imported: int
    samples: dict[str, int]
    splits: list[SplitRow]
    kinds: list[KindRow]
    throughput: list[DayRow]
    queues: Queues
    agreement: AgreementNumbers
    rejections: list[ReasonCount]


@router.get("/admin/overview")
def numbers(game: GameDep, person: Administrator) -> Overview:
    """Queues, agreement, kinds, splits, throughput."""
    with game.database.read() as session:
        return respond(game, Overview, overview.overview(session, game))


Number = Annotated[int | None, Query(ge=1, le=models.LARGEST)]
Plain = AfterValidator(lambda value: value if value is None else value.replace("\0", ""))
Short = Annotated[str | None, Query(max_length=40), Plain]


class Named(ResponseModel):
    """Somebody."""

    id: int
    name: str


class SampleSummary(models.SampleOut):
    """What administrators see of a sample everywhere."""

    flags: list[str]
    author: Named
    reason: str
    updated_at: models.Time


class SampleRow(SampleSummary):
    """A line of the list of samples; `targets` and `verdicts` are numbers of them.

    What a sample means is None, and `flags` and `reason` are empty, as long as whoever asks may be given it to
    validate.
    """

    targets: Annotated[int | None, Field(validation_alias="target_count")]
    no_target: bool | None  # type: ignore[assignment]
    verdicts: Annotated[int, BeforeValidator(len)]


class VerdictRow(ResponseModel):
    """A validator's answer."""

    id: int
    validator: Named
    round: int
    result: Literal["matched", "differed", "rejected"]
    targets: Annotated[list[int], Field(validation_alias="target_ids")]
    no_target: bool
    reason: str | None
    note: str
    created_at: models.Time


class HistoryRow(ResponseModel):
    """A row of the audit log."""

    id: int
    at: models.Time
    actor: models.PersonName
    entity: str
    entity_id: int | None
    move: str
    start: Annotated[str | None, Field(serialization_alias="from")]
    end: Annotated[str | None, Field(serialization_alias="to")]
    reason: str
    details: dict[str, Any]


def _moves(state: str) -> list[str]:
    return list(allowed_moves(state, "administrator"))


class SampleDetail(SampleSummary):
    """Everything about a sample."""

    targets: Annotated[list[int], Field(validation_alias="target_ids")]
    warnings: list[models.Warned]
    objects: Annotated[list[models.ObjectOut], Field(validation_alias=AliasPath("picture", "outlines"))]
    suggestion: str | None
    gold: bool
    help: dict[str, Any] | None
    verdicts: list[VerdictRow]
    history: list[HistoryRow]
    moves: Annotated[list[str], Field(validation_alias="state"), BeforeValidator(_moves)]


@router.get("/admin/samples")
def samples(
    game: GameDep,
    person: Administrator,
    state: Short = None,
    split: models.SplitQuery = None,
    kind: Short = None,
    author: Number = None,
    validator: Number = None,
    picture: Number = None,
    flag: Short = None,
    no_target: Annotated[bool | None, Query()] = None,
    q: Annotated[str | None, Query(max_length=200), Plain] = None,
    order: Annotated[Literal["newest", "oldest"], Query()] = "newest",
    page: models.Page = 1,
    per_page: models.PerPage = 50,
) -> models.PageOf[SampleRow]:
    """Samples, filtered. Filters by what a sample means leave out those that whoever asks may still validate; of the
    others, what is shown here is known, and they are not given to whoever asks when they are reopened."""
    wanted = browsing.Filter(state, split, kind, author, validator, picture, flag, no_target, q, order == "oldest")
    with game.database.read() as session:
        found, hidden = browsing.list_samples(session, wanted, page, per_page, person)
        shown = respond(game, models.PageOf[SampleRow], found)
    for row in shown.items:
        if row.id in hidden:
            row.targets, row.no_target, row.flags, row.reason = None, None, [], ""
    note_seen(game, person.id, [row.id for row in shown.items if row.id not in hidden], page=True)
    return shown


@router.get("/admin/samples/{sample_id}", responses=responses(404))
def sample(sample_id: models.IdPath, game: GameDep, person: Administrator) -> SampleDetail:
    """Everything about a sample: selections, answers, history. Who reads it is not given it to validate."""
    note_seen(game, person.id, [sample_id], page=True)
    with game.database.read() as session:
        return respond(game, SampleDetail, browsing.one_sample(session, sample_id))


class ReasonRequest(RequestModel):
    """Why an administrator reopens or discards a sample."""

    reason: Annotated[str, Field(min_length=3, max_length=500), models.NoNul]


class Moved(ResponseModel):
    """A sample after an administrator's move."""

    id: int
    state: models.State


@router.post("/admin/samples/{sample_id}/reopen", responses=responses(404, 409))
def reopen(sample_id: models.IdPath, given: ReasonRequest, game: GameDep, person: Administrator) -> Moved:
    """Send a closed sample to validators who have not seen it."""
    return _move(game, person.id, sample_id, "reopen", given.reason)


@router.post("/admin/samples/{sample_id}/return", responses=responses(404, 409))
def give_back(sample_id: models.IdPath, given: ReasonRequest, game: GameDep, person: Administrator) -> Moved:
    """Give a sample that waits back to its author, as a draft."""
    return _move(game, person.id, sample_id, "return", given.reason)


@router.post("/admin/samples/{sample_id}/discard", responses=responses(404, 409))
def discard(sample_id: models.IdPath, given: ReasonRequest, game: GameDep, person: Administrator) -> Moved:
    """Take a sample out."""
    return _move(game, person.id, sample_id, "discard", given.reason)


def _move(game: GameDep, actor: int, sample_id: int, name: str, reason: str) -> Moved:
    moved = game.database.write(lambda session: administer(session, game, sample_id, name, actor, reason))
    return respond(game, Moved, moved)


RoleList = Annotated[list[models.Role], Field(min_length=1, max_length=4)]


class PersonRow(models.Counts):
    """An account for administrators."""

    id: int
    name: str
    roles: models.Roles
    active: bool
    created_at: models.Time
    last_seen_at: Annotated[models.MaybeTime, Field(validation_alias="seen_at")]
    agreement_as_annotator: float | None
    agreement_as_validator: float | None
    practice: tuple[int, int]
    """Right answers in practice, and all."""


@router.get("/admin/people")
def accounts(game: GameDep, person: Administrator) -> models.ListOf[PersonRow]:
    """All accounts with what they did."""
    with game.database.read() as session:
        return respond(game, models.ListOf[PersonRow], {"items": overview.people(session)})


class AgreementRow(ResponseModel):
    """How well the selections of two people, or of one and all others (`other` None), agree on the same sentences.

    `kappa` is Cohen's, over the objects of the pictures: each is selected or not, by either.
    """

    person: Named
    other: Named | None
    samples: int
    same: int
    kappa: float | None


@router.get("/admin/agreement")
def agreement_of_people(game: GameDep, person: Administrator) -> models.ListOf[AgreementRow]:
    """Agreement of each person with all others, and of each pair, the most compared first."""
    with game.database.read() as session:
        return respond(game, models.ListOf[AgreementRow], {"items": agreement.pairwise(session)})


class PersonRequest(RequestModel):
    """A new account."""

    name: Annotated[str, Field(min_length=1, max_length=40), models.NoNul]
    password: models.NewSecret
    roles: RoleList


@router.post("/admin/people", status_code=201, responses=responses(409))
def add_account(given: PersonRequest, game: GameDep, person: Administrator) -> PersonRow:
    """A new account."""

    def work(session: Session) -> dict[str, Any]:
        added = people.add_person(session, game, given.name, given.password, given.roles, person.id)
        return overview.account(added)

    return respond(game, PersonRow, game.database.write(work))


class PersonChange(RequestModel):
    """What changes at an account."""

    roles: RoleList | None = None
    active: bool | None = None
    password: models.NewSecret | None = None


@router.patch("/admin/people/{person_id}", responses=responses(404, 409))
def change_account(person_id: models.IdPath, given: PersonChange, game: GameDep, person: Administrator) -> PersonRow:
    """Change an account's roles or password, close or open it."""

    def work(session: Session) -> dict[str, Any]:
        changed = people.change_person(session, game, person_id, person.id, **given.model_dump())
        return overview.account(changed, scoring.everybody(session).get(person_id))

    return respond(game, PersonRow, game.database.write(work))


@router.get("/admin/audit")
def audit(
    game: GameDep,
    person: Administrator,
    entity: Short = None,
    move: Short = None,
    page: models.Page = 1,
    per_page: models.PerPage = 50,
) -> models.PageOf[HistoryRow]:
    """Every change of state, the latest first; reasons and details are left out of samples that whoever asks may still
    validate."""
    with game.database.read() as session:
        found, hidden = browsing.audit_log(session, entity, move, page, per_page, person)
        shown = respond(game, models.PageOf[HistoryRow], found)
    for row in shown.items:
        if row.id in hidden:
            row.reason, row.details = "", {}
    return shown


class SecurityRow(ResponseModel):
    """A row of the security log."""

    id: int
    at: models.Time
    event: str
    user: Annotated[models.PersonName, Field(validation_alias="person")]
    address: str
    path: str
    details: dict[str, Any]


@router.get("/admin/security")
def security(
    game: GameDep, person: Administrator, page: models.Page = 1, per_page: models.PerPage = 50
) -> models.PageOf[SecurityRow]:
    """Refusals worth a look, the latest first."""
    with game.database.read() as session:
        return respond(game, models.PageOf[SecurityRow], browsing.security_log(session, page, per_page))
