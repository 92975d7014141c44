"""Around every request: headers that browsers keep to, a limit to bodies, one answer to what nobody foresaw."""

from __future__ import annotations

import json
import logging
import secrets
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refseg.apps.annotate.auth.audit import note_security
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game

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

UPLOADS = ("/api/v1/admin/import",)
"""Paths, without the root path, whose bodies may be as large as `Settings.max_upload`."""


class _TooLarge(Exception):
    pass


class Envelope:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, game: Game) -> None:
        self.app, self.game = app, game

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = self._rooted(scope)
        limit = self._limit(scope)
        read = 0
        started = over = False

        async def counted() -> Message:
            nonlocal read, over
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                over = True
                raise _TooLarge
            return message

        async def dressed(message: Message) -> None:
            nonlocal started
            if over and not started:
                return  # the application took the cut for a fault of the body; the answer below says what it was
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = self._headers(scope, message.get("headers", []))
            await send(message)

        try:
            if _declared(scope) > limit:
                raise _TooLarge
            await self.app(scope, counted, dressed)
        except _TooLarge:
            over = True
        except Exception:
            if not over:
                number = secrets.token_hex(8)
                LOGGER.exception("request %s failed: %s %r", number, scope["method"], scope["path"])
                if started:
                    raise
                message = f"something went wrong here; tell the administrator the number {number}"
                await _answer(dressed, GameError("internal", message, id=number))
        if over:
            client = scope.get("client")
            note_security(self.game, "too_large", address=client[0] if client else "", path=scope["path"])
            if not started:
                over = False  # from here on the application has nothing more to say
                error = GameError("too_large", f"the request is larger than {limit:,} bytes", limit=limit)
                await _answer(dressed, error, close=True)

    def _rooted(self, scope: Scope) -> Scope:
        """With the root path in front of the path, as ASGI wants it; some proxies have cut it off."""
        root = self.game.settings.root_path
        if not root:
            return scope
        path = scope["path"] if scope["path"].startswith(root + "/") else root + scope["path"]
        return {**scope, "root_path": root, "path": path, "raw_path": path.encode("utf-8", "replace")}

    def _limit(self, scope: Scope) -> int:
        path = scope["path"].removeprefix(self.game.settings.root_path)
        return self.game.settings.max_upload if path in UPLOADS else self.game.settings.max_body

    def _headers(self, scope: Scope, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name.lower() for name, _ in given}
        more = {name: value for name, value in HEADERS.items() if name not in names}
        if b"cache-control" not in names:
            more[b"cache-control"] = b"no-store"
        if scope.get("scheme") == "https" or self.game.settings.secure_cookies:
            more[b"strict-transport-security"] = b"max-age=31536000"
        return [*given, *more.items()]


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def _answer(send: Any, error: GameError, close: bool = False) -> None:
    body = json.dumps(error.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if close:  # the rest of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
