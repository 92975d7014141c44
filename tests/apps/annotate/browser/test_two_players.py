"""Two and three people in browsers of their own take sentences through the states of the game."""

import json

import pytest
from playwright.sync_api import expect
from sqlalchemy import select

from refseg.apps.annotate.database.tables import GameSample


def states(server) -> dict[str, str]:
    with server.game.database.read() as session:
        return {sample.text: sample.state for sample in session.scalars(select(GameSample))}


def written(play, text="all the things that I picked", count=2):
    """A sentence of anna's about the first objects of her picture; returns her and the objects."""
    anna = play("anna", "/write").ready()
    ids = anna.objects[:count]
    anna.write(text, ids).submit(anyway=True)
    return anna, ids


def test_same_selection_is_accepted(play, server):
    anna, ids = written(play)
    assert states(server) == {"all the things that I picked": "waiting"}
    viktor = play("viktor", "/validate").asked("all the things that I picked")
    viktor.answer(ids).noted("Same objects as the author's: accepted. 5 points")
    assert states(server) == {"all the things that I picked": "accepted"}
    expect(viktor.page.locator("#today-text")).to_contain_text("1 of 50 · 5 points")
    anna.go("/")
    expect(anna.page.locator("#me-numbers")).to_contain_text("accepted1")
    expect(anna.page.locator("#goal-words")).to_contain_text("49 to go")


def test_a_validator_never_receives_the_selection(play, server):
    _, ids = written(play)
    viktor = play("viktor")
    viktor.page.wait_for_load_state("networkidle")
    received = []
    viktor.page.on("response", lambda response: "/api/" in response.url and received.append(response))
    viktor.go("/validate").asked("all the things that I picked")
    assert viktor.selected == set()
    bodies = [response.json() for response in received if "json" in response.headers.get("content-type", "")]
    task = next(body["task"] for body in bodies if "task" in body)
    assert sorted(task) == ["draft", "lease", "objects", "picture", "sample", "turn"]
    assert sorted(task["sample"]) == ["id", "text"]
    assert json.dumps(sorted(ids)) not in json.dumps(bodies)
    assert "anna" not in json.dumps(task)
    assert all(sorted(item) == ["area", "box", "id", "name", "rings"] for item in task["objects"])


def test_nobody_validates_their_own(play, server):
    anna, _ = written(play)
    anna.go("/validate")
    expect(anna.page.get_by_role("heading", name="Nothing to validate right now")).to_be_visible()


def test_a_second_validator_settles_a_disagreement(play, server):
    _, ids = written(play)
    viktor = play("viktor", "/validate").asked("all the things that I picked")
    viktor.answer(ids[:1]).noted("different objects")
    assert set(states(server).values()) == {"second"}
    expect(viktor.page.get_by_role("heading", name="Nothing to validate right now")).to_be_visible()
    play("vera", "/validate").asked("all the things that I picked").answer(ids).noted("accepted")
    assert set(states(server).values()) == {"accepted"}


def test_two_disagreements_discard(play, server):
    anna, ids = written(play)
    for name in ("viktor", "vera"):
        play(name, "/validate").asked("all the things that I picked").answer(ids[:1]).noted("different objects")
    assert set(states(server).values()) == {"discarded"}
    anna.go("/mine")
    expect(anna.page.locator("#rows tr")).to_contain_text("discarded")


def test_rejection_by_keyboard(play, server):
    written(play)
    viktor = play("viktor", "/validate").asked("all the things that I picked")
    viktor.page.keyboard.press("r")
    dialog = viktor.page.get_by_role("dialog", name="Why can this sentence not be used?")
    expect(dialog.get_by_role("button", name="Reject the sentence")).to_be_disabled()
    viktor.page.keyboard.press("2")
    expect(dialog.get_by_role("radio", name="Ambiguous")).to_be_checked()
    dialog.get_by_label("Note").fill("fits three of them")
    dialog.get_by_role("button", name="Reject the sentence").click()
    viktor.noted("Rejected. 1 point")
    assert set(states(server).values()) == {"rejected"}
    ada = play("ada", "/admin/samples")
    ada.page.locator("#rows").get_by_role("link", name="all the things that I picked").click()
    expect(ada.page.locator("#answers")).to_contain_text("rejected, ambiguous")
    expect(ada.page.locator("#answers")).to_contain_text("fits three of them")


