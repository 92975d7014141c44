"""The editors' page: masks exact in the browser, every tool by mouse, keys and fingers, and the whole way from plain
photographs to a checked data set."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import expect
from sqlalchemy import func, select

from refseg.apps.annotate.database.tables import GameSample, Object, Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services import proposing
from refseg.apps.annotate.settings import Settings
from refseg.data import open_dataset, rle
from refseg.data.check import check
from refseg.data.contours import loops_of
from tests.support.browser_players import Player
from tests.support.game_server import ThreadServer, add_people

SIZE = (120, 160)  # height, width


def photograph(number: int) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """A picture of a disc and a bar, and the disc's box."""
    rng = random.Random(number)
    image = Image.new("RGB", (SIZE[1], SIZE[0]), (200, 205, 190 + number))
    draw = ImageDraw.Draw(image)
    x, y, radius = rng.randrange(30, 60), rng.randrange(35, 85), rng.randrange(16, 26)
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(box, fill=(190, 40, 30))
    draw.rectangle((110, 20, 140, 100), fill=(30, 60, 180))
    return image, box


class ColourModel(proposing.ModelProcess):
    """Stands for the model: what is red is a ball, what is blue a box; at a point the one that lies there."""

    def ask(self, picture: Path, **where: list[float]) -> list[dict[str, object]]:
        pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
        red, blue = pixels[..., 0] - pixels[..., 2] > 80, pixels[..., 2] - pixels[..., 0] > 80
        found = [{"name": n, "score": 0.9, "rle": rle.encode(m), "mask": m} for n, m in (("ball", red), ("box", blue))]
        if "point" in where:
            x, y = (int(value) for value in where["point"])
            found = [item for item in found if item["mask"][y, x]]
        if "box" in where:
            found = [item for item in found if item["mask"].any()][:1]
        return [{key: item[key] for key in ("name", "score", "rle")} for item in found]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposing, "_PROCESSES", {"instances": ColourModel("colours")})


@pytest.fixture
def server(tmp_path: Path, model: None):
    """A game with people and no pictures."""
    game = Game.open(Settings(data=tmp_path / "game"))
    add_people(game)
    server = ThreadServer(game)
    yield server
    server.stop()


def upload(ada: Player, tmp_path: Path, count: int) -> None:
    """Photographs in an archive, without any annotation."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for number in range(count):
            image, _ = photograph(number)
            image.save(tmp_path / "photo.png")
            archive.write(tmp_path / "photo.png", f"street/photo {number}.png")
    ada.go("/admin/data")
    ada.page.locator("#pictures").set_input_files(tmp_path / "photos.zip")
    ada.page.get_by_role("button", name="Import").click()
    expect(ada.page.locator("#import-result")).to_contain_text("0 objects and 0 sentences imported")
    expect(ada.page.locator("#import-result")).to_contain_text("without masks")


class Desk:
    """The editors' page of somebody."""

    def __init__(self, player: Player) -> None:
        self.player, self.page = player, player.page
        expect(self.page.locator("#board")).to_be_visible()

    def screen(self, x: float, y: float) -> tuple[float, float]:
        box = self.page.locator(".stage canvas").bounding_box()
        scale = min(box["width"] / SIZE[1], box["height"] / SIZE[0])
        left = box["x"] + (box["width"] - SIZE[1] * scale) / 2
        return left + x * scale, box["y"] + (box["height"] - SIZE[0] * scale) / 2 + y * scale

    def pick(self, name: str) -> None:
        self.page.locator(f'[data-pick="{name}"]').click()

    def drag(self, *points: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.screen(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.screen(*point), steps=3)
        mouse.up()

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.screen(x, y))

    @property
    def count(self):
        return expect(self.page.locator(".object-list li"))

    def saved(self) -> None:
        expect(self.page.locator("#saved")).to_have_text("Saved")


def masks(game: Game) -> list[np.ndarray]:
    """The masks of all objects that are there, the oldest first."""
    with game.database.read() as session:
        rows = session.scalars(select(Object).where(Object.active).order_by(Object.id)).all()
    return [rle.decode(row.segmentation) for row in rows]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def disc_of(box: tuple[int, int, int, int]) -> np.ndarray:
    image = Image.new("1", (SIZE[1], SIZE[0]))
    ImageDraw.Draw(image).ellipse(box, fill=1)
    return np.asarray(image)


