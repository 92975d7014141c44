"""Projects: sets of pictures, and who works on which. Somebody without an assignment works on everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import Assignment, GameSample, Person, Picture, Project
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import Game, clean


def project_named(session: Session, game: Game, name: str, actor: int | None = None) -> Project:
    """The project of that name, made if it is not there; raises `GameError` "invalid" for a name that cannot be."""
    shown = clean(name)
    if not 1 <= len(shown) <= 60:
        raise GameError("invalid", "a project's name has 1 to 60 characters", "project")
    there = session.scalar(select(Project).where(Project.key == shown.casefold()[:60]))
    if there is not None:
        return there
    project = Project(name=shown, key=shown.casefold()[:60], created_at=game.clock())
    session.add(project)
    session.flush()
    record(session, game, actor, "project", project.id, "add", details={"name": shown})
    return project


def listed(session: Session) -> list[dict[str, Any]]:
    """All projects by name, with their pictures, accepted sentences and people."""
    pictures = dict(_pairs(session, select(Picture.project_id, func.count()).group_by(Picture.project_id)))
    open_ones = select(Picture.project_id, func.count()).where(Picture.masks != "ready").group_by(Picture.project_id)
    waiting = dict(_pairs(session, open_ones))
    done = select(Picture.project_id, func.count()).join(GameSample, GameSample.picture_id == Picture.id)
    accepted = dict(_pairs(session, done.where(GameSample.state == "accepted").group_by(Picture.project_id)))
    people: dict[int, list[int]] = {}
    for project_id, person_id in session.execute(select(Assignment.project_id, Assignment.person_id)):
        people.setdefault(project_id, []).append(person_id)
    return [
        {
            "id": row.id, "name": row.name, "pictures": pictures.get(row.id, 0), "masks": waiting.get(row.id, 0),
            "accepted": accepted.get(row.id, 0), "people": sorted(people.get(row.id, [])),
        }
        for row in session.scalars(select(Project).order_by(Project.key))
    ]  # fmt: skip


def assign(session: Session, game: Game, project_id: int, people: Sequence[int], actor: int | None = None) -> Project:
    """Let exactly these people work on a project; raises `GameError` "not_found" for a project or person."""
    project = session.get(Project, project_id)
    if project is None:
        raise not_found("project")
    chosen = sorted(set(people))
    if len(session.scalars(select(Person.id).where(Person.id.in_(chosen))).all()) != len(chosen):
        raise not_found("person")
    session.execute(delete(Assignment).where(Assignment.project_id == project_id))
    session.add_all(Assignment(project_id=project_id, person_id=person) for person in chosen)
    session.flush()
    record(session, game, actor, "project", project_id, "assign", details={"people": chosen})
    return project


def theirs(person_id: int, table: type[Picture] | type[GameSample] = Picture) -> ColumnElement[bool]:
    """The condition that a picture, or a sample's picture, is of a project that the person works on."""
    mine = select(Assignment.project_id).where(Assignment.person_id == person_id)
    if table is Picture:
        return or_(~mine.exists(), Picture.project_id.in_(mine))
    inside = select(Picture.id).where(Picture.id == GameSample.picture_id, Picture.project_id.in_(mine))
    return or_(~mine.exists(), inside.exists())


def _pairs(session: Session, statement: Any) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in session.execute(statement) if row[0] is not None]
