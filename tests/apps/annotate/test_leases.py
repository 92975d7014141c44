"""Handing out work: nobody holds what another holds, nothing is lost, few samples and many objects first."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from refseg.apps.annotate.database.tables import Picture
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services import leases
from refseg.apps.annotate.services.importing import ImportResult, import_pictures
from tests.support.small_games import Clock, add_people, found, make_game


def take(game: Game, person: int, **given: object) -> leases.Lease | None:
    return game.database.write(lambda session: leases.take_picture(session, game, person, **given))  # type: ignore[arg-type]


def give_back(game: Game, person: int, lease: leases.Lease, skip: bool = False) -> None:
    game.database.write(lambda session: leases.release(session, game, person, lease.id, skip))


def tick(game: Game, seconds: float) -> None:
    assert isinstance(game.clock, Clock)
    game.clock.now += seconds


def test_two_people_never_hold_one_picture(game: Game) -> None:
    people = add_people(game, *(f"p{place}" for place in range(6)))
    held = [take(game, number) for number in people.values()]
    items = [lease.item_id for lease in held if lease is not None]
    assert len(items) == len(set(items)) == 4
    assert held.count(None) == 2


def test_asking_again_gives_the_same_lease(game: Game) -> None:
    (anna,) = add_people(game, "anna").values()
    assert take(game, anna).id == take(game, anna).id  # type: ignore[union-attr]


def test_a_lease_that_ran_out_stays_its_holders_until_it_is_taken(game: Game) -> None:
    anna, viktor = add_people(game, "anna", "viktor").values()
    mine = take(game, anna, split="val")
    assert mine is not None
    assert take(game, viktor, split="val") is None
    tick(game, game.settings.lease_seconds + 1)
    assert game.database.write(lambda session: leases.renew(session, game, anna, mine.id)).item_id == mine.item_id
    assert take(game, viktor, split="val") is None
    tick(game, game.settings.lease_seconds + 1)
    theirs = take(game, viktor, split="val")
    assert theirs is not None
    assert theirs.item_id == mine.item_id
    assert theirs.id != mine.id
    with pytest.raises(GameError, match="taken by somebody else"):
        game.database.write(lambda session: leases.renew(session, game, anna, mine.id))


def test_another_persons_lease_is_of_no_use(game: Game) -> None:
    anna, viktor = add_people(game, "anna", "viktor").values()
    lease = take(game, anna)
    assert lease is not None
    for work in (leases.renew, lambda *given: leases.release(*given, skip=False)):
        with pytest.raises(GameError, match="taken by somebody else"):
            game.database.write(lambda session, work=work: work(session, game, viktor, lease.id))


def test_a_skipped_picture_comes_back_after_a_day(game: Game) -> None:
    anna, viktor = add_people(game, "anna", "viktor").values()
    lease = take(game, anna, split="val")
    assert lease is not None
    give_back(game, anna, lease, skip=True)
    assert take(game, anna, split="val") is None
    theirs = take(game, viktor, split="val")
    assert theirs is not None
    give_back(game, viktor, theirs)
    tick(game, game.settings.skip_seconds + 1)
    assert take(game, anna, split="val") is not None


def test_few_samples_and_many_objects_are_drawn_first(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game")
    (anna,) = add_people(game, "anna").values()
    import_pictures(
        game, [found(10 + n, ("dog",) * size, "x") for n, size in enumerate((1, 4, 4))], ImportResult(), "test"
    )

    game.database.write(
        lambda session: session.execute(update(Picture).where(Picture.number == 12).values(samples=3)).close()
    )
    drawn: Counter[int] = Counter()

    def draw(session: Session) -> None:
        for _ in range(400):
            lease = leases.take_picture(session, game, anna, split="x")
            assert lease is not None
            picture = session.get(Picture, lease.item_id)
            assert picture is not None
            drawn[picture.number] += 1
            leases.release(session, game, anna, lease.id, skip=False)

    game.database.write(draw)
    # Weights 1, 4 and 4/16, to the default powers: 76, 305 and 19 of 400, give or take four standard deviations.
    assert 76 - 32 < drawn[10] < 76 + 32
    assert 305 - 36 < drawn[11] < 305 + 36
    assert 0 < drawn[12] < 19 + 18
    game.database.close()


def test_the_powers_of_the_draw_have_an_effect(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", draw_objects_power=0.0, draw_samples_power=0.0, draw_hard_weight=0.0)
    assert leases._weight(game, 7, 9, 1.0) == 1.0
    other = make_game(tmp_path / "game2")
    assert leases._weight(other, 7, 0, 0.0) == 7.0
    assert leases._weight(other, 7, 1, 0.0) == 7 / 4
    assert leases._weight(other, 7, 0, 1.0) == 7 * 5
    game.database.close()
    other.database.close()


def test_many_at_once_never_hold_one_item(game: Game) -> None:
    """Threads ask, hold, give back; every item's holder is checked while it is held."""
    people = list(add_people(game, *(f"p{place}" for place in range(8))).values())
    holders: dict[int, int] = {}
    guard = threading.Lock()
    faults: list[str] = []

    def play(person: int) -> None:
        for _ in range(12):
            try:
                lease = take(game, person)
                if lease is None:
                    continue
                with guard:
                    if lease.item_id in holders:
                        faults.append(f"{lease.item_id} held by {holders[lease.item_id]} and {person}")
                    holders[lease.item_id] = person
                with guard:
                    del holders[lease.item_id]
                give_back(game, person, lease)
            except Exception as error:
                faults.append(repr(error))

    threads = [threading.Thread(target=play, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
