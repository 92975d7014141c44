"""The page without a server answers as Python does, and works by hand."""

import base64
import dataclasses
import json
from io import BytesIO

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from refseg.generation.scenes import generate
from refseg.models.instances.expression import parse
from refseg.models.instances.model import is_spelled

SENTENCES = [
    "the second guy from teh left in the red shirt, next to the dog!",
    "all the cups except the red one",
    "man w/ umbrella & hat at 5 o'clock",
    "front left door of the 2 nd car",
    "dog between the cat and the chair",
    "everyone but the woman in blue",
    "left most grown-up partly out of view",
    "both in red: man and woman",
    "the biggest piece of pizza on the left side of the table",
    "girafe, zebrra or bannnana?",
    "Über café ﬁsh стул 椅子",
    "the man’s t-shirt all in black",
    "the red traffic light above two traffic lights",
    "eating bear next to the feeding giraffe",
    "the person eating a sandwich",
    "the man without an umbrella and a dog without a collar",
    "the man who isn't in red",
    "boy not wearing a red shirt",
    "no hat guy",
    "giraffe not near the tree, not smiling",
    "the animal that is not a dog",
    "center bike not the people on it",
    "the old man looking at the feline sitting on the bench",
    "man reaching for the dog on the left",
    "x" * 300,
    "dog " * 90,
]
TRY = """async ({pictures, texts}) => {
  const ort = await import('./ort/ort.wasm.min.mjs');
  const { Model } = await import('./model.js');
  const { readPicture } = await import('./page.js');
  ort.env.wasm.wasmPaths = new URL('./ort/', location.href).href;
  ort.env.wasm.numThreads = 1;
  const model = await Model.load(ort, new URL('./model/', location.href).href);
  globalThis.model = model;
  const rows = [];
  for (let at = 0; at < pictures.length; at++) {
    const bytes = Uint8Array.from(atob(pictures[at]), (letter) => letter.charCodeAt(0));
    const state = await model.encode(await readPicture(new Blob([bytes], {type: 'image/png'})));
    for (const text of texts[at]) {
      const { mask, instances, ...rest } = await model.ask(state, text);
      const packed = [];
      for (const value of mask) packed.push(value);
      rows.push({...rest, mask: packed.join(''), instances: instances.map(({mask: own, ...each}) => each)});
    }
  }
  return rows;
}"""


