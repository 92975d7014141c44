"""Colour names: clear colours, mixtures, shades between two words, and pictures that have no colours."""

from __future__ import annotations

import numpy as np
import pytest

from refseg.generation.photos.colors import is_colorless, name_color
from refseg.palette import COLORS, rgb_to_lab

CLEAR = {
    "black": (15, 15, 17),
    "white": (244, 244, 242),
    "gray": (120, 121, 122),
    "red": (200, 28, 36),
    "orange": (244, 132, 32),
    "yellow": (248, 214, 52),
    "green": (42, 148, 62),
    "blue": (32, 82, 196),
    "purple": (122, 52, 160),
    "pink": (244, 142, 182),
    "brown": (112, 70, 38),
}


def noisy(colour: tuple[int, int, int], count: int = 500, spread: float = 6.0) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, spread, (count, 3))
    return np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", COLORS)
def test_clear_colours_have_their_name(name: str) -> None:
    reading = name_color(noisy(CLEAR[name]))
    assert reading.name == name
    assert name not in reading.others


def test_lab_of_known_colours() -> None:
    # Reference values: white (100, 0, 0), sRGB red (53.24, 80.09, 67.20), sRGB blue (32.30, 79.19, -107.86).
    pixels = np.array([[255, 255, 255], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    expected = [[100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(rgb_to_lab(pixels / 255), expected, atol=0.05)


def test_two_colours_have_no_one_name_but_both_might_be_said() -> None:
    reading = name_color(np.concatenate([noisy(CLEAR["red"]), noisy(CLEAR["blue"])]))
    assert reading.name == ""
    assert {"red", "blue"} <= set(reading.others)
    assert "green" not in reading.others


def test_a_small_patch_of_another_colour_is_remembered() -> None:
    reading = name_color(np.concatenate([noisy(CLEAR["green"], 900), noisy(CLEAR["yellow"], 60)]))
    assert reading.name == "green"
    assert "yellow" in reading.others


@pytest.mark.parametrize(
    ("between", "words"), [((190, 191, 192), {"white", "gray"}), ((64, 64, 66), {"black", "gray"})]
)
def test_shades_between_two_words_get_neither(between: tuple[int, int, int], words: set[str]) -> None:
    reading = name_color(noisy(between, spread=1.0))
    assert reading.name == ""
    assert words <= set(reading.others)


def test_too_few_pixels_tell_nothing() -> None:
    assert name_color(noisy(CLEAR["red"], 20)).name is None


def test_gray_and_toned_pictures_are_colourless() -> None:
    gray = np.random.default_rng(1).integers(0, 256, (80, 90, 1), dtype=np.uint8).repeat(3, axis=2)
    toned = np.clip(gray * np.array([1.0, 0.97, 0.92]), 0, 255).astype(np.uint8)
    coloured = gray.copy()
    coloured[:40, :40] = CLEAR["red"]
    assert is_colorless(gray)
    assert is_colorless(toned)
    assert not is_colorless(coloured)
