"""What the API gives about people and to administrators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from refseg.apps.annotate.answers import (
    Answer,
    HistoryRow,
    ObjectOut,
    PictureOut,
    State,
    Today,
    Warned,
)


class PersonOut(Answer):
    """An account as its owner sees it."""

    id: int
    name: str
    roles: list[str]
    theme: Literal["auto", "light", "dark"]


class Agreement(Answer):
    """Shares of compared selections that matched; None without any."""

    as_annotator: float | None
    as_validator: float | None
    compared_as_annotator: int
    compared_as_validator: int


class Waiting(Answer):
    """What there is to do: whether pictures can be written about, and how many samples wait."""

    write: bool
    samples: Annotated[int, Field(alias="validate")]  # pydantic's models have a method of that name


class Me(Answer):
    """Everything about the one who asks."""

    user: PersonOut
    today: Today
    points: int
    written: int
    validated: int
    accepted: int
    agreement: Agreement
    waiting: Waiting


class Theme(Answer):
    """The colours of the pages."""

    theme: Literal["auto", "light", "dark"]


class TokenOut(Answer):
    """A token, without its secret."""

    id: int
    label: str
    created_at: str
    last_used_at: str | None


class NewToken(Answer):
    """A new token; `token` is shown this once."""

    id: int
    label: str
    token: str


class Rank(Answer):
    """A line of the leaderboard."""

    rank: int
    user_id: int
    name: str
    points: int
    written: int
    validated: int
    accepted: int
    agreement: float | None
    me: bool


class Leaderboard(Answer):
    """People by points."""

    period: Literal["day", "week", "all"]
    items: list[Rank]
    me: Rank | None


class PersonRow(Answer):
    """An account for administrators."""

    id: int
    name: str
    roles: list[str]
    active: bool
    created_at: str
    last_seen_at: str | None
    points: int
    written: int
    validated: int
    accepted: int
    agreement_as_annotator: float | None
    agreement_as_validator: float | None


class People(Answer):
    """All accounts."""

    items: list[PersonRow]


class Named(Answer):
    """Somebody."""

    id: int
    name: str


class SampleRow(Answer):
    """A line of the list of samples; `targets` and `verdicts` are numbers of them."""

    id: int
    text: str
    state: State
    kind: str
    split: str
    no_target: bool
    targets: int
    flags: list[str]
    author: Named
    verdicts: int
    reason: str
    created_at: str
    updated_at: str
    picture: PictureOut


class VerdictRow(Answer):
    """A validator's answer."""

    id: int
    validator: Named
    round: int
    result: Literal["matched", "differed", "rejected"]
    targets: list[int]
    no_target: bool
    reason: str | None
    note: str
    created_at: str


class SampleDetail(Answer):
    """Everything about a sample."""

    id: int
    text: str
    state: State
    kind: str
    split: str
    no_target: bool
    targets: list[int]
    flags: list[str]
    warnings: list[Warned]
    author: Named
    reason: str
    created_at: str
    updated_at: str
    picture: PictureOut
    objects: list[ObjectOut]
    suggestion: str | None
    help: dict[str, Any] | None
    verdicts: list[VerdictRow]
    history: list[HistoryRow]
    moves: list[str]


class Moved(Answer):
    """A sample after an administrator's move."""

    id: int
    state: State


class SplitRow(Answer):
    """Progress of a split: `one`, `several`, `none` count accepted samples by targets."""

    split: str
    pictures: int
    covered: int
    states: dict[str, int]
    one: int
    several: int
    none: int


class KindRow(Answer):
    """Samples of a kind of sentence."""

    kind: str
    total: int
    accepted: int


class DayRow(Answer):
    """What was done on a day."""

    day: str
    written: int
    validated: int
    accepted: int


class Queues(Answer):
    """What waits, and what is held."""

    waiting: int
    second: int
    held_write: int
    held_validate: int
    drafts: int
    oldest_waiting_at: str | None


class AgreementNumbers(Answer):
    """Compared selections and how many matched."""

    compared: int
    matched: int
    rate: float | None
    first_rate: float | None


class ReasonCount(Answer):
    """Rejections for a reason."""

    reason: str
    n: int


class Overview(Answer):
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


class ImportReport(Answer):
    """What an import brought."""

    pictures: int
    objects: int
    sentences: int
    problems: list[str]
