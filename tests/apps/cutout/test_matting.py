"""Mattes of composed pictures whose alpha is known: nearer to it than the mask that they were made from."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from refseg.apps.cutout.matting import Matte, MattingConfig, matte, trimap
from refseg.errors import RefsegError
from refseg.inference.segmentation import Segmentation


def composed(soft: float = 2.5, size: tuple[int, int] = (96, 128)) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """A picture of a disc with a soft edge on a background of waves, its alpha, and the disc's colour."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    distance = np.hypot(rows - size[0] / 2, columns - size[1] / 2)
    alpha = 1 / (1 + np.exp((distance - 0.3 * size[0]) / (soft / 2)))
    back = np.dstack([60 + 20 * np.sin(columns / 9), 120 + 20 * np.cos(rows / 7), 90 + 0 * rows])
    front = np.array([220.0, 60.0, 40.0])
    picture = alpha[..., None] * front + (1 - alpha[..., None]) * back
    return Image.fromarray(picture.round().astype(np.uint8)), alpha, front


def test_matte_is_nearer_to_the_known_alpha_than_the_mask() -> None:
    image, alpha, front = composed()
    hard = alpha > 0.5
    made = matte(image, Segmentation(hard), MattingConfig(band=0.1))
    assert np.abs(made.alpha - alpha).sum() < 0.35 * np.abs(hard - alpha).sum()
    gradients = [ndimage.gaussian_gradient_magnitude(each.astype(float), 1.4) for each in (made.alpha, hard, alpha)]
    assert np.square(gradients[0] - gradients[2]).sum() < 0.35 * np.square(gradients[1] - gradients[2]).sum()
    # Colours of mixed pixels are the disc's own.
    mixed = (alpha > 0.3) & (alpha < 0.7)
    own = np.abs(made.foreground[mixed].astype(float) - front).mean()
    assert own < 0.5 * np.abs(np.asarray(image)[mixed].astype(float) - front).mean()


def test_mask_that_is_wrong_at_the_edge_is_mended() -> None:
    image, alpha, _ = composed()
    wrong = ndimage.binary_dilation(alpha > 0.5, iterations=3)
    made = matte(image, Segmentation(wrong), MattingConfig(band=0.1))
    assert np.abs(made.alpha - alpha).sum() < 0.4 * np.abs(wrong - alpha).sum()


def test_large_bands_are_solved_on_a_smaller_picture() -> None:
    image, alpha, _ = composed(soft=6.0, size=(192, 256))
    hard = alpha > 0.5
    exact = matte(image, Segmentation(hard), MattingConfig(band=0.08))
    capped = matte(image, Segmentation(hard), MattingConfig(band=0.08, most_unknown=1200))
    assert (trimap(Segmentation(hard), MattingConfig(band=0.08)) == 128).sum() > 3 * 1200
    assert np.abs(capped.alpha - exact.alpha).mean() < 0.02
    assert np.abs(capped.alpha - alpha).sum() < 0.5 * np.abs(hard - alpha).sum()


def test_trimap_has_the_sure_pixels_that_the_mask_says() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:50] = True
    known = trimap(Segmentation(mask), MattingConfig(band=0.1, least_band=1.0))  # sqrt(600) / 10: 2.4 pixels
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    assert np.array_equal(known == 255, inside > 0.1 * np.sqrt(600))
    assert np.array_equal(known == 0, outside > 0.1 * np.sqrt(600))


def test_thin_part_keeps_sure_pixels() -> None:
    mask = np.zeros((60, 60), dtype=bool)
    mask[5:25, 5:55] = True
    mask[40:43, 5:55] = True
    known = trimap(Segmentation(mask), MattingConfig(band=0.1))
    assert (known[40:43] == 255).any()


def test_uncertain_pixels_widen_the_band() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:50] = True
    chance = np.where(mask, 1.0, 0.0).astype(np.float32)
    chance[14:26, 45:50] = 0.6
    chance[20, 30] = 0.6  # deep inside: a hole is no edge
    plain, unsure = trimap(Segmentation(mask)), trimap(Segmentation(mask, probabilities=chance))
    assert (unsure == 128).sum() > (plain == 128).sum()
    assert unsure[20, 46] == 128
    assert plain[20, 46] == 255
    assert unsure[20, 30] == 255


def test_none_and_pictures_without_ground() -> None:
    image, _, _ = composed()
    nothing = matte(image, Segmentation(np.zeros((96, 128), dtype=bool), no_target=True))
    assert not nothing.alpha.any()
    assert not np.asarray(nothing.to_image()).any()
    everything = matte(image, Segmentation(np.ones((96, 128), dtype=bool)))
    assert (everything.alpha == 1).all()


def test_image_holds_alpha_and_colours() -> None:
    made = Matte(np.array([[0.0, 0.5, 1.0]], np.float32), np.full((1, 3, 3), 7, np.uint8))
    assert np.asarray(made.to_image()).tolist() == [[[0, 0, 0, 0], [7, 7, 7, 128], [7, 7, 7, 255]]]


def test_other_sizes_and_a_missing_package_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _, _ = composed()
    with pytest.raises(RefsegError, match="the answer is for a picture of 5 x 4"):
        matte(image, Segmentation(np.zeros((4, 5), dtype=bool)))
    monkeypatch.setitem(__import__("sys").modules, "pymatting", None)
    with pytest.raises(RefsegError, match=r"pip install 'refseg\[matte\]'"):
        matte(image, Segmentation(np.ones((96, 128), dtype=bool)))
