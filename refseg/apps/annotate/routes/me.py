"""One's own account: the day, points, samples, password, tokens; and the leaderboard."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query, Request
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from refseg.apps.annotate import answers, answers_people, people, scoring, tasks
from refseg.apps.annotate.access import GameDep, LoggedIn, Player, refuse
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import iso
from refseg.apps.annotate.helping import help_for
from refseg.apps.annotate.leases import waiting_count
from refseg.apps.annotate.limits import hit
from refseg.apps.annotate.routes import api_router, responses
from refseg.apps.annotate.schemas import IdPath, Page, PasswordRequest, PerPage, ThemeRequest, TokenRequest
from refseg.apps.annotate.tables import Person, Picture, Token

router = api_router("me")


@router.get("/me", response_model=answers_people.Me)
def me(game: GameDep, person: Player) -> Any:
    """Who asks, what they did today and in all, and what there is to do."""
    with game.database.read() as session:
        sums = scoring.totals(session, person.id)
        some = session.scalar(select(Picture.id).where(Picture.objects > 0).limit(1)) is not None
        roles = person.role_list
        waiting = waiting_count(session, game, person.id) if "validator" in roles else 0
        day = scoring.today(session, game, person.id)
    compared = ("as_annotator", "as_validator", "compared_as_annotator", "compared_as_validator")
    return {
        "user": {"id": person.id, "name": person.name, "roles": roles, "theme": person.theme},
        "today": day,
        **{name: sums[name] for name in ("points", "written", "validated", "accepted")},
        "agreement": {name: sums[name] for name in compared},
        "waiting": {"write": some and "annotator" in roles, "validate": waiting},
    }


@router.put("/me/theme", response_model=answers_people.Theme)
def theme(given: ThemeRequest, game: GameDep, person: Player) -> Any:
    """Choose the colours of the pages."""
    game.database.write(
        lambda session: session.execute(update(Person).where(Person.id == person.id).values(theme=given.theme)).close()
    )
    return {"theme": given.theme}


@router.put("/me/password", response_model=answers.Empty)
def password(given: PasswordRequest, game: GameDep, who: LoggedIn) -> Any:
    """Set a new password; all other logins end."""
    person = who.player()
    now = game.clock()
    most = game.settings.login_attempts
    if game.database.write(lambda session: hit(session, now, f"password:{person.id}", 300)) > most:
        raise GameError("slow_down", "too many attempts; wait five minutes", seconds=300)
    game.database.write(
        lambda session: people.change_own_password(session, game, person.id, given.old, given.new, who.number or None)
    )
    return {}


@router.get("/me/samples", response_model=answers.PageOf[answers.OwnSample])
def own_samples(game: GameDep, person: Player, page: Page = 1, per_page: PerPage = 50) -> Any:
    """One's own sentences with their selections, the latest first."""
    with game.database.read() as session:
        items, total = tasks.own_samples(session, game, person.id, page, per_page)
    return {"items": items, "page": page, "per_page": per_page, "total": total}


@router.get("/samples/{sample_id}", response_model=answers.OwnSample, responses=responses(404))
def own_sample(sample_id: IdPath, request: Request, game: GameDep, person: Player) -> Any:
    """One of one's own sentences; others' are not there."""
    with game.database.read() as session:
        items, _ = tasks.own_samples(session, game, person.id, 1, 1, sample_id)
    if not items:
        raise refuse(request, "not_found", not_found("sample"), person.id)
    return items[0]


@router.get("/samples/{sample_id}/help", response_model=answers.HelpAnswer, responses=responses(404))
def sample_help(sample_id: IdPath, game: GameDep, person: Player) -> Any:
    """What the helping model answers, for the author, or for a validator who has answered."""
    return help_for(game, person.id, sample_id)


@router.get("/me/tokens", response_model=list[answers_people.TokenOut])
def tokens(game: GameDep, person: Player) -> Any:
    """One's own tokens."""
    with game.database.read() as session:
        rows = session.scalars(select(Token).where(Token.person_id == person.id).order_by(Token.id))
        return [
            {"id": row.id, "label": row.label, "created_at": iso(row.created_at), "last_used_at": iso(row.used_at)}
            for row in rows
        ]


@router.post("/me/tokens", response_model=answers_people.NewToken, status_code=201, responses=responses(409))
def new_token(given: TokenRequest, game: GameDep, person: Player) -> Any:
    """A token for a script; it is shown this once."""

    def work(session: Session) -> Any:
        token, secret = people.add_token(session, game, person.id, given.label)
        return {"id": token.id, "label": token.label, "token": secret}

    return game.database.write(work)


@router.delete("/me/tokens/{token_id}", response_model=answers.Empty, responses=responses(404))
def drop_token(token_id: IdPath, game: GameDep, person: Player) -> Any:
    """Delete one of one's own tokens."""
    game.database.write(lambda session: people.remove_token(session, person.id, token_id))
    return {}


@router.get("/leaderboard", response_model=answers_people.Leaderboard)
def leaderboard(
    game: GameDep, person: Player, period: Annotated[Literal["day", "week", "all"], Query()] = "week"
) -> Any:
    """People by points."""
    with game.database.read() as session:
        return scoring.leaderboard(session, game, period, person.id)
