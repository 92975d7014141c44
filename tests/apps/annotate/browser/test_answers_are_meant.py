"""What is submitted is what the person meant: numbers typed before the submission, of the picture that they see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.importing import ImportResult, import_pictures
from refseg.apps.annotate.settings import Settings
from tests.support.game_server import ThreadServer, add_people
from tests.support.small_games import found

LATER = 1000  # milliseconds after which a number that waits for another digit has been taken


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadServer]:
    """A game of four pictures with twelve objects each: numbers of two digits."""
    game = Game.open(Settings(data=tmp_path / "game"))
    add_people(game)
    import_pictures(game, [found(number, ("dog",) * 12) for number in range(1, 5)], ImportResult(), "test")
    server = ThreadServer(game)
    yield server
    server.stop()


def numbers(player) -> dict[int, int]:
    """The page's numbers of the objects."""
    rows = player.page.locator(".object-list li").all()
    return {int(row.locator(".swatch").inner_text()): int(row.get_attribute("data-id")) for row in rows}


def test_digits_before_a_submission_belong_to_it(play, server):
    anna, viktor = play("anna", "/write").ready(), play("viktor")
    for text in ("the first thing", "the second thing"):
        anna.write(text, anna.objects[:1]).submit(anyway=True)
        anna.ready()
    viktor.go("/validate").asked("the first thing")
    shown = numbers(viktor)
    viktor.page.locator(".stage").focus()
    with viktor.page.expect_request("**/verdict") as sent:
        for key in ("9", "1", "Control+Enter"):
            viktor.page.keyboard.press(key)
    assert set(sent.value.post_data_json["targets"]) == {shown[9], shown[1]}
    viktor.asked("the second thing")
    assert viktor.selected == set()
    viktor.page.wait_for_timeout(LATER)
    assert viktor.selected == set(), "nothing of the sample before comes late"


def test_digits_before_a_written_sentence_belong_to_it(play, server):
    anna = play("anna", "/write").ready()
    shown = numbers(anna)
    anna.page.get_by_role("textbox", name="Sentence").fill("those two over there")
    anna.page.locator(".stage").focus()
    anna.page.keyboard.press("9")
    anna.page.keyboard.press("1")
    with anna.page.expect_request(lambda request: request.url.endswith("/api/v1/samples")) as sent:
        anna.page.locator("#submit").click()
    assert set(sent.value.post_data_json["targets"]) == {shown[9], shown[1]}
    anna.noted("It waits for a validator")
    anna.page.wait_for_timeout(LATER)
    assert anna.selected == set()


def answers(page) -> list[dict]:
    """What the page sends from now on about samples, as it comes."""
    sent: list[dict] = []

    def note(request) -> None:
        if request.method == "POST" and (request.url.endswith("/verdict") or request.url.endswith("/api/v1/samples")):
            sent.append(request.post_data_json)

    page.on("request", note)
    return sent


def written(player, *texts: str) -> None:
    for text in texts:
        player.write(text, player.objects[:1]).submit(anyway=True)
        player.ready()


def test_a_key_that_is_held_down_answers_once(play, server):
    anna, viktor = play("anna", "/write").ready(), play("viktor")
    written(anna, "the first thing", "the second thing", "the third thing")
    viktor.go("/validate").asked("the first thing")
    viktor.page.locator(".stage").focus()
    sent = answers(viktor.page)
    for _ in range(20):  # without a release between them: the browser says that they are repeats
        viktor.page.keyboard.down("o")
        viktor.page.wait_for_timeout(50)
    viktor.page.keyboard.up("o")
    viktor.asked("the second thing")
    assert len(sent) == 1
    for _ in range(20):
        viktor.page.keyboard.down("k")
        viktor.page.wait_for_timeout(50)
    viktor.page.keyboard.up("k")
    viktor.asked("the third thing")


def test_a_double_click_answers_once(play, server):
    anna, viktor = play("anna", "/write").ready(), play("viktor")
    written(anna, "the first thing", "the second thing", "the third thing")
    viktor.go("/validate").asked("the first thing")
    sent = answers(viktor.page)
    viktor.page.get_by_role("button", name="Nothing is meant").dblclick(delay=150)
    viktor.asked("the second thing")
    viktor.page.wait_for_timeout(LATER)
    assert len(sent) == 1
    viktor.page.locator("#skip").dblclick(delay=150)
    viktor.asked("the third thing")
    viktor.page.wait_for_timeout(LATER)
    viktor.asked("the third thing")


