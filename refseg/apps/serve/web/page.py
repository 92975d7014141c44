"""The page: one document and its modules, served from the package."""

from __future__ import annotations

import json
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from refseg.apps.serve.state import state_of

FOLDER = Path(__file__).parent / "static"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request) -> HTMLResponse:
    """The document, told what this server has."""
    state = state_of(request)
    told = {
        "key": bool(state.keys),
        "search": bool(state.settings.index) or state.searcher is not None,
        "maxBytes": state.settings.max_body << 20,
        "maxLetters": state.settings.max_letters,
        "maxTexts": state.settings.max_texts,
    }
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    return HTMLResponse(text.replace("{{settings}}", json.dumps(told).replace('"', "&quot;")))


class Statics(StaticFiles):
    """The page's files; browsers ask each time whether they have changed."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file's answer."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response
