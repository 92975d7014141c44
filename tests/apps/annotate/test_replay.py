"""The log played again: sound after play and after filling; each kind of damage is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from refseg.apps.annotate.game import Game
from refseg.apps.annotate.settings import Settings
from refseg.errors import ConfigError, DataError
from tests.loadtest.filling import Amount, fill
from tests.support.replay import contradictions
from tests.support.small_games import open_game

DAMAGE = {
    "a state without a move": "UPDATE samples SET state = 'discarded' WHERE id = {accepted}",
    "a lost sample": "UPDATE audit SET entity_id = 10000 WHERE id = (SELECT max(id) FROM audit WHERE move = 'submit')",
    "a move that the table has not": (
        "UPDATE audit SET move = 'match' WHERE id = (SELECT min(id) FROM audit WHERE move = 'differ')"
    ),
    "a lost move": "DELETE FROM audit WHERE id = (SELECT max(id) FROM audit WHERE move = 'match')",
    "a verdict of somebody else": "UPDATE verdicts SET validator_id = 1000 WHERE id = 1",
    "an author's own verdict": (
        "UPDATE verdicts SET validator_id = (SELECT author_id FROM samples WHERE samples.id = sample_id) WHERE id = 1"
    ),
    "a lost target": "DELETE FROM sample_targets WHERE rowid = (SELECT max(rowid) FROM sample_targets)",
    "a wrong count of a picture": "UPDATE pictures SET samples = samples + 1 WHERE id = 1",
    "half a lease": "UPDATE pictures SET lease_until = 1 WHERE id = 1",
    "a lease of a closed sample": (
        "UPDATE samples SET lease_id = 'x', lease_person = 1, lease_until = 1 WHERE id = {accepted}"
    ),
    "points from nowhere": "UPDATE days SET points = points + 1 WHERE person_id = 1 AND day = {day}",
    "an uncounted sentence": "UPDATE days SET written = written - 1 WHERE person_id = 2 AND day = {day}",
}
PLACES = {
    "accepted": "(SELECT min(id) FROM samples WHERE state = 'accepted')",
    "day": "(SELECT max(day) FROM days WHERE days.person_id = person_id)",
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Game:
    game = open_game(Settings(tmp_path_factory.mktemp("filled")))
    fill(game, Amount(samples=400, pictures=20, people=4))
    return game


def test_a_filled_game_agrees_with_its_log(filled: Game) -> None:
    with filled.database.read() as session:
        assert contradictions(session) == []


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_damage_is_seen(filled: Game, damage: str) -> None:
    with filled.database.read() as session:
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        assert session.execute(text(damage.format(**PLACES))).rowcount == 1  # type: ignore[attr-defined]
        assert contradictions(session)
        session.rollback()
        assert contradictions(session) == []


def test_only_an_empty_database_is_filled(filled: Game) -> None:
    with pytest.raises(DataError, match="not empty"):
        fill(filled, Amount(samples=1, pictures=1, people=3))


@pytest.mark.postgres
def test_filling_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    game = open_game(Settings(tmp_path, postgres_url))
    fill(game, Amount(samples=100, pictures=5, people=3))
    with game.database.read() as session:
        assert contradictions(session) == []
    game.database.close()


def test_two_people_are_too_few() -> None:
    with pytest.raises(ConfigError, match="three people"):
        Amount(samples=1, pictures=1, people=2)
