"""What the database holds. Times are seconds since 1970 in UTC; sizes and places are pixels.

    projects -- assignments (who works on which), pictures
    pictures -- objects -- object_versions (masks as they were), imported (sentences that came with the data set)
       |
    samples -- sample_targets, verdicts -- verdict_targets, points, rehearsals (practice with known ones)
    people -- logins, tokens, drafts, skips, days; invitations (links that make accounts)
    audit (every change of state), security (every refusal worth a look), rates (how often who did what)

An item that is handed out carries its lease in its own row (`lease_id`, `lease_person`, `lease_until`), so that one
statement takes it or fails.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

# Numbers of rows are 64 bits on PostgreSQL; SQLite counts rows only in a column declared INTEGER.
Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")


class Base(DeclarativeBase):
    """The tables' registry."""

    metadata = sa.MetaData(naming_convention=NAMING)


class Project(Base):
    """A set of pictures that some people work on."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(60))
    key: Mapped[str] = mapped_column(sa.String(60), unique=True)  # the name in lower case
    created_at: Mapped[float] = mapped_column(sa.Float)


class Picture(Base):
    """A picture; its file is `pictures/<number>.<suffix>` in the data folder.

    `masks` is "ready", "open" (imported without masks, to be drawn) or "broken" (a validator said so). Only ready ones
    are written about: `objects` is 0 until then.
    """

    __tablename__ = "pictures"
    __table_args__ = (
        sa.Index("ix_pictures_split_draw", "split", "draw"),
        sa.Index("ix_pictures_masks", "masks", "id"),
        sa.CheckConstraint("masks IN ('ready', 'open', 'broken')", name="masks"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    number: Mapped[int] = mapped_column(sa.BigInteger, unique=True)  # the data set's own, where it was free
    file_name: Mapped[str] = mapped_column(sa.Text)  # as imported, shown only
    suffix: Mapped[str] = mapped_column(sa.String(5))
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)  # SHA-256 of the imported file
    stored_digest: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")  # ... of the stored one
    license: Mapped[str] = mapped_column(sa.Text, default="", server_default="")
    source_url: Mapped[str] = mapped_column(sa.Text, default="", server_default="")
    width: Mapped[int] = mapped_column(sa.Integer)
    height: Mapped[int] = mapped_column(sa.Integer)
    split: Mapped[str] = mapped_column(sa.String(40))
    objects: Mapped[int] = mapped_column(sa.Integer, default=0)
    samples: Mapped[int] = mapped_column(sa.Integer, default=0)  # live ones
    hard: Mapped[float] = mapped_column(sa.Float, default=0.0)  # share of answers of the helping model that were wrong
    helped: Mapped[int] = mapped_column(sa.Integer, default=0)  # answers of the helping model
    draw: Mapped[float] = mapped_column(sa.Float)  # a random place between 0 and 1, to draw from
    lease_id: Mapped[str | None] = mapped_column(sa.String(43), unique=True)
    lease_person: Mapped[int | None] = mapped_column(sa.ForeignKey("people.id"), index=True)
    lease_until: Mapped[float | None] = mapped_column(sa.Float)
    project_id: Mapped[int | None] = mapped_column(sa.ForeignKey("projects.id"), index=True)
    masks: Mapped[str] = mapped_column(sa.String(10), default="ready", server_default="ready")
    revision: Mapped[int] = mapped_column(sa.Integer, default=0, server_default="0")  # of its masks
    proposed_at: Mapped[float | None] = mapped_column(sa.Float)  # when a model's masks came
    edit_lease: Mapped[str | None] = mapped_column(sa.String(43), index=True, unique=True)
    edit_person: Mapped[int | None] = mapped_column(sa.ForeignKey("people.id"), index=True)
    edit_until: Mapped[float | None] = mapped_column(sa.Float)

    outlines: Mapped[list[Object]] = relationship(  # the largest first, so that small ones are drawn over them
        primaryjoin=lambda: sa.and_(Picture.id == Object.picture_id, Object.active),
        order_by=lambda: (Object.area.desc(), Object.id),
        viewonly=True,
    )


class Object(Base):
    """An object of a picture: category, box xyxy, outline as imported, and the closed rings that pages draw."""

    __tablename__ = "objects"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    picture_id: Mapped[int] = mapped_column(sa.ForeignKey("pictures.id"), index=True)
    number: Mapped[int] = mapped_column(sa.BigInteger, unique=True)
    category: Mapped[str] = mapped_column(sa.String(200), index=True)
    left: Mapped[float] = mapped_column(sa.Float)
    top: Mapped[float] = mapped_column(sa.Float)
    right: Mapped[float] = mapped_column(sa.Float)
    bottom: Mapped[float] = mapped_column(sa.Float)
    area: Mapped[float] = mapped_column(sa.Float)
    segmentation: Mapped[Any] = mapped_column(sa.JSON)
    rings: Mapped[list[list[float]]] = mapped_column(sa.JSON)
    source: Mapped[str] = mapped_column(sa.String(20), default="imported", server_default="imported")
    score: Mapped[float | None] = mapped_column(sa.Float)  # of a model's proposal
    active: Mapped[bool] = mapped_column(sa.Boolean, default=True, server_default=sa.true())  # False: removed

    versions: Mapped[list[ObjectVersion]] = relationship(order_by=lambda: ObjectVersion.id, viewonly=True)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The box as left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom


class ObjectVersion(Base):
    """An object as it was before somebody changed or removed it; one for each time that somebody held its picture."""

    __tablename__ = "object_versions"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    object_id: Mapped[int] = mapped_column(sa.ForeignKey("objects.id"), index=True)
    category: Mapped[str] = mapped_column(sa.String(200))
    segmentation: Mapped[Any] = mapped_column(sa.JSON)
    area: Mapped[float] = mapped_column(sa.Float)
    source: Mapped[str] = mapped_column(sa.String(20))
    lease: Mapped[str] = mapped_column(sa.String(43))
    person_id: Mapped[int | None] = mapped_column(sa.ForeignKey("people.id"))  # who changed it then
    at: Mapped[float] = mapped_column(sa.Float)

    person: Mapped[Person | None] = relationship(viewonly=True)


class Imported(Base):
    """A sentence that came with the pictures: looked at for reference, and lent as a deceptive one."""

    __tablename__ = "imported"
    __table_args__ = (sa.Index("ix_imported_split_draw", "split", "draw"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    picture_id: Mapped[int] = mapped_column(sa.ForeignKey("pictures.id"), index=True)
    split: Mapped[str] = mapped_column(sa.String(40))
    text: Mapped[str] = mapped_column(sa.Text)
    no_target: Mapped[bool] = mapped_column(sa.Boolean)
    targets: Mapped[list[int]] = mapped_column(sa.JSON)
    kind: Mapped[str | None] = mapped_column(sa.String(40))
    draw: Mapped[float] = mapped_column(sa.Float)


class Person(Base):
    """An account. `key` is the name in lower case; `roles` the names of the roles with spaces between."""

    __tablename__ = "people"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(60))
    key: Mapped[str] = mapped_column(sa.String(60), unique=True)
    password: Mapped[str] = mapped_column(sa.Text)
    roles: Mapped[str] = mapped_column(sa.String(80))
    active: Mapped[bool] = mapped_column(sa.Boolean, default=True)
    theme: Mapped[str] = mapped_column(sa.String(10), default="auto")
    created_at: Mapped[float] = mapped_column(sa.Float)
    seen_at: Mapped[float | None] = mapped_column(sa.Float)
    language: Mapped[str] = mapped_column(sa.String(10), default="", server_default="")  # "" is the browser's
    subject: Mapped[str | None] = mapped_column(sa.String(300), index=True, unique=True)  # at the single sign-on

    @property
    def role_list(self) -> list[str]:
        """The roles as a list."""
        return self.roles.split()


class Login(Base):
    """A login in a browser; only the hash of its number is kept."""

    __tablename__ = "logins"

    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), index=True)
    created_at: Mapped[float] = mapped_column(sa.Float)
    expires_at: Mapped[float] = mapped_column(sa.Float, index=True)


class Token(Base):
    """A token of a script; only its hash is kept."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), index=True)
    label: Mapped[str] = mapped_column(sa.String(60))
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created_at: Mapped[float] = mapped_column(sa.Float)
    used_at: Mapped[float | None] = mapped_column(sa.Float)


