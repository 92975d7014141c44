"""The pages: shells that the browser fills from the API, and the login form."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.orm import Session

from refseg import __version__
from refseg.apps.annotate.api.models import LARGEST
from refseg.apps.annotate.auth import people
from refseg.apps.annotate.auth.access import (
    COOKIE,
    Visitor,
    VisitorDep,
    address_of,
    check_csrf,
    game_of,
    gate_of,
    refuse,
    visitor,
)
from refseg.apps.annotate.auth.attempts import attempt, keys_of, succeeded
from refseg.apps.annotate.auth.audit import note_security
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.services import overview
from refseg.apps.annotate.states import as_table
from refseg.apps.annotate.web.statics import Statics
from refseg.apps.annotate.web.texts import LANGUAGES, catalog, language_of, translator

router = APIRouter(include_in_schema=False)

_HOME = Path(__file__).parent
_DEVICE_SECONDS = 365 * 86_400
# address -> (role that may see it, template)
PAGES: dict[str, tuple[str | None, str]] = {
    "/": (None, "home.html"),
    "/write": ("annotator", "write.html"),
    "/validate": ("validator", "validate.html"),
    "/edit": ("editor", "edit.html"),
    "/practice": (None, "practice.html"),
    "/mine": (None, "mine.html"),
    "/leaderboard": (None, "leaderboard.html"),
    "/help": (None, "help.html"),
    "/admin": ("administrator", "admin.html"),
    "/admin/samples": ("administrator", "admin_samples.html"),
    "/admin/review": ("administrator", "admin_review.html"),
    "/admin/people": ("administrator", "admin_people.html"),
    "/admin/team": ("administrator", "admin_team.html"),
    "/admin/data": ("administrator", "admin_data.html"),
    "/admin/log": ("administrator", "admin_log.html"),
}


def environment(statics: Statics) -> Environment:
    """Jinja2 with everything escaped and every unknown name an error."""
    pages = Environment(loader=FileSystemLoader(_HOME / "templates"), autoescape=True, undefined=StrictUndefined)
    pages.globals["static"] = statics.url
    return pages


def render(request: Request, template: str, who: Visitor, status_code: int = 200, **more: Any) -> HTMLResponse:
    """A page; sets the visitor's cookie where it is new."""
    game, gate = game_of(request), gate_of(request)
    splits: list[str] = []
    with suppress(GameError), game.database.read() as session:  # the page that says that the database is away
        splits = overview.splits_of(session)
    person = who.person
    settings = game.settings
    language = language_of(request, person)
    context: dict[str, Any] = {
        "root": settings.root_path,
        "user": None if person is None else {"id": person.id, "name": person.name, "roles": person.role_list},
        "csrf": gate.csrf(who.number),
        "theme": "auto" if person is None else person.theme,
        "language": language,
        "languages": LANGUAGES,
        "texts": catalog(language),
        "_": translator(language),
        "game": {
            "name": settings.name,
            "version": __version__,
            "help_enabled": bool(settings.help_model),
            "practice": bool(settings.practice_first or settings.practice_every),
            "sign_on": settings.oidc_name if settings.oidc_issuer else None,
            "daily_goal": settings.daily_goal,
            "max_text": settings.max_text,
            "splits": splits,
        },
        "page": template.removesuffix(".html"),
        "status_code": status_code,
        **more,
    }
    text = request.app.state.templates.get_template(template).render(context)
    response = HTMLResponse(text, status_code)
    if who.fresh:
        set_cookie(request, response, who.number)
    return response


def set_cookie(request: Request, response: Response, number: str) -> None:
    """Give the browser its number."""
    _set(request, response, COOKIE, gate_of(request).sign(number), game_of(request).settings.session_seconds)


