"""`refseg annotate`: the annotation game: data in and out, accounts, the database. `annotate_serve` opens it."""

from __future__ import annotations

import getpass
import json as json_format
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from refseg.cli import annotate_serve, options
from refseg.cli.annotate_serve import Data, Database, make_settings
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from refseg.apps.annotate.database.tables import Person
    from refseg.apps.annotate.game import Game

SHOWN = 20
Format = Literal["grefcoco", "refcoco", "jsonl"]

app = App("annotate", "Make a data set as a game: two players, a browser, a database.")
user = App("user", "Add, list and change accounts; make tokens for scripts.")
app.add_typer(annotate_serve.app)
app.add_typer(user)


@contextmanager
def _opened(data: Path, database: str, make: bool = False, **fields: Any) -> Iterator[Game]:
    """The game of --data and --database, its database up to date; with `make`, a new one where there is none."""
    settings = make_settings(data, database, **fields)
    if not make and not database and not (data / "game.db").is_file():
        raise RefsegError(f"{data}: there is no game; refseg annotate import SRC --data {data} makes one")
    from refseg.apps.annotate.game import Game

    game = Game.open(settings)
    try:
        yield game
    finally:
        game.database.close()


@app.command("import")
def import_(
    source: Annotated[Path, arg("SRC", "photographs, COCO-style .json, (g)RefCOCO, folder of pictures/ and masks/")],
    data: Data,
    database: Database = "",
    images: options.Images = None,
    split: Annotated[str | None, options.split("only this split; for data without splits, the split's name")] = None,
    dataset: options.Dataset = None,
    keep_metadata: Annotated[
        bool, flag("--keep-metadata", "keep place, camera and owner that the files of pictures name")
    ] = False,
    project: Annotated[str | None, opt("NAME", "a project for these pictures, made if it is not there")] = None,
    propose: Annotated[bool, flag("--propose", "let the model propose masks of pictures without, now")] = False,
) -> None:
    """Bring in pictures, objects and expressions, and say what was left out and why."""
    with _opened(data, database, make=True) as game, _refusals("import"):
        from refseg.apps.annotate.services.importing import import_source

        brought = import_source(
            game, source, images=images, split=split, dataset=dataset, keep_metadata=keep_metadata, project=project
        )
    for problem in brought.problems[:SHOWN]:
        print(problem, file=sys.stderr)
    if len(brought.problems) > SHOWN:
        kinds = Counter(problem.kind for problem in brought.problems)
        listed = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        print(f"... {len(brought.problems)} problems in all: {listed}", file=sys.stderr)
    print(f"{brought.pictures} pictures, {brought.objects} objects, {brought.sentences} expressions imported")
    if brought.plain and propose:
        _propose(data, database, None)
    elif brought.plain:
        print(f"{brought.plain} have no masks: an editor draws them at /edit; a model proposes them there, or now with")
        print(f"  refseg annotate propose --data {data}")


@app.command("export")
def export(
    data: Data,
    target: Annotated[Path | None, arg("DST", "folder to write, or a .zip file, here or with -o")] = None,
    database: Database = "",
    format: Annotated[Format, opt("grefcoco|refcoco|jsonl", "refcoco: single targets only")] = "grefcoco",
    split: options.Split = None,
    verdicts: Annotated[
        bool, flag("--verdicts", "also game/: every closed sample with all verdicts, people by pseudonym, agreement")
    ] = False,
    output: Annotated[Path | None, options.output("the same as DST")] = None,
) -> None:
    """Write the accepted samples as a data set, with a data card."""
    target = options.one_target(target, output, "DST")
    with _opened(data, database) as game:
        from refseg.apps.annotate.auth.audit import record
        from refseg.apps.annotate.services.card import make_card
        from refseg.apps.annotate.services.exporting import export, export_archive

        write = export_archive if target.suffix.lower() == ".zip" else export
        count = write(game, target, format, split, verdicts)
        with game.database.read() as session:
            left_out = make_card(session, game, split, single=format == "refcoco")["left_out"]
        details = {"format": format, "split": split, "sentences": count}
        game.database.write(lambda session: record(session, game, None, "data", None, "export", details=details))
    print(f"{count} expressions written to {target}; look with refseg data check {target}")
    if any(left_out.values()):
        without, several = left_out["none"], left_out["several"]
        print(f"left out, as {format} has one target each: {without} without, {several} with several")


