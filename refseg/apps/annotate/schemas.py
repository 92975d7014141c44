"""What the API takes. Unknown fields are refused, nothing is guessed: "1" is no number."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from refseg.apps.annotate.people import LONGEST, SHORTEST

LARGEST = 2**53 - 1
"""The largest number of a row: what JavaScript counts exactly."""


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a zero character")
    return value


Words = Annotated[str, Field(max_length=2000), AfterValidator(_without_nul)]
Id = Annotated[int, Field(ge=1, le=LARGEST)]
Ids = Annotated[list[Id], Field(max_length=2000)]
Key = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
LeaseId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Kind = Literal["write", "validate"]
Role = Literal["annotator", "validator", "administrator"]
Secret = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_without_nul)]
NewSecret = Annotated[str, Field(min_length=SHORTEST, max_length=LONGEST), AfterValidator(_without_nul)]

IdPath = Annotated[int, Path(ge=1, le=LARGEST)]
LeasePath = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Page = Annotated[int, Query(ge=1, le=1_000_000)]
PerPage = Annotated[int, Query(ge=1, le=200)]
SplitQuery = Annotated[str | None, Query(max_length=40), AfterValidator(lambda v: v if v is None else _without_nul(v))]


class Given(BaseModel):
    """What every body has in common."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NextPicture(Given):
    """Which picture is wanted."""

    split: Words | None = None
    picture_id: Id | None = None


class NextSample(Given):
    """Which sample is wanted."""

    split: Words | None = None
    sample_id: Id | None = None


class CheckRequest(Given):
    """A sentence to be looked at before it is submitted."""

    picture_id: Id
    text: Words
    targets: Ids = []
    no_target: bool = False


class SampleRequest(Given):
    """A sentence and what it means."""

    lease_id: LeaseId
    client_key: Key
    text: Words
    targets: Ids = []
    no_target: bool = False
    suggestion_id: Annotated[str, Field(max_length=20, pattern=r"^[is][0-9]+$")] | None = None
    keep: bool = False


class VerdictRequest(Given):
    """A validator's selection or rejection."""

    lease_id: LeaseId
    client_key: Key
    decision: Literal["select", "reject"]
    targets: Ids = []
    no_target: bool = False
    reason: Literal["inappropriate", "ambiguous", "irrelevant", "broken_mask"] | None = None
    note: Words = ""


class ReleaseRequest(Given):
    """Giving an item back."""

    skip: bool = False


class DraftContent(Given):
    """What has been typed and selected; `history` is the page's undo stack."""

    text: Words = ""
    targets: Ids = []
    no_target: bool = False
    suggestion_id: Annotated[str, Field(max_length=20)] | None = None
    client_key: Annotated[str, Field(max_length=64)] | None = None
    reason: Annotated[str, Field(max_length=40)] | None = None
    note: Words = ""
    history: Annotated[list[Ids], Field(max_length=50)] = []


class DraftRequest(Given):
    """A draft and the revision that the page last saw (0: none)."""

    revision: Annotated[int, Field(ge=0, le=2**31 - 1)]
    content: DraftContent


class ThemeRequest(Given):
    """The colours of the pages."""

    theme: Literal["auto", "light", "dark"]


class PasswordRequest(Given):
    """A new password."""

    old: Secret
    new: NewSecret


class TokenRequest(Given):
    """A token for a script."""

    label: Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_without_nul)]


class ReasonRequest(Given):
    """Why an administrator reopens or discards a sample."""

    reason: Annotated[str, Field(min_length=3, max_length=500), AfterValidator(_without_nul)]


class PersonRequest(Given):
    """A new account."""

    name: Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_without_nul)]
    password: NewSecret
    roles: Annotated[list[Role], Field(min_length=1, max_length=3)]


class PersonChange(Given):
    """What changes at an account."""

    roles: Annotated[list[Role], Field(min_length=1, max_length=3)] | None = None
    active: bool | None = None
    password: NewSecret | None = None
