"""Phrases of a caption, a box and a mask each: of RefTR, which reads them in it, and of systems that do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from refseg.encoders.text.phrases import locate_phrases, place_phrases
from refseg.encoders.text.tokenizer import ByteTokenizer, WordTokenizer
from refseg.errors import RefsegError
from refseg.inference.phrases import AT_ONCE, phrase_answers
from refseg.inference.predictor import Segmenter
from refseg.models import build
from refseg.models.reftr.config import MINI, RefTRConfig
from refseg.types import Batch, Output
from tests.inference.test_predictor import picture, segmenter_of
from tests.support.contract import filled
from tests.support.tiny_parts import TINY_RESNET, TINY_WORDS

WORDS = ["a", "man", "beside", "another", "dog", "in", "red", "hat", "and", "the"]
CAPTION = "A man in a red hat beside  a man"
LONG = 40


def tiny(tasks: str) -> RefTRConfig:
    return replace(
        MINI,
        input=replace(MINI.input, size=64),
        vision=replace(TINY_RESNET, widths=(16, 16, 16, 16), stem_width=16),
        text=replace(TINY_WORDS, max_words=LONG),
        width=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        feedforward=16,
        dropout=0.0,
        text_positions=LONG + 2,
        groups=4,
        mask_groups=2,
        tasks=tasks,
    )


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    model = filled(build(tiny("both")))
    return Segmenter(model, WordTokenizer(WORDS, LONG), device="cpu")


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))


@torch.no_grad()
def test_a_box_a_phrase_as_the_model_gives_them(segmenter: Segmenter, photo: Image.Image) -> None:
    phrases = ["a man", "a red hat", (27, 32)]
    answers = segmenter(photo, CAPTION, phrases=phrases)
    assert [answer.text for answer in answers] == ["A man", "a red hat", "a man"]
    placed = segmenter._place(photo)
    tokens = segmenter.tokenizer([CAPTION])
    own = place_phrases([CAPTION], [[(0, 5), (9, 18), (27, 32)]], segmenter.tokenizer)  # type: ignore[arg-type]
    output = segmenter.model(Batch(placed.image[None], placed.pixel_mask[None], tokens, own))
    for answer, box in zip(answers, output.boxes[0].double(), strict=True):
        low, high = (box[:2] - box[2:] / 2).clamp(0, 1), (box[:2] + box[2:] / 2).clamp(0, 1)
        wanted = torch.cat([low, high]) * torch.tensor([64, 48, 64, 48])
        np.testing.assert_allclose(answer.boxes, wanted[None].numpy(), atol=1e-3)
        assert not answer.no_target
        assert answer.mask.shape == (48, 64)


def test_a_repeated_phrase_is_the_one_at_its_characters(segmenter: Segmenter, photo: Image.Image) -> None:
    """By its text alone it would be the first one's."""
    first, second = (segmenter(photo, CAPTION, phrases=[place])[0] for place in ((0, 5), (27, 32)))
    assert np.abs(first.boxes - second.boxes).max() > 1e-2
    assert segmenter(photo, CAPTION, phrases=["a man"])[0].boxes.tolist() == first.boxes.tolist()
    both = segmenter(photo, CAPTION, phrases=["a man", "A  man"])
    apart = segmenter(photo, CAPTION, phrases=[(0, 5), (27, 32)])
    assert [answer.boxes.tolist() for answer in both] == [answer.boxes.tolist() for answer in apart]


def test_more_phrases_than_are_decoded_together(segmenter: Segmenter, photo: Image.Image) -> None:
    caption = " and ".join(["the dog"] * (LONG // 3))
    spans = [(10 * number + 2 * number, 10 * number + 2 * number + 7) for number in range(LONG // 3)]
    assert all(caption[start:stop] == "the dog" for start, stop in spans)
    spans = [*spans, *spans][: AT_ONCE + 5]
    answers = segmenter(photo, caption, phrases=spans)
    assert len(answers) == AT_ONCE + 5
    last = segmenter(photo, caption, phrases=spans[AT_ONCE:])
    assert [answer.boxes.tolist() for answer in answers[AT_ONCE:]] == [answer.boxes.tolist() for answer in last]


def test_other_systems_are_asked_each_phrase_by_itself() -> None:
    segmenter = segmenter_of()
    image, masks = picture(60, 90, "red", "blue")
    street = segmenter.encode(image)
    caption = "the red block beside the blue one"
    answers = street.ask(caption, phrases=["the blue one", "the red block"], threshold=0.4)
    assert answers == [street.ask(text, threshold=0.4) for text in ("the blue one", "the red block")]
    assert (answers[0].mask & masks["blue"]).sum() > 0.9 * masks["blue"].sum()
    assert segmenter(image, caption, phrases=[(4, 7)])[0].text == "red"


def test_an_empty_mask_keeps_its_box_where_boxes_are_given() -> None:
    geometry = segmenter_of()._place(picture()[0]).geometry
    logits, sure = torch.full((1, 16, 16), -9.0), torch.full((1,), -torch.inf)
    box = torch.tensor([[[0.5, 0.5, 0.5, 0.5]]])
    (answer,) = phrase_answers(Output(logits, sure, box), geometry, ["a man"], 0.5, (64, 64))
    assert not answer.no_target
    assert answer.boxes.tolist() == [[22.5, 15.0, 67.5, 45.0]]
    assert not answer.mask.any()
    (answer,) = phrase_answers(Output(logits, sure), geometry, ["a man"], 0.5, (64, 64))
    assert answer.no_target


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        (["a cat"], "the phrase 'a cat' is not in its expression"),
        (["ma"], "the phrase 'ma' is not in its expression"),
        ([(0, 99)], "a phrase at characters 0 to 99 of .* which has 32"),
        ([(-1, 3)], "characters -1 to 3"),
        ([(5, 5)], "characters 5 to 5"),
        ([(25, 27)], "no word is there"),
        ([(0, True)], "two whole numbers"),
        ([], "phrases are a list"),
        ("a man", "phrases are a list"),
    ],
)
@pytest.mark.parametrize("reads", [True, False])
def test_phrases_that_are_not_there(segmenter: Segmenter, photo: Image.Image, phrases, message, reads) -> None:
    asked = segmenter if reads else segmenter_of()
    with pytest.raises(RefsegError, match=message):
        asked(photo, CAPTION, phrases=phrases)


def test_phrases_want_one_caption_and_words_that_are_read(segmenter: Segmenter, photo: Image.Image) -> None:
    with pytest.raises(RefsegError, match="one caption about one picture"):
        segmenter([photo], CAPTION, phrases=["a man"])  # type: ignore[call-overload]
    with pytest.raises(RefsegError, match="parts of one caption"):
        segmenter(photo, [CAPTION], phrases=["a man"])  # type: ignore[call-overload]
    far = " ".join(["the dog"] * LONG) + " hat"
    with pytest.raises(RefsegError, match="stands behind the first"):
        segmenter(photo, far, phrases=["hat"])
    letters = Segmenter(segmenter.model, ByteTokenizer(), device="cpu")
    with pytest.raises(RefsegError, match="words or word pieces"):
        letters(photo, CAPTION, phrases=["a man"])


def test_texts_are_found_as_whole_words_in_turn() -> None:
    assert locate_phrases("a man beside A  man", ["A MAN", "a man", "a man"]) == [(0, 5), (13, 19), (13, 19)]
    assert locate_phrases("manly man", ["man"]) == [(6, 9)]
    assert locate_phrases("the man's hat, red", ["hat", (0, 3)]) == [(10, 13), (0, 3)]
