"""Refusals: each has a code for programs, a message for people, and the HTTP status that goes with it."""

from __future__ import annotations

from typing import Any

from refseg.errors import RefsegError

# code -> HTTP status; the API's description and the tests read this table
STATUS: dict[str, int] = {
    "bad_request": 400,
    "login_required": 401,
    "forbidden": 403,
    "csrf": 403,
    "inactive": 403,
    "not_found": 404,
    "sign_on": 401,
    "method_not_allowed": 405,
    "too_slow": 408,
    "lease_lost": 409,
    "draft_conflict": 409,
    "not_allowed": 409,
    "key_reused": 409,
    "too_large": 413,
    "invalid": 422,
    "duplicate": 422,
    "near_duplicate": 422,
    "slow_down": 429,
    "internal": 500,
    "model": 503,
    "busy": 503,
    "disk_full": 503,
}


class GameError(RefsegError):
    """A request that the game refuses.

    Args:
        code: a key of `STATUS`.
        message: one sentence for the person who asked.
        field: the field of the request that is wrong, if one is.
        details: what a program can use: the earlier sentence, the seconds to wait, ...
    """

    def __init__(self, code: str, message: str, field: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS[code]
        self.message = message
        self.field = field
        self.details = details
        self.shown_sample: int | None = None
        """The sample whose sentence the message shows: who reads it does not validate it."""

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": {"code": self.code, "message": self.message, "field": self.field, "details": self.details}}


def not_found(what: str) -> GameError:
    """The same answer for what is not there and what is another's."""
    return GameError("not_found", f"there is no such {what}, or it is not yours")
