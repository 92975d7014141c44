"""The administrator's API for a team: projects, invitations, the review queue, gold samples."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.orm import Session

from refseg.apps.annotate.api import api_router, models, responses
from refseg.apps.annotate.api.administration import RoleList, SampleRow
from refseg.apps.annotate.api.models import RequestModel, ResponseModel, respond
from refseg.apps.annotate.auth.access import Administrator, GameDep
from refseg.apps.annotate.services import inviting, projects, rehearsing, reviewing
from refseg.apps.annotate.services.seen import note_seen

router = api_router("team")


class ProjectRow(ResponseModel):
    """A project: its pictures, those still without masks, accepted sentences, and the people assigned to it."""

    id: int
    name: str
    pictures: int
    masks: int
    accepted: int
    people: list[int]


class ProjectRequest(RequestModel):
    """A new project."""

    name: Annotated[str, Field(min_length=1, max_length=60), models.NoNul]


class ProjectBrief(ResponseModel):
    """A project's number and name."""

    id: int
    name: str


@router.get("/admin/projects")
def list_projects(game: GameDep, person: Administrator) -> models.ListOf[ProjectRow]:
    """All projects."""
    with game.database.read() as session:
        return respond(game, models.ListOf[ProjectRow], {"items": projects.listed(session)})


@router.post("/admin/projects", status_code=201)
def add_project(given: ProjectRequest, game: GameDep, person: Administrator) -> ProjectBrief:
    """Make a project; the one of that name if it is there."""
    made = game.database.write(lambda session: projects.project_named(session, game, given.name, person.id))
    return respond(game, ProjectBrief, made)


class AssignRequest(RequestModel):
    """Who works on a project."""

    people: models.Ids


@router.put("/admin/projects/{project_id}/people", responses=responses(404))
def assign(project_id: models.IdPath, given: AssignRequest, game: GameDep, person: Administrator) -> ProjectBrief:
    """Let exactly these people work on a project. Who is assigned to nothing works on everything."""
    made = game.database.write(lambda session: projects.assign(session, game, project_id, given.people, person.id))
    return respond(game, ProjectBrief, made)


class InvitationRow(ResponseModel):
    """An invitation; `open` while it still makes accounts."""

    id: int
    label: str
    roles: models.Roles
    project_id: int | None
    places: int
    expires_at: models.Time
    open: bool


class InvitationRequest(RequestModel):
    """A link for some people and days."""

    label: Annotated[str, Field(min_length=1, max_length=60), models.NoNul]
    roles: RoleList
    places: Annotated[int, Field(ge=1, le=1000)] = 1
    days: Annotated[float, Field(gt=0, le=365)] = 7
    project_id: models.Id | None = None


class NewInvitation(ResponseModel):
    """A new invitation; `path` is the link without the host, shown this once."""

    id: int
    path: str


@router.get("/admin/invitations")
def list_invitations(game: GameDep, person: Administrator) -> models.ListOf[InvitationRow]:
    """All invitations, without their links."""
    with game.database.read() as session:
        return respond(game, models.ListOf[InvitationRow], {"items": inviting.listed(session, game)})


@router.post("/admin/invitations", status_code=201, responses=responses(404))
def invite(given: InvitationRequest, game: GameDep, person: Administrator) -> NewInvitation:
    """Make a link with which people make accounts."""

    def work(session: Session) -> dict[str, Any]:
        row, secret = inviting.invite(
            session, game, given.label, given.roles, given.places, given.days, given.project_id, person.id
        )
        return {"id": row.id, "path": f"{game.settings.root_path}/join/{secret}"}

    return respond(game, NewInvitation, game.database.write(work))


@router.delete("/admin/invitations/{invitation_id}", responses=responses(404))
def revoke(invitation_id: models.IdPath, game: GameDep, person: Administrator) -> models.Empty:
    """End an invitation; accounts that it made stay."""
    game.database.write(lambda session: inviting.revoke(session, game, invitation_id, person.id))
    return models.Empty()


class ReportRow(ResponseModel):
    """What a validator said of a broken mask."""

    sample_id: int
    text: str
    note: str


class BrokenRow(ResponseModel):
    """A picture with broken masks."""

    picture: models.PictureOut
    reports: list[ReportRow]


class Review(models.PageOf[SampleRow]):
    """A page of flagged sentences, all pictures with broken masks, and how many have no masks yet."""

    broken: list[BrokenRow]
    open_pictures: int


@router.get("/admin/review")
def review(game: GameDep, person: Administrator, page: models.Page = 1, per_page: models.PerPage = 50) -> Review:
    """What administrators should look at."""
    with game.database.read() as session:
        found = reviewing.flagged(session, page, per_page, person)
        content = {**found, "broken": reviewing.broken(session), "open_pictures": reviewing.open_pictures(session)}
        shown = respond(game, Review, content)
    read = [row.id for row in shown.items]
    read += [report.sample_id for row in shown.broken for report in row.reports]
    note_seen(game, person.id, read, page=True)
    return shown


class GoldRequest(RequestModel):
    """Whether a sample is practised with."""

    gold: bool


class Noted(ResponseModel):
    """A sample after a note on it."""

    id: int
    gold: bool


@router.post("/admin/samples/{sample_id}/pass", responses=responses(404))
def pass_flags(sample_id: models.IdPath, game: GameDep, person: Administrator) -> Noted:
    """Take a flagged sentence off the review queue: it stays as it is."""
    return respond(
        game, Noted, game.database.write(lambda session: reviewing.pass_flags(session, game, sample_id, person.id))
    )


@router.put("/admin/samples/{sample_id}/gold", responses=responses(404, 409))
def mark_gold(sample_id: models.IdPath, given: GoldRequest, game: GameDep, person: Administrator) -> Noted:
    """Let an accepted sample be practised with, or no longer."""
    marked = game.database.write(lambda session: rehearsing.mark_gold(session, game, sample_id, given.gold, person.id))
    return respond(game, Noted, marked)
