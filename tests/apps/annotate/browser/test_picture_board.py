"""The picture and the list of objects: zoom, pan, hover, clicks through overlapping objects, fingers, keys, undo."""

import hashlib

import pytest
from playwright.sync_api import expect

# The board is reached through its own modules: where a picture's point lies on the screen, which object is under it.
PROBE = """async ({ root, task }) => {
    const { prepare } = await import(`${root}/static/js/stage.js`);
    const { objectsAt } = await import(`${root}/static/js/shapes.js`);
    const shapes = prepare(task.objects, task.picture.height);
    const inside = (shape) => objectsAt(shapes, ...shape.anchor).map((each) => each.id);
    return shapes.map((shape) => ({ id: shape.id, number: shape.number, anchor: shape.anchor, under: inside(shape) }));
}"""


class Board:
    """A player's board with the places of its objects."""

    def __init__(self, player):
        self.player, self.page = player, player.page
        task = player.page.request.get(f"{player.url}/api/v1/write/current").json()["task"]
        self.picture = task["picture"]
        self.shapes = player.page.evaluate(PROBE, {"root": "", "task": task})

    def screen(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the whole picture is on the screen, as long as nobody has zoomed."""
        box = self.page.locator(".stage canvas").bounding_box()
        scale = min(box["width"] / self.picture["width"], box["height"] / self.picture["height"])
        left = box["x"] + (box["width"] - self.picture["width"] * scale) / 2
        top = box["y"] + (box["height"] - self.picture["height"] * scale) / 2
        return left + x * scale, top + y * scale

    def pixels(self) -> str:
        """A digest of what the canvas shows, once it has been drawn."""
        # The board draws in the next frame after a change; the one after it holds the result.
        frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        url = self.page.evaluate(f"{frame}.then(() => document.querySelector('.stage canvas').toDataURL())")
        return hashlib.sha256(url.encode()).hexdigest()


@pytest.fixture
def board(play):
    return Board(play("anna", "/write").ready())


def test_click_selects_and_hover_names(board):
    shape = next(shape for shape in board.shapes if shape["under"] == [shape["id"]])
    before = board.pixels()
    board.page.mouse.move(*board.screen(*shape["anchor"]))
    expect(board.page.locator(".stage-tip")).to_have_text(
        board.page.locator(f'.object-list li[data-id="{shape["id"]}"] .object-name').inner_text()
        + f" {shape['number']}"
    )
    hovered = board.pixels()
    assert hovered != before
    board.page.mouse.click(*board.screen(*shape["anchor"]))
    assert board.player.selected == {shape["id"]}
    assert board.pixels() != hovered
    board.page.mouse.click(*board.screen(*shape["anchor"]))
    assert board.player.selected == set()


def test_clicks_cycle_through_overlapping_objects(play, server):
    player = play("anna", "/write").ready()
    task = player.page.request.get(f"{server.url}/api/v1/write/current").json()["task"]
    # Three objects over each other, as in a picture of a child with a bag on a chair.
    width, height = task["picture"]["width"], task["picture"]["height"]
    objects = []
    for item, margin in zip(task["objects"], (20, 60, 100), strict=False):
        box = [margin, margin, width - margin, height - margin]
        left, top, right, bottom = box
        ring = [left, top, right, top, right, bottom, left, bottom]
        objects.append({**item, "rings": [ring], "box": box, "area": 9000 - margin})
    ids = [item["id"] for item in objects]
    player.page.route("**/api/v1/write/next", lambda route: route.fulfill(json={"task": {**task, "objects": objects}}))
    player.go("/write").ready()
    board = player.page.locator(".stage canvas").bounding_box()
    middle = board["x"] + board["width"] / 2, board["y"] + board["height"] / 2
    player.page.mouse.move(*middle)
    expect(player.page.locator(".stage-tip")).to_contain_text("click again for 2 more objects here")
    seen = []
    for _ in range(5):
        player.page.mouse.click(*middle)
        seen.append(player.selected)
    small, mean, large = reversed(ids)
    assert seen == [{small}, {mean}, {large}, set(), {small}]
    player.page.keyboard.press("u")
    assert player.selected == set()  # a cycle is one step


def test_undo_and_redo(board):
    ids = board.player.objects
    board.player.choose(ids[:2])
    board.page.locator(".stage").focus()
    board.page.keyboard.press("Control+z")
    assert len(board.player.selected) == 1
    board.page.keyboard.press("Control+Shift+z")
    assert board.player.selected == set(ids[:2])
    board.page.keyboard.press("c")
    assert board.player.selected == set()
    board.page.get_by_role("button", name="Undo").click()
    assert board.player.selected == set(ids[:2])
    board.page.get_by_role("button", name="Redo").click()
    assert board.player.selected == set()


def test_undo_inside_the_sentence_is_the_texts_own(board):
    board.player.choose(board.player.objects[:1])
    board.page.get_by_role("textbox", name="Sentence").press_sequentially("abc")
    board.page.keyboard.press("Control+z")
    assert board.player.selected == set(board.player.objects[:1])
    assert board.page.get_by_role("textbox", name="Sentence").input_value() != "abc"


def test_wheel_zooms_at_the_pointer_and_dragging_pans(board):
    shape = board.shapes[0]
    place = board.screen(*shape["anchor"])
    whole = board.pixels()
    board.page.mouse.move(*place)
    board.page.mouse.wheel(0, -600)
    assert board.pixels() != whole
    board.page.mouse.click(*place)  # the point under the pointer stayed there
    assert shape["under"][0] in board.player.selected
    near = board.pixels()
    board.page.mouse.down()
    board.page.mouse.move(place[0] + 40, place[1] + 30, steps=4)
    board.page.mouse.up()
    assert board.pixels() != near
    assert board.player.selected == {shape["under"][0]}  # dragging is no click
    board.page.keyboard.press("c")
    board.page.keyboard.press("0")
    board.page.mouse.move(1, 1)
    assert board.pixels() == whole


def test_view_keeps_points_and_stays_in_sight(board):
    result = board.page.evaluate(
        """async () => {
        const { View } = await import("/static/js/view.js");
        const view = new View();
        view.picture = { width: 640, height: 427 };
        view.resize(911, 533);
        view.fit();
        let worst = 0;
        let random = 7;
        const next = () => ((random = (random * 16807) % 2147483647) / 2147483647);
        for (let i = 0; i < 500; i += 1) {
            const x = next() * 911, y = next() * 533;
            const point = view.toPicture(x, y);
            const back = view.toScreen(...point);
            worst = Math.max(worst, Math.hypot(back[0] - x, back[1] - y));
            view.zoom(Math.exp(next() * 4 - 2), x, y);
            view.pan(next() * 900 - 450, next() * 900 - 450);
            const [left, top] = view.toScreen(0, 0);
            const [right, bottom] = view.toScreen(640, 427);
            if (right < 47 || bottom < 47 || left > 911 - 47 || top > 533 - 47) return `out of sight at ${i}`;
            if (view.scale < view.whole - 1e-9 || view.scale > 32) return `scale ${view.scale}`;
        }
        return worst;
    }"""
    )
    assert isinstance(result, (int, float)), result
    assert result < 1e-6


def test_hit_test_agrees_with_the_canvas(board):
    """Our own test of a point in an outline against the browser's, on every object of the picture, holes and all."""
    task = board.page.request.get(f"{board.player.url}/api/v1/write/current").json()["task"]
    wrong = board.page.evaluate(
        """async (task) => {
        const { contains } = await import("/static/js/shapes.js");
        const { pathOf } = await import("/static/js/painter.js");
        const pen = document.createElement("canvas").getContext("2d");
        let wrong = 0, inside = 0;
        for (const { rings } of task.objects) {
            const path = pathOf(rings);
            for (let y = 0.5; y < task.picture.height; y += 5)
                for (let x = 0.5; x < task.picture.width; x += 5) {
                    const ours = contains(rings, x, y);
                    inside += ours;
                    wrong += ours !== pen.isPointInPath(path, x, y, "nonzero");
                }
        }
        return { wrong, inside };
    }""",
        task,
    )
    assert wrong["inside"] > 100
    assert wrong["wrong"] == 0


def test_fingers_tap_and_pinch(play):
    board = Board(play("anna", "/write", phone=True).ready())
    shape = next(shape for shape in board.shapes if shape["under"] == [shape["id"]])
    x, y = board.screen(*shape["anchor"])
    board.page.touchscreen.tap(x, y)
    assert board.player.selected == {shape["id"]}
    before = board.pixels()
    touch = board.player.context.new_cdp_session(board.page)

    def points(gap):
        return [{"x": x - gap, "y": y, "id": 1}, {"x": x + gap, "y": y, "id": 2}]

    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points(20)})
    for gap in (30, 45, 60):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points(gap)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert board.pixels() != before
    assert board.player.selected == {shape["id"]}  # a pinch selects nothing


