"""Around every request: what is refused before its body is read, limits while it is, headers that browsers keep to, one
answer to what nobody foresaw, counters.

The body of a writing request of the API is not looked at before login, page's token and, for uploads, role are in
order; then it may neither grow beyond its limit, nor stand still, nor fill the disk.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refseg.apps.annotate.auth.access import SAFE, admit
from refseg.apps.annotate.auth.audit import note_security
from refseg.apps.annotate.database.engine import disk_full
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.disk import free_bytes, is_full
from refseg.apps.annotate.web.metrics import Metrics

LOGGER = logging.getLogger("refseg.apps.annotate")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'; "
    "worker-src 'self'"
)

HEADERS: dict[bytes, bytes] = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

UPLOADS: dict[str, str] = {"/api/v1/admin/import": "administrator"}
"""Paths, without the root path, whose bodies may be as large as `Settings.max_upload`, and who may send them."""
PROBES = ("/healthz", "/readyz", "/metrics")
"""Paths that answer under every host name: those who look after the server know it by its address."""

_LOOK_EVERY = 4 << 20  # bytes of an upload between looks at the disk
_REMAINDER = 1 << 20  # bytes of a refused body that are read away, so that its sender sees the refusal
_NOTED = ("too_large", "too_slow", "busy", "disk_full")  # what goes into the log beside what `admit` refuses


class Envelope:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, game: Game, metrics: Metrics) -> None:
        self.app, self.game, self.metrics = app, game, metrics
        self._uploading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        scope = self._rooted(scope)
        body = _Body(self.game, scope, receive, self._path(scope) in UPLOADS)
        status = 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if body.refusal is not None and not status:
                return  # the application took the cut for a fault of the body; the answer below says what it was
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message["headers"] = self._headers(scope, message.get("headers", []))
            await send(message)

        refusal: GameError | None = None
        try:
            try:
                await self._answer(scope, body, dressed)
            except GameError as error:
                refusal = error
            except Exception as error:
                if body.refusal is None:
                    refusal = self._unforeseen(scope, error)
                    if status:
                        raise
            refusal = body.refusal or refusal
            if refusal is not None and not status:
                body.refusal = None  # from here on the application has nothing more to say
                if refusal.code in _NOTED:
                    await run_in_threadpool(self._note, scope, refusal.code)
                with suppress(Exception):
                    await body.read_away()
                await _refuse(dressed, refusal, close=not body.complete)
        finally:
            self.metrics.count(scope, status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, body: _Body, send: Send) -> None:
        path = self._path(scope)
        self._check_host(scope, path)
        body.check_declared()
        if not path.startswith("/api/") or scope["method"] in SAFE:
            await self.app(scope, body.receive, send)
            return
        await run_in_threadpool(admit, Request(scope), UPLOADS.get(path))
        if path not in UPLOADS:
            await self.app(scope, body.receive, send)
            return
        with self._turn():
            await body.check_disk(2 * body.declared)  # as sent, and as unpacked
            await self.app(scope, body.receive, send)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._uploading >= self.game.settings.uploads_at_once:
            raise GameError("busy", "other uploads are under way; send it again in a minute", seconds=60)
        self._uploading += 1
        try:
            yield
        finally:
            self._uploading -= 1

    def _note(self, scope: Scope, event: str) -> None:
        client = scope.get("client")
        note_security(self.game, event, address=client[0] if client else "", path=scope["path"])

    def _unforeseen(self, scope: Scope, error: Exception) -> GameError:
        """The answer to an error of the program, or of its disk."""
        if is_full(error):
            LOGGER.error("the disk is full: %s %r", scope["method"], scope["path"])
            return disk_full()
        number = secrets.token_hex(8)
        LOGGER.error("request %s failed: %s %r", number, scope["method"], scope["path"], exc_info=error)
        message = f"something went wrong here; tell the administrator the number {number}"
        return GameError("internal", message, id=number)

    def _check_host(self, scope: Scope, path: str) -> None:
        """A name that is not the game's is refused, and never sent on to another."""
        allowed = self.game.settings.allowed_hosts
        if not allowed or path in PROBES:
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if not any(
            one in ("*", name) or (one.startswith("*.") and name.endswith(one[1:])) for one in map(str.lower, allowed)
        ):
            raise GameError("bad_request", "the game is not served under this host name")

    def _path(self, scope: Scope) -> str:
        path: str = scope["path"]
        return path.removeprefix(self.game.settings.root_path)

    def _rooted(self, scope: Scope) -> Scope:
        """With the root path in front of the path, as ASGI wants it; some proxies have cut it off."""
        root = self.game.settings.root_path
        if not root:
            return scope
        path = scope["path"] if scope["path"].startswith(root + "/") else root + scope["path"]
        return {**scope, "root_path": root, "path": path, "raw_path": path.encode("utf-8", "replace")}

    def _headers(self, scope: Scope, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name.lower() for name, _ in given}
        more = {name: value for name, value in HEADERS.items() if name not in names}
        if b"cache-control" not in names:
            more[b"cache-control"] = b"no-store"
        if scope.get("scheme") == "https" or self.game.settings.secure_cookies:
            more[b"strict-transport-security"] = b"max-age=31536000"
        return [*given, *more.items()]


