"""Who asks: cookie or token, the page's token against forged requests, roles.

A cookie holds a random number, signed. Everybody gets one, so that the login form is protected too; logging in gives a
new number, whose hash stands in the database. The page's token is a keyed hash of the number: a page of another site
knows neither. Scripts send a token of their own in `Authorization` and have no cookie to be misused.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from itsdangerous import BadSignature, Signer
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.auth.audit import note_security
from refseg.apps.annotate.auth.people import digest
from refseg.apps.annotate.database.tables import Login, Person, Token
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.limits import Window

COOKIE = "refseg_game"
DEVICE = "refseg_device"
"""Begins the name of the cookie that a browser keeps once somebody has logged in there."""
_VISITOR = "refseg.visitor"
_SEEN_EVERY = 300
SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


@dataclass(frozen=True)
class Visitor:
    """Who asks: an account or nobody, the cookie's number ("" with a token), and whether the cookie must be set."""

    person: Person | None
    number: str
    by_token: bool = False
    fresh: bool = False

    def player(self) -> Person:
        """The account; raises `GameError` "login_required" for nobody."""
        if self.person is None:
            raise GameError("login_required", "log in first")
        return self.person


@dataclass
class Gate:
    """Keys and counters of one process."""

    game: Game
    secret: bytes
    requests: Window = field(init=False)

    def __post_init__(self) -> None:
        self.requests = Window(self.game.settings.requests_per_minute)
        self._signer = Signer(self.secret, salt="refseg.apps.annotate.cookie", digest_method=hashlib.sha256)
        self._devices = Signer(self.secret, salt="refseg.apps.annotate.device", digest_method=hashlib.sha256)

    def csrf(self, number: str) -> str:
        """The token for pages of the cookie with this number."""
        key = hashlib.sha256(b"refseg.apps.annotate.csrf" + self.secret).digest()
        return hmac.new(key, number.encode(), hashlib.sha256).hexdigest()

    def sign(self, number: str) -> str:
        """The cookie's value."""
        return self._signer.sign(number.encode()).decode()

    def number_of(self, cookie: str) -> str | None:
        """The number in a cookie, None for one that was not signed here."""
        return _unsigned(self._signer, cookie)

    def new_device(self, name: str) -> tuple[str, str]:
        """The name and value of the cookie that tells a browser in which `name` has logged in from strangers' ones."""
        key = digest(people.key_of(name))[:16]
        return f"{DEVICE}_{key}", self._devices.sign(f"{key}.{secrets.token_urlsafe(12)}".encode()).decode()

    def device_of(self, name: str, cookies: Mapping[str, str]) -> str | None:
        """What a browser is known by in which `name` has logged in before, None in others."""
        key = digest(people.key_of(name))[:16]
        content = _unsigned(self._devices, cookies.get(f"{DEVICE}_{key}", ""))
        return content if content is not None and content.startswith(f"{key}.") else None


def _unsigned(signer: Signer, cookie: str) -> str | None:
    try:
        return signer.unsign(cookie.encode("utf-8", "replace")).decode()
    except (BadSignature, UnicodeDecodeError):
        return None


def address_of(request: Request) -> str:
    """Where a request comes from, as the server knows it."""
    return request.client.host if request.client is not None else ""


def game_of(request: Request) -> Game:
    """The game of the application that answers."""
    game: Game = request.app.state.game
    return game


def gate_of(request: Request) -> Gate:
    """The keys of the application that answers."""
    gate: Gate = request.app.state.gate
    return gate


def refuse(request: Request, event: str, error: GameError, person: int | None = None) -> GameError:
    """Log a refusal and return it, to be raised."""
    note_security(
        game_of(request), event, person=person, address=address_of(request), path=request.url.path,
        method=request.method,
    )  # fmt: skip
    return error


def visitor(request: Request) -> Visitor:
    """Who asks, whether or not somebody is logged in. Raises `GameError` for a token that does not exist."""
    known: Visitor | None = request.scope.get(_VISITOR)
    if known is None:
        known = request.scope[_VISITOR] = _visitor(request)
    return known