@app.command("stats")
def stats(
    data: Data,
    database: Database = "",
    people: Annotated[bool, flag("--people", "also agreement (Cohen's kappa) of each person and pair")] = False,
    json: options.Json = False,
) -> None:
    """Print queues, agreement, kinds and progress of the splits."""
    with _opened(data, database) as game:
        from refseg.apps.annotate.services.agreement import pairwise
        from refseg.apps.annotate.services.overview import overview

        with game.database.read() as session:
            numbers = overview(session, game)
            rows = pairwise(session) if people else []
    agreed = [{**row, "person": row["person"].name, "other": row["other"] and row["other"].name} for row in rows]
    if json and people:
        numbers = {**numbers, "people": agreed}
    if json:
        print(json_format.dumps(numbers, indent=1))
        return
    print(
        f"{numbers['pictures']:,} pictures, {numbers['objects']:,} objects, {numbers['imported']:,} imported sentences"
    )
    print("samples: " + ", ".join(f"{number:,} {state}" for state, number in numbers["samples"].items()))
    for row in numbers["splits"]:
        print(
            f"  {row['split']}: {row['covered']:,} of {row['pictures']:,} pictures have sentences; accepted with one "
            f"target {row['one']:,}, several {row['several']:,}, none {row['none']:,}"
        )
    kinds = ", ".join(f"{row['kind']} {row['total']:,}" for row in numbers["kinds"])
    print(f"kinds: {kinds or 'none yet'}")
    agreement, queues = numbers["agreement"], numbers["queues"]
    if agreement["rate"] is not None:
        print(
            f"agreement: {agreement['rate']:.1%} of {agreement['compared']:,} selections, "
            f"{agreement['first_rate']:.1%} of the first ones"
        )
    print(f"held now: {queues['held_write']} pictures, {queues['held_validate']} samples; {queues['drafts']} drafts")
    for row in agreed:
        kappa = "not defined" if row["kappa"] is None else f"{row['kappa']:.2f}"
        pair = row["person"] if row["other"] is None else f"{row['person']} and {row['other']}"
        print(f"  {pair}: same objects for {row['same']:,} of {row['samples']:,} sentences, kappa {kappa}")


@app.command("rank")
def rank(
    model: options.Model,
    data: Data,
    database: Database = "",
    most: Annotated[int | None, opt("N", "stop after so many pictures")] = None,
) -> None:
    """Let a model find the pictures that are hard, to be drawn more often."""
    with _opened(data, database, help_model=model) as game:
        from refseg.apps.annotate.services.helping import rank_pictures

        done = rank_pictures(game, most)
    print(f"{done} pictures asked about; those with more wrong answers are drawn more often")


@app.command("propose")
def propose(
    data: Data,
    database: Database = "",
    model: Annotated[str, opt("NAME", "a model of the system instances", names=options.model_names)] = "instances",
    most: Annotated[int | None, opt("N", "stop after so many pictures")] = None,
) -> None:
    """Let a model propose the masks of pictures that came without; people correct them at /edit."""
    _propose(data, database, most, model)


def _propose(data: Path, database: str, most: int | None, model: str = "instances") -> None:
    with _opened(data, database, propose_model=model) as game:
        from refseg.apps.annotate.errors import GameError
        from refseg.apps.annotate.services.proposing import propose_all

        try:
            pictures, objects = propose_all(game, most)
        except GameError as error:
            raise RefsegError(error.message) from error
    print(f"{objects} objects proposed on {pictures} pictures")


@app.command("backup")
def backup(
    target: Annotated[
        Path, arg("FILE", ".zip: all with the pictures; .jsonl.gz: a dump for SQLite and PostgreSQL; .db: SQLite's own")
    ],
    data: Data,
    database: Database = "",
) -> None:
    """Copy the game while it runs."""
    with _opened(data, database) as game:
        from refseg.apps.annotate.database.backup import backup
        from refseg.apps.annotate.services.missing import note_digests

        note_digests(game)
        kind = backup(game.database, target, game.settings.pictures)
    beside = "" if kind == "archive" else f"; copy {data / 'pictures'} beside it"
    print(f"{target}: {kind}, {target.stat().st_size:,} bytes{beside}")


@app.command("restore")
def restore(
    source: Annotated[Path, arg("FILE", "what refseg annotate backup wrote")],
    data: Data,
    database: Database = "",
    replace: Annotated[bool, flag("--replace", "put it in place of a game that is there")] = False,
) -> None:
    """Put a backup, also of an older version, into a database, SQLite or PostgreSQL, in one transaction."""
    with _opened(data, database, make=True) as game:
        from refseg.apps.annotate.database.backup import restore
        from refseg.apps.annotate.services.missing import missing_pictures

        counts = restore(game.database, source, pictures=game.settings.pictures, replace=replace)
        missing = [str(fault) for fault in missing_pictures(game)]
    print(f"{counts['samples']:,} samples on {counts['pictures']:,} pictures by {counts['people']:,} people restored")
    _print_missing(missing, game.settings.pictures)