def synthetic_photograph(seed: int) -> np.ndarray:
    """Noise, a gradient and a few blurred shapes at a size that is resized both ways: what is no drawn scene."""
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(200, 900)), int(rng.integers(150, 700))
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for row in range(height):
        shade = int(90 + 120 * row / height)
        draw.line([(0, row), (width, row)], fill=(shade, shade, 255 - shade // 2))
    for _ in range(5):
        x, y, r = rng.integers(0, width), rng.integers(0, height), rng.integers(20, 120)
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        draw.ellipse([x - r, y - r, x + r, y + 2 * r], fill=colour)
    noise = rng.normal(0, 12, (height, width, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def pictures_and_texts() -> list[tuple[np.ndarray, list[str]]]:
    """20 pictures with 3 sentences each: 14 drawn scenes of several sizes, 6 synthetic photographs."""
    found = []
    for number in range(14):
        scene = generate(31, number, size=(256, 384, 512, 700)[number % 4])
        expressions = [scene.expressions[at % len(scene.expressions)].text for at in (0, 3, 7)]
        found.append((scene.image, expressions))
    more = [
        ["the running feline on the left", "the ball that is not red"],
        ["the ball without a person", "largest stove"],
        ["all balls", "two people in red next to the car"],
        ["kite", "the thing on the right"],
    ]
    for number in range(6):
        found.append((synthetic_photograph(number), ["the ball in the middle", *more[number % 4]]))
    return found


def png(image: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def page(browser, address):
    """The page, with every request that it made."""
    context = browser.new_context()
    page = context.new_page()
    faults, requests = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.set_default_timeout(240_000)
    page.goto(address)
    page.requests = requests
    yield page
    context.close()
    assert not faults


def test_same_answers_as_python(page, segmenter):
    """20 pictures x 3 sentences: the same decisions, instances, classes and remarks; masks but for single pixels.

    Sums of float32 in another order move a box by 1e-6 of the picture, with which a value of the resized crop may be
    rounded to the next of 256 steps; what that does to a probability stays within .05.
    """
    cases = pictures_and_texts()
    assert len(cases) == 20
    encoded = [base64.b64encode(png(image)).decode() for image, _ in cases]
    rows = iter(page.evaluate(TRY, {"pictures": encoded, "texts": [texts for _, texts in cases]}))
    found = differing = pixels = 0
    farthest = 0.0
    for image, texts in cases:
        answers = segmenter.encode(image).ask(texts, probabilities=True)
        for answer in answers:
            row = next(rows)
            about = f"{answer.text!r}: {row['remarks']}, {answer.extra}"
            assert row["noTarget"] == answer.no_target, about
            assert row["noTargetScore"] == pytest.approx(answer.no_target_score, abs=2e-3), about
            assert row["remarks"] == answer.extra.get("remarks", []), about
            assert [each["label"] for each in row["instances"]] == [each.label for each in answer.instances], about
            for mine, own in zip(row["instances"], answer.instances, strict=True):
                assert mine["score"] == pytest.approx(own.score, abs=2e-3)
                assert mine["box"] == pytest.approx(list(own.box), abs=0.1)
            mask = (np.frombuffer(row["mask"].encode(), np.uint8) == ord("1")).reshape(answer.mask.shape)
            wrong = mask != answer.mask
            differing += int(wrong.sum())
            pixels += wrong.size
            if wrong.any():
                away = np.abs(answer.probabilities[wrong] - segmenter.thresholds.mask).max()
                farthest = max(farthest, float(away))
                assert away < 0.05, (
                    f"{about} {image.shape} {int(wrong.sum())} pixels at {np.argwhere(wrong)[:4].tolist()}"
                )
            found += not answer.no_target
    assert 20 <= found < 60  # both kinds of answers are there
    print(f"{differing} of {pixels} pixels differ, at most {farthest:.1e} from the threshold; {found} of 60 found")
    assert differing < 1e-4 * pixels


def test_same_parses_as_python(page, segmenter):
    """The parser's twin gives the same structures."""
    page.evaluate(TRY, {"pictures": [], "texts": []})
    texts = SENTENCES + [each.text for number in range(12) for each in generate(32, number, size=128).expressions]
    parsed = page.evaluate("(texts) => texts.map((text) => globalThis.model.parser.parse(text))", texts)
    for text, mine in zip(texts, parsed, strict=True):
        assert mine == json.loads(json.dumps(dataclasses.asdict(parse(text, is_spelled)))), text


def test_by_hand(page, address):
    """Choose a picture, type, see an answer, save the mask; nothing is asked of any other machine."""
    scene = generate(31, 0, size=256)
    expression = next(each for each in scene.expressions if each.targets)
    page.get_by_label("Picture", exact=True).set_input_files(
        {"name": "scene.png", "mimeType": "image/png", "buffer": png(scene.image)}
    )
    page.get_by_label("Expression").fill(expression.text)
    expect(page.get_by_role("status")).to_contain_text("found:", timeout=240_000)
    rules = Axe().run(page).response["violations"]
    assert not [f"{rule['id']}: {node['html'][:200]}" for rule in rules for node in rule["nodes"]]
    with page.expect_download() as download:
        page.get_by_role("button", name="Save mask").click()
    assert download.value.suggested_filename == "scene.mask.png"
    with Image.open(download.value.path()) as saved:
        assert saved.size == scene.image.shape[1::-1]
    page.get_by_label("Expression").fill("the submarine")
    expect(page.get_by_role("status")).to_contain_text("None", timeout=240_000)
    page.get_by_label("Picture", exact=True).set_input_files(
        {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    expect(page.get_by_role("status")).to_contain_text("no picture")
    assert page.requests
    assert all(url.startswith((address, "blob:")) for url in page.requests)
