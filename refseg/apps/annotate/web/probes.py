"""What those who look after the server ask: whether it runs, whether it can play, and its counters."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from refseg.apps.annotate.auth.access import Administrator, GameDep
from refseg.apps.annotate.database.engine import disk_full
from refseg.apps.annotate.database.migrate import newest, version
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.limits import hit
from refseg.apps.annotate.services.disk import free_bytes
from refseg.apps.annotate.services.missing import some_missing

router = APIRouter(include_in_schema=False)

LEAST_FREE = 16 << 20
"""Bytes without which nobody can play for long: drafts and sentences are written all the time."""
_AGAIN = 10  # seconds after which a server that is not ready is asked again


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """That the process answers, and no more: a server that waits for its database is not to be killed."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(game: GameDep) -> Response:
    """Whether somebody can play: the database takes a row, the disk has room, the pictures are there."""
    reason = _not_ready(game)
    if reason is None:
        return JSONResponse({"status": "ready"})
    body = {"status": "not ready", "reason": reason}
    return JSONResponse(body, 503, {"Retry-After": str(_AGAIN)})


def _not_ready(game: Game) -> str | None:
    try:
        if version(game.database) != newest():
            return "the database is of another version; run refseg annotate migrate"
        if free_bytes(game.settings.data) < LEAST_FREE:
            raise disk_full()
        game.database.write(lambda session: hit(session, game.clock(), "ready", 60))
        with game.database.read() as session:
            missing = some_missing(session, game.settings)
    except GameError as error:
        return error.message
    except Exception as error:  # no answer of a probe is an error of the program
        return f"the database cannot be asked ({type(error).__name__})"
    return None if not missing else f"pictures are missing, {missing[0]} among them; run refseg annotate check"


@router.get("/metrics")
def metrics(request: Request, game: GameDep, person: Administrator) -> Response:
    """Counters in Prometheus' format, for an administrator's token."""
    with game.database.read() as session:
        text: bytes = request.app.state.metrics.text(game, session)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