class GameSample(Base):
    """A sentence on its way through the states. `client_key` makes a repeated submission the same one."""

    __tablename__ = "samples"
    __table_args__ = (
        sa.UniqueConstraint("author_id", "client_key"),
        sa.Index("ix_samples_queue", "state", "queued_at"),
        sa.Index("ix_samples_split_draw", "split", "draw"),
        sa.Index("ix_samples_author", "author_id", "id"),
        sa.Index("ix_samples_browse", "kind", "state"),
        sa.Index("ix_samples_state", "state", "id"),
        sa.Index("ix_samples_counts", "split", "state", "kind", "target_count"),
        sa.CheckConstraint(
            "state IN ('waiting', 'second', 'mending', 'accepted', 'discarded', 'rejected', 'returned', 'withdrawn')",
            name="state",
        ),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    picture_id: Mapped[int] = mapped_column(sa.ForeignKey("pictures.id"), index=True)
    split: Mapped[str] = mapped_column(sa.String(40))
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"))
    text: Mapped[str] = mapped_column(sa.Text)
    no_target: Mapped[bool] = mapped_column(sa.Boolean)
    target_count: Mapped[int] = mapped_column(sa.Integer)
    kind: Mapped[str] = mapped_column(sa.String(40))
    state: Mapped[str] = mapped_column(sa.String(20))
    round: Mapped[int] = mapped_column(sa.Integer, default=1)  # counts reopenings
    reason: Mapped[str] = mapped_column(sa.Text, default="")
    flags: Mapped[list[str]] = mapped_column(sa.JSON)
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON)
    suggestion: Mapped[str | None] = mapped_column(sa.Text)  # the lent sentence, where it began with one
    help: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)  # the helping model's answer
    gold: Mapped[bool] = mapped_column(sa.Boolean, default=False, server_default=sa.false())  # its meaning is known
    reviewed_at: Mapped[float | None] = mapped_column(sa.Float)  # when an administrator last passed its flags
    client_key: Mapped[str] = mapped_column(sa.String(64))
    client_hash: Mapped[str] = mapped_column(sa.String(64))
    draw: Mapped[float] = mapped_column(sa.Float)
    queued_at: Mapped[float] = mapped_column(sa.Float)
    created_at: Mapped[float] = mapped_column(sa.Float)
    updated_at: Mapped[float] = mapped_column(sa.Float)
    lease_id: Mapped[str | None] = mapped_column(sa.String(43), unique=True)
    lease_person: Mapped[int | None] = mapped_column(sa.ForeignKey("people.id"), index=True)
    lease_until: Mapped[float | None] = mapped_column(sa.Float)

    picture: Mapped[Picture] = relationship(viewonly=True)
    author: Mapped[Person] = relationship(foreign_keys=[author_id], viewonly=True)
    targets: Mapped[list[SampleTarget]] = relationship(order_by=lambda: SampleTarget.object_id, viewonly=True)
    verdicts: Mapped[list[Verdict]] = relationship(order_by=lambda: Verdict.id, viewonly=True)
    history: Mapped[list[Audit]] = relationship(
        primaryjoin="and_(foreign(Audit.entity_id) == GameSample.id, Audit.entity == 'sample')",
        order_by=lambda: Audit.id, viewonly=True,
    )  # fmt: skip

    free = False  # set where it is listed for its author: whether it may be taken back

    @property
    def target_ids(self) -> list[int]:
        """The objects that the sentence means, in order."""
        return [target.object_id for target in self.targets]


