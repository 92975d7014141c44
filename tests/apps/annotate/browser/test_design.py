"""What a player sees: colours that stay, room for fingers, words where they are looked for."""

import io
import json

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from tests.apps.annotate.browser.test_picture_board import Board
from tests.support.browser_players import PHONE


def pixels(player) -> np.ndarray:
    """The canvas of the stage, once it is drawn."""
    player.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shot = player.page.locator(".stage canvas").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def test_selected_objects_keep_their_colours(play):
    """Outline and hatching: of an object's inside most pixels are as before; a fill would change all of them."""
    board = Board(play("anna", "/write").ready())
    task = board.page.request.get(f"{board.player.url}/api/v1/write/current").json()["task"]
    largest = max(task["objects"], key=lambda item: item["area"])
    before = pixels(board.player)
    board.player.choose([largest["id"]])
    board.page.mouse.move(1, 1)
    after = pixels(board.player)
    box = board.page.locator(".stage canvas").bounding_box()
    left, top = board.screen(*largest["box"][:2])
    right, bottom = board.screen(*largest["box"][2:])
    rows = slice(round(top - box["y"]), round(bottom - box["y"]))
    columns = slice(round(left - box["x"]), round(right - box["x"]))
    changed = np.abs(after - before).max(axis=2)[rows, columns] > 40
    assert changed.any()
    assert changed.mean() < 0.45


def test_a_finger_on_tiny_objects_gets_a_choice(play, server):
    anna = play("anna", "/write", phone=True).ready()
    task = anna.page.request.get(f"{anna.url}/api/v1/write/current").json()["task"]
    width, height = task["picture"]["width"], task["picture"]["height"]

    def square(number: int, x: float, y: float, side: float) -> dict:
        box = [x, y, x + side, y + side]
        ring = [x, y, x + side, y, x + side, y + side, x, y + side]
        return {"id": number, "name": f"thing {number}", "box": box, "rings": [ring], "area": side * side}

    task["objects"] = [square(1, width / 2, height / 2, 6), square(2, width / 2 + 8, height / 2, 6)]
    anna.page.route("**/api/v1/write/next", lambda route: route.fulfill(body=json.dumps({"task": task})))
    anna.go("/write").ready()
    box = anna.page.locator(".stage canvas").bounding_box()
    scale = min(box["width"] / width, box["height"] / height)
    x = box["x"] + box["width"] / 2 + 5 * scale
    y = box["y"] + box["height"] / 2 + 3 * scale
    anna.page.touchscreen.tap(x, y)
    chooser = anna.page.get_by_role("group", name="Objects under your finger")
    expect(chooser.get_by_role("button")).to_have_count(2)
    assert anna.selected == set()
    assert all(button.bounding_box()["height"] >= 44 for button in chooser.get_by_role("button").all())
    chooser.get_by_role("button", name="thing 2").tap()
    assert anna.selected == {2}
    expect(chooser).to_be_hidden()


def test_on_a_phone_submit_and_warnings_stay_above_the_keyboard(play):
    anna = play("anna", "/write", phone=True).ready()
    anna.page.get_by_role("textbox", name="Sentence").fill("the seven things")
    anna.page.locator(".object-list li").first.tap()
    anna.page.get_by_role("textbox", name="Sentence").focus()
    expect(anna.page.locator(".warning")).to_be_visible()
    anna.page.set_viewport_size({"width": PHONE["width"], "height": 430})  # the keyboard is open
    anna.page.get_by_role("textbox", name="Sentence").scroll_into_view_if_needed()
    for place in ("#submit", ".warning", "#text"):
        box = anna.page.locator(place).bounding_box()
        assert box["y"] >= 0, place
        assert box["y"] + box["height"] <= 430, place
    small = anna.page.locator(".button:visible, .tool:visible").evaluate_all(
        "all => all.map((each) => [each.textContent.trim() || each.ariaLabel, each.getBoundingClientRect().height])"
        ".filter(([, height]) => height < 44)"
    )
    assert small == []


def test_an_empty_verdict_says_so(play):
    anna = play("anna", "/write").ready()
    anna.write("something or other", anna.objects[:1]).submit(anyway=True)
    viktor = play("viktor", "/validate").asked("something or other")
    viktor.page.locator("#submit").click()
    expect(viktor.page.locator("#verdict-problem")).to_contain_text("Nothing is selected")
    viktor.choose(viktor.objects[:1])
    expect(viktor.page.locator("#verdict-problem")).to_be_empty()
    viktor.page.locator("#nothing").click()
    expect(viktor.page.locator("#verdict-problem")).to_contain_text("Objects are selected")


def test_notes_leave_the_picture_free_and_the_pill_goes_with_its_picture(play):
    anna = play("anna", "/write").ready()
    anna.page.locator(".object-list li").first.hover()
    expect(anna.page.locator(".stage-tip")).not_to_be_empty()
    anna.write("something or other", anna.objects[:1])
    anna.page.locator("#submit").click()
    again = anna.page.get_by_role("button", name="Submit anyway")
    note = anna.page.locator("#notes .note").first
    expect(note.or_(again).first).to_be_visible()
    if not note.is_visible():
        again.click()
    expect(note).to_be_visible()
    stage, box = anna.page.locator(".stage").bounding_box(), note.bounding_box()
    assert box["x"] >= stage["x"] + stage["width"]
    expect(anna.page.get_by_role("textbox", name="Sentence")).to_have_value("")
    expect(anna.page.locator(".stage-tip")).to_be_empty()


def test_help_has_three_worked_examples_and_home_shows_ones_sentences(play):
    anna = play("anna", "/write").ready()
    anna.write("something or other", anna.objects[:1]).submit(anyway=True)
    anna.go("/")
    expect(anna.page.locator("#recent-list li")).to_contain_text(["something or other"])
    anna.go("/help")
    expect(anna.page.get_by_role("group", name="Three worked examples").locator("svg")).to_have_count(3)


def test_chinese(play):
    anna = play("anna", "/")
    anna.page.locator(".who summary").click()
    anna.page.get_by_label("Language").select_option("zh")
    expect(anna.page.get_by_role("heading", name="您好")).to_be_visible()
    anna.go("/write")
    expect(anna.page.get_by_role("button", name="提交")).to_be_visible()
