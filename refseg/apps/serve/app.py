"""The web application: `create_app(settings)` wires it and nothing else does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from refseg import __version__
from refseg.apps.serve.api import images, label_studio, search, segment, service
from refseg.apps.serve.errors import STATUS, ServeError
from refseg.apps.serve.metrics import FOLDER
from refseg.apps.serve.searching import Searcher, SearchIndex
from refseg.apps.serve.settings import Settings
from refseg.apps.serve.state import State
from refseg.apps.serve.web import page
from refseg.apps.serve.web.middleware import Envelope

if TYPE_CHECKING:
    from refseg.inference.predictor import Segmenter

VARIABLE = "REFSEG_SERVE_SETTINGS"
DESCRIPTION = "Which pixels of a picture does an expression mean? One thing, several, or none."


def create_app(
    settings: Settings | None = None,
    segmenters: Mapping[str, Segmenter] | None = None,
    index: SearchIndex | None = None,
) -> FastAPI:
    """The server's application, an ASGI callable.

    `segmenters` are models that are loaded already, by the names that requests use; without them `settings.models` are
    loaded when the application starts, which answers 503 meanwhile. `index` is an index that is open, in the place of
    `settings.index`.
    """
    settings = settings or Settings()
    state = State(settings, segmenters)
    searches = bool(settings.index) or index is not None
    if index is not None:
        state.searcher = Searcher(index)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if not state.ready or (settings.index and state.searcher is None):
            state.ready = False
            state.load()
        yield
        state.close()
        if os.environ.get(FOLDER):
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(os.getpid())

    app = FastAPI(
        title="refseg",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/openapi.json",
        docs_url=None,  # the viewer would load scripts from elsewhere, which the policy of the pages forbids
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.serve = state
    for module in (segment, images, service, label_studio):
        app.include_router(module.router)
    if searches:
        app.include_router(search.router)
    if settings.page:
        app.include_router(page.router)
        app.mount("/static", page.Statics(), name="static")
    app.add_exception_handler(ServeError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    if settings.allowed_hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts))
    app.add_middleware(Envelope, state=state)
    return app


def from_environment() -> FastAPI:
    """The application of the settings in `REFSEG_SERVE_SETTINGS`: what each worker process calls."""
    return create_app(Settings.from_json(os.environ[VARIABLE]))


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServeError)
    return JSONResponse(error.body(), error.status, error.headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _refused(request, segment.invalid(list(error.errors())))


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = next((code for code, status in STATUS.items() if status == error.status_code), "bad_request")
    message = "there is no such address" if error.status_code == 404 else str(error.detail)
    return JSONResponse(ServeError(code, message).body(), error.status_code, dict(error.headers or {}))
