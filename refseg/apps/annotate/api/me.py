"""One's own account: the day, points, samples, password, tokens; and the leaderboard."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BeforeValidator, Field
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from refseg.apps.annotate.api import api_router, models, responses
from refseg.apps.annotate.api.models import RequestModel, ResponseModel, respond
from refseg.apps.annotate.auth import people
from refseg.apps.annotate.auth.access import GameDep, LoggedIn, Player, refuse
from refseg.apps.annotate.database.tables import Person, Picture, Token
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.limits import hit
from refseg.apps.annotate.services import editing, helping, rehearsing, scoring, tasks
from refseg.apps.annotate.services.leases import waiting_count

router = api_router("me")


class PersonOut(ResponseModel):
    """An account as its owner sees it."""

    id: int
    name: str
    roles: models.Roles
    theme: models.Theme


class Agreement(ResponseModel):
    """Shares of compared selections that matched; None without any."""

    as_annotator: float | None
    as_validator: float | None
    compared_as_annotator: int
    compared_as_validator: int


class Waiting(ResponseModel):
    """What there is to do: whether pictures can be written about, how many wait for masks, and how many samples."""

    write: bool
    masks: int
    samples: Annotated[int, Field(alias="validate")]  # pydantic's models have a method of that name


class PracticeStanding(ResponseModel):
    """Right answers in practice of all, gold samples that there are, and whether practice comes before work now."""

    right: int
    answered: int
    gold: int
    due: bool


class Me(models.Counts):
    """Everything about the one who asks."""

    user: PersonOut
    today: models.Today
    agreement: Agreement
    waiting: Waiting
    practice: PracticeStanding


@router.get("/me")
def me(game: GameDep, person: Player) -> Me:
    """Who asks, what they did today and in all, and what there is to do."""
    with game.database.read() as session:
        sums = scoring.totals(session, person.id)
        some = session.scalar(select(Picture.id).where(Picture.objects > 0).limit(1)) is not None
        waiting = waiting_count(session, game, person.id) if "validator" in person.role_list else 0
        edits = not {"editor", "administrator"}.isdisjoint(person.role_list)
        masks = editing.waiting_count(session, game, person.id) if edits else 0
        due = rehearsing.wanted(session, game, person.id)
        content = {
            "user": person,
            "today": scoring.today(session, game, person.id),
            **{name: sums[name] for name in models.Counts.model_fields},
            "agreement": {name: sums[name] for name in Agreement.model_fields},
            "waiting": {"write": some and "annotator" in person.role_list, "validate": waiting, "masks": masks},
            "practice": {**rehearsing.standing(session, person.id), "due": due},
        }
    return respond(game, Me, content)


class ThemeChoice(ResponseModel):
    """The colours of the pages."""

    theme: models.Theme


class ThemeRequest(RequestModel):
    """The colours of the pages."""

    theme: models.Theme


@router.put("/me/theme")
def theme(given: ThemeRequest, game: GameDep, person: Player) -> ThemeChoice:
    """Choose the colours of the pages."""
    game.database.write(
        lambda session: session.execute(update(Person).where(Person.id == person.id).values(theme=given.theme)).close()
    )
    return ThemeChoice(theme=given.theme)


class PasswordRequest(RequestModel):
    """A new password."""

    old: models.Secret
    new: models.NewSecret


@router.put("/me/password")
def password(given: PasswordRequest, game: GameDep, who: LoggedIn) -> models.Empty:
    """Set a new password; all tokens and all other logins end."""
    person = who.player()
    _slow_guesses(game, person)
    game.database.write(
        lambda session: people.change_own_password(session, game, person.id, given.old, given.new, who.number or None)
    )
    return models.Empty()


def _slow_guesses(game: GameDep, person: Person) -> None:
    now = game.clock()
    most = game.settings.login_attempts
    if game.database.write(lambda session: hit(session, now, f"password:{person.id}", 300)) > most:
        raise GameError("slow_down", "too many attempts; wait five minutes", seconds=300)


class OwnSample(models.SampleOut):
    """A sample for its author; `free` while it may be taken back."""

    free: bool

    targets: Annotated[list[int], Field(validation_alias="target_ids")]
    reason: str
    warnings: Annotated[list[str], BeforeValidator(lambda warnings: [warning["message"] for warning in warnings])]


@router.get("/me/samples")
def own_samples(
    game: GameDep, person: Player, page: models.Page = 1, per_page: models.PerPage = 50
) -> models.PageOf[OwnSample]:
    """One's own sentences with their selections, the latest first."""
    with game.database.read() as session:
        return respond(game, models.PageOf[OwnSample], tasks.own_samples(session, game, person.id, page, per_page))


