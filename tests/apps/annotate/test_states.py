"""The table of states, as code, pages and documentation read it."""

from __future__ import annotations

import itertools

import pytest

from refseg.apps.annotate.database.tables import GameSample, Verdict
from refseg.apps.annotate.errors import STATUS
from refseg.apps.annotate.states import LIVE, MOVES, OPEN, POINTS, REASONS, ROLES, STATES, allowed_moves, as_table


def test_every_move_starts_and_ends_at_a_state() -> None:
    for move in MOVES.values():
        assert move.role in ROLES
        assert set(move.targets) <= {None, *STATES}
        assert set(move.targets.values()) <= set(STATES)


def test_every_state_is_reached_and_none_is_a_trap() -> None:
    reached = {None}
    while True:
        more = {end for move in MOVES.values() for start, end in move.targets.items() if start in reached}
        if more <= reached:
            break
        reached |= more
    assert reached == {None, *STATES}
    for state in STATES:
        assert any(state in move.targets for move in MOVES.values()), state


def test_the_thesis_rules() -> None:
    assert MOVES["submit"].targets == {None: "waiting"}
    assert MOVES["match"].targets == {"waiting": "accepted", "second": "accepted"}
    assert MOVES["differ"].targets == {"waiting": "second", "second": "discarded"}
    assert MOVES["reject"].targets == {"waiting": "rejected", "second": "rejected"}


@pytest.mark.parametrize("state", STATES)
def test_validators_move_open_samples_only(state: str) -> None:
    assert bool(allowed_moves(state, "validator")) == (state in OPEN)


def test_no_role_may_make_anothers_move() -> None:
    for state, (one, other) in itertools.product([None, *STATES], itertools.combinations(ROLES, 2)):
        assert not set(allowed_moves(state, one)) & set(allowed_moves(state, other))


def test_moves_that_people_must_explain() -> None:
    assert {name for name, move in MOVES.items() if move.reason} == {
        "reject", "doubt", "report_mask", "reopen", "return", "discard",
    }  # fmt: skip
    assert set(REASONS) == {"inappropriate", "ambiguous", "irrelevant", "broken_mask"}


def test_the_database_knows_the_same_states_and_results() -> None:
    def values(table: type) -> set[str]:
        (check,) = (item for item in table.__table__.constraints if type(item).__name__ == "CheckConstraint")
        return set(str(check.sqltext).split("(")[1].rstrip(")").replace("'", "").split(", "))

    assert values(GameSample) == set(STATES)
    assert values(Verdict) == set(POINTS) - {"accepted"}


def test_the_table_for_pages_holds_everything() -> None:
    table = as_table()
    assert {row["name"] for row in table["states"]} == set(STATES)
    assert len(table["moves"]) == sum(len(move.targets) for move in MOVES.values())
    assert table["points"] == POINTS
    assert set(LIVE) > set(OPEN)


def test_every_refusal_has_a_status() -> None:
    assert all(400 <= status < 600 for status in STATUS.values())
