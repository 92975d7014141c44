"""Who validates does not know the answer: not from pages, lists, numbers on the screen, points or earlier reading."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from refseg.apps.annotate.database.tables import GameSample, Seen
from refseg.apps.annotate.game import Game, clean, hidden_letters
from refseg.apps.annotate.services.page_names import is_page_name
from refseg.apps.annotate.services.sentences import count_warning, same_key
from tests.support.small_games import Browser

Enter = Callable[..., Browser]


def why(browser: Browser) -> str:
    return browser.post("/api/v1/validate/next", json={}).json()["reason"]


def test_who_opened_a_sample_s_page_does_not_validate_it(enter: Enter) -> None:
    anna, ada, viktor = enter("anna"), enter("ada"), enter("viktor")
    number = anna.write("something at the top").json()["sample"]["id"]
    assert ada.get(f"/api/v1/admin/samples/{number}").json()["targets"]
    assert ada.next_validate() is None
    assert why(ada) == "seen"
    assert viktor.next_validate()["sample"]["id"] == number


def test_the_page_opened_while_the_sample_is_held(enter: Enter) -> None:
    anna, ada = enter("anna"), enter("ada")
    number = anna.write("something at the top").json()["sample"]["id"]
    task = ada.next_validate()
    targets = ada.get(f"/api/v1/admin/samples/{number}").json()["targets"]
    body = {"lease_id": task["lease"]["id"], "client_key": "k" * 8, "decision": "select", "targets": targets}
    answer = ada.post(f"/api/v1/samples/{number}/verdict", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_allowed")
    assert ada.next_validate() is None


def test_the_list_does_not_tell_either(enter: Enter) -> None:
    anna, ada = enter("anna"), enter("ada")
    nothing = anna.write("three strange things", []).json()["sample"]["id"]
    one = anna.write("three lamps").json()["sample"]["id"]
    rows = {row["id"]: row for row in ada.get("/api/v1/admin/samples").json()["items"]}
    assert all((row["targets"], row["no_target"], row["flags"]) == (None, None, []) for row in rows.values())
    for query in ("no_target=true", "no_target=false", "flag=count_mismatch"):
        assert ada.get(f"/api/v1/admin/samples?{query}").json()["total"] == 0
    mine = {row["id"]: row for row in anna.get("/api/v1/admin/samples").json()["items"]}
    assert (mine[nothing]["targets"], mine[nothing]["no_target"]) == (0, True)
    assert (mine[one]["targets"], mine[one]["flags"]) == (1, ["count_mismatch"])
    while ada.next_validate():
        ada.judge([])
    rows = {row["id"]: row for row in ada.get("/api/v1/admin/samples").json()["items"]}
    assert rows[nothing]["no_target"] is True, "who has answered may know"
    strict = enter("vera", "administrator")
    assert strict.get("/api/v1/admin/samples?no_target=true").json()["total"] == 1, "who never validates may look"


def test_who_read_the_sentence_while_writing_does_not_validate_it(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor, vera = enter("anna"), enter("viktor"), enter("vera")
    task = anna.next_write(split="val")
    number = anna.write("something at the top").json()["sample"]["id"]
    assert viktor.next_write(split="val")["picture"]["id"] == task["picture"]["id"]
    shown = viktor.get(f"/api/v1/pictures/{task['picture']['id']}/sentences").json()["items"]
    assert "something at the top" in {item["text"] for item in shown}
    assert viktor.next_validate() is None
    assert vera.next_validate()["sample"]["id"] == number
    with sqlite_game.database.read() as session:
        assert len(list(session.scalars(select(Seen)))) == 1


@pytest.mark.parametrize("route", ["check", "submit"])
def test_who_was_shown_the_sentence_as_a_duplicate_does_not_validate_it(enter: Enter, route: str) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    picture = anna.next_write(split="val")["picture"]["id"]
    anna.write("yellow umbrella")
    task = viktor.next_write(split="val")
    assert task["picture"]["id"] == picture
    chosen = [task["objects"][0]["id"]]
    if route == "check":
        body = {"picture_id": picture, "text": "yelow umbrella", "targets": chosen}
        assert viktor.post("/api/v1/check", json=body).json()["refusal"]["earlier"]["text"] == "yellow umbrella"
    else:
        assert viktor.write("yelow umbrella").json()["error"]["details"]["earlier"]["text"] == "yellow umbrella"
    assert viktor.next_validate() is None


def test_who_validates_it_goes_on_when_the_sentence_is_seen_again(enter: Enter) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    picture = anna.next_write(split="val")["picture"]["id"]
    anna.write("yellow umbrella")
    held = viktor.next_validate()
    viktor.next_write(split="val")
    viktor.get(f"/api/v1/pictures/{picture}/sentences")
    assert viktor.next_validate()["lease"]["id"] == held["lease"]["id"], "the list says nothing that the task did not"


def test_numbers_on_the_screen_differ(enter: Enter) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    task = anna.next_write()
    anna.write("something at the top")
    found = viktor.next_validate()
    assert found["picture"]["id"] == task["picture"]["id"]
    count = len(found["objects"])
    assert task["turn"] == 0
    assert 0 < found["turn"] < count, "turned by less than a round, each object has another number"
    assert viktor.next_validate()["turn"] == found["turn"], "and the same one as long as it is held"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("number 1", True),
        ("Number one", True),
        ("#2", False),  # without a word it is no sentence at all, and refused as such
        ("the object #2", True),
        ("No. 3", True),
        ("objects 1 and 4", True),
        ("dog 2", True),
        ("dog 1 and person 2", True),
        ("dogs 1, 2", True),
        ("\uff4e\uff55\uff4d\uff42\uff45\uff52 \uff11", True),
        ("number \u2460", True),
        ("\uff031", True),
        ("n\xb01", True),
        ("\u2116 1", True),
        ("dog-1", True),
        ("numbers 1\u20133", True),
        ("instance 2", True),
        ("person with number 2", False),
        ("two dogs", False),
        ("2 dogs", False),
        ("dog 42", False),
        ("player number 3", False),
        ("the dog on the left", False),
        ("one dog", False),
        ("second dog", False),
    ],
)
def test_names_of_the_page_are_no_sentences(text: str, refused: bool) -> None:
    assert is_page_name(text, ["dog", "dog", "person", "car"]) == (refused or text == "#2")


def test_names_of_the_page_are_refused(enter: Enter) -> None:
    anna = enter("anna")
    for text in ("number 1", "object 1"):
        refused = anna.write(text)
        assert (refused.status_code, refused.json()["error"]["field"]) == (422, "text")
        assert "this page" in refused.json()["error"]["message"]


@pytest.mark.parametrize("sign", ["\u200b", "\u202e", "\u00ad", "\ufeff", "\u2060", "\u3164", "\U000e0041", "\ue000",
                                  "\ufe0f", "\U000e0100", "\u180b", "\u2069", "\ufffe", "\ufffc"])  # fmt: skip
def test_letters_that_nobody_sees(enter: Enter, sign: str) -> None:
    anna = enter("anna")
    assert anna.write("yellow umbrella", keep=True).status_code == 201
    answer = anna.write(f"yel{sign}low umbrella")
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "text")
    assert f"U+{ord(sign):04X}" in answer.json()["error"]["message"]
    assert same_key(f"yel{sign}low umbrella") == same_key("yellow umbrella"), "also of those that came before"
    assert clean(f"a{sign}nna") == "anna", "two names must not look the same"


def test_wide_letters_are_the_same_letters() -> None:
    assert same_key("\uff39\uff45\uff4c\uff4c\uff4f\uff57 umbrella") == same_key("yellow umbrella")


def test_letters_that_others_write_with() -> None:
    for text in ("می\u200cخواهم", "क्\u200dष", "\U0001f469\u200d\U0001f680 beside the car", "naïve 犬 שלום"):
        assert hidden_letters(text) == []
        assert clean(text) == text
    for text in ("dog with a \u2764\ufe0f", "key 1\ufe0f\u20e3", "\u845b\U000e0100 on the sign", "\u1820\u180b"):
        assert hidden_letters(text) == [], "shapes that the letter before them has"
    assert hidden_letters("do\u200dg") == ["U+200D"]
    assert hidden_letters("dog 1\ufe0f") == ["U+FE0F"]
    assert hidden_letters("\u2764\ufe0f\ufe0f") == ["U+FE0F"]


@pytest.mark.parametrize(
    ("text", "targets", "odd"),
    [
        ("one dog", 2, True),
        ("one dog", 1, False),
        ("only one red dog", 2, True),
        ("a single dog", 3, True),
        ("one man and two dogs", 3, False),
        ("one man and two dogs", 2, True),
        ("the one in red", 2, False),
        ("one on the left", 2, False),
        ("each one of them", 2, False),
    ],
)
def test_one_counts(text: str, targets: int, odd: bool) -> None:
    assert (count_warning(text, targets) is not None) == odd


def test_one_dog_with_two_selected_is_warned_of(enter: Enter) -> None:
    anna = enter("anna")
    task = anna.next_write(split="train")
    answer = anna.write("one dog", [item["id"] for item in task["objects"][:2]])
    assert [item["code"] for item in answer.json()["warnings"]] == ["count_mismatch"]


def test_the_leaderboard_moves_by_the_hour(enter: Enter, sqlite_game: Game) -> None:
    anna, viktor = enter("anna"), enter("viktor")

    def points(browser: Browser) -> dict[str, int]:
        return {row["name"]: row["points"] for row in browser.get("/api/v1/leaderboard").json()["items"]}

    assert points(viktor) == {}
    task = anna.next_write()
    anna.write("something", [task["objects"][0]["id"]])
    viktor.judge([task["objects"][0]["id"]])
    assert points(viktor) == {}, "points at once would tell whose sentence it was"
    assert anna.get("/api/v1/me").json()["points"] == 10, "one's own are one's own"
    sqlite_game.clock.now += 3600  # type: ignore[attr-defined]
    assert points(viktor) == {"anna": 10, "viktor": 5}
    with sqlite_game.database.read() as session:
        assert session.scalar(select(GameSample.state)) == "accepted"


@pytest.mark.parametrize("hidden", ["another period", "the end of an hour"])
def test_two_looks_at_the_leaderboard_are_an_hour_apart(enter: Enter, sqlite_game: Game, hidden: str) -> None:
    anna, viktor = enter("anna"), enter("viktor")
    clock = sqlite_game.clock
    clock.now += 3590 - clock.now % 3600  # type: ignore[attr-defined]
    first, second = ("all", "week") if hidden == "another period" else ("week", "week")

    def points(period: str) -> dict[str, int]:
        rows = viktor.get(f"/api/v1/leaderboard?period={period}").json()["items"]
        return {row["name"]: row["points"] for row in rows}

    assert points(first) == {}
    target = anna.next_write()["objects"][0]["id"]
    anna.write("something", [target])
    viktor.judge([target])
    if hidden == "the end of an hour":
        clock.now += 20  # type: ignore[attr-defined]
    assert points(second) == {}, "who looks before and behind an answer learns whose sentence it was"
    clock.now += 3600  # type: ignore[attr-defined]
    assert points(second) == {"anna": 10, "viktor": 5}
