"""Single sign-on by OpenID Connect: the authorization code flow with PKCE (OpenID Connect Core 1.0, section 3.1).

The ID token comes over TLS from the provider's token endpoint itself, which stands for a check of its signature
(section 3.1.3.7, item 6); so addresses without TLS are taken on this machine only. Issuer, audience, expiry and nonce
are checked as that section says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import threading
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sqlalchemy import select
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import Person
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.settings import Settings

SECRET_VARIABLE = "REFSEG_ANNOTATE_OIDC_SECRET"
_SECONDS = 10
_LARGEST = 1 << 20
_SLACK = 60  # seconds by which clocks may differ


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *given: Any) -> None:
        """Answers of a provider lead nowhere else."""
        return


@dataclass(frozen=True)
class Start:
    """Where a login begins: the provider's address, and what the browser keeps meanwhile (signed by the caller)."""

    address: str
    kept: dict[str, str]


class Provider:
    """The provider of a game's settings; its endpoints are asked for at the first login."""

    def __init__(self, settings: Settings) -> None:
        self.issuer = settings.oidc_issuer.rstrip("/")
        self.client = settings.oidc_client
        self._secret = os.environ.get(SECRET_VARIABLE, "")
        self._found: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def start(self, back: str) -> Start:
        """The beginning of a login that comes back to the address `back`."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = urlencode(
            {
                "response_type": "code", "client_id": self.client, "redirect_uri": back,
                "scope": "openid profile email", "state": state, "nonce": nonce, "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )  # fmt: skip
        address = self._endpoint("authorization_endpoint")
        joined = "&" if urlsplit(address).query else "?"
        return Start(f"{address}{joined}{query}", {"state": state, "nonce": nonce, "verifier": verifier, "back": back})

    def claims(self, code: str, kept: dict[str, str], now: float) -> dict[str, Any]:
        """What the provider says about the one who logged in there, checked. Raises `GameError` "sign_on"."""
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": kept["back"], "client_id": self.client,
            "code_verifier": kept["verifier"],
        }  # fmt: skip
        if self._secret:
            form["client_secret"] = self._secret
        answer = _asked(self._endpoint("token_endpoint"), urlencode(form).encode())
        claims = _payload(answer.get("id_token"))
        audience = claims.get("aud")
        meant = audience if isinstance(audience, list) else [audience]
        if str(claims.get("iss", "")).rstrip("/") != self.issuer:
            raise _failed("its answer is of another issuer")
        if self.client not in meant or (len(meant) > 1 and claims.get("azp") != self.client):
            raise _failed("its answer is for another client")
        expires = claims.get("exp")
        if not isinstance(expires, (int, float)) or expires < now - _SLACK:
            raise _failed("its answer is too old")
        if not secrets.compare_digest(str(claims.get("nonce", "")), kept["nonce"]):
            raise _failed("its answer is for another login")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise _failed("it does not say who logged in")
        return claims

    def _endpoint(self, name: str) -> str:
        with self._lock:
            if self._found is None:
                found = _asked(f"{self.issuer}/.well-known/openid-configuration")
                if str(found.get("issuer", "")).rstrip("/") != self.issuer:
                    raise _failed("it names itself otherwise than the game's settings do")
                self._found = found
        address = self._found.get(name)
        if not isinstance(address, str):
            raise _failed(f"it has no {name}")
        _check_address(address)
        return address


def person_of(session: Session, game: Game, claims: dict[str, Any]) -> Person:
    """The account of who logged in there: known by its subject; else by a confirmed e-mail as its name, which is kept;
    else, where the settings give roles to newcomers, a new one. Raises `GameError` "sign_on".
    """
    subject = hashlib.sha256(f"{claims['iss']}|{claims['sub']}".encode()).hexdigest()
    person = session.scalar(select(Person).where(Person.subject == subject))
    if person is None:
        email = claims.get("email")
        confirmed = isinstance(email, str) and email and claims.get("email_verified") is True
        if confirmed:
            wanted = select(Person).where(Person.key == people.key_of(str(email)), Person.subject.is_(None))
            person = session.scalar(wanted.with_for_update())
        if person is None and game.settings.oidc_roles:
            name = _free_name(session, claims, str(email) if confirmed else "")
            person = people.add_person(session, game, name, secrets.token_urlsafe(24), game.settings.oidc_roles)
        if person is None:
            raise GameError("sign_on", "there is no account for you here; ask an administrator of this game")
        person.subject = subject
        session.flush()
        record(session, game, person.id, "person", person.id, "sign_on")
    if not person.active:
        raise GameError("sign_on", "this account is closed")
    return person


def _free_name(session: Session, claims: dict[str, Any], email: str) -> str:
    given = next((str(claims[key]) for key in ("preferred_username", "name") if claims.get(key)), email) or "player"
    for number in range(1, 1000):
        name = given[:34] if number == 1 else f"{given[:34]} {number}"
        if session.scalar(select(Person.id).where(Person.key == people.key_of(name))) is None:
            return name
    raise GameError("sign_on", "no name is free for you here; ask an administrator of this game")


def _asked(address: str, form: bytes | None = None) -> dict[str, Any]:
    _check_address(address)
    request = Request(address, data=form, headers={"Accept": "application/json"})
    try:
        with build_opener(_NoRedirects).open(request, timeout=_SECONDS) as answer:
            content = json.loads(answer.read(_LARGEST))
    except (URLError, OSError, ValueError) as error:
        raise _failed(f"it did not answer as it should ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise _failed("it did not answer as it should")
    return content


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    here = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and here):
        raise _failed("its addresses are not https")


def _payload(token: object) -> dict[str, Any]:
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:
        raise _failed("it gave no ID token")
    try:
        content = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError as error:
        raise _failed("its ID token cannot be read") from error
    if not isinstance(content, dict):
        raise _failed("its ID token cannot be read")
    return content


def _failed(reason: str) -> GameError:
    return GameError("sign_on", f"the login at the provider failed: {reason}")
