"""The page as people use it."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from refseg.apps.serve.engine import Job
from refseg.data.rle import decode
from tests.apps.serve.browser.conftest import Visitor
from tests.apps.serve.conftest import Running, encoded, scene
from tests.apps.serve.test_neighbours import Collection

Visit = Callable[..., Visitor]


def metric(server: Running, name: str, **labels: str) -> float:
    return server.state.metrics.registry.get_sample_value(name, labels) or 0.0


def test_the_mask_is_there_while_one_types_and_the_picture_is_encoded_once(visit: Visit, server: Running) -> None:
    visitor = visit().example()
    before = metric(server, "refseg_batch_seconds_count", kind="encode")
    page = visitor.page
    page.locator(".sentence").press_sequentially("red car", delay=30)
    visitor.answered("1 thing")
    assert visitor.marked() > 500
    expect(page.locator("#canvas")).to_have_attribute("aria-label", re.compile("red car: 1 thing"))
    visitor.sentence("the pink chair").answered("None: nothing in this picture is “the pink chair”")
    visitor.sentence("qwrtzpl vbnmkjh").answered("None")
    expect(page.locator(".remarks li").first).to_be_visible()
    visitor.sentence("")
    expect(page.locator(".answer")).to_have_text("")
    assert metric(server, "refseg_batch_seconds_count", kind="encode") == before


def test_sentences_that_were_typed_over_are_not_computed(visit: Visit, server: Running) -> None:
    visitor = visit().example()
    begun, go = threading.Event(), threading.Event()
    server.state.engine.submit(Job("hold", 1, lambda jobs: [begun.set() or go.wait(60)], "hold"))
    assert begun.wait(30)
    expressions = metric(server, "refseg_batch_expressions_sum")
    for text in ("a", "a red", "a red chair", "a red car", "red car"):
        visitor.sentence(text)
        visitor.page.wait_for_timeout(300)  # longer than the page waits before it asks
    assert server.state.engine.waiting <= 5
    go.set()
    visitor.answered("1 thing")
    # The one that held and the last sentence; of the others those that were on the way when they were cut.
    assert metric(server, "refseg_batch_expressions_sum") - expressions <= 3
    assert metric(server, "refseg_cancelled_total") >= 3


def test_things_are_left_out_and_kept_by_pointer_and_keyboard(visit: Visit) -> None:
    visitor = visit().example()
    page = visitor.page
    visitor.sentence("all chairs").answered("2 things")
    things = page.locator(".thing[aria-pressed]")
    expect(things).to_have_count(2)
    whole = visitor.marked()
    box = page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] * 312 / 480, box["y"] + box["height"] * 380 / 480  # the seat of the near chair
    page.mouse.move(x, y)
    expect(page.locator("#canvas")).to_have_class("hit")
    expect(page.locator(".thing.hit")).to_have_count(1)
    page.mouse.click(x, y)
    expect(page.locator('.thing[aria-pressed="false"]')).to_have_count(1)
    assert visitor.marked() < whole
    expect(page.locator("#live")).to_contain_text("left out")
    things.first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator('.thing[aria-pressed="false"]')).to_have_count(1)
    page.keyboard.down("Alt")
    page.mouse.click(x, y)
    page.keyboard.up("Alt")
    expect(page.locator('.thing[aria-pressed="true"]')).to_have_count(1)


def test_several_sentences_are_layers(visit: Visit) -> None:
    visitor = visit().example()
    page = visitor.page
    visitor.sentence("red car").answered("1 thing")
    page.locator(".sentence").press("Enter")
    expect(page.locator(".sentence")).to_have_count(2)
    expect(page.locator(".sentence").nth(1)).to_be_focused()
    alone = visitor.marked()
    visitor.sentence("all chairs", 1).answered("2 things", 1)
    both = visitor.marked()
    assert both > alone
    colours = page.evaluate(
        '[...document.querySelectorAll(".layer")].map((row) => getComputedStyle(row).borderLeftColor)'
    )
    assert len(set(colours)) == 2
    page.get_by_role("button", name="Show sentence 2").click()
    assert visitor.marked() < both
    page.get_by_role("button", name="Remove sentence 2").click()
    expect(page.locator(".layer")).to_have_count(1)
    expect(page.get_by_role("textbox", name="Sentence")).to_be_focused()


def test_probabilities(visit: Visit) -> None:
    visitor = visit().example()
    page = visitor.page
    visitor.sentence("the red car on the left").answered("1 thing")
    page.get_by_text("Probabilities").click()
    before = visitor.marked()
    page.get_by_label("A pixel counts above").fill("0.95")
    expect(page.locator("#threshold-value")).to_have_text("95 %")
    expect(page.locator(".layer")).not_to_have_attribute("aria-busy", "true")
    page.wait_for_function("location.hash.includes('p=0.95')")
    page.wait_for_timeout(500)
    visitor.answered("thing")
    assert visitor.marked() < before
    page.get_by_label("“None” above").fill("0.05")
    visitor.answered("None")
    page.get_by_role("button", name="As the model was set").click()
    visitor.answered("1 thing")
    assert visitor.marked() == before


def test_what_one_takes_along(visit: Visit) -> None:
    visitor = visit().example()
    page = visitor.page
    visitor.sentence("all chairs").answered("2 things")

    def saved(name: str) -> bytes:
        with page.expect_download() as started:
            page.get_by_role("button", name=name, exact=True).click()
        return Path(started.value.path()).read_bytes()

    answers = json.loads(saved("JSON"))
    [answer] = answers["answers"]
    masks = [decode(instance["mask"]) for instance in answer["instances"]]
    mask = np.asarray(Image.open(BytesIO(saved("Mask"))).convert("L")) > 0
    assert np.array_equal(mask, decode(answer["mask"]))
    # Specks of a dense model's mask are no things of their own.
    union = np.any(masks, axis=0)
    assert not (union & ~mask).any()
    assert union.sum() > 0.95 * mask.sum()
    page.locator(".thing[aria-pressed]").first.click()
    cut = np.asarray(Image.open(BytesIO(saved("Cut-out"))))
    kept = mask & ~masks[0]
    assert np.array_equal(cut[..., 3] > 0, kept)
    assert np.array_equal(cut[kept][:, :3], scene().image[kept])
    assert json.loads(saved("JSON"))["answers"][0]["left_out"] == [0]
    page.get_by_role("button", name="Copy as COCO").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    document = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert [category["name"] for category in document["categories"]] == ["all chairs"]
    [annotation] = document["annotations"]
    assert np.array_equal(decode(annotation["segmentation"]), masks[1])
    assert annotation["area"] == masks[1].sum()


def test_a_link_holds_everything_but_the_picture(visit: Visit) -> None:
    first = visit().example()
    first.sentence("red car").answered("1 thing")
    first.page.locator(".sentence").press("Enter")
    first.sentence("the pink chair", 1).answered("None", 1)
    link = first.page.evaluate("location.hash")
    other = visit(hash=link).ready()
    other.answered("1 thing").answered("None", 1)
    assert other.page.evaluate("location.hash") == link
    own = visit(hash="#t=all+chairs&p=0.3")
    expect(own.page.locator("#examples button").first).to_be_visible()
    expect(own.page.locator(".sentence")).to_have_value("all chairs")
    own.page.locator("#file").set_input_files(
        [{"name": "own.png", "mimeType": "image/png", "buffer": encoded(scene().image)}]
    )
    own.ready().answered("2 things")
    assert "own" not in own.page.evaluate("location.href")


def test_pictures_are_dropped_pasted_taken_and_refused(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    expect(page.locator("#examples img[src]").first).to_be_visible()
    data = base64.b64encode(encoded(scene().image)).decode()
    give = """([kind, data, type, name]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, { type }));
        const target = document.querySelector("#drop");
        target.dispatchEvent(kind === "drop"
            ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
    }"""
    for kind, name in (("drop", "dropped.png"), ("paste", "pasted picture.png")):
        page.evaluate(give, [kind, data, "image/png", "dropped.png"])
        visitor.ready()
        expect(page.locator("#picture-name")).to_have_text(name)
        page.get_by_role("button", name="Another picture").click()
        expect(page.get_by_role("heading", name="Choose a picture")).to_be_visible()
    page.evaluate(give, ["drop", data, "text/x-sh", "program.sh"])
    expect(page.get_by_role("alert")).to_contain_text("program.sh is no picture")
    broken = base64.b64encode(b"not a picture at all").decode()
    page.evaluate(give, ["drop", broken, "image/png", "broken.png"])
    expect(page.get_by_role("alert")).to_contain_text("broken.png: the picture of 20 bytes: not a picture")
    page.get_by_role("button", name="Camera", exact=True).click()
    expect(page.get_by_role("dialog", name="Camera")).to_be_visible()
    page.wait_for_function("document.querySelector('#video').videoWidth > 0")
    page.get_by_role("button", name="Take the picture").click()
    visitor.ready()
    expect(page.locator("#picture-name")).to_have_text("camera.jpg")


def test_a_format_that_browsers_cannot_show_comes_back_from_the_server(visit: Visit) -> None:
    visitor = visit()
    buffer = BytesIO()
    Image.fromarray(scene().image).save(buffer, format="TIFF")
    visitor.page.locator("#file").set_input_files(
        [{"name": "scan.tiff", "mimeType": "image/tiff", "buffer": buffer.getvalue()}]
    )
    visitor.ready().sentence("red car").answered("1 thing")


def test_a_picture_that_the_server_forgot_is_sent_again(visit: Visit, server: Running) -> None:
    visitor = visit().example()
    visitor.sentence("red car").answered("1 thing")
    for id in list(server.state.store._kept):
        server.state.store.remove(id)
    visitor.sentence("all chairs").answered("2 things")


def test_a_key_is_asked_for_and_models_can_be_chosen(
    visit: Visit, running: Callable[..., Running], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("0123456789abcdef\n")
    server = running(api_key_file=str(file))
    server.state.segmenters["second"] = next(iter(server.state.segmenters.values()))
    visitor = visit(server.url)
    page = visitor.page
    page.locator("#key").fill("0123456789abcdef")
    page.get_by_role("button", name="Go on").click()
    visitor.example().sentence("red car").answered("1 thing")
    page.get_by_label("Model").select_option("second")
    visitor.answered("1 thing")
    page.wait_for_function("location.hash.includes('m=second')")


def test_search_on_the_page(visit: Visit, running: Callable[..., Running], tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(encoded(scene().image))
    visitor = visit(running(index=Collection(tmp_path)).url)
    page = visitor.page
    page.get_by_role("button", name="Search").first.click()
    page.get_by_role("searchbox").fill("zebra")
    page.keyboard.press("Enter")
    expect(page.locator("#search-state")).to_contain_text("Nothing found: none of 2 pictures holds “zebra”")
    page.get_by_role("searchbox").fill("red car")
    page.keyboard.press("Enter")
    expect(page.locator("#hits li")).to_have_count(2)
    expect(page.locator("#hits rect")).to_have_count(1)
    page.get_by_role("button", name="one.png, 90 %").click()
    visitor.ready().answered("1 thing")
