"""Refusals: each has a code for programs, a message for people, and the HTTP status that goes with it."""

from __future__ import annotations

from typing import Any

from refseg.errors import RefsegError

STATUS: dict[str, int] = {
    "bad_request": 400,
    "key_required": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "unsupported": 415,
    "invalid": 422,
    "busy": 429,
    "internal": 500,
    "not_ready": 503,
}
"""Code -> HTTP status."""


class ServeError(RefsegError):
    """A request that is refused: `code` is a key of `STATUS`, `message` one sentence for whoever asked, `details` what
    a program can use."""

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.code]

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response: when to come back, how to say who one is."""
        if "seconds" in self.details:
            return {"Retry-After": str(self.details["seconds"])}
        return {"WWW-Authenticate": "Bearer"} if self.code == "key_required" else {}

    def body(self) -> dict[str, Any]:
        """The response's JSON."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}