class _Body:
    """The body of one request, as the application reads it; `refusal` is what was wrong with it."""

    def __init__(self, game: Game, scope: Scope, receive: Receive, upload: bool) -> None:
        self.game, self.upload = game, upload
        self.refusal: GameError | None = None
        self.complete = False
        self.declared = _declared(scope)
        self._receive = receive
        self._read = self._looked = 0
        self._began: float | None = None
        settings = game.settings
        self._limit = settings.max_upload if upload else settings.max_body

    def check_declared(self) -> None:
        """Raises `GameError` "too_large" where the request says so itself."""
        if self.declared > self._limit:
            raise self._too_large()

    async def check_disk(self, more: int) -> None:
        """Raises `GameError` "disk_full" unless `more` bytes leave the reserve free."""
        reserve = self.game.settings.disk_reserve
        for folder in (self.game.settings.data, Path(tempfile.gettempdir())):
            if await run_in_threadpool(free_bytes, folder) - more < reserve:
                raise disk_full()

    async def receive(self) -> Message:
        """The next message; the application sees no more of a body that is refused."""
        if self.complete:
            return await self._receive()
        try:
            return await self._next()
        except GameError as error:
            self.refusal = error
            raise

    async def read_away(self) -> None:
        """Read a little of what is left: a client that is still sending would not see the answer."""
        left = _REMAINDER
        while not self.complete and left > 0 and self.declared <= self._limit:
            message = await asyncio.wait_for(self._receive(), 2)
            left -= len(message.get("body", b""))
            self.complete = message["type"] == "http.disconnect" or not message.get("more_body", False)

    async def _next(self) -> Message:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        seconds = self.game.settings.body_seconds
        patience = seconds if self.upload else max(0.01, self._began + seconds - now)
        try:
            message = await asyncio.wait_for(self._receive(), patience)
        except asyncio.TimeoutError:
            raise self._too_slow() from None
        if message["type"] != "http.request":
            self.complete = True
            return message
        self._read += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        if self._read > self._limit:
            raise self._too_large()
        took = time.monotonic() - self._began
        if took > seconds and (not self.upload or self._read < self.game.settings.upload_pace * took):
            raise self._too_slow()
        if self.upload and self._read - self._looked > _LOOK_EVERY:
            self._looked = self._read
            await self.check_disk(0)
        return message

    def _too_large(self) -> GameError:
        return GameError("too_large", f"the request is larger than {self._limit:,} bytes", limit=self._limit)

    def _too_slow(self) -> GameError:
        return GameError("too_slow", "the request came too slowly; send it again over a better connection")


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def _refuse(send: Any, error: GameError, close: bool = False) -> None:
    body = json.dumps(error.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if "seconds" in error.details:
        headers.append((b"retry-after", str(error.details["seconds"]).encode()))
    if close:  # the rest of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
