"""The JSON API: each file holds routes with the models of their requests and responses; the work is in `services`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.security import APIKeyCookie, HTTPBearer

from refseg.apps.annotate.api.models import ErrorBody

_MEANING = {
    400: "the request is malformed",
    401: "nobody is logged in",
    403: "not for this role, or the page's token is missing",
    404: "not there, or another's",
    408: "the body came too slowly",
    409: "the item, draft or sample is not in the state that this needs",
    413: "the body is too large",
    422: "a field is wrong, or the sentence is refused",
    429: "too many requests",
    500: "an error of the program",
    503: "the database is busy or away, or the disk is full; Retry-After says when to come again",
}


# Only said in the description: `auth.access` is what looks at them.
_TOKEN = HTTPBearer(auto_error=False, scheme_name="token", description="a token made under Mine")
_COOKIE = APIKeyCookie(name="refseg_game", auto_error=False, scheme_name="cookie", description="a login in a browser")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of refusals: these statuses and those that every route may answer."""
    listed = sorted({400, 401, 403, 408, 413, 422, 429, 500, 503, *statuses})
    return {status: {"model": ErrorBody, "description": _MEANING[status]} for status in listed}


def api_router(tag: str) -> APIRouter:
    """A router of the JSON API."""
    ways = [Depends(_TOKEN), Depends(_COOKIE)]
    return APIRouter(prefix="/api/v1", tags=[tag], responses=responses(), dependencies=ways)
