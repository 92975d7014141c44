"""What the API gives: the models behind its description. Times are ISO 8601 in UTC."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from refseg.apps.annotate.errors import STATUS

Row = TypeVar("Row")
State = Literal["waiting", "second", "accepted", "discarded", "rejected"]


class Answer(BaseModel):
    """What every answer has in common."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Fault(Answer):
    """A refusal: `code` for programs, `message` for people."""

    code: Annotated[str, Field(json_schema_extra={"enum": list(STATUS)})]
    message: str
    field: str | None = None
    details: dict[str, Any] = {}


class ErrorBody(Answer):
    """Every answer that is not 2xx."""

    error: Fault


class Empty(Answer):
    """Done; there is nothing to say."""


class PageOf(Answer, Generic[Row]):
    """A page of a list."""

    items: list[Row]
    page: int
    per_page: int
    total: int


class PictureOut(Answer):
    """A picture; `url` holds its bytes."""

    id: int
    url: str
    width: int
    height: int
    split: str


class ObjectOut(Answer):
    """An object: box xyxy, closed outlines x, y, x, y, ... (fill rule nonzero), area in pixels."""

    id: int
    name: str
    box: list[float]
    rings: list[list[float]]
    area: float


class LeaseOut(Answer):
    """A hold on an item."""

    id: str
    kind: Literal["write", "validate"]
    item_id: int
    seconds: int
    expires_at: str


class DraftOut(Answer):
    """A draft as it was saved."""

    kind: Literal["write", "validate"]
    item_id: int
    revision: int
    saved_at: str
    content: dict[str, Any]


class DraftListed(DraftOut):
    """A draft with its picture and, for a validator, the sentence."""

    picture: PictureOut
    text: str | None


class Drafts(Answer):
    """A person's drafts."""

    items: list[DraftListed]


class DraftSaved(Answer):
    """The draft's new revision."""

    revision: int
    saved_at: str


class Warned(Answer):
    """Something odd that does not stop a submission."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Today(Answer):
    """A person's day beside the goal."""

    day: str
    written: int
    validated: int
    points: int
    goal: int
    done: int


class WriteTask(Answer):
    """A picture to write about."""

    lease: LeaseOut
    picture: PictureOut
    objects: list[ObjectOut]
    draft: DraftOut | None
    sentences: int


class WriteNext(Answer):
    """The picture that is held, if any; `reason` says why there is none to be handed out."""

    task: WriteTask | None
    reason: Literal["empty", "only_yours", "held"] | None = None


class SentenceOnly(Answer):
    """A sample as validators see it."""

    id: int
    text: str


class ValidateTask(Answer):
    """A sample to validate."""

    lease: LeaseOut
    sample: SentenceOnly
    picture: PictureOut
    objects: list[ObjectOut]
    draft: DraftOut | None


class ValidateNext(Answer):
    """The sample that is held, if any; `reason` says why there is none to be handed out."""

    task: ValidateTask | None
    reason: Literal["empty", "only_yours", "held"] | None = None


class Sentence(Answer):
    """A sentence of a picture; `targets` only of imported ones."""

    text: str
    source: Literal["imported", "sample"]
    targets: list[int] | None
    no_target: bool | None


class Sentences(Answer):
    """The sentences of a picture."""

    items: list[Sentence]


class Suggestion(Answer):
    """A sentence of another picture."""

    id: str
    text: str


class Suggestions(Answer):
    """Deceptive sentences."""

    items: list[Suggestion]


class Earlier(Answer):
    """The earlier sentence that a refused one repeats."""

    text: str
    source: Literal["imported", "sample"]


class Refusal(Answer):
    """Why a sentence would be refused."""

    code: str
    message: str
    earlier: Earlier


class Checked(Answer):
    """What the rules say about a sentence."""

    kind: str
    refusal: Refusal | None
    warnings: list[Warned]


class SampleBrief(Answer):
    """A submitted sample."""

    id: int
    state: State
    kind: str


class Submitted(Answer):
    """What came of a submission."""

    sample: SampleBrief
    replayed: bool
    warnings: list[Warned]
    today: Today
    lease: LeaseOut | None
    help_url: str | None


class Judged(Answer):
    """What came of a validator's answer."""

    result: Literal["matched", "differed", "rejected"]
    points: int
    replayed: bool
    today: Today
    help_url: str | None


class OwnSample(Answer):
    """A sample for its author."""

    id: int
    text: str
    state: State
    kind: str
    split: str
    no_target: bool
    targets: list[int]
    picture: PictureOut
    created_at: str
    warnings: list[str]


class HelpAnswer(Answer):
    """What the helping model answered; `targets` are the objects that its mask covers."""

    model: str
    no_target: bool
    targets: list[int]
    rings: list[list[float]]
    agrees: bool
    score: float


class HistoryRow(Answer):
    """A row of the audit log."""

    id: int
    at: str
    actor: str | None
    entity: str
    entity_id: int | None
    move: str
    start: Annotated[str | None, Field(alias="from")]
    end: Annotated[str | None, Field(alias="to")]
    reason: str
    details: dict[str, Any]


class SecurityRow(Answer):
    """A row of the security log."""

    id: int
    at: str
    event: str
    user: str | None
    address: str
    path: str
    details: dict[str, Any]
