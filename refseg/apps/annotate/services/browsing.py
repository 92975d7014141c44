"""The administrator's view of the samples and logs: lists with filters, and everything about one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, cast, func, not_, select
from sqlalchemy.orm import Session, joinedload, selectinload
from sqlalchemy.orm.interfaces import LoaderOption

from refseg.apps.annotate.database.tables import Audit, GameSample, Person, Security, Verdict
from refseg.apps.annotate.errors import not_found
from refseg.apps.annotate.services.seen import may_validate


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
        conditions: list[ColumnElement[bool]] = [
            column == value for column, value in columns.items() if value is not None
        ]
        verdicts = select(Verdict.id).where(Verdict.sample_id == GameSample.id)
        if self.validator is not None:
            conditions.append(verdicts.where(Verdict.validator_id == self.validator).exists())
        if self.flag == "differed":
            conditions.append(verdicts.where(Verdict.result == "differed").exists())
        elif self.flag is not None:
            conditions.append(cast(GameSample.flags, Text).contains(f'"{self.flag}"', autoescape=True))
        if self.q:
            conditions.append(func.lower(GameSample.text).contains(self.q.lower(), autoescape=True))
        return conditions


def page_of(session: Session, wanted: Select[Any], page: int, per_page: int, *options: LoaderOption) -> dict[str, Any]:
    """A page (from 1 on) of what a statement finds, and `total`, how many rows it finds in all."""
    total = session.scalar(wanted.order_by(None).with_only_columns(func.count(), maintain_column_froms=True))
    rows = session.scalars(wanted.options(*options).limit(per_page).offset((page - 1) * per_page))
    return {"items": list(rows), "page": page, "per_page": per_page, "total": total}


def list_samples(
    session: Session, wanted: Filter, page: int, per_page: int, reader: Person
) -> tuple[dict[str, Any], set[int]]:
    """A page of samples with picture, author and verdicts, and those of them whose meaning the reader must not learn.

    Filters by meaning or flag would tell it too: they find none that the reader may still be given to validate.
    """
    order = GameSample.id if wanted.oldest_first else GameSample.id.desc()
    statement = select(GameSample).where(*wanted.conditions()).order_by(order)
    if wanted.flag is not None or wanted.no_target is not None:
        statement = statement.where(not_(may_validate(reader)))
    loaded = (joinedload(GameSample.picture), joinedload(GameSample.author), selectinload(GameSample.verdicts))
    found = page_of(session, statement, page, per_page, *loaded)
    if not found["items"]:
        found["total"] = 0  # a number alone would tell what the samples behind it mean
    numbers = [sample.id for sample in found["items"]]
    hidden = select(GameSample.id).where(GameSample.id.in_(numbers), may_validate(reader))
    return found, set(session.scalars(hidden))


def one_sample(session: Session, sample_id: int) -> GameSample:
    """A sample; raises `GameError` "not_found"."""
    sample = session.get(GameSample, sample_id)
    if sample is None:
        raise not_found("sample")
    return sample


def audit_log(
    session: Session, entity: str | None, move: str | None, page: int, per_page: int, reader: Person
) -> tuple[dict[str, Any], set[int]]:
    """A page of the audit log, the latest first, and those of its rows whose words may tell the reader what a sample
    means that they may still be given to validate; None leaves entity or move open."""
    statement = select(Audit).order_by(Audit.id.desc())
    if entity is not None:
        statement = statement.where(Audit.entity == entity)
    if move is not None:
        statement = statement.where(Audit.move == move)
    found = page_of(session, statement, page, per_page, joinedload(Audit.actor))
    rows = {row.id: row.entity_id for row in found["items"] if row.entity in ("sample", "review", "gold")}
    hidden = select(GameSample.id).where(GameSample.id.in_(set(rows.values())), may_validate(reader))
    unknown = set(session.scalars(hidden))
    return found, {row for row, number in rows.items() if number in unknown}


def security_log(session: Session, page: int, per_page: int) -> dict[str, Any]:
    """A page of the security log, the latest first."""
    statement = select(Security).order_by(Security.id.desc())
    return page_of(session, statement, page, per_page, joinedload(Security.person))
