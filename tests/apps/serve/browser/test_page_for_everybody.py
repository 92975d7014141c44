"""axe-core's rules on all screens, light and dark, laptop and phone; nothing wider than the screen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.apps.serve.browser.conftest import Visitor

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")


def check(page: Page, where: str) -> None:
    """No rule of axe-core is broken on this page as it stands, and it fits the screen."""
    broken = [
        f"{where}: {rule['id']}: {node['html'][:200]}"
        for rule in axe.Axe().run(page).response["violations"]
        for node in rule["nodes"]
    ]
    assert not broken, "\n".join(broken)
    wide, screen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= screen, where


@pytest.mark.parametrize("screen", ["light", "dark", "phone"])
def test_every_screen(visit: Callable[..., Visitor], screen: str) -> None:
    visitor = visit(phone=screen == "phone", dark=screen == "dark")
    page = visitor.page
    expect(page.locator("#examples img[src]")).to_have_count(6)
    check(page, "empty")
    visitor.example().sentence("all chairs").answered("2 things")
    page.locator(".thing[aria-pressed]").first.click()
    page.get_by_role("button", name="Add a sentence").click()
    visitor.sentence("the pink chair", 1).answered("None", 1)
    page.get_by_text("Probabilities").click()
    check(page, "answers")
    page.get_by_role("button", name="Help").click()
    check(page, "help")
    page.keyboard.press("Escape")


def test_the_keyboard_reaches_everything(visit: Callable[..., Visitor]) -> None:
    """From the top of the page by Tab alone: an example, a sentence, a thing."""
    page = visit().page
    expect(page.locator("#examples img[src]")).to_have_count(6)

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is not reached")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    tab_to('#examples button[data-id="3"]')
    page.keyboard.press("Enter")
    expect(page.locator("#picture-state")).to_contain_text("×")
    tab_to(".sentence")
    page.keyboard.type("all chairs")
    expect(page.locator(".answer")).to_contain_text("2 things")
    tab_to('.thing[data-index="0"]')
    page.keyboard.press("Space")
    expect(page.locator('.thing[aria-pressed="false"]')).to_have_count(1)


def test_the_theme_is_kept(visit: Callable[..., Visitor]) -> None:
    page = visit().page
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    button = page.locator("#theme")
    button.click()
    button.click()
    expect(button).to_have_text("Theme: dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    expect(button).to_have_text("Theme: dark")
