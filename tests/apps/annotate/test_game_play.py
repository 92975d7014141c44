"""The game through its API: accept, disagree, discard, reject, no target, suggestion, duplicates, drafts, points."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from refseg.apps.annotate.database.tables import Audit, GameSample, Picture
from refseg.apps.annotate.game import Game
from tests.support.small_games import Browser

Enter = Callable[..., Browser]


def state_of(game: Game, sample_id: int) -> str:
    with game.database.read() as session:
        sample = session.get(GameSample, sample_id)
        assert sample is not None
        return sample.state


def test_the_same_objects_are_accepted(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    task = anna.next_write()
    chosen = [item["id"] for item in task["objects"][:2]]
    answer = anna.write("two things at the top", chosen)
    assert answer.status_code == 201
    assert answer.json()["sample"]["state"] == "waiting"
    judged = viktor.judge(list(reversed(chosen)))
    assert (judged.status_code, judged.json()["result"]) == (201, "matched")
    assert state_of(sqlite_game, answer.json()["sample"]["id"]) == "accepted"
    assert anna.get("/api/v1/me").json()["points"] == 10
    assert viktor.get("/api/v1/me").json()["points"] == 5
    assert anna.get("/api/v1/me").json()["agreement"]["as_annotator"] == 1.0


def test_two_different_answers_discard(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor, vera = enter("anna"), enter("viktor"), enter("vera")
    objects = [item["id"] for item in anna.next_write()["objects"]]
    number = anna.write("something blurry", [objects[0]]).json()["sample"]["id"]
    assert viktor.judge([objects[1]]).json()["result"] == "differed"
    assert state_of(sqlite_game, number) == "second"
    assert viktor.next_validate() is None, "nobody judges twice"
    assert anna.next_validate() is None, "nobody judges their own"
    reasons = [who.post("/api/v1/validate/next", json={}).json()["reason"] for who in (anna, viktor)]
    assert reasons == ["only_yours", "seen"]
    assert [row["id"] for row in anna.get("/api/v1/admin/samples?flag=differed").json()["items"]] == [number]
    assert vera.judge([]).json()["result"] == "differed"
    assert state_of(sqlite_game, number) == "discarded"
    with sqlite_game.database.read() as session:
        moves = list(session.execute(select(Audit.move, Audit.start, Audit.end).where(Audit.entity == "sample")))
        picture = session.scalars(select(Picture.samples).join(GameSample)).one()
    assert moves == [
        ("submit", None, "waiting"),
        ("differ", "waiting", "second"),
        ("differ", "second", "discarded"),
    ]
    assert picture == 0, "a discarded sentence no longer counts for its picture"


def test_a_second_validator_saves_a_sentence(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor, vera = enter("anna"), enter("viktor"), enter("vera")
    objects = [item["id"] for item in anna.next_write()["objects"]]
    number = anna.write("something in the corner", [objects[0]]).json()["sample"]["id"]
    viktor.judge([objects[1]])
    assert vera.judge([objects[0]]).json()["result"] == "matched"
    assert state_of(sqlite_game, number) == "accepted"


def test_no_target_is_confirmed_by_selecting_none(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    number = anna.write("the shiny thing that nobody sees", []).json()["sample"]["id"]
    assert viktor.judge([]).json()["result"] == "matched"
    assert state_of(sqlite_game, number) == "accepted"


@pytest.mark.parametrize("reason", ["inappropriate", "ambiguous", "irrelevant", "broken_mask"])
def test_rejections(enter: Enter, sqlite_game: Game, reason: str) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    number = anna.write("bad words").json()["sample"]["id"]
    assert viktor.judge(decision="reject").status_code == 422, "a reason is wanted"
    assert viktor.judge(decision="reject", reason=reason, note="why").json()["result"] == "rejected"
    assert state_of(sqlite_game, number) == ("mending" if reason == "broken_mask" else "rejected")


def test_validators_see_nothing_of_the_authors_selection(enter: Enter) -> None:
    anna, viktor = enter("anna", "annotator"), enter("viktor", "validator")
    number = anna.write("something without target", []).json()["sample"]["id"]
    task = viktor.next_validate()
    assert set(task) == {"lease", "sample", "picture", "objects", "turn", "draft"}
    assert set(task["sample"]) == {"id", "text"}
    assert viktor.get(f"/api/v1/samples/{number}").status_code == 404
    assert viktor.get(f"/api/v1/admin/samples/{number}").status_code == 403
    assert viktor.get(f"/api/v1/samples/{number}/help").status_code == 404


def test_duplicates_are_refused_and_the_earlier_one_shown(enter: Enter) -> None:
    anna = enter("anna")
    task = anna.next_write()
    known = anna.get(f"/api/v1/pictures/{task['picture']['id']}/sentences").json()["items"]
    refused = anna.write("The " + known[0]["text"].upper() + "!")
    assert refused.json()["error"]["code"] == "duplicate"
    assert refused.json()["error"]["details"]["earlier"] == {"text": known[0]["text"], "source": "imported"}
    written = anna.write("yellow umbrella", keep=True)
    assert written.status_code == 201
    assert anna.next_write()["picture"]["id"] == task["picture"]["id"], "kept for another sentence"
    again = anna.write("yelow umbrella")
    assert again.status_code == 422
    assert again.json()["error"]["code"] == "near_duplicate"
    assert again.json()["error"]["details"]["earlier"] == {"text": "yellow umbrella", "source": "sample"}
    body = {"picture_id": task["picture"]["id"], "text": "umbrella yellow", "targets": [], "no_target": False}
    assert anna.post("/api/v1/check", json=body).json()["refusal"]["code"] == "near_duplicate"


def test_warnings_are_kept_and_do_not_refuse(enter: Enter) -> None:
    anna = enter("anna")
    answer = anna.write("three strange things")
    assert answer.status_code == 201
    assert [item["code"] for item in answer.json()["warnings"]] == ["count_mismatch"]
    row = anna.get("/api/v1/admin/samples?flag=count_mismatch").json()
    assert [item["text"] for item in row["items"]] == ["three strange things"]
    assert anna.get("/api/v1/admin/samples?flag=irrelevant").json()["total"] == 0


def test_irrelevant_sentences_without_target_are_flagged(enter: Enter) -> None:
    anna = enter("anna")
    task = anna.next_write()
    while "cat" in {item["name"] for item in task["objects"]}:
        anna.post(f"/api/v1/leases/{task['lease']['id']}/release", json={"skip": True})
        task = anna.next_write()
    answer = anna.write("the fat cat", [])
    assert [item["code"] for item in answer.json()["warnings"]] == ["irrelevant"]


def test_suggestions_keep_to_the_split(enter: Enter, sqlite_game: Game) -> None:
    anna = enter("anna")
    seen: set[str] = set()
    task = anna.next_write(split="train")
    for _ in range(20):
        answer = anna.get(f"/api/v1/pictures/{task['picture']['id']}/suggestions?count=10")
        seen |= {item["text"] for item in answer.json()["items"]}
    own = {s["text"] for s in anna.get(f"/api/v1/pictures/{task['picture']['id']}/sentences").json()["items"]}
    assert seen
    assert "dog of the other split" not in seen
    assert not seen & own
    task = anna.next_write(split="val")
    assert task["picture"]["split"] == "val"
    assert anna.get(f"/api/v1/pictures/{task['picture']['id']}/suggestions").json()["items"] == []


def test_a_borrowed_sentence_is_remembered(enter: Enter, sqlite_game: Game) -> None:
    anna = enter("anna")
    task = anna.next_write(split="train")
    lent = anna.get(f"/api/v1/pictures/{task['picture']['id']}/suggestions").json()["items"][0]
    number = anna.write(lent["text"], [], suggestion_id=lent["id"]).json()["sample"]["id"]
    assert anna.get(f"/api/v1/admin/samples/{number}").json()["suggestion"] == lent["text"]


def test_submissions_and_answers_count_once(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    task = anna.next_write()
    body = {
        "lease_id": task["lease"]["id"], "client_key": "the-same-key", "text": "a thing", "no_target": False,
        "targets": [task["objects"][0]["id"]],
    }  # fmt: skip
    first, again = (anna.post("/api/v1/samples", json=body) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["sample"] == again.json()["sample"]
    assert again.json()["replayed"] is True
    other = anna.post("/api/v1/samples", json={**body, "text": "another thing"})
    assert other.json()["error"]["code"] == "key_reused"
    found = viktor.next_validate()
    verdict = {
        "lease_id": found["lease"]["id"], "client_key": "the-same-key", "decision": "select",
        "targets": body["targets"],
    }  # fmt: skip
    address = f"/api/v1/samples/{found['sample']['id']}/verdict"
    first, again = (viktor.post(address, json=verdict) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert viktor.get("/api/v1/me").json()["validated"] == 1
    with sqlite_game.database.read() as session:
        assert len(list(session.scalars(select(GameSample)))) == 1


def test_drafts_survive_and_end_with_the_submission(enter: Enter) -> None:
    anna = enter("anna")
    task = anna.next_write()
    address = f"/api/v1/drafts/write/{task['picture']['id']}"
    content = {"text": "half a sen", "targets": [task["objects"][0]["id"]], "client_key": "draft-key-1"}
    assert anna.put(address, json={"revision": 0, "content": content}).json()["revision"] == 1
    assert anna.put(address, json={"revision": 1, "content": {**content, "text": "half a sentence"}}).status_code == 200
    stale = anna.put(address, json={"revision": 1, "content": {**content, "text": "other"}})
    assert stale.json()["error"]["code"] == "draft_conflict"
    assert stale.json()["error"]["details"]["draft"]["content"]["text"] == "half a sentence"
    assert anna.next_write()["draft"]["content"]["text"] == "half a sentence"
    assert [item["item_id"] for item in anna.get("/api/v1/drafts").json()["items"]] == [task["picture"]["id"]]
    anna.write("a whole sentence")
    assert anna.get(address).status_code == 404
    late = anna.put(address, json={"revision": 2, "content": content})
    assert late.status_code in (404, 409), "a page that comes late does not bring the draft back"


def test_administrators_reopen_and_discard(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor, vera = enter("anna"), enter("viktor"), enter("vera")
    objects = [item["id"] for item in anna.next_write()["objects"]]
    number = anna.write("a good sentence", [objects[0]]).json()["sample"]["id"]
    viktor.judge([objects[0]])
    assert anna.get("/api/v1/me").json()["points"] == 10
    short = anna.post(f"/api/v1/admin/samples/{number}/reopen", json={"reason": "x"})
    assert short.status_code == 422
    reopened = anna.post(f"/api/v1/admin/samples/{number}/reopen", json={"reason": "looks odd"})
    assert reopened.json() == {"id": number, "state": "waiting"}
    assert anna.get("/api/v1/me").json()["points"] == 0, "the points of the acceptance are taken back"
    assert viktor.next_validate() is None
    assert vera.judge([objects[0]]).json()["result"] == "matched"
    assert anna.get("/api/v1/me").json()["points"] == 10
    discarded = anna.post(f"/api/v1/admin/samples/{number}/discard", json={"reason": "not wanted"})
    assert discarded.json()["state"] == "discarded"
    assert anna.post(f"/api/v1/admin/samples/{number}/discard", json={"reason": "again"}).status_code == 409
    detail = anna.get(f"/api/v1/admin/samples/{number}").json()
    assert [row["move"] for row in detail["history"]] == ["submit", "match", "reopen", "match", "discard"]
    assert detail["reason"] == "not wanted"
    assert [row["round"] for row in detail["verdicts"]] == [1, 2]
    assert detail["moves"] == ["reopen"]


def test_the_leaderboard_and_the_days(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    objects = [item["id"] for item in anna.next_write()["objects"]]
    anna.write("first thing", [objects[0]])
    viktor.judge([objects[0]])
    board = viktor.get("/api/v1/leaderboard?period=day").json()
    assert [(row["name"], row["points"]) for row in board["items"]] == [("anna", 10), ("viktor", 5)]
    assert board["me"]["rank"] == 2
    sqlite_game.clock.now += 2 * 86_400  # type: ignore[attr-defined]
    assert viktor.get("/api/v1/leaderboard?period=day").json()["items"] == []
    assert len(viktor.get("/api/v1/leaderboard?period=week").json()["items"]) == 2
    sqlite_game.clock.now += 7 * 86_400  # type: ignore[attr-defined]
    assert viktor.get("/api/v1/leaderboard?period=week").json()["items"] == []
    assert len(viktor.get("/api/v1/leaderboard?period=all").json()["items"]) == 2


def test_the_overview_counts(enter: Enter) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    objects = [item["id"] for item in anna.next_write(split="train")["objects"]]
    anna.write("one thing", [objects[0]])
    viktor.judge([objects[0]])
    anna.write("nothing at all like it", [])
    found = anna.get("/api/v1/admin/overview").json()
    assert found["pictures"] == 4
    assert found["samples"]["accepted"] == 1
    assert found["samples"]["waiting"] == 1
    assert found["agreement"] == {"compared": 1, "matched": 1, "rate": 1.0, "first_rate": 1.0}
    assert sum(row["one"] for row in found["splits"]) == 1
    assert sum(row["written"] for row in found["throughput"]) == 2
    assert found["queues"]["waiting"] == 1
