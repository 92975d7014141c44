"""Asking pictures: nesting, batches, geometry, and what bad input gets. The model here knows colours, exactly."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import refseg
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import ImageError, RefsegError
from refseg.geometry import InputConfig
from refseg.inference.predictor import Segmenter, choose_device, clean_text, load
from refseg.inference.segmentation import Segmentation
from refseg.types import Batch, Needs, Output, TextFeatures, Tokens
from tests.support.answering import AnsweringModel
from tests.support.tiny_model import write_model_folder

WORDS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


@dataclass(frozen=True)
class ColourConfig:
    input: InputConfig


class ColourModel(AnsweringModel):
    """Segments the pixels that are nearer to the colour in a sentence than to any other; without one, no target."""

    def __init__(self, config: ColourConfig, late_fusion: bool) -> None:
        super().__init__()
        self.config = config
        self.needs = Needs()
        self.late_fusion = late_fusion
        mean, std = torch.tensor(config.input.mean), torch.tensor(config.input.std)
        colours = torch.tensor([(999.0,) * 3, (999.0,) * 3, *WORDS.values()])
        self.embedding = torch.nn.Embedding.from_pretrained((colours - mean) / std)
        self.palette = torch.nn.Parameter((torch.tensor([(255.0,) * 3, *WORDS.values()]) - mean) / std)
        self.encoded: list[tuple[int, ...]] = []
        self.forwarded: list[int] = []

    def encode_image(self, images: torch.Tensor, pixel_mask: torch.Tensor) -> torch.Tensor:
        self.encoded.append(tuple(images.shape))
        return torch.where(pixel_mask[:, None], images, 77.0)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        words = self.embedding(tokens.ids)
        return TextFeatures(words, words[:, 0], tokens.mask)

    def decode(self, state: torch.Tensor, text: TextFeatures, image_index: torch.Tensor | None = None) -> Output:
        images = state if image_index is None else state[image_index]
        distance = (images - text.sentence[:, :, None, None]).norm(dim=1)
        others = (images[:, None] - self.palette[:, :, None, None]).norm(dim=2)
        same = (self.palette == text.sentence[:, None]).all(dim=2)
        logits = 20 * (others.masked_fill(same[:, :, None, None], 999.0).amin(dim=1) - distance)
        return Output(logits, 5.0 - 10 * (logits > 0).flatten(1).any(dim=1).float())

    def forward(self, batch: Batch) -> Output:
        assert torch.is_inference_mode_enabled()
        self.forwarded.append(len(batch.tokens))
        batch = batch.expanded()
        return self.decode(torch.where(batch.pixel_mask[:, None], batch.images, 77.0), self.encode_text(batch.tokens))


class ColourTokenizer:
    """One word a sentence: the first colour in it."""

    def __call__(self, texts: list[str]) -> Tokens:
        names = list(WORDS)
        ids = [next((names.index(word) + 2 for word in text.split() if word in names), 1) for text in texts]
        return Tokens(torch.tensor(ids)[:, None], torch.ones(len(texts), 1, dtype=torch.bool))


def segmenter_of(late_fusion: bool = True, info: dict[str, Any] | None = None, **fields: Any) -> Segmenter:
    config = ColourConfig(InputConfig(**{"size": 64, **fields}))
    return Segmenter(ColourModel(config, late_fusion), ColourTokenizer(), info, device="cpu")


def picture(height: int = 60, width: int = 90, *words: str) -> tuple[Image.Image, dict[str, np.ndarray]]:
    """A picture with a block of each colour, and where the blocks are."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    masks = {}
    for index, word in enumerate(words or ("red", "blue")):
        masks[word] = np.zeros((height, width), bool)
        left = index * width // 3
        masks[word][height // 4 : height * 3 // 4, left : left + width // 4] = True
        pixels[masks[word]] = WORDS[word]
    return Image.fromarray(pixels), masks


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("late_fusion", [True, False])
@pytest.mark.parametrize("resize", ["warp", "letterbox", "longest"])
@pytest.mark.parametrize("size", [(60, 90), (90, 60), (301, 173)])
def test_answers_lie_where_the_targets_are(late_fusion: bool, resize: str, size: tuple[int, int]) -> None:
    image, masks = picture(*size)
    answers = segmenter_of(late_fusion, resize=resize, size=192)(image, ["the red one", "the blue one", "a green one"])
    for answer, word in zip(answers, ["red", "blue"], strict=False):
        assert iou(answer.mask, masks[word]) > 0.95
        assert not answer.no_target
        assert answer.score > 0.9
        assert len(answer.boxes) == 1
    assert answers[2].no_target
    assert answers[2].no_target_score > 0.9
    assert not answers[2].mask.any()


def test_lists_in_lists_out() -> None:
    segmenter = segmenter_of()
    image, _ = picture()
    one = segmenter(image, "the red one")
    assert isinstance(one, Segmentation)
    assert (one.text, one.mask.shape) == ("the red one", (60, 90))
    assert [answer.text for answer in segmenter(image, ["red", "blue"])] == ["red", "blue"]
    assert [answer.mask.shape for answer in segmenter([image, image.rotate(90, expand=True)], "red")] == [
        (60, 90),
        (90, 60),
    ]
    rows = segmenter([image, image], ["red", "blue", "green"])
    assert [[answer.text for answer in row] for row in rows] == [["red", "blue", "green"]] * 2
    assert segmenter([], "red") == []
    stack = np.stack([np.asarray(image)] * 3)
    assert len(segmenter(stack, "red")) == 3


@pytest.mark.parametrize("late_fusion", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_batches_change_nothing(late_fusion: bool, batch_size: int) -> None:
    segmenter = segmenter_of(late_fusion, resize="longest")
    images = [
        picture(*size, *words)[0]
        for size, words in (
            ((60, 90), ("red", "blue")),
            ((60, 90), ("green",)),
            ((90, 30), ("blue",)),
            ((60, 90), ("blue", "red", "green")),
        )
    ]
    texts = ["red", "green", "blue"]
    rows = segmenter(images, texts, batch_size=batch_size)
    for image, row in zip(images, rows, strict=True):
        for text, answer in zip(texts, row, strict=True):
            alone = segmenter(image, text)
            assert np.array_equal(answer.mask, alone.mask)
            assert (answer.text, answer.no_target) == (text, alone.no_target)
            assert answer.score == pytest.approx(alone.score, abs=1e-6)


def test_an_encoded_picture_is_encoded_once() -> None:
    segmenter = segmenter_of()
    image, masks = picture()
    encoded = segmenter.encode(image)
    assert encoded.image.size == (90, 60)
    for word in ("red", "blue", "red"):
        assert iou(encoded.ask(word).mask, masks[word]) > 0.85
    assert [answer.no_target for answer in encoded.ask(["red", "green", "blue"], batch_size=2)] == [False, True, False]
    assert len(segmenter.model.encoded) == 1
    segmenter([image, image], ["red", "blue"])
    assert segmenter.model.encoded[1:] == [(2, 3, 64, 64)]


def test_early_fusion_is_asked_in_the_same_way() -> None:
    segmenter = segmenter_of(late_fusion=False)
    image, masks = picture()
    encoded = segmenter.encode(image)
    assert iou(encoded.ask("blue").mask, masks["blue"]) > 0.85
    assert len(encoded.ask(["red", "green", "blue"], batch_size=2)) == 3
    assert segmenter.model.forwarded == [1, 2, 1]
    assert not segmenter.model.encoded


def test_every_source_of_a_picture(tmp_path: Path) -> None:
    segmenter = segmenter_of()
    image, _ = picture()
    image.save(tmp_path / "photo.png")
    expected = segmenter(image, "red").mask
    for source in (
        str(tmp_path / "photo.png"),
        tmp_path / "photo.png",
        (tmp_path / "photo.png").read_bytes(),
        np.asarray(image),
        image.convert("RGBA"),
    ):
        assert np.array_equal(segmenter(source, "red").mask, expected)


def test_thresholds_come_with_the_weights_or_the_call() -> None:
    image, _ = picture()
    assert segmenter_of()(image, "red").mask.any()
    strict = segmenter_of(info={"threshold": 1.0})
    assert not strict(image, "red").mask.any()
    assert strict(image, "red", threshold=0.5).mask.any()
    assert strict.encode(image).ask("red", threshold=0.5).mask.any()
    suspicious = segmenter_of(info={"no_target_threshold": 0.0})
    assert suspicious(image, "red").no_target
    assert not suspicious(image, "red", no_target_threshold=1.0).no_target
    with pytest.raises(RefsegError, match="no_target_threshold is a probability"):
        segmenter_of()(image, "red", no_target_threshold=2.0)


def test_bfloat16_agrees() -> None:
    image, masks = picture()
    segmenter = Segmenter(segmenter_of().model, ColourTokenizer(), device="cpu", precision="bfloat16")
    assert iou(segmenter(image, "red").mask, masks["red"]) > 0.85


def test_bad_questions() -> None:
    segmenter = segmenter_of()
    image, _ = picture()
    for text in ("", "   ", "\n\t", "\x00"):
        with pytest.raises(RefsegError, match="expression is empty"):
            segmenter(image, text)
    with pytest.raises(RefsegError, match="no expression"):
        segmenter(image, [])
    with pytest.raises(RefsegError, match="expression is empty"):
        segmenter.encode(image).ask(["red", ""])
    with pytest.raises(RefsegError, match="batch_size"):
        segmenter(image, "red", batch_size=0)
    with pytest.raises(RefsegError, match=r"nowhere\.png"):
        segmenter("nowhere.png", "red")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  the\n red\t one ", "the red one"),
        ("caf\udcc3\udca9", "caf??"),
        ("a\x07b", "ab"),
        ("die größte Katze 🐈", "die größte Katze 🐈"),
    ],
)
def test_sentences_are_cleaned(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type in ("cpu", "cuda", "mps")
    with pytest.raises(RefsegError, match="unknown"):
        choose_device("toaster")
    with pytest.raises(RefsegError, match="not available"):
        choose_device("cuda:99")
    with pytest.raises(RefsegError, match="precision"):
        # Without the type checks that tests run under, which would refuse the name before.
        inspect.unwrap(Segmenter.__init__)(
            object.__new__(Segmenter), segmenter_of().model, ColourTokenizer(), precision="int3"
        )


def test_what_people_get_wrong_is_one_clear_line(tmp_path: Path) -> None:
    """In a process of its own: the type checks that tests run under would refuse some of it before."""
    picture()[0].save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no picture")
    folder = write_model_folder(tmp_path / "model")
    code = f"""
import io, pathlib, refseg
from refseg.errors import RefsegError
segmenter = refseg.load({str(folder)!r}, "cpu")
cases = [
    (lambda: refseg.load(device=None), "device None is unknown"),
    (lambda: refseg.load(device=0), "device 0 is unknown"),
    (lambda: refseg.load(device="cpu:1"), "device 'cpu:1' is not available"),
    (lambda: refseg.load(""), "name is empty"),
    (lambda: refseg.load(None), "not None"),
    (lambda: refseg.load("rela-official"), "refseg import rela FILE"),
    (lambda: refseg.load("lavt-paper"), "refseg train"),
    (lambda: segmenter("photo.png", 5), "not int"),
    (lambda: segmenter("photo.png", None), "not NoneType"),
    (lambda: segmenter("photo.png", b"a dog"), "not bytes"),
    (lambda: segmenter("photo.png", ["a dog", 5]), "not int"),
    (lambda: segmenter("photo.png", "x" * 100_000), "100,000 letters"),
    (lambda: segmenter(5, "a dog"), "not int"),
    (lambda: segmenter("https://example.org/a.jpg", "a dog"), "https://example.org/a.jpg: pictures are not fetched"),
    (lambda: segmenter(pathlib.Path("https://example.org/a.jpg"), "a dog"), "https://example.org/a.jpg: pictures"),
    (lambda: segmenter(open("text.png", "rb"), "a dog"), "text.png: not a picture"),
    (lambda: segmenter(io.BufferedReader(io.BytesIO(b"no picture")), "a dog"), "the open file: not a picture"),
]
for call, said in cases:
    try:
        call()
    except RefsegError as error:
        assert said in str(error), (said, str(error))
        assert "<" not in str(error) and "\\n" not in str(error), str(error)
    else:
        raise SystemExit(f"nothing was raised: {{said}}")
with open("photo.png", "rb") as handle:
    segmenter(handle, "a dog")
    assert not handle.closed
print(repr(segmenter.encode("photo.png")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "EncodedImage(90 x 60 pixels, Segmenter(ReLA, device='cpu', precision='float32'))\n"


@pytest.mark.parametrize("late_fusion", [True, False])
def test_a_stream_goes_past_what_cannot_be_read(late_fusion: bool) -> None:
    segmenter = segmenter_of(late_fusion)
    image, masks = picture()
    turned = image.rotate(90, expand=True)
    sources = [image, "nowhere.png", turned, image, b"junk", turned]
    found = list(segmenter.stream(iter(sources), ["red", "blue"], batch_size=6))
    assert [isinstance(entry, ImageError) for entry in found] == [False, True, False, False, True, False]
    assert "nowhere.png" in str(found[1])
    for source, entry in zip(sources, found, strict=True):
        if isinstance(entry, list):
            assert entry == segmenter(source, ["red", "blue"])
    assert iou(found[3][0].mask, masks["red"]) > 0.85
    assert list(segmenter.stream([], "red")) == []
    with pytest.raises(RefsegError, match="batch_size"):
        next(segmenter.stream([image], "red", batch_size=0))


def test_models_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pth").write_bytes(b"1")
    (tmp_path / "empty").mkdir()
    for name in ("no-such-model", "weights.pth", "empty", "nobody/nothing"):
        with pytest.raises(RefsegError, match=name):
            load(name, device="cpu")


def test_the_package_offers_what_people_need() -> None:
    assert refseg.load is load
    assert refseg.Segmenter is Segmenter
    assert all((Path(refseg.__file__).parent / "weights" / name).is_dir() for name in refseg.list_models())


def test_what_is_not_read_is_remarked() -> None:
    segmenter = Segmenter(segmenter_of().model, WordTokenizer(list(WORDS), max_words=3), device="cpu")
    image, masks = picture()
    plain, odd, foreign = segmenter(image, ["red", "red box by the wall", "猫"], no_target_threshold=1.0)
    assert "remarks" not in plain.extra
    assert iou(odd.mask, masks["red"]) > 0.85
    assert odd.extra["remarks"][0].endswith("cut after “red box by”")
    assert "box, by" in odd.extra["remarks"][1]
    assert foreign.no_target
    assert (foreign.no_target_score, foreign.score, foreign.mask.any()) == (1.0, 0.0, False)
    assert "knows no word" in foreign.extra["remarks"][0]


def test_a_model_folder_answers_alike_in_every_way(tmp_path: Path) -> None:
    segmenter = load(write_model_folder(tmp_path / "model"), device="cpu")
    images = [picture(60, 90)[0], picture(33, 20)[0]]
    texts = ["the red ball", "a dog on the left", "all"]
    rows = segmenter(images, texts, no_target_threshold=1.0)
    assert any(answer.mask.any() for row in rows for answer in row)
    for image, row in zip(images, rows, strict=True):
        asked = segmenter.encode(image).ask(texts, no_target_threshold=1.0)
        for one, two, text in zip(row, asked, texts, strict=True):
            alone = segmenter(image, text, no_target_threshold=1.0)
            for other in (two, alone):
                assert (one.mask != other.mask).mean() < 1e-3
                assert one.no_target_score == pytest.approx(other.no_target_score, abs=1e-5)


def test_asking_for_load_imports_only_the_way_from_picture_to_mask() -> None:
    code = """
import sys
import refseg
refseg.load, refseg.Segmenter
print(*sorted(name for name in sys.modules if name.split(".")[0] in ("refseg", "transformers")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    imported = done.stdout.split()
    later = ("video", "tracking", "hub", "foundation", "explain", "detections", "proposals", "phrases", "placement")
    assert not {f"refseg.inference.{name}" for name in later} & set(imported)
    assert not [name for name in imported if name.startswith(("transformers", "refseg.models.instances"))]
    assert len(imported) < 40


class OriginalsModel(ColourModel):
    """The same, which is given the original pictures as its needs say, and notes their sizes."""

    def __init__(self, config: ColourConfig) -> None:
        super().__init__(config, late_fusion=True)
        self.needs = Needs(reads_pictures=True)
        self.originals: list[tuple[int, int]] = []

    def encode_image(
        self, images: torch.Tensor, pixel_mask: torch.Tensor, pictures: list[Image.Image] | None = None
    ) -> torch.Tensor:
        assert pictures is not None
        assert len(pictures) == len(images)
        self.originals += [each.size for each in pictures]
        return super().encode_image(images, pixel_mask)


def test_models_that_read_pictures_are_given_the_originals() -> None:
    plain = segmenter_of(True)
    model = OriginalsModel(plain.model.config)
    segmenter = Segmenter(model, ColourTokenizer(), device="cpu")
    image, _ = picture()
    turned = image.rotate(90, expand=True)
    answers = segmenter([image, turned], ["red", "blue"])
    assert model.originals == [image.size, turned.size]
    assert answers == plain([image, turned], ["red", "blue"])
    assert segmenter.encode(turned).ask("red") == answers[1][0]
    assert model.originals[2:] == [turned.size]