class SampleTarget(Base):
    """An object that a sample means."""

    __tablename__ = "sample_targets"

    sample_id: Mapped[int] = mapped_column(sa.ForeignKey("samples.id"), primary_key=True)
    object_id: Mapped[int] = mapped_column(sa.ForeignKey("objects.id"), primary_key=True)


class Verdict(Base):
    """A validator's answer to a sample; a person gives one to each sample at most, reopened or not."""

    __tablename__ = "verdicts"
    __table_args__ = (
        sa.UniqueConstraint("sample_id", "validator_id"),
        sa.UniqueConstraint("validator_id", "client_key"),
        sa.Index("ix_verdicts_counts", "result", "first", "reason"),
        sa.CheckConstraint("result IN ('matched', 'differed', 'rejected')", name="result"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    sample_id: Mapped[int] = mapped_column(sa.ForeignKey("samples.id"))
    validator_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), index=True)
    round: Mapped[int] = mapped_column(sa.Integer)
    result: Mapped[str] = mapped_column(sa.String(20))
    first: Mapped[bool] = mapped_column(sa.Boolean)  # no selection for the sample before it
    no_target: Mapped[bool] = mapped_column(sa.Boolean)
    reason: Mapped[str | None] = mapped_column(sa.String(40))
    note: Mapped[str] = mapped_column(sa.Text, default="")
    client_key: Mapped[str] = mapped_column(sa.String(64))
    client_hash: Mapped[str] = mapped_column(sa.String(64))
    created_at: Mapped[float] = mapped_column(sa.Float)

    validator: Mapped[Person] = relationship(viewonly=True)
    targets: Mapped[list[VerdictTarget]] = relationship(order_by=lambda: VerdictTarget.object_id, viewonly=True)

    @property
    def target_ids(self) -> list[int]:
        """The objects that the validator selected, in order."""
        return [target.object_id for target in self.targets]