def _set(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    settings = game_of(request).settings
    response.set_cookie(
        name, value, max_age=seconds, path=settings.root_path or "/",
        httponly=True, samesite="lax", secure=settings.secure_cookies or request.url.scheme == "https",
    )  # fmt: skip


def _page(address: str, role: str | None, template: str) -> None:
    def show(request: Request, who: VisitorDep) -> Response:
        return _show(request, who, role, template)

    router.add_api_route(address, show, methods=["GET"], name=template)


def _show(request: Request, who: Visitor, role: str | None, template: str, **more: Any) -> Response:
    root = game_of(request).settings.root_path
    if who.person is None:
        path = request.url.path.removeprefix(root)
        return RedirectResponse(f"{root}/login?next={path}", 303)
    masks = role == "editor" and "administrator" in who.person.role_list
    if role is not None and role not in who.person.role_list and not masks:
        raise refuse(request, "forbidden", GameError("forbidden", f"this page is for the role {role}"), who.person.id)
    if template == "help.html":
        more["rules"] = as_table()
    return render(request, template, who, **more)


for _address, (_role, _template) in PAGES.items():
    _page(_address, _role, _template)


@router.get("/admin/samples/{sample_id}")
def one_sample(sample_id: str, request: Request, who: VisitorDep) -> Response:
    """Everything about a sample."""
    if not sample_id.isascii() or not sample_id.isdecimal() or not 0 < int(sample_id[:20]) <= LARGEST:
        raise GameError("not_found", "there is no such page")
    return _show(request, who, "administrator", "admin_sample.html", sample_id=int(sample_id))


@router.get("/login")
def login_page(request: Request, who: Annotated[Visitor, Depends(visitor)], next: str = "/") -> Response:
    """The login form."""
    if who.person is not None:
        return RedirectResponse(inside(request, next), 303)
    return render(request, "login.html", who, error=None, next=plain(next), name="")


@router.post("/login")
def log_in(
    request: Request,
    who: VisitorDep,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    csrf_token: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Log in; the cookie gets a new number."""
    game = game_of(request)
    address = address_of(request)
    shown = {"next": plain(next), "name": name[:60]}
    try:
        check_csrf(request, who, csrf_token)
    except GameError:
        if not request.cookies:
            message = "the browser sent no cookie: allow cookies for this address, and try again"
        else:
            message = "the page was too old: try again"
        return render(request, "login.html", who, 400, error=message, **shown)
    keys = keys_of(name, address, gate_of(request).device_of(name, request.cookies))
    wait = game.database.write(lambda session: attempt(session, game, keys))
    if wait:
        note_security(game, "login_limited", address=address, path=request.url.path, name=name[:60])
        message = f"too many attempts: wait {wait} seconds"
        limited = render(request, "login.html", who, 429, error=message, **shown)
        limited.headers["Retry-After"] = str(wait)
        return limited
    with game.database.read() as session:
        person = people.check_password(session, name, password)
    if person is None:
        note_security(game, "login_failed", address=address, path=request.url.path, name=name[:60])
        message = "name or password is wrong, or the account is closed"
        return render(request, "login.html", who, 401, error=message, **shown)
    owner = person

    def enter(session: Session) -> str:
        succeeded(session, keys)
        return people.log_in(session, game, owner)

    number = game.database.write(enter)
    note_security(game, "login", person=person.id, address=address, path=request.url.path)
    response = RedirectResponse(inside(request, next), 303)
    set_cookie(request, response, number)
    device, value = gate_of(request).new_device(name)
    _set(request, response, device, value, _DEVICE_SECONDS)
    return response


@router.post("/logout")
def log_out(request: Request, who: VisitorDep, csrf_token: Annotated[str, Form(max_length=200)] = "") -> Response:
    """End the login."""
    game = game_of(request)
    if who.person is not None and not who.by_token:
        check_csrf(request, who, request.headers.get("x-csrf-token") or csrf_token)
        game.database.write(lambda session: people.log_out(session, who.number))
    response = RedirectResponse(f"{game.settings.root_path}/login", 303)
    response.delete_cookie(COOKIE, path=game.settings.root_path or "/")
    return response


def plain(target: str) -> str:
    """A page of this game to go on with; anything else becomes the first page."""
    known = target in PAGES or (target.startswith("/admin/samples/") and target[15:].isdecimal())
    return target if known else "/"


def inside(request: Request, target: str) -> str:
    """The address of a page of this game, see `plain`."""
    return game_of(request).settings.root_path + plain(target)
