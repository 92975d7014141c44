"""A person at a browser: what they do on the pages, by mouse, keyboard and fingers."""

from __future__ import annotations

from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.game_server import PASSWORD

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 390, "height": 844}
# Chromium reports each failed request as an error: tests that cut the network expect these.
_NETWORK = ("Failed to load resource", "net::ERR")


class Player:
    """One browser of one person; collects what goes wrong in it."""

    def __init__(self, browser: Browser, url: str, name: str, *, phone: bool = False, dark: bool = False) -> None:
        self.url, self.name = url, name
        self.context: BrowserContext = browser.new_context(
            viewport=PHONE if phone else LAPTOP,
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            is_mobile=phone,
            accept_downloads=True,
            reduced_motion="reduce",
        )
        self.context.set_default_timeout(30_000)
        self.faults: list[str] = []
        self.page = self.open()

    def open(self) -> Page:
        """A new window of this browser."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("console", self._console)
        return page

    def _console(self, message) -> None:
        if message.type == "error" and not message.text.startswith(_NETWORK):
            self.faults.append(f"{message.location.get('url')}: {message.text}")

    def log_in(self, path: str = "/") -> Player:
        self.page.goto(f"{self.url}{path}")
        self.page.get_by_label("Name").fill(self.name)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(f"{self.url}{path}")
        return self

    def go(self, path: str) -> Player:
        self.page.goto(f"{self.url}{path}")
        return self

    # What is on the page -------------------------------------------------------------------------------------------

    @property
    def objects(self) -> list[int]:
        """The numbers (in the database) of the objects in the list."""
        return [int(row.get_attribute("data-id")) for row in self.page.locator(".object-list li").all()]

    @property
    def selected(self) -> set[int]:
        rows = self.page.locator('.object-list li[aria-selected="true"]').all()
        return {int(row.get_attribute("data-id")) for row in rows}

    def ready(self) -> Player:
        """Wait until a picture and its objects are there."""
        expect(self.page.locator("#board")).to_be_visible()
        expect(self.page.locator(".object-list li").first).to_be_visible()
        return self

    def saved(self) -> None:
        expect(self.page.locator("#saved")).to_have_text("Saved")

    def noted(self, words: str) -> None:
        expect(self.page.locator("#notes")).to_contain_text(words)

    # What they do --------------------------------------------------------------------------------------------------

    def choose(self, ids) -> Player:
        """Select exactly these objects, in the list."""
        for number in set(ids) ^ self.selected:
            self.page.locator(f'.object-list li[data-id="{number}"]').click()
        assert self.selected == set(ids)
        return self

    def write(self, text: str, ids=()) -> Player:
        """Select the objects, or none, and write the sentence."""
        if ids:
            self.choose(ids)
        else:
            self.page.get_by_role("radio", name="No target").check(force=True)
        self.page.get_by_role("textbox", name="Sentence").fill(text)
        return self

    def submit(self, *, anyway: bool = False) -> Player:
        """Submit a sentence; `anyway` pushes a second time where there are warnings."""
        self.page.locator("#submit").click()
        sent = self.page.locator("#notes").get_by_text("It waits for a validator")
        if anyway:
            again = self.page.get_by_role("button", name="Submit anyway")
            expect(sent.or_(again).first).to_be_visible()
            if again.is_visible():
                again.click()
        expect(sent.first).to_be_visible()
        self.quiet()
        return self

    def quiet(self) -> None:
        """Close the notes."""
        buttons = self.page.get_by_role("button", name="Close this note")
        while buttons.count():
            buttons.first.click()

    def asked(self, text: str) -> Player:
        """Wait for a sentence to validate."""
        expect(self.page.locator("#asked")).to_have_text(text)
        return self.ready()

    def answer(self, ids=()) -> Player:
        """Submit a selection, or that nothing is meant."""
        if ids:
            self.choose(ids)
            self.page.locator("#submit").click()
        else:
            self.page.get_by_role("button", name="Nothing is meant").click()
        return self
