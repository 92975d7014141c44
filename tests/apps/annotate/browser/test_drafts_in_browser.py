"""Nothing is lost: closed browsers, cut networks, killed servers, two windows, leases that ran out."""

import shutil

import pytest
from playwright.sync_api import expect
from sqlalchemy import func, select

from refseg.apps.annotate.database.tables import GameSample
from refseg.apps.annotate.settings import Settings
from tests.support.browser_players import Player
from tests.support.game_server import ProcessServer


def count(server) -> int:
    with server.game.database.read() as session:
        return session.scalar(select(func.count()).select_from(GameSample)) or 0


def test_a_draft_comes_back_in_another_browser(play, server):
    anna = play("anna", "/write").ready()
    ids = anna.objects[:2]
    anna.write("half a sentence about", ids).saved()
    note = anna.page.locator("#picture-note").inner_text()
    anna.context.close()
    again = play("anna", "/write").ready()
    expect(again.page.get_by_role("textbox", name="Sentence")).to_have_value("half a sentence about")
    assert again.selected == set(ids)
    assert again.page.locator("#picture-note").inner_text() == note
    again.page.keyboard.press("u")  # the steps that led there came back too
    assert len(again.selected) == 1


def test_what_is_typed_just_before_closing_is_kept(play, server):
    anna = play("anna", "/write").ready()
    anna.page.get_by_role("textbox", name="Sentence").fill("typed and closed at once")
    anna.page.close()
    anna.page = anna.open()
    anna.go("/write").ready()
    expect(anna.page.get_by_role("textbox", name="Sentence")).to_have_value("typed and closed at once")


def test_offline_work_is_kept_and_saved_later(play, server):
    anna = play("anna", "/write").ready()
    anna.context.set_offline(True)
    anna.page.get_by_role("textbox", name="Sentence").fill("written on a train")
    expect(anna.page.locator("#saved")).to_contain_text("Offline: saved in this browser")
    expect(anna.page.locator("#connection")).to_be_visible()
    anna.context.set_offline(False)
    anna.saved()
    expect(anna.page.locator("#connection")).to_be_hidden()


def test_a_submission_made_offline_arrives_once(play, server):
    anna = play("anna", "/write").ready()
    anna.write("sent from a tunnel", anna.objects[:1]).saved()
    expect(anna.page.locator("#advice .tag")).not_to_be_empty()
    anna.context.set_offline(True)
    anna.page.locator("#submit").click()
    expect(anna.page.locator("#saved")).to_contain_text("kept in this browser, sent by itself")
    assert count(server) == 0
    anna.context.set_offline(False)
    anna.noted("Sent")
    assert count(server) == 1


def test_an_answer_that_got_lost_does_not_count_twice(play, server):
    anna = play("anna", "/write").ready()
    anna.write("my answer gets lost", anna.objects[:1]).saved()
    expect(anna.page.locator("#advice .tag")).not_to_be_empty()
    lost = []

    def lose(route):
        if not lost:
            lost.append(route.fetch())  # the server has it, the browser does not know
            route.abort()
        else:
            route.continue_()

    anna.page.route("**/api/v1/samples", lose)
    anna.page.locator("#submit").click()
    anna.noted("Sent")
    assert lost[0].status == 201
    assert count(server) == 1


def test_a_submission_left_by_a_closed_window_is_sent_by_the_next(play, server):
    anna = play("anna", "/write").ready()
    anna.write("closed while it was on its way", anna.objects[:1]).saved()
    expect(anna.page.locator("#advice .tag")).not_to_be_empty()
    anna.page.route("**/api/v1/samples", lambda route: route.abort())
    anna.page.locator("#submit").click()
    expect(anna.page.locator("#saved")).to_contain_text("kept in this browser")
    anna.page.close()
    assert count(server) == 0
    anna.page = anna.open()
    anna.go("/").noted("has now been sent")
    assert count(server) == 1


def test_two_windows_ask_which_draft_to_keep(play, server):
    anna = play("anna", "/write").ready()
    first = anna.page
    first.get_by_role("textbox", name="Sentence").fill("from the first window")
    anna.saved()
    second = anna.open()
    second.goto(f"{server.url}/write")
    expect(second.get_by_role("textbox", name="Sentence")).to_have_value("from the first window")
    second.get_by_role("textbox", name="Sentence").fill("from the second window")
    expect(second.locator("#saved")).to_have_text("Saved")
    first.get_by_role("textbox", name="Sentence").fill("again from the first")
    dialog = first.get_by_role("dialog", name="Two drafts of this picture")
    expect(dialog).to_contain_text("from the second window")
    dialog.get_by_role("button", name="Take the other").click()
    expect(first.get_by_role("textbox", name="Sentence")).to_have_value("from the second window")


@pytest.mark.parametrize("server", [1], indirect=True)
def test_a_lost_lease_keeps_the_sentence(play, server):
    anna = play("anna", "/write").ready()
    anna.write("begun, then lunch", anna.objects[:1]).saved()
    server.turn(3600)
    vera = play("vera", "/write").ready()
    anna.page.locator("#submit").click()
    anna.noted("given to somebody else")
    expect(anna.page.get_by_role("heading", name="No picture left for you")).to_be_visible()
    assert count(server) == 0
    vera.page.get_by_role("button", name="Skip").click()
    expect(vera.page.get_by_role("heading", name="No picture left for you")).to_be_visible()
    anna.go("/")
    anna.page.get_by_role("link", name="Go on writing").click()
    anna.ready()
    expect(anna.page.get_by_role("textbox", name="Sentence")).to_have_value("begun, then lunch")
    anna.submit(anyway=True)
    assert count(server) == 1


def test_a_killed_server_loses_nothing(browser, drawn, tmp_path):
    server = ProcessServer(Settings(data=shutil.copytree(drawn(4), tmp_path / "game")))
    try:
        anna = Player(browser, server.url, "anna").log_in("/write").ready()
        ids = anna.objects[:1]
        anna.write("acknowledged before the kill", ids).saved()
        server.kill()
        anna.page.get_by_role("textbox", name="Sentence").fill("typed while the server was dead")
        expect(anna.page.locator("#saved")).to_contain_text("Offline: saved in this browser")
        anna.page.locator("#submit").click()
        expect(anna.page.locator("#saved")).to_contain_text("sent by itself")
        server.start()
        expect(anna.page.locator("#notes")).to_contain_text("Sent", timeout=30_000)
        anna.go("/mine")
        expect(anna.page.locator("#rows tr")).to_have_count(1)
        expect(anna.page.locator("#rows tr")).to_contain_text("typed while the server was dead")
        assert not anna.faults
        anna.context.close()
    finally:
        server.kill()
