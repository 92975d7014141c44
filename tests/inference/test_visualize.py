"""Drawings that can be read at any size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from refseg.errors import RefsegError
from refseg.inference.connected_components import target_boxes
from refseg.inference.segmentation import Segmentation
from refseg.inference.visualize import COLOURS, contact_sheet, cutout, overlay, summary


def answer_of(mask: np.ndarray, text: str = "the two things", none: bool = False) -> Segmentation:
    return Segmentation(mask, target_boxes(mask), none, 0.9 if none else 0.1, 0.8, text)


def grey(height: int, width: int) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def test_two_targets_have_two_colours_and_the_rest_is_darker() -> None:
    mask = np.zeros((400, 600), bool)
    mask[100:300, 50:250] = mask[150:250, 400:500] = True
    drawing = np.asarray(overlay(grey(400, 600), answer_of(mask), caption=False)).astype(int)
    assert drawing.shape == (400, 600, 3)
    assert (drawing[20, 300] < 128).all()
    for point, colour in (((200, 150), COLOURS[0]), ((200, 450), COLOURS[1])):
        expected = 0.65 * 128 + 0.35 * np.array(colour)
        assert np.abs(drawing[point] - expected).max() <= 1
    assert tuple(drawing[200, 50]) == COLOURS[0]  # the outline
    assert tuple(drawing[150, 450]) == COLOURS[1]


def test_a_speck_takes_the_colour_of_the_box_it_is_nearest_to() -> None:
    mask = np.zeros((400, 600), bool)
    mask[100:300, 50:250] = mask[150:250, 400:500] = mask[195:205, 540:550] = True
    answer = answer_of(mask)
    assert len(answer.boxes) == 2
    drawing = np.asarray(overlay(grey(400, 600), answer, caption=False)).astype(int)
    assert np.abs(drawing[200, 545] - (0.65 * 128 + 0.35 * np.array(COLOURS[1]))).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 5), (2000, 60), (3000, 4000)])
def test_any_size_gives_a_drawing_that_can_be_read(size: tuple[int, int]) -> None:
    mask = np.zeros(size, bool)
    mask[: max(1, size[0] // 2), : max(1, size[1] // 2)] = True
    plain = overlay(grey(*size), answer_of(mask), caption=False)
    assert 384 <= max(plain.size) <= 2560
    factor = max(plain.size) / max(size)
    assert plain.size == (max(1, round(size[1] * factor)), max(1, round(size[0] * factor)))
    captioned = overlay(grey(*size), answer_of(mask))
    assert captioned.width == plain.width
    assert captioned.height >= plain.height + 28  # at least two lines of letters


def test_a_target_thinner_than_a_pixel_of_the_drawing_is_seen() -> None:
    mask = np.zeros((2000, 4000), bool)
    mask[1000, 2000] = True
    drawing = np.asarray(overlay(grey(2000, 4000), answer_of(mask), caption=False, largest=400)).astype(int)
    assert (np.abs(drawing - np.array(COLOURS[0])).sum(axis=2) == 0).any()


def test_none_leaves_the_picture_and_says_so_in_another_colour() -> None:
    none = overlay(grey(300, 400), answer_of(np.zeros((300, 400), bool), none=True))
    assert (np.asarray(none)[:300] == 128).all()
    some = np.ones((300, 400), bool)
    said = overlay(grey(300, 400), answer_of(some))
    assert none.getpixel((2, none.height - 2)) != said.getpixel((2, said.height - 2))


def test_long_words_and_many_words_stay_inside() -> None:
    mask = np.ones((200, 200), bool)
    short = overlay(grey(200, 200), answer_of(mask, "a")).height
    long = overlay(grey(200, 200), answer_of(mask, "word " * 2000 + "w" * 5000)).height
    assert short < long < 4 * short  # the sentence is cut after a few lines
    overlay(grey(200, 200), answer_of(mask, "\U0001f408 左の猫 der Hund"))


def test_sizes_must_agree() -> None:
    with pytest.raises(RefsegError, match="20 x 10 pixels"):
        overlay(grey(5, 5), answer_of(np.ones((10, 20), bool)))
    with pytest.raises(RefsegError, match="20 x 10 pixels"):
        cutout(grey(5, 5), answer_of(np.ones((10, 20), bool)))


def test_a_cutout_is_transparent_but_for_the_target() -> None:
    mask = np.zeros((30, 40), bool)
    mask[10:20, 5:9] = True
    result = np.asarray(cutout(grey(30, 40), answer_of(mask)))
    assert np.array_equal(result[..., 3] == 255, mask)
    assert np.array_equal(result[..., 3] == 0, ~mask)
    assert (result[mask][:, :3] == 128).all()
    assert cutout(grey(30, 40), answer_of(mask), crop=True).size == (4, 10)
    assert cutout(grey(30, 40), answer_of(np.zeros((30, 40), bool), none=True), crop=True).size == (40, 30)


def test_summaries_in_words() -> None:
    mask = np.zeros((100, 100), bool)
    assert summary(answer_of(mask, none=True)) == "none"
    assert summary(answer_of(mask)) == "unclear"
    mask[:20, :20] = True
    assert summary(answer_of(mask)) == "1 target"
    mask[50:70, 50:70] = True
    assert summary(answer_of(mask)) == "2 targets"


def test_a_contact_sheet_holds_every_tile() -> None:
    tiles = [Image.new("RGB", (100, 50 + 400 * index), colour) for index, colour in enumerate(COLOURS[:5])]
    sheet = np.asarray(contact_sheet(tiles, width=300))
    for colour in COLOURS[:5]:
        assert (np.abs(sheet.astype(int) - colour).sum(axis=2) == 0).sum() > 500
    with pytest.raises(RefsegError):
        contact_sheet([])