def test_a_whole_round_by_keyboard(play, server):
    anna = play("anna", "/write").ready()
    keys = anna.page.keyboard
    first, second = anna.objects[:2]
    keys.press("n")
    keys.press("Space")
    assert anna.selected == {first}
    keys.press("n")
    keys.press("Enter")
    assert anna.selected == {first, second}
    keys.press("t")
    keys.type("found by keys alone")
    expect(anna.page.locator("#advice .tag")).not_to_be_empty()
    keys.press("Control+Enter")
    sent = anna.page.get_by_text("It waits for a validator")
    expect(sent.or_(anna.page.get_by_role("button", name="Submit anyway")).first).to_be_visible()
    if not sent.is_visible():
        keys.press("Control+Enter")
    anna.noted("Sent")
    viktor = play("viktor", "/validate").asked("found by keys alone")
    keys = viktor.page.keyboard
    for count, target in enumerate((first, second), 1):
        # A validator's page numbers the objects in another way than the author's.
        keys.type(viktor.page.locator(f'.object-list li[data-id="{target}"] .swatch').inner_text())
        expect(viktor.page.locator('.object-list li[aria-selected="true"]')).to_have_count(count)
    assert viktor.selected == {first, second}
    keys.press("Control+Enter")
    viktor.noted("accepted")