@router.get("/samples/{sample_id}", responses=responses(404))
def own_sample(sample_id: models.IdPath, request: Request, game: GameDep, person: Player) -> OwnSample:
    """One of one's own sentences; others' are not there."""
    with game.database.read() as session:
        items = tasks.own_samples(session, game, person.id, 1, 1, sample_id)["items"]
        if not items:
            raise refuse(request, "not_found", not_found("sample"), person.id)
        return respond(game, OwnSample, items[0])


class HelpAnswer(ResponseModel):
    """What the helping model answered; `targets` are the objects that its mask covers."""

    model: str
    no_target: bool
    targets: list[int]
    rings: list[list[float]]
    agrees: bool
    score: float


@router.get("/samples/{sample_id}/help", responses=responses(404))
def sample_help(sample_id: models.IdPath, game: GameDep, person: Player) -> HelpAnswer:
    """What the helping model answers, for the author, or for a validator who has answered."""
    return respond(game, HelpAnswer, helping.help_for(game, person.id, sample_id))


class TokenOut(ResponseModel):
    """A token, without its secret."""

    id: int
    label: str
    created_at: models.Time
    last_used_at: Annotated[models.MaybeTime, Field(validation_alias="used_at")]


@router.get("/me/tokens")
def tokens(game: GameDep, person: Player) -> list[TokenOut]:
    """One's own tokens."""
    with game.database.read() as session:
        rows = session.scalars(select(Token).where(Token.person_id == person.id).order_by(Token.id))
        return [respond(game, TokenOut, row) for row in rows]


class TokenRequest(RequestModel):
    """A token for a script."""

    label: Annotated[str, Field(min_length=1, max_length=60), models.NoNul]
    password: models.Secret


class NewToken(ResponseModel):
    """A new token; `token` is shown this once."""

    id: int
    label: str
    token: str


@router.post("/me/tokens", status_code=201, responses=responses(409))
def new_token(given: TokenRequest, game: GameDep, person: Player) -> NewToken:
    """A token for a script, for whoever knows the password; it is shown this once."""
    _slow_guesses(game, person)

    def work(session: Session) -> dict[str, Any]:
        people.confirm_password(session, person.id, given.password, "password")
        token, secret = people.add_token(session, game, person.id, given.label)
        return {"id": token.id, "label": token.label, "token": secret}

    return respond(game, NewToken, game.database.write(work))


@router.delete("/me/tokens/{token_id}", responses=responses(404))
def drop_token(token_id: models.IdPath, game: GameDep, person: Player) -> models.Empty:
    """Delete one of one's own tokens."""
    game.database.write(lambda session: people.remove_token(session, person.id, token_id))
    return models.Empty()


class Rank(models.Counts):
    """A line of the leaderboard."""

    rank: int
    user_id: int
    name: str
    agreement: float | None
    me: bool


class Leaderboard(models.ListOf[Rank]):
    """People by points."""

    period: Literal["day", "week", "all"]
    me: Rank | None


@router.get("/leaderboard")
def leaderboard(
    game: GameDep, person: Player, period: Annotated[Literal["day", "week", "all"], Query()] = "week"
) -> Leaderboard:
    """People by points, as they stood when it was first asked for in this hour."""
    return respond(game, Leaderboard, scoring.leaderboard(game, period, person.id))
