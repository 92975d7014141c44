"""Accounts, passwords (argon2), logins and tokens. Services: each works in the session that it is given."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import FREE, GameSample, Login, Person, Picture, Token
from refseg.apps.annotate.errors import GameError, not_found
from refseg.apps.annotate.game import Game, clean
from refseg.apps.annotate.states import ROLES

SHORTEST = 10
"""Characters of the shortest password."""
LONGEST = 200

# OWASP's smallest recommended memory (19 MiB, 2 passes): logins of a whole team at once must not fill a small server.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def digest(secret: str) -> str:
    """What is stored in place of a token or a login's number: these are random, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def add_person(
    session: Session, game: Game, name: str, password: str, roles: Sequence[str], actor: int | None = None
) -> Person:
    """A new account; raises `GameError` "invalid" for a name, password or role that cannot be."""
    shown = _checked_name(name)
    if session.scalar(select(Person.id).where(Person.key == key_of(shown))) is not None:
        raise GameError("invalid", f"there is somebody named {shown} already", "name")
    person = Person(
        name=shown, key=key_of(shown), password=hash_password(password), roles=checked_roles(roles), active=True,
        theme="auto", created_at=game.clock(),
    )  # fmt: skip
    session.add(person)
    session.flush()
    record(session, game, actor, "person", person.id, "add", details={"name": shown, "roles": person.role_list})
    return person


def change_person(
    session: Session,
    game: Game,
    person_id: int,
    actor: int | None = None,
    *,
    roles: Sequence[str] | None = None,
    active: bool | None = None,
    password: str | None = None,
) -> Person:
    """Change roles, close or open an account, set a password (which ends the person's logins and tokens).

    Raises `GameError`: "not_found"; "not_allowed" where nobody would be left to administer; "invalid".
    """
    person = session.get(Person, person_id, with_for_update=True)
    if person is None:
        raise not_found("person")
    changed: dict[str, object] = {}
    if roles is not None:
        person.roles = checked_roles(roles)
        changed["roles"] = person.role_list
    if active is not None:
        person.active = active
        changed["active"] = active
    if password is not None:
        person.password = hash_password(password)
        changed["password"] = "changed"
    session.flush()
    if (roles is not None or active is not None) and not _administrators(session):
        raise GameError("not_allowed", "nobody would be left to administer the game", "roles")
    if password is not None or active is False:
        session.execute(delete(Login).where(Login.person_id == person_id))
        session.execute(delete(Token).where(Token.person_id == person_id))
    if active is False:
        _give_back(session, person_id)
    record(session, game, actor, "person", person_id, "change", details=changed)
    return person


def check_password(session: Session, name: str, password: str) -> Person | None:
    """The active account with this name and password, or None; takes as long for a name that does not exist."""
    person = session.scalar(select(Person).where(Person.key == key_of(name)))
    stored = person.password if person is not None else _NOBODY
    try:
        _HASHER.verify(stored, password[:LONGEST])
    except (Argon2Error, InvalidHashError):
        return None
    if person is None or not person.active:
        return None
    return person


def log_in(session: Session, game: Game, person: Person) -> str:
    """A new login; returns its secret number for the cookie. Ended logins are cleared away."""
    now = game.clock()
    session.execute(delete(Login).where(Login.expires_at < now))
    number = secrets.token_urlsafe(32)
    expires = now + game.settings.session_seconds
    session.add(Login(digest=digest(number), person_id=person.id, created_at=now, expires_at=expires))
    session.execute(update(Person).where(Person.id == person.id).values(seen_at=now))
    return number


def log_out(session: Session, number: str) -> None:
    """End a login."""
    session.execute(delete(Login).where(Login.digest == digest(number)))


def change_own_password(session: Session, game: Game, person_id: int, old: str, new: str, keep: str | None) -> None:
    """Set one's own password; all tokens and other logins end. Raises `GameError` "invalid" where `old` is wrong."""
    person = confirm_password(session, person_id, old, "old")
    person.password = hash_password(new, "new")
    kept = digest(keep) if keep else ""
    session.execute(delete(Login).where(Login.person_id == person_id, Login.digest != kept))
    session.execute(delete(Token).where(Token.person_id == person_id))
    record(session, game, person_id, "person", person_id, "password")


def confirm_password(session: Session, person_id: int, password: str, field: str) -> Person:
    """The account, locked; raises `GameError` "invalid" at `field` where that is not its password."""
    person = session.get(Person, person_id, with_for_update=True)
    if person is None or check_password(session, person.name, password) is None:
        raise GameError("invalid", "that is not the password so far", field)
    return person


def add_token(session: Session, game: Game, person_id: int, label: str) -> tuple[Token, str]:
    """A token for scripts and its secret, which is shown once."""
    label = clean(label)
    if not 1 <= len(label) <= 60:
        raise GameError("invalid", "a token's label has 1 to 60 characters", "label")
    if (session.scalar(select(func.count()).select_from(Token).where(Token.person_id == person_id)) or 0) >= 20:
        raise GameError("not_allowed", "a person has at most 20 tokens; delete one first", "label")
    secret = "refseg_" + secrets.token_urlsafe(32)
    token = Token(person_id=person_id, label=label, digest=digest(secret), created_at=game.clock())
    session.add(token)
    session.flush()
    record(session, game, person_id, "person", person_id, "token", details={"label": label})
    return token, secret


def remove_token(session: Session, person_id: int, token_id: int) -> None:
    """Delete one's own token."""
    token = session.scalar(select(Token).where(Token.id == token_id, Token.person_id == person_id))
    if token is None:
        raise not_found("token")
    session.delete(token)


def hash_password(password: str, field: str = "password") -> str:
    """The hash of a password of an acceptable length."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise GameError("invalid", f"a password has {SHORTEST} to {LONGEST} characters", field)
    return _HASHER.hash(password)


def _checked_name(name: str) -> str:
    shown = clean(name)
    if not 1 <= len(shown) <= 40 or not any(sign.isalnum() for sign in shown):
        raise GameError("invalid", "a name has 1 to 40 characters, a letter or digit among them", "name")
    return shown


def checked_roles(roles: Sequence[str]) -> str:
    """The roles as they are kept; raises `GameError` "invalid" for unknown ones, and for none."""
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise GameError("invalid", f"roles are some of {', '.join(ROLES)}", "roles")
    return " ".join(role for role in ROLES if role in roles)


def key_of(name: str) -> str:
    """What two spellings of one name have in common: logins are looked for, and counted, by it."""
    return clean(name).casefold()[:60]


def _administrators(session: Session) -> int:
    rows = session.scalars(select(Person.roles).where(Person.active)).all()
    return sum("administrator" in roles.split() for roles in rows)


def _give_back(session: Session, person_id: int) -> None:
    for table in (Picture, GameSample):
        session.execute(update(table).where(table.lease_person == person_id).values(**FREE))


_NOBODY = _HASHER.hash(secrets.token_urlsafe(16))