class VerdictTarget(Base):
    """An object that a validator selected."""

    __tablename__ = "verdict_targets"

    verdict_id: Mapped[int] = mapped_column(sa.ForeignKey("verdicts.id"), primary_key=True)
    object_id: Mapped[int] = mapped_column(sa.ForeignKey("objects.id"), primary_key=True)


class Draft(Base):
    """What a person has typed and selected and not yet submitted, for a picture (write) or a sample (validate)."""

    __tablename__ = "drafts"

    person_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
    item_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    revision: Mapped[int] = mapped_column(sa.Integer)
    saved_at: Mapped[float] = mapped_column(sa.Float)


class Skip(Base):
    """An item that a person does not want for a while."""

    __tablename__ = "skips"

    person_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
    item_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    until: Mapped[float] = mapped_column(sa.Float)


class Seen(Base):
    """Somebody has read a sample's sentence, or its page, outside of validating: it is not theirs to validate."""

    __tablename__ = "seen"

    person_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), primary_key=True)
    sample_id: Mapped[int] = mapped_column(sa.ForeignKey("samples.id"), primary_key=True, index=True)
    at: Mapped[float] = mapped_column(sa.Float)


class Day(Base):
    """What a person did on a day (UTC): kept beside the rows it counts, so that leaderboards stay cheap."""

    __tablename__ = "days"

    person_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), primary_key=True)
    day: Mapped[str] = mapped_column(sa.String(10), primary_key=True, index=True)
    points: Mapped[int] = mapped_column(sa.Integer, default=0)
    written: Mapped[int] = mapped_column(sa.Integer, default=0)
    validated: Mapped[int] = mapped_column(sa.Integer, default=0)
    accepted: Mapped[int] = mapped_column(sa.Integer, default=0)  # own sentences
    author_matched: Mapped[int] = mapped_column(sa.Integer, default=0)  # selections for own sentences that matched ...
    author_compared: Mapped[int] = mapped_column(sa.Integer, default=0)  # ... of so many
    judge_matched: Mapped[int] = mapped_column(sa.Integer, default=0)
    judge_compared: Mapped[int] = mapped_column(sa.Integer, default=0)


class Award(Base):
    """Points given (or, when an accepted sample is reopened or discarded, taken back)."""

    __tablename__ = "awards"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), index=True)
    sample_id: Mapped[int] = mapped_column(sa.ForeignKey("samples.id"), index=True)
    what: Mapped[str] = mapped_column(sa.String(20))
    points: Mapped[int] = mapped_column(sa.Integer)
    at: Mapped[float] = mapped_column(sa.Float)


