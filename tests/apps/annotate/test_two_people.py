"""Small teams: a sentence that nobody is left to validate goes back; a rejection may want a second opinion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.database.tables import Audit, GameSample, Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.agreement import kappa, pairwise
from refseg.apps.annotate.services.exporting import export
from refseg.data.check import check
from tests.support.replay import contradictions
from tests.support.small_games import Browser, add_people, log_in, make_game, play

Enter = Callable[..., Browser]
DAY = 86_400


def state_of(game: Game, number: int) -> str:
    with game.database.read() as session:
        return session.get_one(GameSample, number).state


def differ(anna: Browser, viktor: Browser) -> int:
    """A sentence on which the second of two people selects another object."""
    objects = [item["id"] for item in anna.next_write()["objects"]]
    number = anna.write("something blurry", [objects[0]]).json()["sample"]["id"]
    assert viktor.judge([objects[1]]).json()["result"] == "differed"
    return number


def turn(game: Game, seconds: float) -> None:
    game.clock.now += seconds  # type: ignore[attr-defined]


def test_two_people_do_not_wait_for_a_third(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    number = differ(anna, viktor)
    turn(sqlite_game, 2 * DAY)
    assert viktor.next_validate() is None
    assert viktor.post("/api/v1/validate/next", json={}).json()["reason"] == "seen"
    assert state_of(sqlite_game, number) == "second", "there is still time for a third"
    turn(sqlite_game, 2 * DAY)
    viktor.post("/api/v1/validate/next", json={})
    assert state_of(sqlite_game, number) == "returned"
    mine = anna.get(f"/api/v1/samples/{number}").json()
    assert mine["state"] == "returned"
    assert "nobody else" in mine["reason"]
    (draft,) = anna.get("/api/v1/drafts").json()["items"]
    assert draft["content"]["text"] == "something blurry"
    assert draft["content"]["note"]
    task = anna.next_write(picture_id=draft["item_id"])
    assert task["draft"]["content"]["targets"] == [task["objects"][0]["id"]]
    again = anna.write("something blurry at the top", draft["content"]["targets"])
    assert again.status_code == 201
    assert viktor.next_validate()["sample"]["id"] == again.json()["sample"]["id"]
    with sqlite_game.database.read() as session:
        (row,) = session.scalars(select(Audit).where(Audit.move == "return"))
        assert (row.actor_id, row.start, row.end) == (None, "second", "returned")
        assert contradictions(session) == []


def test_a_third_who_has_been_here_is_waited_for(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor, vera = enter("anna"), enter("viktor"), enter("vera")
    number = differ(anna, viktor)
    turn(sqlite_game, 3.5 * DAY)
    vera.get("/api/v1/me")
    viktor.post("/api/v1/validate/next", json={})
    assert state_of(sqlite_game, number) == "second"
    assert vera.next_validate()["sample"]["id"] == number


@pytest.mark.parametrize("third", ["annotator", "away", "saw it"])
def test_a_third_who_cannot_decide_is_not(enter: Enter, sqlite_game: Game, third: str) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    vera = enter("vera", *(("annotator",) if third == "annotator" else ("validator", "administrator")))
    number = differ(anna, viktor)
    if third == "saw it":
        vera.get(f"/api/v1/admin/samples/{number}")
    turn(sqlite_game, 3.5 * DAY)
    if third != "away":
        vera.get("/api/v1/me")
    viktor.post("/api/v1/validate/next", json={})
    assert state_of(sqlite_game, number) == "returned"


def test_never_where_it_is_switched_off(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", return_days=0.0)
    add_people(game, "anna", "viktor")
    app = create_app(game.settings, game)
    anna, viktor = log_in(app, "anna"), log_in(app, "viktor")
    number = differ(anna, viktor)
    turn(game, 10 * DAY)
    viktor.post("/api/v1/validate/next", json={})
    assert state_of(game, number) == "second"
    game.database.close()


def test_an_administrator_returns_at_once(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    number = differ(anna, viktor)
    task = anna.next_write()
    assert "return" in viktor.get(f"/api/v1/admin/samples/{number}").json()["moves"]
    answer = viktor.post(f"/api/v1/admin/samples/{number}/return", json={"reason": "we are two"})
    assert answer.json() == {"id": number, "state": "returned"}
    again = viktor.post(f"/api/v1/admin/samples/{number}/return", json={"reason": "we are two"})
    assert again.status_code == 409
    with sqlite_game.database.read() as session:
        sample = session.get_one(GameSample, number)
        assert session.get_one(Picture, sample.picture_id).samples == 0, "it no longer counts for its picture"
        assert contradictions(session) == []
    assert task is not None
    reopened = viktor.post(f"/api/v1/admin/samples/{number}/reopen", json={"reason": "a third came"})
    assert reopened.json()["state"] == "waiting"


def test_the_author_s_own_draft_is_not_overwritten(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    picture = anna.next_write(split="val")
    objects = [item["id"] for item in picture["objects"]]
    number = anna.write("something blurry", [objects[0]], keep=True).json()["sample"]["id"]
    address = f"/api/v1/drafts/write/{picture['picture']['id']}"
    assert anna.put(address, json={"revision": 0, "content": {"text": "begun anew"}}).status_code == 200
    viktor.judge([objects[1]])
    viktor.post(f"/api/v1/admin/samples/{number}/return", json={"reason": "we are two"})
    assert anna.get(address).json()["content"]["text"] == "begun anew"


def test_a_rejection_ends_a_sample_unless_a_second_opinion_is_wanted(tmp_path: Path) -> None:
    for wanted, last, end in (
        (False, None, "rejected"), (True, "reject", "rejected"), (True, "same", "accepted"),
        (True, "other", "discarded"),
    ):  # fmt: skip
        game = make_game(tmp_path / f"{wanted}{last}", second_opinion=wanted)
        add_people(game, "anna", "viktor", "vera")
        app = create_app(game.settings, game)
        anna, viktor, vera = (log_in(app, name) for name in ("anna", "viktor", "vera"))
        objects = [item["id"] for item in anna.next_write()["objects"]]
        number = anna.write("something", [objects[0]]).json()["sample"]["id"]
        viktor.judge(decision="reject", reason="ambiguous")
        assert state_of(game, number) == ("second" if wanted else "rejected")
        if last == "reject":
            vera.judge(decision="reject", reason="ambiguous")
        elif last is not None:
            vera.judge([objects[0 if last == "same" else 1]])
        assert state_of(game, number) == end
        with game.database.read() as session:
            assert contradictions(session) == []
        game.database.close()


def test_kappa_by_hand() -> None:
    # Cohen's own example by its formula: 20 both yes, 5 and 10 one only, 15 both no: (0.7 - 0.5) / (1 - 0.5).
    assert kappa(20, 5, 10, 15) == pytest.approx(0.4)
    assert kappa(7, 0, 0, 9) == 1.0
    assert kappa(5, 5, 5, 5) == 0.0
    assert kappa(0, 0, 0, 0) is None
    assert kappa(9, 0, 0, 0) is None, "who never varies agrees by habit"


def test_pairs_of_people(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor, vera = enter("anna"), enter("viktor"), enter("vera")
    first = anna.next_write()
    objects = [item["id"] for item in first["objects"]]
    anna.write("something blurry", [objects[0]])
    viktor.judge([objects[1]])
    vera.judge([objects[0]])
    second = anna.next_write()
    others = [item["id"] for item in second["objects"]]
    anna.write("another thing", [others[0]])
    viktor.judge([others[0]])
    with sqlite_game.database.read() as session:
        rows = {(row["person"].name, row["other"] and row["other"].name): row for row in pairwise(session)}
    n, m = len(objects), len(others)
    # anna and viktor: apart on two objects of the first picture, together on all of the second.
    assert rows["anna", "viktor"]["samples"] == 2
    assert rows["anna", "viktor"]["same"] == 1
    assert rows["anna", "viktor"]["kappa"] == pytest.approx(kappa(1, 1, 1, n + m - 3))
    assert rows["anna", "vera"]["kappa"] == 1.0
    assert rows["viktor", "vera"]["kappa"] == pytest.approx(kappa(0, 1, 1, n - 2))
    assert rows["viktor", None]["samples"] == 3
    shown = anna.get("/api/v1/admin/agreement").json()["items"]
    assert len(shown) == len(rows) == 6
    assert viktor.get("/api/v1/admin/agreement").status_code == 200


def test_what_was_not_accepted_is_exported_by_pseudonym(enter: Enter, sqlite_game: Game, tmp_path: Path) -> None:
    anna, viktor, vera = enter("anna"), enter("viktor"), enter("vera")
    play(sqlite_game, 3)
    number = differ(anna, viktor)
    vera.judge([])
    anna.write("bad words")
    viktor.judge(decision="reject", reason="inappropriate", note="anna wrote this")
    anna.write("still open")
    count = export(sqlite_game, tmp_path / "out", "grefcoco", verdicts=True)
    assert count == 3
    text = (tmp_path / "out" / "game" / "samples.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert sorted(row["state"] for row in rows) == ["accepted"] * 3 + ["discarded", "rejected"]
    row = next(row for row in rows if row["sample"] == number)
    assert [verdict["result"] for verdict in row["verdicts"]] == ["differed", "differed"]
    assert row["verdicts"][0]["targets"] != row["targets"]
    assert row["verdicts"][0]["validator"] != row["verdicts"][1]["validator"]
    everything = text + (tmp_path / "out" / "game" / "agreement.json").read_text()
    assert not any(name in everything for name in ("anna", "viktor", "vera", "still open"))
    again = tmp_path / "again"
    export(sqlite_game, again, "grefcoco", verdicts=True)
    assert (again / "game" / "samples.jsonl").read_text() == text, "the same people have the same pseudonyms"
    assert check(tmp_path / "out").usable
    plain = tmp_path / "plain"
    export(sqlite_game, plain, "grefcoco")
    assert not (plain / "game").exists()
    body = anna.get("/api/v1/admin/export?verdicts=true&format=jsonl").content
    assert b"game/samples.jsonl" in body
