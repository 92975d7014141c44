"""What several routes take and give.

Requests are strict: unknown fields are refused, and "1" is no number. Responses are read from attributes of database
rows and of the services' results by `respond`; their times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from refseg.apps.annotate.auth.people import LONGEST, SHORTEST
from refseg.apps.annotate.errors import STATUS
from refseg.apps.annotate.game import Game, iso

LARGEST = 2**53 - 1
"""The largest number of a row: what JavaScript counts exactly."""


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a zero character")
    return value


NoNul = AfterValidator(_without_nul)
Words = Annotated[str, Field(max_length=2000), NoNul]
Id = Annotated[int, Field(ge=1, le=LARGEST)]
Ids = Annotated[list[Id], Field(max_length=2000)]
Key = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
LeaseId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Role = Literal["annotator", "validator", "editor", "administrator"]
Secret = Annotated[str, Field(min_length=1, max_length=LONGEST), NoNul]
NewSecret = Annotated[str, Field(min_length=SHORTEST, max_length=LONGEST), NoNul]
Kind = Literal["write", "validate"]
State = Literal["waiting", "second", "mending", "accepted", "discarded", "rejected", "returned", "withdrawn"]
Theme = Literal["auto", "light", "dark"]

IdPath = Annotated[int, Path(ge=1, le=LARGEST)]
LeasePath = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Page = Annotated[int, Query(ge=1, le=1_000_000)]
PerPage = Annotated[int, Query(ge=1, le=200)]
SplitQuery = Annotated[str | None, Query(max_length=40), AfterValidator(lambda v: v if v is None else _without_nul(v))]


class RequestModel(BaseModel):
    """What every body has in common."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ResponseModel(BaseModel):
    """What every response has in common."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, from_attributes=True)


Row = TypeVar("Row")
Model = TypeVar("Model", bound=ResponseModel)
Time = Annotated[str, BeforeValidator(iso)]
MaybeTime = Annotated[str | None, BeforeValidator(iso)]
Roles = Annotated[list[str], BeforeValidator(lambda roles: roles.split() if isinstance(roles, str) else roles)]
PersonName = Annotated[str | None, BeforeValidator(lambda person: None if person is None else person.name)]


def respond(game: Game, model: type[Model], content: object) -> Model:
    """The response of a dictionary or of a row's attributes; addresses in it begin with the game's root path."""
    return model.model_validate(content, context=game.settings.root_path)


class Fault(ResponseModel):
    """A refusal: `code` for programs, `message` for people."""

    code: Annotated[str, Field(json_schema_extra={"enum": list(STATUS)})]
    message: str
    field: str | None = None
    details: dict[str, Any] = {}


class ErrorBody(ResponseModel):
    """Every answer that is not 2xx."""

    error: Fault


class Empty(ResponseModel):
    """Done; there is nothing to say."""


class ListOf(ResponseModel, Generic[Row]):
    """A whole list."""

    items: list[Row]


class PageOf(ListOf[Row], Generic[Row]):
    """A page of a list."""

    page: int
    per_page: int
    total: int


# The context is the game's root path, see `respond`.
_PICTURE_URL = BeforeValidator(lambda number, info: f"{info.context}/api/v1/pictures/{number}/image")


class PictureOut(ResponseModel):
    """A picture; `url` holds its bytes, and nothing but its number."""

    id: int
    url: Annotated[str, Field(validation_alias="id"), _PICTURE_URL]
    width: int
    height: int
    split: str


class ObjectOut(ResponseModel):
    """An object: box xyxy, closed outlines x, y, x, y, ... (fill rule nonzero), area in pixels."""

    id: int
    name: Annotated[str, Field(validation_alias="category")]
    box: list[float]
    rings: list[list[float]]
    area: float


class LeaseOut(ResponseModel):
    """A hold on an item."""

    id: str
    kind: Kind
    item_id: int
    seconds: int
    expires_at: Annotated[Time, Field(validation_alias="until")]


class DraftSaved(ResponseModel):
    """The draft's new revision."""

    revision: int
    saved_at: Time


class DraftOut(DraftSaved):
    """A draft as it was saved."""

    kind: Kind
    item_id: int
    content: dict[str, Any]


class Warned(ResponseModel):
    """Something odd that does not stop a submission."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Today(ResponseModel):
    """A person's day beside the goal."""

    day: str
    written: int
    validated: int
    points: int
    goal: int
    done: int


class Counts(ResponseModel):
    """What a person did."""

    points: int
    written: int
    validated: int
    accepted: int


class SampleOut(ResponseModel):
    """What every list of samples shows."""

    id: int
    text: str
    state: State
    kind: str
    split: str
    no_target: bool
    created_at: Time
    picture: PictureOut
