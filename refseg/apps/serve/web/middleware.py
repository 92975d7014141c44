"""Around every request: keys, limits that hold before a body is read, headers that browsers keep to, counters."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import secrets
import time
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.settings import MB, is_key
from refseg.apps.serve.state import ClientLeft, State

LOGGER = logging.getLogger("refseg.serve")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: dict[bytes, bytes] = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(self), geolocation=(), microphone=(), payment=(), usb=()",
}
OPEN = ("/", "/healthz", "/readyz")
"""Paths that need no key, beside /static: they say nothing and compute nothing."""
DRAINED = 10.0
"""Seconds for which the rest of a refused body is read and thrown away, so that its sender sees the refusal."""
LEFT = 499
"""The status that is counted where the client has left (nginx's number for it)."""


class Envelope:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message["headers"] = _headers(message.get("headers", []))
            await send(message)

        try:
            await self._answer(scope, receive, dressed)
        except ClientLeft:
            status = LEFT
        except Exception:
            number = secrets.token_hex(8)
            LOGGER.exception("request %s failed: %s %r", number, scope["method"], scope["path"])
            if status:
                raise
            await _refuse(dressed, ServeError("internal", f"something went wrong here (number {number})"))
        finally:
            route = getattr(scope.get("route"), "path", None) or "other"
            metrics = self.state.metrics
            metrics.requests.labels(route, status).inc()
            if status != LEFT:
                metrics.seconds.labels(route).observe(time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self.state.settings.max_body * MB
        declared = _declared(scope)
        refusal: ServeError | None = None
        started = False
        read = 0
        with self.state.budget.taking() as share:
            scope.setdefault("state", {})["share"] = share

            async def counted() -> Message:
                nonlocal refusal, read
                message = await receive()
                read += len(message.get("body", b""))
                try:
                    if read > limit:
                        raise _too_large(limit)
                    share.take(max(0, read - max(declared, share.held)))
                except ServeError as error:
                    refusal = error
                    raise
                return message

            async def guarded(message: Message) -> None:
                nonlocal started
                if refusal is not None and not started:
                    return  # the application took the cut for a fault of the body; the answer below says what it was
                started = True
                await send(message)

            try:
                self._check(scope, declared, limit)
                share.take(declared)
            except ServeError as error:
                if declared <= limit:
                    await _drain(receive)
                await _refuse(send, error, close=declared > limit)
                return
            try:
                await self.app(scope, counted, guarded)
            except ServeError as error:  # raised while the body was read
                refusal = refusal or error
            if refusal is not None and not started:
                await _refuse(send, refusal, close=True)

    def _check(self, scope: Scope, declared: int, limit: int) -> None:
        """What is refused before the body is read."""
        path = scope["path"]
        if self.state.keys and path not in OPEN and not path.startswith("/static/"):
            given = _key(scope)
            if given is None or not is_key(given, self.state.keys):
                raise ServeError("key_required", "a key is wanted: Authorization: Bearer KEY")
        if declared > limit:
            raise _too_large(limit)
        if scope["method"] == "POST" and _computes(path):
            self.state.check_ready()
            self.state.engine.check_room()


def _computes(path: str) -> bool:
    return path in ("/v1/segment", "/v1/images", "/label-studio/predict") or path.endswith("/ask")


def _too_large(limit: int) -> ServeError:
    return ServeError("too_large", f"the request is larger than {limit:,} bytes", limit=limit)


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _key(scope: Scope) -> str | None:
    """The key of a request: `Authorization: Bearer KEY`, `Basic` with it as the password, or `X-API-Key`."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    scheme, _, rest = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            return base64.b64decode(rest).decode().partition(":")[2]
    return headers.get(b"x-api-key")


def _headers(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in given}
    more = {name: value for name, value in HEADERS.items() if name not in names}
    if b"cache-control" not in names:
        more[b"cache-control"] = b"no-store"
    return [*given, *more.items()]


async def _drain(receive: Receive) -> None:
    """Read the rest of the body away: a client that is still sending would not see the answer."""

    async def read() -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(read(), DRAINED)


async def _refuse(send: Send, error: ServeError, close: bool = False) -> None:
    body = json.dumps(error.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    if close:  # the rest of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