@app.command("check")
def check(data: Data, database: Database = "") -> None:
    """Look whether each picture's file is there and as it was stored."""
    with _opened(data, database) as game:
        from refseg.apps.annotate.services.missing import missing_pictures

        missing = [str(fault) for fault in missing_pictures(game)]
        folder = game.settings.pictures
    _print_missing(missing, folder)
    if missing:
        raise RefsegError(f"{folder}: {len(missing)} pictures are missing or changed")
    print(f"{folder}: every picture is there, as it was stored")


def _print_missing(missing: list[str], folder: Path) -> None:
    for line in missing[:SHOWN]:
        print(line, file=sys.stderr)
    if missing:
        print(
            f"{len(missing)} pictures are missing or changed in {folder}: copy them there before anybody plays "
            "(refseg annotate check says when all are well)",
            file=sys.stderr,
        )


@app.command("migrate")
def migrate(data: Data, database: Database = "") -> None:
    """Bring the database up to date (serve does so too)."""
    settings = make_settings(data, database)
    from refseg.apps.annotate.database.engine import Database as Engine
    from refseg.apps.annotate.database.migrate import migrate

    settings.make_folder()
    engine = Engine(settings.url)
    before, now = migrate(engine)
    engine.close()
    print(f"the database is at version {now}" + ("" if before == now else f" (it was {before or 'empty'})"))


AccountName = Annotated[str, arg("NAME", "of the account")]
PasswordFile = Annotated[Path | None, opt("FILE", "read the password from a file, - for standard input (default: ask)")]
ROLES = "roles with commas between: annotator, validator, editor, administrator"


@contextmanager
def _accounts(data: Path, database: str, verb: str) -> Iterator[Game]:
    """The game, with the errors of changes of accounts as errors of the command line."""
    with _opened(data, database, make=verb == "add") as game, _refusals(verb):
        yield game


@contextmanager
def _refusals(verb: str) -> Iterator[None]:
    from refseg.apps.annotate.errors import GameError

    try:
        yield
    except GameError as error:
        raise RefsegError(f"{error.field or verb}: {error.message}") from error


@user.command("add")
def add(
    name: AccountName,
    data: Data,
    database: Database = "",
    roles: Annotated[str, opt("LIST", ROLES)] = "annotator,validator",
    password_file: PasswordFile = None,
) -> None:
    """Make a new account."""
    with _accounts(data, database, "add") as game:
        from refseg.apps.annotate.auth import people

        password = _password(password_file)
        chosen = _roles(roles)
        game.database.write(lambda session: people.add_person(session, game, name, password, chosen))
    print(f"{name} added as {', '.join(chosen)}")


@user.command("list")
def list_(data: Data, database: Database = "") -> None:
    """Print all accounts, what they have done, and their points."""
    with _opened(data, database) as game:
        from refseg.apps.annotate.services.overview import people

        with game.database.read() as session:
            rows = people(session)
    for row in rows:
        closed = "" if row["active"] else "  closed"
        done = f"{row['written']} written, {row['validated']} validated, {row['points']} points"
        print(f"{row['name']:<24} {','.join(row['roles']):<40} {done}{closed}")
    if not rows:
        print("nobody yet: refseg annotate user add NAME --roles administrator --data DIR")


@user.command("role")
def role(
    name: AccountName,
    roles: Annotated[str, arg("ROLES", ROLES)],
    data: Data,
    database: Database = "",
) -> None:
    """Change the roles of an account."""
    _change("role", name, data, database, roles=_roles(roles))


@user.command("password")
def password(name: AccountName, data: Data, database: Database = "", password_file: PasswordFile = None) -> None:
    """Set a password; the person's logins and tokens end."""
    _change("password", name, data, database, password=_password(password_file))


@user.command("close")
def close(name: AccountName, data: Data, database: Database = "") -> None:
    """Close an account."""
    _change("close", name, data, database, active=False)


@user.command("open")
def open_(name: AccountName, data: Data, database: Database = "") -> None:
    """Open a closed account."""
    _change("open", name, data, database, active=True)


@user.command("token")
def token(
    name: AccountName,
    data: Data,
    database: Database = "",
    label: Annotated[str, opt("TEXT", "what it is for")] = "command line",
) -> None:
    """Make a token for a script, and print it once."""
    with _accounts(data, database, "token") as game:
        from refseg.apps.annotate.auth import people

        _, secret = game.database.write(lambda session: people.add_token(session, game, _find(session, name).id, label))
    print(secret)


def _change(verb: str, name: str, data: Path, database: str, **changes: Any) -> None:
    with _accounts(data, database, verb) as game:
        from refseg.apps.annotate.auth import people

        game.database.write(lambda session: people.change_person(session, game, _find(session, name).id, **changes))
    print(f"{name}: done")


def _find(session: Session, name: str) -> Person:
    from sqlalchemy import select

    from refseg.apps.annotate.database.tables import Person

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