def test_encoding_outlines_and_drawing_are_exact(play, server):
    """The browser's masks against the package's: encodings bit for bit, outlines, polygons by pixel centres."""
    rng = np.random.default_rng(0)
    given = [rng.random((37, 53)) < share for share in (0.02, 0.5, 0.98)]
    given += [np.zeros((37, 53), bool), np.ones((37, 53), bool), np.eye(37, 53, dtype=bool)]
    page = play("ada").page
    found = page.evaluate(
        """async (given) => {
        const { Mask } = await import("/static/js/masks.js");
        return given.map((rle) => {
            const mask = Mask.fromRle(rle);
            const parts = mask.empty ? [] : mask.parts();
            const sum = parts.reduce((whole, part) => whole.union(part), new Mask(mask.size));
            return { rle: mask.toRle(), rings: mask.rings(), area: mask.area, whole: sum.equals(mask) };
        });
    }""",
        [rle.encode(mask) for mask in given],
    )
    for mask, answer in zip(given, found, strict=True):
        assert answer["rle"] == rle.encode(mask)
        assert answer["area"] == mask.sum()
        assert answer["whole"]
        ours = sorted(sorted(map(tuple, loop)) for loop in loops_of(mask))
        theirs = sorted(sorted(zip(ring[::2], ring[1::2], strict=True)) for ring in answer["rings"])
        assert theirs == ours
    drawn = page.evaluate(
        """async () => {
        const { Mask } = await import("/static/js/masks.js");
        const size = [40, 50];
        const one = Mask.polygon(size, [[5, 5], [30.2, 8], [22, 33.7], [-4, 20]]);
        const two = Mask.stroke(size, [[10, 10], [45, 30]], 6.5);
        return [one, two, one.union(two), one.minus(two), one.shared(two)].map((mask) => mask.toRle());
    }"""
    )
    rows, columns = np.mgrid[:40, :50] + 0.5
    corners = [(5, 5), (30.2, 8), (22, 33.7), (-4, 20)]
    polygon = np.ones((40, 50), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        polygon &= (x1 - x0) * (rows - y0) - (y1 - y0) * (columns - x0) >= 0
    along = np.clip(((columns - 10) * 35 + (rows - 10) * 20) / (35**2 + 20**2), 0, 1)
    stroke = (columns - 10 - 35 * along) ** 2 + (rows - 10 - 20 * along) ** 2 <= 6.5**2
    wanted = [polygon, stroke, polygon | stroke, polygon & ~stroke, polygon & stroke]
    assert drawn == [rle.encode(mask) for mask in wanted]


def test_twenty_photographs_become_a_checked_data_set(play, server, tmp_path):
    ada = play("ada", "/admin/data")
    upload(ada, tmp_path, 20)
    ada.go("/")
    expect(ada.page.locator("#masks-state")).to_contain_text("20")
    ada.go("/edit")
    desk = Desk(ada)
    for number in range(20):
        desk.count.to_have_count(2)  # the model's proposals
        if number == 0:  # one is corrected by hand: what the brush adds is there in the end
            desk.page.locator(".object-list li", has_text="ball").click()
            desk.page.get_by_label("Class").fill("red ball")
            desk.page.get_by_label("Class").press("Enter")
            desk.pick("brush")
            desk.drag((80, 10), (95, 10))
            desk.saved()
        note = desk.page.locator("#picture-note").inner_text()
        desk.page.get_by_role("button", name="Done").click()
        if number < 19:
            expect(desk.page.locator("#picture-note")).not_to_have_text(note)
    expect(ada.page.get_by_role("heading", name="No masks to draw")).to_be_visible()
    with server.game.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Picture).where(Picture.masks == "ready")) == 20
        names = set(session.scalars(select(Object.category)))
        first = session.scalars(select(Object).where(Object.category == "red ball")).one()
    assert names == {"red ball", "ball", "box"}
    assert (first.source, rle.decode(first.segmentation)[10, 88]) == ("edited", True)
    anna = play("anna", "/write").ready()
    viktor = play("viktor")
    for number in range(3):
        ids = anna.objects[: number % 3]
        text = ["nothing like this is here at all", "the only one on this side", "both of the things"][number]
        anna.write(text, ids).submit(anyway=True)
        viktor.go("/validate").asked(text).answer(ids).noted("accepted")
        viktor.quiet()
    ada.go("/admin/data")
    with ada.page.expect_download() as download:
        ada.page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        archive.extractall(tmp_path / "export")
    report = check(tmp_path / "export", deep=True)
    assert report.usable
    assert not [problem for one in report.datasets for problem in one.problems]
    dataset = open_dataset(tmp_path / "export")
    assert sorted(len(sample.objects) for sample in dataset) == [0, 1, 2]


def test_every_tool_by_mouse_with_undo(play, server, tmp_path):
    ada = play("ada", "/admin/data")
    upload(ada, tmp_path, 1)
    ada.go("/edit")
    desk = Desk(ada)
    desk.count.to_have_count(2)
    ada.page.keyboard.press("Escape")
    for _ in range(2):  # away with the proposals
        desk.page.locator(".object-list li").first.click()
        desk.page.locator(".stage").focus()
        desk.page.keyboard.press("Delete")
    desk.count.to_have_count(0)
    desk.saved()
    _, box = photograph(0)
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    desk.pick("click")
    desk.click(*middle)
    desk.count.to_have_count(1)
    desk.saved()
    assert iou(masks(server.game)[-1], disc_of(box)) > 0.99
    desk.pick("polygon")
    for point in ((100, 10), (150, 10), (150, 110), (100, 110)):
        desk.click(*point)
    desk.click(100, 10)  # the first point again
    desk.count.to_have_count(2)
    desk.saved()
    square = masks(server.game)[-1]
    assert abs(int(square.sum()) - 5000) < 200
    desk.pick("eraser")
    desk.drag((125, 0), (125, 119))
    desk.saved()
    assert masks(server.game)[-1].sum() < square.sum() - 1000
    desk.page.get_by_role("button", name="Split").click()  # the eraser went right through
    desk.count.to_have_count(3)
    desk.page.get_by_role("button", name="Merge").click()
    desk.count.to_have_count(2)
    for _ in range(2):
        desk.page.locator('[data-act="undo"]').click()
    desk.count.to_have_count(2)
    desk.page.locator('[data-act="undo"]').click()  # the eraser
    desk.saved()
    assert np.array_equal(masks(server.game)[-1], square)
    desk.pick("box")
    desk.drag((box[0] - 3, box[1] - 3), (box[2] + 3, box[3] + 3))
    desk.count.to_have_count(3)
    desk.pick("select")
    desk.click(*middle)
    desk.pick("cut")
    desk.drag((0, 0), (middle[0], 0), (middle[0], 119), (0, 119))
    desk.page.keyboard.press("Enter")
    desk.count.to_have_count(4)
    desk.page.locator("#versions summary").click()
    expect(desk.page.locator("#version-list li").first).to_be_visible()


