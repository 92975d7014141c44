"""Ways in besides name and password: invitation links, and single sign-on."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.auth.access import VisitorDep, address_of, check_csrf, game_of, gate_of
from refseg.apps.annotate.auth.audit import note_security
from refseg.apps.annotate.auth.oidc import Provider, person_of
from refseg.apps.annotate.database.tables import Person
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.limits import check as check_rate
from refseg.apps.annotate.services import inviting
from refseg.apps.annotate.web.pages import inside, plain, render, set_cookie

router = APIRouter(include_in_schema=False)

_COOKIE = "refseg_sign_on"
_SECONDS = 600
_TRIES = 30  # of an address in five minutes


@router.get("/join/{secret}")
def join_page(secret: str, request: Request, who: VisitorDep) -> Response:
    """The form of an invitation."""
    _slow(request)
    with game_of(request).database.read() as session:
        row = inviting.invitation_of(session, game_of(request), secret[:100])
        label = row.label
    return render(request, "join.html", who, secret=secret, label=label, error=None, name="")


@router.post("/join/{secret}")
def join(
    secret: str,
    request: Request,
    who: VisitorDep,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    csrf_token: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Make an account, and log in."""
    game = game_of(request)
    _slow(request)
    check_csrf(request, who, csrf_token)

    def work(session: Session) -> tuple[Person, str]:
        person = inviting.join(session, game, secret[:100], name, password)
        return person, people.log_in(session, game, person)

    try:
        person, number = game.database.write(work)
    except GameError as error:
        if error.code != "invalid":
            raise
        with game.database.read() as session:
            label = inviting.invitation_of(session, game, secret[:100]).label
        shown = {"secret": secret, "label": label, "name": name[:60]}
        return render(request, "join.html", who, 422, error=error.message, **shown)
    note_security(game, "joined", person=person.id, address=address_of(request), path="/join")
    response = RedirectResponse(inside(request, "/"), 303)
    set_cookie(request, response, number)
    return response


@router.get("/login/oidc")
def sign_on(request: Request, next: str = "/") -> Response:
    """To the provider."""
    game = game_of(request)
    _slow(request)
    start = _provider(request).start(_back(request))
    kept = {**start.kept, "next": plain(next)}
    response = RedirectResponse(start.address, 303)
    response.set_cookie(
        _COOKIE, _sealed(request).dumps(kept), max_age=_SECONDS, path=f"{game.settings.root_path}/login",
        httponly=True, samesite="lax", secure=game.settings.secure_cookies or request.url.scheme == "https",
    )  # fmt: skip
    return response


@router.get("/login/oidc/back")
def signed_on(request: Request, who: VisitorDep, code: str = "", state: str = "") -> Response:
    """From the provider: the account's login, or the login page with a reason."""
    game = game_of(request)
    _slow(request)
    try:
        kept = _kept(request)
        if not code or not state or state != kept["state"]:
            raise GameError("sign_on", "the login was not finished: try again")
        claims = _provider(request).claims(code, kept, game.clock())

        def work(session: Session) -> tuple[Person, str]:
            person = person_of(session, game, claims)
            return person, people.log_in(session, game, person)

        person, number = game.database.write(work)
    except GameError as error:
        if error.code != "sign_on":
            raise
        note_security(game, "sign_on_failed", address=address_of(request), path="/login/oidc", reason=error.message)
        return render(request, "login.html", who, 401, error=error.message, next="/", name="")
    note_security(game, "login", person=person.id, address=address_of(request), path="/login/oidc")
    response = RedirectResponse(inside(request, kept["next"]), 303)
    response.delete_cookie(_COOKIE, path=f"{game.settings.root_path}/login")
    set_cookie(request, response, number)
    return response


def _provider(request: Request) -> Provider:
    game = game_of(request)
    if not game.settings.oidc_issuer:
        raise GameError("not_found", "there is no such page")
    state = request.app.state
    if not hasattr(state, "provider"):
        state.provider = Provider(game.settings)
    provider: Provider = state.provider
    return provider


def _back(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}{game_of(request).settings.root_path}/login/oidc/back"


def _sealed(request: Request) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(gate_of(request).secret, salt="refseg.apps.annotate.sign_on", serializer=json)


def _kept(request: Request) -> dict[str, str]:
    try:
        kept: dict[str, str] = _sealed(request).loads(request.cookies.get(_COOKIE, ""), max_age=_SECONDS)
    except BadSignature:
        raise GameError("sign_on", "the login took too long, or began in another browser: try again") from None
    return kept


def _slow(request: Request) -> None:
    game = game_of(request)
    key = f"sign:{address_of(request)}"
    game.database.write(lambda session: check_rate(session, game.clock(), key, 300, _TRIES))
