"""Edited pictures: what stays, what goes, no halo; holes filled as Laplace's equation says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from refseg.apps.cutout.editing import _membrane, blur_background, erase, replace_background
from refseg.apps.cutout.matting import Matte
from refseg.errors import RefsegError
from refseg.inference.segmentation import Segmentation


def striped(mask: np.ndarray) -> Image.Image:
    """Black and white stripes with a red thing."""
    pixels = np.zeros((*mask.shape, 3), np.uint8)
    pixels[:, ::2] = 255
    pixels[mask] = (255, 0, 0)
    return Image.fromarray(pixels)


@pytest.fixture
def thing() -> np.ndarray:
    mask = np.zeros((40, 60), dtype=bool)
    mask[12:28, 20:40] = True
    return mask


def hard_matte(image: Image.Image, mask: np.ndarray) -> Matte:
    return Matte(mask.astype(np.float32), np.asarray(image))


def test_blur_leaves_the_thing_and_none_of_its_colour_around_it(thing: np.ndarray) -> None:
    image = striped(thing)
    blurred = np.asarray(blur_background(image, hard_matte(image, thing), radius=4.0)).astype(int)
    assert (blurred[thing] == (255, 0, 0)).all()
    rest = blurred[~thing]
    # A blur that took the red along would leave more red than blue.
    assert np.abs(rest[:, 0] - rest[:, 2]).max() <= 1
    assert rest.std() < 30 < np.asarray(image)[~thing].std()


def test_replace_with_a_colour_and_with_a_picture(thing: np.ndarray) -> None:
    image = striped(thing)
    matte = hard_matte(image, thing)
    white = np.asarray(replace_background(image, matte, "white"))
    assert (white[~thing] == 255).all()
    assert (white[thing] == (255, 0, 0)).all()
    other = Image.fromarray(np.full((10, 200, 3), (0, 0, 200), np.uint8))
    replaced = replace_background(image, matte, other)
    assert replaced.size == image.size
    assert (np.asarray(replaced)[~thing] == (0, 0, 200)).all()
    half = Matte(np.full(thing.shape, 0.5, np.float32), np.full((*thing.shape, 3), 100, np.uint8))
    assert (np.asarray(replace_background(image, half, "#000000")) == 50).all()
    with pytest.raises(RefsegError, match="no colour such as white"):
        replace_background(image, matte, "dunno")


def test_erase_fills_a_slope_as_it_was(thing: np.ndarray) -> None:
    rows, columns = np.mgrid[:40, :60]
    ground = np.dstack([2 * columns + 40, 3 * rows + 20, columns + rows]).astype(np.uint8)
    pixels = ground.copy()
    pixels[thing] = (255, 0, 0)
    filled = np.asarray(erase(Image.fromarray(pixels), Segmentation(thing))).astype(int)
    outside = np.ones_like(thing)
    outside[8:32, 16:44] = False
    assert (filled[outside] == ground[outside]).all()
    # The red edge shows through the smoothing by at most the margin's rest.
    assert np.abs(filled[thing] - ground[thing].astype(int)).max() < 12


def test_membrane_is_the_mean_of_the_neighbours() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 255, (12, 14, 3))
    hole = np.zeros((12, 14), dtype=bool)
    hole[3:9, 4:14] = True  # reaches the right border
    filled = _membrane(pixels, hole)
    assert np.array_equal(filled[~hole], pixels[~hole])
    for row, column in zip(*np.nonzero(hole), strict=True):
        around = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        around = [(y, x) for y, x in around if 0 <= y < 12 and 0 <= x < 14]
        assert filled[row, column] == pytest.approx(np.mean([filled[y, x] for y, x in around], axis=0))


def test_large_holes_are_filled_from_a_smaller_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refseg.apps.cutout.editing.MOST_UNKNOWN", 200)
    columns = np.broadcast_to(np.arange(80.0) * 3, (60, 80))
    pixels = np.dstack([columns] * 3)
    hole = np.zeros((60, 80), dtype=bool)
    hole[10:50, 15:65] = True
    assert np.abs(_membrane(pixels, hole)[hole] - pixels[hole]).max() < 10


def test_erase_of_nothing_and_of_everything(thing: np.ndarray) -> None:
    image = striped(thing)
    nothing = Segmentation(np.zeros_like(thing), no_target=True)
    assert np.array_equal(np.asarray(erase(image, nothing)), np.asarray(image))
    with pytest.raises(RefsegError, match="the targets fill the picture"):
        erase(image, Segmentation(np.ones_like(thing)))
    with pytest.raises(RefsegError, match="not for this picture"):
        erase(image, Segmentation(np.ones((3, 3), dtype=bool)))
    with pytest.raises(RefsegError, match="radius is above 0"):
        blur_background(image, hard_matte(image, thing), radius=0.0)
