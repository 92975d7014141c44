"""`refseg annotate user`: accounts from the command line; the first administrator is made here."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from refseg.cli.annotate_common import add_place, open_game
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from refseg.apps.annotate.tables import Person


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="add|list|role|password|close|open|token")
    add = verbs.add_parser("add", help="a new account")
    roles = "roles with commas between: annotator, validator, administrator"
    add.add_argument("name")
    add.add_argument("--roles", default="annotator,validator", help=f"{roles} (default annotator,validator)")
    role = verbs.add_parser("role", help="change the roles of an account")
    role.add_argument("name")
    role.add_argument("roles", help=roles)
    password = verbs.add_parser("password", help="set a password; the person's logins end")
    password.add_argument("name")
    for parser_of in (add, password):
        parser_of.add_argument(
            "--password-file", metavar="FILE", type=Path, help="read the password from a file, - for standard input"
        )
    for name, text in (("close", "close an account"), ("open", "open a closed account")):
        verbs.add_parser(name, help=text).add_argument("name")
    token = verbs.add_parser("token", help="make a token for a script, and print it once")
    token.add_argument("name")
    token.add_argument("--label", default="command line", help="what it is for")
    verbs.add_parser("list", help="all accounts")
    for parser_of in verbs.choices.values():
        add_place(parser_of)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    from refseg.apps.annotate import people
    from refseg.apps.annotate.errors import GameError

    game = open_game(arguments)
    database = game.database
    try:
        if arguments.what == "list":
            _list(arguments, game)
        elif arguments.what == "add":
            password = _password(arguments.password_file)
            roles = _roles(arguments.roles)
            database.write(lambda session: people.add_person(session, game, arguments.name, password, roles))
            print(f"{arguments.name} added as {', '.join(roles)}")
        elif arguments.what == "token":
            _, secret = database.write(
                lambda session: people.add_token(session, game, _find(session, arguments.name).id, arguments.label)
            )
            print(secret)
        else:
            changes: dict[str, dict[str, object]] = {"close": {"active": False}, "open": {"active": True}}
            if arguments.what == "role":
                changes["role"] = {"roles": _roles(arguments.roles)}
            if arguments.what == "password":
                changes["password"] = {"password": _password(arguments.password_file)}
            database.write(
                lambda session: people.change_person(
                    session,
                    game,
                    _find(session, arguments.name).id,
                    **changes[arguments.what],  # type: ignore[arg-type]
                )
            )
            print(f"{arguments.name}: done")
    except GameError as error:
        raise RefsegError(f"{error.field or arguments.what}: {error.message}") from error
    finally:
        database.close()
    return 0


def _list(arguments: argparse.Namespace, game: object) -> None:
    from refseg.apps.annotate.game import Game
    from refseg.apps.annotate.overview import people

    assert isinstance(game, Game)
    with game.database.read() as session:
        rows = people(session)
    for row in rows:
        closed = "" if row["active"] else "  closed"
        done = f"{row['written']} written, {row['validated']} validated, {row['points']} points"
        print(f"{row['name']:<24} {','.join(row['roles']):<40} {done}{closed}")
    if not rows:
        print("nobody yet: refseg annotate user add NAME --roles administrator --data DIR")


def _find(session: Session, name: str) -> Person:
    from sqlalchemy import select

    from refseg.apps.annotate.tables import Person

    person = session.scalar(select(Person).where(Person.key == name.strip().casefold()))
    if person is None:
        raise RefsegError(f"there is nobody named {name!r}; see refseg annotate user list")
    return person


def _roles(text: str) -> list[str]:
    return [role for role in text.replace(" ", "").split(",") if role]


def _password(file: Path | None) -> str:
    """From a file, or asked for twice; never from the command line, which others can see."""
    if file is not None:
        try:
            text = sys.stdin.readline() if str(file) == "-" else file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise RefsegError(f"{file}: the password cannot be read ({error})") from error
        return text.strip("\r\n")
    if not sys.stdin.isatty():
        raise RefsegError("there is no terminal to ask for the password; give --password-file FILE, or - for a pipe")
    first = getpass.getpass("password: ")
    if getpass.getpass("again: ") != first:
        raise RefsegError("the two passwords differ")
    return first