def test_a_key_that_is_held_down_does_not_overrule_a_warning(play, server):
    anna = play("anna", "/write").ready()
    sent = answers(anna.page)
    anna.write("two of them", anna.objects[:1])
    anna.page.keyboard.down("Control")
    for _ in range(20):
        anna.page.keyboard.down("Enter")
        anna.page.wait_for_timeout(50)
    anna.page.keyboard.up("Enter")
    anna.page.keyboard.up("Control")
    expect(anna.page.locator("#submit")).to_have_text("Submit anyway")
    assert sent == []
    anna.page.locator("#submit").dblclick(delay=100)
    anna.noted("It waits for a validator")
    assert len(sent) == 1


def test_what_is_done_while_the_next_one_is_on_its_way_is_not_kept_for_it(play, server):
    anna, viktor = play("anna", "/write").ready(), play("viktor")
    written(anna, "the first thing", "the second thing")
    viktor.go("/validate").asked("the first thing")

    def late(route) -> None:
        viktor.page.wait_for_timeout(1500)
        route.continue_()

    for player, path in ((viktor, "validate"), (anna, "write")):
        player.page.route(f"**/api/v1/{path}/next", late)
    with viktor.page.expect_request("**/validate/next"):
        viktor.page.get_by_role("button", name="Nothing is meant").click()
    viktor.page.locator(".stage").focus()
    viktor.page.keyboard.press("3")
    viktor.asked("the second thing")
    viktor.page.wait_for_timeout(LATER)
    assert viktor.selected == set()
    names = "() => Object.keys(localStorage).filter((name) => name.includes('draft.'))"
    assert viktor.page.evaluate(names) == []
    anna.write("the third thing", anna.objects[:1])
    with anna.page.expect_request("**/write/next"):
        anna.page.locator("#submit").click()
    anna.page.locator(".stage").focus()
    anna.page.keyboard.press("3")
    anna.noted("It waits for a validator")
    anna.page.wait_for_timeout(2000 + LATER)
    assert anna.selected == set()
    assert anna.page.get_by_role("textbox", name="Sentence").input_value() == ""
    assert anna.page.evaluate(names) == []


def test_a_number_of_two_digits_is_one(play, server):
    anna = play("anna", "/write").ready()
    shown = numbers(anna)
    anna.page.locator(".stage").focus()
    anna.page.keyboard.press("1")
    anna.page.keyboard.press("2")
    assert anna.selected == {shown[12]}


def test_nothing_is_submitted_on_a_picture_that_did_not_come(play, server):
    anna, viktor = play("anna", "/write").ready(), play("viktor")
    anna.page.route("**/api/v1/pictures/*/image", lambda route: route.abort())
    anna.go("/write").ready()
    anna.noted("could not be loaded")
    posted = []
    anna.page.on("request", lambda request: posted.append(request.url) if request.method == "POST" else None)
    anna.write("the thing at the top", anna.objects[:1])
    anna.page.locator("#submit").click()
    anna.noted("not here yet")
    assert not [url for url in posted if url.endswith("/samples")]
    anna.page.unroute("**/api/v1/pictures/*/image")
    with anna.page.expect_response("**/api/v1/pictures/*/image"):
        anna.page.locator("#submit").click()  # asks for it again
    anna.page.wait_for_timeout(500)  # it is decoded and drawn
    anna.quiet()
    anna.submit(anyway=True)
    viktor.page.route("**/api/v1/pictures/*/image", lambda route: route.abort())
    viktor.go("/validate").asked("the thing at the top")
    viktor.page.get_by_role("button", name="Nothing is meant").click()
    viktor.noted("not here yet")
    with server.game.database.read() as session:
        from refseg.apps.annotate.database.tables import Verdict

        assert session.query(Verdict).count() == 0


def test_validators_see_other_numbers_than_writers(play, server):
    anna, viktor = play("anna", "/write").ready(), play("viktor")
    written = numbers(anna)
    anna.write("the thing at the top", anna.objects[:1]).submit(anyway=True)
    viktor.go("/validate").asked("the thing at the top")
    found_there = numbers(viktor)
    assert set(written.values()) == set(found_there.values())
    assert set(found_there) == set(range(1, 13))
    assert not any(written[number] == found_there[number] for number in written)


def test_the_waiting_page_says_why(play, server):
    anna, viktor = play("anna", "/write").ready(), play("viktor")
    anna.write("the thing at the top", anna.objects[:1]).submit(anyway=True)
    anna.go("/validate")
    expect(anna.page.locator("#empty-why")).to_contain_text("written by you")
    viktor.go("/validate").asked("the thing at the top")
    viktor.answer(viktor.objects[5:6])
    expect(viktor.page.locator("#empty-why")).to_contain_text("goes back to its author")