def _visitor(request: Request) -> Visitor:
    game, gate = game_of(request), gate_of(request)
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, secret = header.partition(" ")
        person = _by_token(game, secret.strip()) if scheme.lower() == "bearer" else None
        if person is None:
            raise refuse(request, "bad_token", GameError("login_required", "this token does not exist or was deleted"))
        return Visitor(person, "", by_token=True)
    cookie = request.cookies.get(COOKIE)
    number = gate.number_of(cookie) if cookie else None
    if number is None:
        if cookie:
            note_security(game, "bad_cookie", address=address_of(request), path=request.url.path)
        return Visitor(None, secrets.token_urlsafe(32), fresh=True)
    return Visitor(_by_login(game, number), number)


VisitorDep = Annotated[Visitor, Depends(visitor)]


def admit(request: Request, role: str | None = None) -> None:
    """What has to hold before a writing request's body is read: a login, the page's token, the role if one is wanted.

    Raises `GameError`: "login_required", "csrf", "forbidden".
    """
    who = visitor(request)
    if who.person is None:
        raise refuse(request, "login_required", GameError("login_required", "log in first"))
    if not who.by_token:
        check_csrf(request, who, request.headers.get("x-csrf-token", ""))
    if role is not None:
        _Role(role)(request, who)


def allowed(request: Request, who: VisitorDep) -> Visitor:
    """A logged-in visitor; writing requests by cookie carry the page's token, and nobody writes too often."""
    if request.method in SAFE:
        if who.person is None:
            raise refuse(request, "login_required", GameError("login_required", "log in first"))
    else:
        admit(request)
        assert who.person is not None
        try:
            gate_of(request).requests.check(game_of(request).clock(), str(who.person.id))
        except GameError as error:
            raise refuse(request, "slow_down", error, who.person.id) from None
    return who


def check_csrf(request: Request, who: Visitor, given: str) -> None:
    """Raises `GameError` "csrf" unless `given` is the token of the visitor's pages."""
    wanted = gate_of(request).csrf(who.number)
    if not hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace")):
        person = who.person.id if who.person is not None else None
        raise refuse(
            request, "csrf", GameError("csrf", "this request lacks its page's token; load the page again"), person
        )


class _Role:
    def __init__(self, *roles: str) -> None:
        self.roles = roles

    def __call__(self, request: Request, who: Annotated[Visitor, Depends(allowed)]) -> Person:
        person = who.player()
        if self.roles and not set(self.roles).intersection(person.role_list):
            error = GameError("forbidden", f"this is for the role {' or '.join(self.roles)}")
            raise refuse(request, "forbidden", error, person.id)
        return person


GameDep = Annotated[Game, Depends(game_of)]
LoggedIn = Annotated[Visitor, Depends(allowed)]
Player = Annotated[Person, Depends(_Role())]
Annotator = Annotated[Person, Depends(_Role("annotator"))]
Validator = Annotated[Person, Depends(_Role("validator"))]
Editor = Annotated[Person, Depends(_Role("editor", "administrator"))]
Administrator = Annotated[Person, Depends(_Role("administrator"))]


def _by_token(game: Game, secret: str) -> Person | None:
    with game.database.read() as session:
        row = session.execute(
            select(Token, Person)
            .join(Person, Person.id == Token.person_id)
            .where(Token.digest == digest(secret), Person.active)
        ).first()
    if row is None:
        return None
    token, person = row
    _note_seen(game, person, token.used_at, token)
    return person


def _by_login(game: Game, number: str) -> Person | None:
    with game.database.read() as session:
        person = session.scalar(
            select(Person)
            .join(Login, Login.person_id == Person.id)
            .where(Login.digest == digest(number), Login.expires_at > game.clock(), Person.active)
        )
    if person is not None:
        _note_seen(game, person, person.seen_at)
    return person


def _note_seen(game: Game, person: Person, last: float | None, token: Token | None = None) -> None:
    """Keep when an account, and its token, was used; every few minutes is often enough."""
    now = game.clock()
    if last is not None and now - last <= _SEEN_EVERY:
        return

    def work(session: Session) -> None:
        session.execute(update(Person).where(Person.id == person.id).values(seen_at=now))
        if token is not None:
            session.execute(update(Token).where(Token.id == token.id).values(used_at=now))

    game.database.write(work)
