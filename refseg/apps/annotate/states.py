"""What a sample of the game can be, and the moves between: the one table that code, tests and documentation share.

    (nothing) --submit--> waiting --match--> accepted
                             |--differ--> second --match--> accepted
                             |                |--differ--> discarded
                             |--reject--------+--reject--> rejected
                             |--report_mask---+--report_mask--> mending --mend--> waiting
                             |--doubt--> second               (a rejection, where a second opinion is wanted)
    author: withdraw takes back a waiting one that nobody has.
    administrator: reopen takes a closed sample back to waiting, discard ends any that is not discarded, return gives
    one that waits back to its author; so does time, where nobody is there who could be the second validator.

The rules are gRefCOCO's (Liu, Ding, Jiang, CVPR 2023, section 3, and the tool's description in the first author's
thesis): same set of objects, accepted; another set, a second validator; another set again, discarded; or a rejection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["LIVE", "MOVES", "OPEN", "POINTS", "REASONS", "ROLES", "STATES", "Move", "allowed_moves", "as_table"]

ROLES: dict[str, str] = {
    "annotator": "writes sentences",
    "validator": "finds what others' sentences mean",
    "editor": "draws and mends the masks of objects",
    "administrator": "imports, looks through, reopens, discards, exports, keeps accounts",
}

STATES: dict[str, str] = {
    "waiting": "submitted, waits for a validator",
    "second": "the first validator selected other objects, or rejected it where a second opinion is wanted",
    "mending": "a validator found a broken mask; waits for an editor to mend it",
    "accepted": "a validator selected the same objects by themselves",
    "discarded": "two validators selected other objects, or an administrator discarded it",
    "rejected": "a validator rejected it, with a reason",
    "returned": "back with its author as a draft: nobody was left who could validate it",
    "withdrawn": "its author took it back before anybody had it",
}

OPEN: tuple[str, ...] = ("waiting", "second")
"""States that are handed out to validators."""

LIVE: tuple[str, ...] = ("waiting", "second", "mending", "accepted")
"""States that count as a sentence of the picture: for duplicates and for how often the picture is drawn."""

REASONS: dict[str, str] = {
    "inappropriate": "offends, or names somebody",
    "ambiguous": "fits several sets of objects",
    "irrelevant": "has nothing to do with the picture",
    "broken_mask": "an object's mask is wrong",
}

POINTS: dict[str, int] = {"accepted": 10, "matched": 5, "differed": 1, "rejected": 1}
"""`accepted` goes to the author; the others to the validator for a selection or a rejection.

As in ReferItGame both players gain when the second finds what the first meant; the single point keeps an honest answer
worth giving, and is too little to live on guesses.
"""


@dataclass(frozen=True)
class Move:
    """One way from state to state.

    `role` may make it; `targets` maps each state it starts from (None: there is no sample yet) to the one it leads to.
    `guards` are the conditions that the services check under these names; `reason` says whether one must be given.
    """

    name: str
    role: str
    targets: dict[str | None, str] = field(hash=False)
    guards: tuple[str, ...]
    reason: bool
    note: str


_JUDGED = ("holds_lease", "not_author", "not_validated_before")

MOVES: dict[str, Move] = {
    move.name: move
    for move in (
        Move("submit", "annotator", {None: "waiting"}, ("holds_lease", "not_duplicate"), False, "written"),
        Move(
            "match", "validator", {"waiting": "accepted", "second": "accepted"}, _JUDGED, False,
            "the validator selected the same set of objects, or none where none is meant",
        ),
        Move(
            "differ", "validator", {"waiting": "second", "second": "discarded"}, _JUDGED, False,
            "the validator selected another set",
        ),
        Move(
            "reject", "validator", {"waiting": "rejected", "second": "rejected"}, _JUDGED, True,
            "the validator says that the sentence cannot be used",
        ),
        Move(
            "doubt", "validator", {"waiting": "second"}, _JUDGED, True,
            "the validator says that it cannot be used, and a second opinion is wanted",
        ),
        Move(
            "report_mask", "validator", {"waiting": "mending", "second": "mending"}, _JUDGED, True,
            "the validator says that a mask is broken",
        ),
        Move("mend", "editor", {"mending": "waiting"}, (), False, "the picture's masks are whole again"),
        Move(
            "withdraw", "annotator", {"waiting": "withdrawn"}, ("author", "not_held", "not_judged"), False,
            "the author takes it back, to drop it or to put it differently",
        ),
        Move(
            "reopen", "administrator", dict.fromkeys(("accepted", "discarded", "rejected", "returned"), "waiting"), (),
            True, "goes to validators who have not seen it",
        ),
        Move(
            "return", "administrator", {"waiting": "returned", "second": "returned"}, (), True,
            "its author gets it back as a draft; by itself after some days in second, where nobody else validates",
        ),
        Move(
            "discard", "administrator",
            dict.fromkeys(
                ("waiting", "second", "mending", "accepted", "rejected", "returned", "withdrawn"), "discarded"
            ), (), True,
            "an administrator takes it out",
        ),
    )
}  # fmt: skip


def allowed_moves(state: str | None, role: str) -> tuple[str, ...]:
    """The names of the moves that `role` may make from `state`."""
    return tuple(move.name for move in MOVES.values() if move.role == role and state in move.targets)


def as_table() -> dict[str, Any]:
    """Everything in this file for pages and documentation: plain lists and tables."""
    moves = [
        {"name": move.name, "role": move.role, "from": start, "to": end, "reason": move.reason, "note": move.note}
        for move in MOVES.values()
        for start, end in move.targets.items()
    ]
    named = {"states": STATES, "roles": ROLES, "reasons": REASONS}
    listed = {key: [{"name": name, "note": note} for name, note in table.items()] for key, table in named.items()}
    return {**listed, "moves": moves, "points": dict(POINTS)}
