"""The pictures of docs/annotate.md: a game of drawn scenes is played for three weeks, then its pages are photographed.

python -m tests.apps.annotate.browser.pictures_for_docs docs/images
"""

import random
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright
from sqlalchemy import select

from refseg.apps.annotate.database.tables import GameSample, Object, Picture, SampleTarget
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.importing import ImportResult, import_pictures
from refseg.apps.annotate.services.judging import Judgement, judge
from refseg.apps.annotate.services.leases import release, take_picture, take_sample
from refseg.apps.annotate.services.sources import scenes
from refseg.apps.annotate.services.submitting import Submission, submit
from refseg.apps.annotate.settings import Settings
from tests.support.browser_players import CHROMIUM, FLAGS, Player
from tests.support.game_server import PEOPLE, ThreadServer, add_people

DAY = 86_400
KNOWN = 2  # sentences of each scene that the game starts with; the others are what the players write


def prepare(data: Path) -> tuple[ThreadServer, dict[str, list]]:
    """A game of 24 scenes, and the sentences that its players are going to write, by picture file."""
    game = Game.open(Settings(data=data))
    add_people(game)
    to_write: dict[str, list] = {}
    pictures = []
    for picture in scenes(24, seed=3, size=480):
        to_write[picture.file_name] = picture.sentences[KNOWN:]
        pictures.append(replace(picture, sentences=picture.sentences[:KNOWN]))
    import_pictures(game, pictures, ImportResult(), "drawn scenes")
    return ThreadServer(game), to_write


def play_three_weeks(server: ThreadServer, to_write: dict[str, list]) -> None:
    """Write and validate on each day, mostly in agreement."""
    game, rng = server.game, random.Random(11)
    numbers = {name: place + 1 for place, name in enumerate(PEOPLE)}
    for day in range(-20, 1):
        server.ahead = day * DAY
        for _ in range(rng.randint(2, 6)):
            write_one(game, numbers[rng.choice(["anna", "anna", "viktor", "vera"])], to_write)
        for _ in range(rng.randint(2, 6)):
            judge_one(game, numbers[rng.choice(["viktor", "vera", "vera", "anna"])], rng)
    server.ahead = 0.0


def write_one(game: Game, person: int, to_write: dict[str, list]) -> None:
    def work(session) -> None:
        lease = take_picture(session, game, person)
        if lease is None:
            return
        unwritten = to_write[session.get(Picture, lease.item_id).file_name]
        if not unwritten:
            release(session, game, person, lease.id, skip=True)
            return
        text, numbers, _ = unwritten.pop()
        targets = tuple(session.scalars(select(Object.id).where(Object.number.in_(numbers))))
        submit(session, game, person, Submission(lease.id, str(uuid.uuid4()), text, targets, not targets))

    try:
        game.database.write(work)
    except GameError as error:
        if error.code not in ("duplicate", "near_duplicate"):
            raise


def judge_one(game: Game, person: int, rng: random.Random) -> None:
    def work(session) -> None:
        lease = take_sample(session, game, person)
        if lease is None:
            return
        sample = session.get(GameSample, lease.item_id)
        targets = session.scalars(select(SampleTarget.object_id).where(SampleTarget.sample_id == sample.id)).all()
        chance = rng.random()
        if chance < 0.05:
            answer = Judgement(lease.id, str(uuid.uuid4()), True, reason=rng.choice(["ambiguous", "broken_mask"]))
        elif chance < 0.45 and len(targets) > 1:
            answer = Judgement(lease.id, str(uuid.uuid4()), False, tuple(targets[:1]))
        else:
            answer = Judgement(lease.id, str(uuid.uuid4()), False, tuple(targets), not targets)
        judge(session, game, person, sample.id, answer)

    game.database.write(work)


class Camera:
    """Writes what a page shows as a small PNG."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, player: Player, name: str) -> None:
        player.page.wait_for_load_state("networkidle")
        player.page.wait_for_timeout(300)
        path = self.folder / f"annotate-{name}.png"
        player.page.screenshot(path=path)
        # A palette keeps the repository small. Medians first, then a few steps of k-means: the seven colours stay true.
        Image.open(path).convert("RGB").quantize(256, kmeans=4, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)


def find_pair(player: Player) -> tuple[str, list[int]]:
    """Skip to a picture with exactly two of a kind among six objects or more; the kind and the two."""
    for _ in range(20):
        player.ready()
        names = player.page.locator(".object-list .object-name").all_inner_texts()
        for name in names:
            if len(names) >= 6 and names.count(name) == 2:
                return name, [number for number, other in zip(player.objects, names, strict=True) if other == name]
        note = player.page.locator("#picture-note")
        before = note.inner_text()
        player.page.get_by_role("button", name="Skip").click()
        expect(note).not_to_have_text(before)
    raise LookupError("no picture with two of a kind")


def photograph(browser, server: ThreadServer, camera: Camera) -> None:
    camera.take(Player(browser, server.url, "anna").go("/login"), "login")
    anna = Player(browser, server.url, "anna").log_in()
    camera.take(anna, "home")
    anna.go("/write")
    name, two = find_pair(anna)
    text = f"both of the {name}s that you can see"
    anna.write(text, two)
    expect(anna.page.locator("#advice .tag")).not_to_be_empty()
    anna.saved()
    camera.take(anna, "write")
    phone = Player(browser, server.url, "anna", phone=True, dark=True).log_in("/write").ready()
    camera.take(phone, "phone")
    anna.page.get_by_role("radio", name="No target").check(force=True)
    expect(anna.page.locator("#suggestion-list button").first).to_be_visible()
    camera.take(anna, "no-target")
    anna.page.locator(".stage").focus()
    anna.page.keyboard.press("?")
    camera.take(anna, "keys")
    anna.page.keyboard.press("Escape")
    anna.write(text, two).submit(anyway=True)
    viktor = Player(browser, server.url, "viktor", dark=True).log_in("/validate").ready()
    while viktor.page.locator("#asked").inner_text() != text:
        before = viktor.page.locator("#asked").inner_text()
        viktor.page.get_by_role("button", name="Skip").click()
        expect(viktor.page.locator("#asked")).not_to_have_text(before)
    viktor.choose(two[:1]).page.locator(".stage").focus()
    camera.take(viktor, "validate")
    ada = Player(browser, server.url, "ada").log_in("/admin")
    camera.take(ada, "admin")
    ada.go("/admin/samples")
    camera.take(ada, "samples")
    with server.game.database.read() as session:
        discarded = session.scalars(select(GameSample.id).where(GameSample.state == "discarded")).first()
    ada.go(f"/admin/samples/{discarded}").page.locator("#answers button").nth(1).click()
    camera.take(ada, "sample")
    ada.go("/leaderboard")
    ada.page.get_by_role("radio", name="All time").check(force=True)
    camera.take(ada, "leaderboard")


def main(folder: Path) -> None:
    """Play, and photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        server, to_write = prepare(Path(data) / "game")
        play_three_weeks(server, to_write)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        photograph(browser, server, Camera(folder))
        browser.close()
        server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
