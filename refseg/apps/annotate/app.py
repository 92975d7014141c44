"""The web application: `create_app(settings)` wires it and nothing else does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from refseg import __version__
from refseg.apps.annotate.api import administration, datasets, editing, holding, me, own, playing, team
from refseg.apps.annotate.auth.access import Gate, Visitor, visitor
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.settings import Settings
from refseg.apps.annotate.web import pages, probes, signing
from refseg.apps.annotate.web.metrics import Metrics
from refseg.apps.annotate.web.middleware import PROBES, Envelope
from refseg.apps.annotate.web.statics import Statics

VARIABLE = "REFSEG_ANNOTATE_SETTINGS"

_CODES = {400: "bad_request", 401: "login_required", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


def create_app(settings: Settings, game: Game | None = None) -> FastAPI:
    """The application of a game, as an ASGI callable.

    Args:
        settings: see `Settings`.
        game: an opened game, with a clock or chance of its own; opened here if None.
    """
    game = game or Game.open(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        game.database.close()

    app = FastAPI(
        title="refseg annotation game",
        version=__version__,
        description="Write sentences about objects of pictures, and find what others' sentences mean.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # the viewer would load scripts from elsewhere, which the pages' policy forbids
        redoc_url=None,
        redirect_slashes=False,  # the redirection would go to whatever host the request names
        lifespan=lifespan,
    )
    statics = Statics(settings.root_path)
    app.state.game = game
    app.state.gate = Gate(game, settings.secret())
    app.state.templates = pages.environment(statics)
    app.state.metrics = Metrics()
    for module in (playing, holding, editing, me, own, team, administration, datasets, pages, signing):
        app.include_router(module.router)
    app.mount("/static", statics)
    app.include_router(probes.router)
    app.add_exception_handler(GameError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Envelope, game=game, metrics=app.state.metrics)
    return app


def from_environment() -> FastAPI:
    """The application of the settings in `REFSEG_ANNOTATE_SETTINGS`: what each worker process calls."""
    return create_app(Settings.from_json(os.environ[VARIABLE]))


def _wants_page(request: Request) -> bool:
    path = request.url.path.removeprefix(request.app.state.game.settings.root_path)
    return not path.startswith(("/api/", "/static/", *PROBES)) and "text/html" in request.headers.get("accept", "")


def _answer(request: Request, error: GameError, status: int | None = None) -> Response:
    status = status or error.status
    headers = {}
    if "seconds" in error.details:
        headers["Retry-After"] = str(error.details["seconds"])
    if _wants_page(request):
        try:
            who = visitor(request)
        except GameError:
            who = Visitor(None, "")
        response: Response = pages.render(
            request, "error.html", who, status, code=error.code, message=error.message, status=status
        )
        response.headers.update(headers)
        return response
    return JSONResponse(error.body(), status, headers)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, GameError)
    return _answer(request, error)


def _invalid(request: Request, error: Exception) -> Response:
    """A body, path or query that does not fit the description; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    faults: list[dict[str, Any]] = []
    for fault in error.errors()[:20]:
        place = [str(part) for part in fault["loc"] if part not in ("body", "query", "path", "header")]
        if fault["type"] == "json_invalid":
            return _answer(request, GameError("bad_request", "the body is not valid JSON"))
        faults.append({"field": _printable(".".join(place)) or None, "message": fault["msg"]})
    first = faults[0] if faults else {"field": None, "message": "the request does not fit its description"}
    where = f"{first['field']}: " if first["field"] else ""
    return _answer(request, GameError("invalid", f"{where}{first['message']}", first["field"], fields=faults))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "bad_request")
    message = "there is no such page" if error.status_code == 404 else str(error.detail)
    response = _answer(request, GameError(code, message), error.status_code)
    response.headers.update(error.headers or {})
    return response


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:100]