def test_no_target_by_suggestion(play, server):
    anna = play("anna", "/write").ready()
    anna.page.keyboard.press("o")
    suggestion = anna.page.locator("#suggestion-list button").first
    text = suggestion.inner_text()
    suggestion.click()
    expect(anna.page.get_by_role("textbox", name="Sentence")).to_have_value(text)
    assert anna.selected == set()
    anna.submit(anyway=True)
    viktor = play("viktor", "/validate").asked(text)
    viktor.answer().noted("accepted")
    with server.game.database.read() as session:
        sample = session.scalars(select(GameSample)).one()
    assert (sample.state, sample.no_target, sample.text) == ("accepted", True, text)
    ada = play("ada", f"/admin/samples/{sample.id}")
    expect(ada.page.locator("#about")).to_contain_text("suggested sentence")


def test_a_wrong_number_is_warned_of_and_may_stay(play, server):
    anna = play("anna", "/write").ready()
    anna.write("the three things", anna.objects[:2])
    expect(anna.page.locator(".warning")).to_be_visible()
    anna.page.locator("#submit").click()
    expect(anna.page.get_by_role("button", name="Submit anyway")).to_be_visible()
    assert states(server) == {}
    anna.submit()
    assert states(server) == {"the three things": "waiting"}


def test_a_sentence_said_before_is_refused_with_the_earlier_one(play, server):
    anna = play("anna", "/write").ready()
    ids = anna.objects[:2]
    anna.page.get_by_label("Stay on this picture").check()
    anna.write("the two on the left", ids).submit(anyway=True)
    expect(anna.page.get_by_role("textbox", name="Sentence")).to_have_value("")
    anna.write("The two  on the left!", ids)
    problem = anna.page.locator("#advice .problem")
    expect(problem).to_contain_text("“the two on the left”")
    anna.page.locator("#submit").click()
    expect(problem).to_be_visible()
    assert len(states(server)) == 1
    anna.write("everything else on the left side", ids).submit(anyway=True)
    assert len(states(server)) == 2


@pytest.mark.parametrize("text", ['<img src=x onerror="document.title=1">', "<script>document.title=1</script> & 'x'"])
def test_markup_in_a_sentence_stays_text(play, server, text):
    _, ids = written(play, text)
    viktor = play("viktor", "/validate").asked(text)
    viktor.answer(ids).noted("accepted")
    ada = play("ada", "/admin/samples")
    expect(ada.page.locator("#rows")).to_contain_text(text)
    ada.page.locator("#rows").get_by_role("link", name=text).click()
    expect(ada.page.locator("#asked")).to_have_text(text)
    assert "1" not in (viktor.page.title(), ada.page.title())
    assert ada.page.locator("#asked img, #asked script").count() == 0


def test_keep_stays_on_the_picture(play, server):
    anna = play("anna", "/write").ready()
    note = anna.page.locator("#picture-note").inner_text()
    ids = anna.objects
    anna.page.get_by_label("Stay on this picture").check()
    anna.write("the very first thing", ids[:1]).submit(anyway=True)
    expect(anna.page.get_by_role("textbox", name="Sentence")).to_have_value("")
    assert anna.page.locator("#picture-note").inner_text() == note
    anna.write("the second thing from here", ids[1:2]).submit(anyway=True)
    with server.game.database.read() as session:
        assert len(set(session.scalars(select(GameSample.picture_id)))) == 1