class Assignment(Base):
    """Somebody works on a project. Who has none works on everything."""

    __tablename__ = "assignments"

    project_id: Mapped[int] = mapped_column(sa.ForeignKey("projects.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), primary_key=True, index=True)


class Invitation(Base):
    """A link that makes accounts; only the hash of its secret is kept."""

    __tablename__ = "invitations"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    label: Mapped[str] = mapped_column(sa.String(60))
    roles: Mapped[str] = mapped_column(sa.String(80))
    project_id: Mapped[int | None] = mapped_column(sa.ForeignKey("projects.id"))
    places: Mapped[int] = mapped_column(sa.Integer)  # accounts that it still makes
    expires_at: Mapped[float] = mapped_column(sa.Float)
    created_at: Mapped[float] = mapped_column(sa.Float)
    created_by: Mapped[int | None] = mapped_column(sa.ForeignKey("people.id"))


class Rehearsal(Base):
    """Somebody's practice with a sample whose meaning is known; `matched` is None until it is answered."""

    __tablename__ = "rehearsals"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("people.id"), index=True)
    sample_id: Mapped[int] = mapped_column(sa.ForeignKey("samples.id"), index=True)
    matched: Mapped[bool | None] = mapped_column(sa.Boolean)
    targets: Mapped[list[int]] = mapped_column(sa.JSON)
    at: Mapped[float] = mapped_column(sa.Float)


class Audit(Base):
    """One change of state: who, what, from where to where, why. Written in the transaction that makes the change."""

    __tablename__ = "audit"
    __table_args__ = (sa.Index("ix_audit_entity", "entity", "entity_id"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[float] = mapped_column(sa.Float)
    actor_id: Mapped[int | None] = mapped_column(sa.ForeignKey("people.id"))
    entity: Mapped[str] = mapped_column(sa.String(20))
    entity_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    move: Mapped[str] = mapped_column(sa.String(20))
    start: Mapped[str | None] = mapped_column(sa.String(20))
    end: Mapped[str | None] = mapped_column(sa.String(20))
    reason: Mapped[str] = mapped_column(sa.Text, default="")
    details: Mapped[dict[str, Any]] = mapped_column(sa.JSON)

    actor: Mapped[Person | None] = relationship(viewonly=True)


class Security(Base):
    """A refusal worth a look: failed logins, wrong roles, missing tokens, too large bodies."""

    __tablename__ = "security"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[float] = mapped_column(sa.Float)
    event: Mapped[str] = mapped_column(sa.String(40))
    person_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    address: Mapped[str] = mapped_column(sa.String(80))
    path: Mapped[str] = mapped_column(sa.Text)
    details: Mapped[dict[str, Any]] = mapped_column(sa.JSON)

    person: Mapped[Person | None] = relationship(primaryjoin="foreign(Security.person_id) == Person.id", viewonly=True)


class Rate(Base):
    """How often something happened in a window of time."""

    __tablename__ = "rates"

    key: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    window: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, index=True)
    count: Mapped[int] = mapped_column(sa.Integer)


class Attempt(Base):
    """Failed logins of a name from an address, or of all names from it: how many, and until when to wait."""

    __tablename__ = "attempts"

    key: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    failures: Mapped[int] = mapped_column(sa.Integer)
    last_at: Mapped[float] = mapped_column(sa.Float, index=True)
    until: Mapped[float] = mapped_column(sa.Float)


class Board(Base):
    """The leaderboard of a period as it was last read off. `hour` is when, in minutes since 1970 (games of earlier
    versions counted hours there, which read as long ago)."""

    __tablename__ = "boards"

    period: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
    hour: Mapped[int] = mapped_column(sa.BigInteger)
    content: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON)


FREE = {"lease_id": None, "lease_person": None, "lease_until": None}
"""The lease columns of an item that nobody holds."""

# Column names that are words of SQL are quoted by SQLAlchemy; the order is the one in which rows can be restored.
ORDER: tuple[type[Base], ...] = (
    Person, Login, Token, Project, Assignment, Invitation, Picture, Object, ObjectVersion, Imported, GameSample,
    SampleTarget, Seen, Verdict, VerdictTarget, Rehearsal, Draft, Skip, Day, Award, Audit, Security, Rate, Attempt,
    Board,
)  # fmt: skip