def test_the_list_is_a_listbox_for_the_keyboard(board):
    listbox = board.page.get_by_role("listbox", name="Objects")
    listbox.focus()
    board.page.keyboard.press("End")
    last = board.player.objects[-1]
    expect(listbox).to_have_attribute("aria-activedescendant", f"object-{last}")
    board.page.keyboard.press("Space")
    assert board.player.selected == {last}
    expect(board.page.locator("#live")).to_contain_text("1 object selected")


def test_help_sheet_and_single_keys_can_be_switched_off(board):
    board.page.keyboard.press("?")
    sheet = board.page.get_by_role("dialog", name="Keys")
    expect(sheet).to_contain_text("Undo")
    sheet.get_by_label("Keys without Ctrl work").uncheck()
    board.page.keyboard.press("Escape")
    board.page.keyboard.press("n")
    board.page.keyboard.press("Space")
    assert board.player.selected == set()
    board.page.keyboard.press("Control+Enter")
    expect(board.page.locator("#advice .problem")).to_be_visible()


def test_sentences_of_the_picture_show_their_objects(board):
    board.page.get_by_text("Sentences of this picture").click()
    before = board.pixels()
    button = board.page.locator("#sentence-list button").first
    button.focus()
    focused = board.pixels()
    assert focused != before
    board.page.get_by_role("textbox", name="Sentence").focus()
    assert board.pixels() == before
    button.hover()
    assert board.pixels() == focused
