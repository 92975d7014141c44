"""`refseg annotate serve` and `demo`: the game of a data folder, opened to browsers."""

from __future__ import annotations

import ipaddress
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import flag, opt
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from refseg.apps.annotate.game import Game
    from refseg.apps.annotate.settings import Settings

SERVER, GAME = "the server", "the game"

app = App()

_DATA = opt(
    "DIR",
    "folder of the game: pictures, the key of its cookies, and the database unless --database is given",
    "--data",
    group=GAME,
)
Data = Annotated[Path, _DATA]
Database = Annotated[
    str, opt("URL", "sqlite:///FILE or postgresql://USER@HOST/NAME (default: DIR/game.db)", group=GAME)
]
Host = Annotated[str, opt("IP", "address to listen at (127.0.0.1: this machine only)", group=SERVER)]
Port = Annotated[int, opt("N", "port to listen at", check=options.port, group=SERVER)]
Workers = Annotated[int, opt("N", "processes that answer", check=options.at_least(1), group=SERVER)]
RootPath = Annotated[str, opt("PATH", "path under which a proxy shows the game: /game", group=SERVER)]
ForwardedAllowIps = Annotated[
    str | None, opt("IPS", "addresses or networks of proxies that are believed about address and HTTPS", group=SERVER)
]
AllowedHost = Annotated[list[str] | None, opt("NAME", "answer to this host name only (repeatable)", group=SERVER)]
SecureCookies = Annotated[bool, flag("--secure-cookies", "cookies for HTTPS only", group=SERVER)]
Name = Annotated[str, opt("TEXT", "title of the pages", group=GAME)]
DailyGoal = Annotated[int, opt("N", "expressions and judgements a day", group=GAME)]
LeaseMinutes = Annotated[float, opt("M", "how long an item is held", group=GAME)]
SecondOpinion = Annotated[
    bool, flag("--second-opinion", "a rejected expression goes to a second validator", group=GAME)
]
ReturnDays = Annotated[
    float, opt("D", "when one that waits for a second validator goes back to its author (0: never)", group=GAME)
]
ProposeModel = Annotated[
    str,
    opt(
        "NAME",
        "proposes masks to editors, in a process of its own (none: do without)",
        names=options.model_names,
        group=GAME,
    ),
]
PracticeFirst = Annotated[int, opt("N", "right answers in practice before there is work", group=GAME)]
PracticeEvery = Annotated[int, opt("N", "verdicts after which one practice answer is due (0: none)", group=GAME)]
OidcIssuer = Annotated[str, opt("URL", "issuer of an OpenID Connect provider, for single sign-on", group=SERVER)]
OidcClient = Annotated[
    str, opt("ID", "this game's client id there; its secret is in REFSEG_ANNOTATE_OIDC_SECRET", group=SERVER)
]
OidcName = Annotated[str, opt("TEXT", "what the login page calls the provider", group=SERVER)]
OidcRoles = Annotated[
    str, opt("LIST", "roles of those who first come from there (none: only people added by their e-mail)", group=SERVER)
]
HelpModel = Annotated[str, opt("NAME", "show its answer after a submission", names=options.model_names, group=GAME)]


def make_settings(data: Path, database: str, **fields: Any) -> Settings:
    """The settings of a game; raises `RefsegError` where the packages that it needs are not installed."""
    try:
        import alembic  # noqa: F401
        import argon2  # noqa: F401
        import fastapi  # noqa: F401
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise RefsegError(f"the annotation game needs {error.name}: pip install 'refseg[annotate]'") from error
    from refseg.apps.annotate.settings import Settings

    if data.exists() and not data.is_dir():
        raise RefsegError(f"{data} is a file; --data wants the folder of a game")
    return Settings(data, database, **fields)


def _settings(context: typer.Context) -> Settings:
    """The settings that the options of `serve` and `demo` make; the data folder is absolute, for the workers."""
    values = context.params
    same = (
        "name", "root_path", "secure_cookies", "daily_goal", "second_opinion", "return_days", "practice_first",
        "practice_every", "oidc_issuer", "oidc_client", "oidc_name", "help_model",
    )  # fmt: skip
    return make_settings(
        values["data"].absolute(),
        values["database"],
        allowed_hosts=tuple(values["allowed_host"] or ()),
        lease_seconds=round(values["lease_minutes"] * 60),
        oidc_roles=tuple(role for role in values["oidc_roles"].replace(" ", "").split(",") if role),
        propose_model="" if values["propose_model"] == "none" else values["propose_model"],
        **{name: values[name] for name in same},
    )


