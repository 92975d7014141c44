"""The administrator's view of the samples: a list with filters, and everything about one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.errors import not_found
from refseg.apps.annotate.game import Game, iso
from refseg.apps.annotate.states import allowed_moves
from refseg.apps.annotate.tables import Audit, GameSample, Person, Picture, Security, Verdict, VerdictTarget
from refseg.apps.annotate.tasks import objects_json, picture_json, targets_of


@dataclass(frozen=True)
class Filter:
    """Which samples are wanted; None leaves a field open. The flag "differed" is any on which a validator differed."""

    state: str | None = None
    split: str | None = None
    kind: str | None = None
    author: int | None = None
    validator: int | None = None
    picture: int | None = None
    flag: str | None = None
    no_target: bool | None = None
    q: str | None = None
    oldest_first: bool = False

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions on `GameSample`."""
        columns = {
            GameSample.state: self.state, GameSample.split: self.split, GameSample.kind: self.kind,
            GameSample.author_id: self.author, GameSample.picture_id: self.picture,
            GameSample.no_target: self.no_target,
        }  # fmt: skip
        found: list[ColumnElement[bool]] = [column == value for column, value in columns.items() if value is not None]
        if self.validator is not None:
            judged = select(Verdict.id).where(
                Verdict.sample_id == GameSample.id, Verdict.validator_id == self.validator
            )
            found.append(judged.exists())
        if self.flag == "differed":
            differed = select(Verdict.id).where(Verdict.sample_id == GameSample.id, Verdict.result == "differed")
            found.append(differed.exists())
        elif self.flag is not None:
            found.append(cast(GameSample.flags, Text).contains(f'"{self.flag}"', autoescape=True))
        if self.q:
            found.append(func.lower(GameSample.text).contains(self.q.lower(), autoescape=True))
        return found


def list_samples(
    session: Session, game: Game, wanted: Filter, page: int, per_page: int
) -> tuple[list[dict[str, Any]], int]:
    """A page of samples, and how many there are in all."""
    conditions = wanted.conditions()
    total = session.scalar(select(func.count()).select_from(GameSample).where(*conditions)) or 0
    order = GameSample.id if wanted.oldest_first else GameSample.id.desc()
    rows = session.execute(
        select(GameSample, Picture, Person.name)
        .join(Picture, Picture.id == GameSample.picture_id)
        .join(Person, Person.id == GameSample.author_id)
        .where(*conditions)
        .order_by(order)
        .limit(per_page)
        .offset((page - 1) * per_page)
    ).all()
    numbers = [row[0].id for row in rows]
    counted = select(Verdict.sample_id, func.count()).where(Verdict.sample_id.in_(numbers)).group_by(Verdict.sample_id)
    verdicts: dict[int, int] = {row[0]: row[1] for row in session.execute(counted)}
    return [
        {
            **_summary(game, sample, picture, name),
            "targets": sample.target_count,
            "verdicts": verdicts.get(sample.id, 0),
        }
        for sample, picture, name in rows
    ], total


def one_sample(session: Session, game: Game, sample_id: int) -> dict[str, Any]:
    """Everything about a sample; raises `GameError` "not_found"."""
    row = session.execute(
        select(GameSample, Picture, Person.name)
        .join(Picture, Picture.id == GameSample.picture_id)
        .join(Person, Person.id == GameSample.author_id)
        .where(GameSample.id == sample_id)
    ).first()
    if row is None:
        raise not_found("sample")
    sample, picture, name = row
    return {
        **_summary(game, sample, picture, name),
        "targets": targets_of(session, [sample_id])[sample_id],
        "objects": objects_json(session, picture.id),
        "suggestion": sample.suggestion,
        "warnings": sample.warnings,
        "help": sample.help,
        "verdicts": _verdicts(session, sample_id),
        "history": history(session, [Audit.entity == "sample", Audit.entity_id == sample_id], 1, 500)[0],
        "moves": list(allowed_moves(sample.state, "administrator")),
    }


def history(
    session: Session, conditions: Sequence[ColumnElement[bool]], page: int, per_page: int, newest: bool = False
) -> tuple[list[dict[str, Any]], int]:
    """A page of the audit log, and how many rows there are in all."""
    total = session.scalar(select(func.count()).select_from(Audit).where(*conditions)) or 0
    rows = session.execute(
        select(Audit, Person.name)
        .outerjoin(Person, Person.id == Audit.actor_id)
        .where(*conditions)
        .order_by(Audit.id.desc() if newest else Audit.id)
        .limit(per_page)
        .offset((page - 1) * per_page)
    )
    return [
        {
            "id": row.id, "at": iso(row.at), "actor": name, "entity": row.entity, "entity_id": row.entity_id,
            "move": row.move, "from": row.start, "to": row.end, "reason": row.reason, "details": row.details,
        }
        for row, name in rows
    ], total  # fmt: skip


def security_log(session: Session, page: int, per_page: int) -> tuple[list[dict[str, Any]], int]:
    """A page of the security log, the latest first, and how many rows there are in all."""
    total = session.scalar(select(func.count()).select_from(Security)) or 0
    rows = session.execute(
        select(Security, Person.name)
        .outerjoin(Person, Person.id == Security.person_id)
        .order_by(Security.id.desc())
        .limit(per_page)
        .offset((page - 1) * per_page)
    )
    return [
        {
            "id": row.id, "at": iso(row.at), "event": row.event, "user": name, "address": row.address,
            "path": row.path, "details": row.details,
        }
        for row, name in rows
    ], total  # fmt: skip


def _summary(game: Game, sample: GameSample, picture: Picture, author: str) -> dict[str, Any]:
    return {
        "id": sample.id, "text": sample.text, "state": sample.state, "kind": sample.kind, "split": sample.split,
        "no_target": sample.no_target, "flags": sample.flags, "author": {"id": sample.author_id, "name": author},
        "reason": sample.reason, "created_at": iso(sample.created_at), "updated_at": iso(sample.updated_at),
        "picture": picture_json(game, picture),
    }  # fmt: skip


def _verdicts(session: Session, sample_id: int) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Verdict, Person.name)
        .join(Person, Person.id == Verdict.validator_id)
        .where(Verdict.sample_id == sample_id)
        .order_by(Verdict.id)
    ).all()
    chosen: dict[int, list[int]] = {row[0].id: [] for row in rows}
    wanted = select(VerdictTarget).where(VerdictTarget.verdict_id.in_(chosen)).order_by(VerdictTarget.object_id)
    for target in session.scalars(wanted):
        chosen[target.verdict_id].append(target.object_id)
    return [
        {
            "id": row.id, "validator": {"id": row.validator_id, "name": name}, "round": row.round, "result": row.result,
            "targets": chosen[row.id], "no_target": row.no_target, "reason": row.reason, "note": row.note,
            "created_at": iso(row.created_at),
        }
        for row, name in rows
    ]  # fmt: skip
