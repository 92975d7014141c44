"""axe-core's rules on the screens that people meet, light and dark, laptop and phone; contrast of the drawn colours."""

from itertools import pairwise

import pytest
from playwright.sync_api import expect

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

SCREENS = ["light", "dark", "phone"]


def check(page, where: str) -> None:
    """No rule of axe-core is broken on this page as it stands."""
    page.wait_for_load_state("networkidle")
    broken = [
        f"{where}: {rule['id']}: {node['html'][:200]}"
        for rule in axe.Axe().run(page).response["violations"]
        for node in rule["nodes"]
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("screen", SCREENS)
def test_pages_of_players(play, server, screen):
    options = {"phone": screen == "phone", "dark": screen == "dark"}
    anna = play("anna", "/", **options)
    for path in ("/", "/mine", "/leaderboard", "/help", "/nowhere"):
        anna.go(path)
        check(anna.page, path)
    anna.go("/write").ready()
    anna.write("the seven things", anna.objects[:2])
    expect(anna.page.locator(".warning")).to_be_visible()
    check(anna.page, "/write with a warning")
    anna.page.get_by_role("radio", name="No target").check(force=True)
    expect(anna.page.locator("#suggestion-list button").first).to_be_visible()
    anna.page.get_by_text("Sentences of this picture").click()
    check(anna.page, "/write without target")
    anna.choose(anna.objects[:2]).page.get_by_role("textbox", name="Sentence").fill("the two things")
    anna.submit(anyway=True)
    anna.page.evaluate("document.activeElement.blur()")
    anna.page.keyboard.press("?")
    check(anna.page, "keys")
    viktor = play("viktor", "/validate", **options).asked("the two things")
    viktor.choose(viktor.objects[:1])
    check(viktor.page, "/validate")
    viktor.page.get_by_role("button", name="Reject").click()
    check(viktor.page, "rejection")
    anna.go("/validate")
    expect(anna.page.locator("#empty")).to_be_visible()
    check(anna.page, "nothing to validate")


@pytest.mark.parametrize("screen", SCREENS)
def test_pages_of_administrators(play, server, screen):
    anna = play("anna", "/write").ready()
    anna.write("the two things", anna.objects[:2]).submit(anyway=True)
    ada = play("ada", "/admin", phone=screen == "phone", dark=screen == "dark")
    for path in ("/admin", "/admin/samples", "/admin/samples/1", "/admin/people", "/admin/data", "/admin/log"):
        ada.go(path)
        check(ada.page, path)
    ada.go("/admin/people").page.get_by_role("button", name="Add a person").click()
    check(ada.page, "a person")


@pytest.mark.parametrize("dark", [False, True])
def test_login(browser, server, dark):
    from tests.support.browser_players import Player

    visitor = Player(browser, server.url, "anna", dark=dark).go("/login")
    check(visitor.page, "login")
    visitor.page.get_by_label("Name").fill("anna")
    visitor.page.get_by_label("Password").fill("wrong password")
    visitor.page.get_by_role("button", name="Log in").click()
    expect(visitor.page.get_by_role("alert")).to_be_visible()
    check(visitor.page, "failed login")
    visitor.context.close()


def test_colours_can_be_told_apart_and_read(play):
    """Neighbours in the list differ by colour and hatching; text on each colour reaches a contrast of 4.5 to 1."""
    anna = play("anna")
    looks = anna.page.evaluate(
        """async () => {
        const { lookOf } = await import("/static/js/palette.js");
        return Array.from({ length: 28 }, (_, index) => lookOf(index));
    }"""
    )
    assert len({(look["colour"], look["hatch"], str(look["dash"])) for look in looks}) == 28
    for one, other in pairwise(looks):
        assert one["colour"] != other["colour"]
        assert one["hatch"] != other["hatch"]
    for look in looks:
        assert contrast(look["colour"], look["text"]) >= 4.5, look


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as the Web Content Accessibility Guidelines 2 define it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_theme_is_kept(play):
    anna = play("anna")
    background = "getComputedStyle(document.body).backgroundColor"
    light = anna.page.evaluate(background)
    button = anna.page.get_by_role("button", name="Theme")
    button.click()
    button.click()
    expect(anna.page.locator("html")).to_have_attribute("data-theme", "dark")
    anna.page.wait_for_load_state("networkidle")
    dark = anna.page.evaluate(background)
    assert dark != light
    anna.page.reload()
    assert anna.page.evaluate(background) == dark


@pytest.mark.parametrize("phone", [False, True])
def test_nothing_is_wider_than_the_screen(play, phone):
    ada = play("ada", phone=phone)
    for path in (
        "/",
        "/write",
        "/validate",
        "/mine",
        "/leaderboard",
        "/help",
        "/admin",
        "/admin/samples",
        "/admin/data",
    ):
        ada.go(path).page.wait_for_load_state("networkidle")
        wide, screen = ada.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= screen, path