@app.command("demo")
def demo(
    context: typer.Context,
    data: Data = Path("refseg-annotate-demo"),
    database: Database = "",
    scenes: Annotated[int, opt("N", "scenes to draw", group=GAME)] = 12,
    from_: Annotated[
        Path | None, opt("SRC", "pictures of your own, as for annotate import", "--from", group=GAME)
    ] = None,
    prepare_only: Annotated[bool, flag("--prepare-only", "make pictures and accounts, and do not serve")] = False,
    host: Host = "127.0.0.1",
    port: Port = 8765,
    workers: Workers = 1,
    root_path: RootPath = "",
    forwarded_allow_ips: ForwardedAllowIps = None,
    allowed_host: AllowedHost = None,
    secure_cookies: SecureCookies = False,
    name: Name = "refseg game",
    daily_goal: DailyGoal = 50,
    lease_minutes: LeaseMinutes = 15.0,
    second_opinion: SecondOpinion = False,
    return_days: ReturnDays = 3.0,
    propose_model: ProposeModel = "instances",
    practice_first: PracticeFirst = 0,
    practice_every: PracticeEvery = 0,
    oidc_issuer: OidcIssuer = "",
    oidc_client: OidcClient = "",
    oidc_name: OidcName = "single sign-on",
    oidc_roles: OidcRoles = "",
    help_model: HelpModel = "",
) -> None:
    """Open a game on drawn scenes, or your pictures, with accounts to try."""
    settings = _settings(context)
    from refseg.apps.annotate.game import Game
    from refseg.apps.annotate.services.demo import prepare_demo
    from refseg.apps.annotate.services.importing import import_source

    game = Game.open(settings)
    if from_ is not None:
        brought = import_source(game, from_)
        print(f"{brought.pictures} pictures with {brought.objects} objects imported, {len(brought.problems)} problems")
    _print_accounts(prepare_demo(game, scenes))
    game.database.close()
    if not prepare_only:
        _serve(settings, host, port, workers, forwarded_allow_ips)


@app.command("serve")
def serve(
    context: typer.Context,
    data: Data,
    database: Database = "",
    demo: Annotated[bool, flag("--demo", "with drawn scenes (if there are no pictures) and accounts")] = False,
    host: Host = "127.0.0.1",
    port: Port = 8765,
    workers: Workers = 1,
    root_path: RootPath = "",
    forwarded_allow_ips: ForwardedAllowIps = None,
    allowed_host: AllowedHost = None,
    secure_cookies: SecureCookies = False,
    name: Name = "refseg game",
    daily_goal: DailyGoal = 50,
    lease_minutes: LeaseMinutes = 15.0,
    second_opinion: SecondOpinion = False,
    return_days: ReturnDays = 3.0,
    propose_model: ProposeModel = "instances",
    practice_first: PracticeFirst = 0,
    practice_every: PracticeEvery = 0,
    oidc_issuer: OidcIssuer = "",
    oidc_client: OidcClient = "",
    oidc_name: OidcName = "single sign-on",
    oidc_roles: OidcRoles = "",
    help_model: HelpModel = "",
) -> None:
    """Open the game of a data folder in a browser, until it is stopped."""
    settings = _settings(context)
    from refseg.apps.annotate.game import Game
    from refseg.apps.annotate.services.demo import prepare_demo

    game = Game.open(settings)
    if demo:
        _print_accounts(prepare_demo(game, 12))
    else:
        _warn_if_empty(game)
    game.database.close()
    _serve(settings, host, port, workers, forwarded_allow_ips)


def _serve(settings: Settings, host: str, port: int, workers: int, trusted: str | None) -> None:
    """Run the server in this process, or in several."""
    check_proxies(trusted)
    import uvicorn

    from refseg.apps.annotate.app import VARIABLE
    from refseg.apps.annotate.settings import KEEP_ALIVE
    from refseg.apps.serve.metrics import FOLDER

    settings.secret()  # made once, before the workers look for it
    os.environ[VARIABLE] = settings.to_json()
    shared = tempfile.mkdtemp(prefix="refseg-game-") if workers > 1 else ""
    if shared:
        os.environ[FOLDER] = shared
    print(f"the game is at http://{host}:{port}{settings.root_path}/ (stop with Ctrl-C)", flush=True)
    try:
        uvicorn.run(
            "refseg.apps.annotate.app:from_environment",
            factory=True,
            workers=workers if workers > 1 else None,
            host=host,
            port=port,
            proxy_headers=trusted is not None,
            forwarded_allow_ips=trusted or "",
            server_header=False,
            log_level="warning",
            timeout_graceful_shutdown=10,
            timeout_keep_alive=KEEP_ALIVE,
        )
    finally:
        if shared:
            shutil.rmtree(shared, ignore_errors=True)


def check_proxies(trusted: str | None) -> None:
    """Raises `RefsegError` unless each trusted proxy is an address or a network.

    The header X-Forwarded-For is read from its end to the first address that is not a trusted proxy's; who trusts
    everybody believes whatever a stranger writes at its start.
    """
    for name in [] if trusted is None else trusted.split(","):
        try:
            network = ipaddress.ip_network(name.strip(), strict=False)
        except ValueError:
            raise RefsegError(
                f"--forwarded-allow-ips {name.strip()!r}: the address or network of a proxy is wanted, such as "
                "127.0.0.1 or 10.0.0.0/24"
            ) from None
        if not network.prefixlen:
            raise RefsegError(f"--forwarded-allow-ips {name.strip()}: that trusts everybody; name the proxies")


def _print_accounts(passwords: dict[str, str]) -> None:
    print("accounts, with passwords made for this start:")
    for name, password in passwords.items():
        print(f"  {name:<8} {password}")


def _warn_if_empty(game: Game) -> None:
    """Say what is missing before anybody can play."""
    from sqlalchemy import func, select

    from refseg.apps.annotate.database.tables import Person, Picture
    from refseg.apps.annotate.services.missing import some_missing

    with game.database.read() as session:
        pictures = session.scalar(select(func.count()).select_from(Picture))
        people = session.scalar(select(func.count()).select_from(Person))
        missing = some_missing(session, game.settings)
    place = f"--data {game.settings.data}"
    if not people:
        print(f"nobody can log in yet: refseg annotate user add NAME --roles administrator {place}")
    if missing:
        print(f"pictures are missing, {missing[0]} among them: refseg annotate check {place}")
    if not pictures:
        print(f"there are no pictures yet: refseg annotate import SRC {place}")
