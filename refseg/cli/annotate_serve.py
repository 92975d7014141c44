"""`refseg annotate serve`: the game of a data folder, opened to browsers."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from refseg.cli.annotate_common import add_place
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from refseg.apps.annotate.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_place(parser)
    add_server(parser)
    parser.add_argument("--demo", action="store_true", help="with drawn scenes (if there are no pictures) and accounts")


def add_server(parser: argparse.ArgumentParser) -> None:
    """What `serve` and `demo` have in common."""
    server = parser.add_argument_group("the server")
    server.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this machine only)"
    )
    server.add_argument("--port", type=int, default=8765, help="port to listen at (default 8765)")
    server.add_argument("--workers", type=int, default=1, metavar="N", help="processes that answer (default 1)")
    server.add_argument(
        "--root-path", default="", metavar="PATH", help="path under which a proxy shows the game: /game"
    )
    server.add_argument(
        "--forwarded-allow-ips", metavar="IPS",
        help="believe what a proxy at these addresses says about address and HTTPS (default: nobody)",
    )  # fmt: skip
    server.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME", help="answer to this host name only (repeatable)"
    )
    server.add_argument("--secure-cookies", action="store_true", help="cookies for HTTPS only, whatever the proxy says")
    game = parser.add_argument_group("the game")
    game.add_argument("--name", default="refseg game", help="title of the pages")
    game.add_argument(
        "--daily-goal", type=int, default=50, metavar="N", help="sentences and verdicts a day (default 50)"
    )
    game.add_argument(
        "--lease-minutes", type=float, default=15, metavar="M", help="how long an item is held (default 15)"
    )
    game.add_argument("--help-model", default="", metavar="NAME", help="show this model's answer after a submission")


def run(arguments: argparse.Namespace) -> int:
    """Serve until stopped."""
    from refseg.apps.annotate.demo import prepare_demo
    from refseg.apps.annotate.game import Game

    settings = settings_of(arguments)
    game = Game.open(settings)
    if arguments.demo:
        show_accounts(arguments, prepare_demo(game, 12))
    else:
        warn_if_empty(game)
    game.database.close()
    return serve(settings, arguments)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings of the command line; paths are made absolute for the workers."""
    from refseg.apps.annotate.settings import Settings

    return Settings(
        arguments.data.absolute(),
        arguments.database,
        name=arguments.name,
        root_path=arguments.root_path,
        allowed_hosts=tuple(arguments.allowed_host),
        secure_cookies=arguments.secure_cookies,
        daily_goal=arguments.daily_goal,
        lease_seconds=round(arguments.lease_minutes * 60),
        help_model=arguments.help_model,
    )


def serve(settings: Settings, arguments: argparse.Namespace) -> int:
    """Run the server in this process, or in several."""
    import uvicorn

    from refseg.apps.annotate.app import VARIABLE
    from refseg.apps.annotate.served import KEEP_ALIVE

    if arguments.workers < 1:
        raise RefsegError(f"--workers is at least 1, not {arguments.workers}")
    settings.secret()  # made once, before the workers look for it
    os.environ[VARIABLE] = settings.to_json()
    trusted = arguments.forwarded_allow_ips
    options: dict[str, Any] = {
        "host": arguments.host,
        "port": arguments.port,
        "proxy_headers": trusted is not None,
        "forwarded_allow_ips": trusted or "",
        "server_header": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": 10,
        "timeout_keep_alive": KEEP_ALIVE,
    }
    workers = arguments.workers if arguments.workers > 1 else None
    print(
        f"the game is at http://{arguments.host}:{arguments.port}{settings.root_path}/ (stop with Ctrl-C)", flush=True
    )
    uvicorn.run("refseg.apps.annotate.app:from_environment", factory=True, workers=workers, **options)
    return 0


def show_accounts(arguments: argparse.Namespace, passwords: dict[str, str]) -> None:
    """Print the demonstration's accounts."""
    print("accounts, with passwords made for this start:")
    for name, password in passwords.items():
        print(f"  {name:<8} {password}")


def warn_if_empty(game: Any) -> None:
    """Say what is missing before anybody can play."""
    from sqlalchemy import func, select

    from refseg.apps.annotate.tables import Person, Picture

    with game.database.read() as session:
        pictures = session.scalar(select(func.count()).select_from(Picture))
        people = session.scalar(select(func.count()).select_from(Person))
    place = f"--data {game.settings.data}"
    if not people:
        print(f"nobody can log in yet: refseg annotate user add NAME --roles administrator {place}")
    if not pictures:
        print(f"there are no pictures yet: refseg annotate import SRC {place}")