def test_by_keys_alone(play, server, tmp_path):
    ada = play("ada", "/admin/data")
    upload(ada, tmp_path, 1)
    ada.go("/edit")
    desk = Desk(ada)
    desk.count.to_have_count(2)
    keys = ada.page.keyboard
    desk.page.locator(".stage").focus()
    keys.press("l")
    for key, times in ((None, 0), ("Shift+ArrowRight", 2), ("Shift+ArrowDown", 2)):
        for _ in range(times):
            keys.press(key)
        keys.press("Space")
    keys.press("Enter")
    desk.count.to_have_count(3)
    desk.saved()
    assert 190 <= masks(server.game)[-1].sum() <= 210  # half of 20 x 20; centres on the diagonal count or not
    keys.press("b")
    keys.press("Space")
    keys.press("u")
    keys.press("c")
    keys.type("corner")
    keys.press("Enter")
    desk.saved()
    with server.game.database.read() as session:
        assert session.scalars(select(Object.category).order_by(Object.id.desc())).first() == "corner"
    desk.page.locator(".stage").focus()
    keys.press("Control+Enter")
    ada.noted("Done")


def test_fingers_paint_and_pinch(play, server, tmp_path):
    upload(play("ada", "/admin/data"), tmp_path, 1)
    ada = play("ada", "/edit", phone=True)
    desk = Desk(ada)
    desk.count.to_have_count(2)
    desk.pick("brush")
    touch = ada.context.new_cdp_session(ada.page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        places = [dict(zip("xy", desk.screen(*point), strict=True), id=number) for number, point in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    send("touchStart", (80, 60))
    send("touchMove", (95, 60))
    send("touchEnd")
    desk.count.to_have_count(3)
    desk.saved()
    send("touchStart", (20, 20))
    send("touchStart", (20, 20), (60, 60))  # a second finger: nothing is painted
    send("touchMove", (10, 10), (80, 80))
    send("touchEnd")
    desk.count.to_have_count(3)
    sizes = ada.page.locator(".stage-tools .tool:visible, #composer .button:visible").evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect()).map(({ width, height }) => Math.min(width, height))"
    )
    assert min(sizes) >= 44


def test_a_broken_mask_opens_the_editor_and_not_the_bin(play, server, tmp_path):
    ada = play("ada", "/admin/data")
    upload(ada, tmp_path, 1)
    ada.go("/edit")
    desk = Desk(ada)
    desk.count.to_have_count(2)
    desk.page.get_by_role("button", name="Done").click()
    ada.noted("Done")
    anna = play("anna", "/write").ready()
    ids = anna.objects[:1]
    anna.write("what was drawn badly", ids).submit(anyway=True)
    ada.go("/validate").asked("what was drawn badly")
    ada.page.keyboard.press("r")
    ada.page.keyboard.press("4")
    ada.page.get_by_role("button", name="Reject the sentence").click()
    ada.page.get_by_role("button", name="Mend it now").click()
    desk = Desk(ada)
    expect(ada.page.locator("#reports")).to_contain_text("what was drawn badly")
    desk.count.to_have_count(2)
    desk.page.get_by_role("button", name="Done").click()
    ada.noted("1 sentences go to validators again")
    play("viktor", "/validate").asked("what was drawn badly").answer(ids).noted("accepted")
    with server.game.database.read() as session:
        assert session.scalars(select(GameSample.state)).all() == ["accepted"]


def test_what_is_not_saved_comes_back(play, server, tmp_path):
    ada = play("ada", "/admin/data")
    upload(ada, tmp_path, 1)
    ada.go("/edit")
    desk = Desk(ada)
    desk.count.to_have_count(2)
    ada.context.set_offline(True)
    desk.pick("brush")
    desk.drag((80, 20), (95, 20))
    expect(ada.page.locator("#saved")).to_contain_text("Offline")
    ada.context.set_offline(False)
    ada.go("/edit")
    Desk(ada).count.to_have_count(3)
    desk.saved()
    assert len(masks(server.game)) == 3
