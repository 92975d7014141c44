"""Colours by name: plain ones are what people call them, shares add up, sizes are those of stride 8."""

from __future__ import annotations

import pytest
import torch

from refseg.nn.color_maps import color_maps
from refseg.palette import COLORS, SRGB_TO_XYZ_FINE, rgb_to_lab


@pytest.mark.parametrize(
    ("name", "rgb"),
    [
        ("red", (200, 30, 40)),
        ("orange", (235, 130, 35)),
        ("yellow", (240, 215, 60)),
        ("green", (60, 130, 60)),
        ("blue", (50, 90, 190)),
        ("purple", (120, 60, 150)),
        ("pink", (240, 150, 180)),
        ("brown", (110, 70, 45)),
        ("black", (20, 20, 22)),
        ("white", (245, 245, 245)),
        ("gray", (130, 130, 130)),
    ],
)
def test_plain_colours_get_their_name(name: str, rgb: tuple[int, int, int]) -> None:
    picture = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    shares = color_maps(picture)[0, :, 0, 0]
    assert COLORS[int(shares.argmax())] == name
    assert shares.max() > 0.6


@pytest.mark.parametrize("size", [(64, 96), (65, 83), (8, 8)])
def test_shares_add_up_and_maps_have_stride_8(size: tuple[int, int]) -> None:
    maps = color_maps(torch.rand(2, 3, *size) * 300 - 20)
    assert maps.shape == (2, len(COLORS), -(-size[0] // 8), -(-size[1] // 8))
    torch.testing.assert_close(maps.sum(dim=1), torch.ones_like(maps[:, 0]))
    assert torch.isfinite(maps).all()


def test_a_colour_stays_in_its_place() -> None:
    picture = torch.full((1, 3, 32, 32), 245.0)
    picture[0, :, 16:, :16] = torch.tensor([200.0, 30.0, 40.0]).view(3, 1, 1)
    red = color_maps(picture)[0, COLORS.index("red")]
    assert red[2:, :2].min() > 0.9
    assert red[:2].max() < 0.05


def test_lab_is_that_of_the_standard() -> None:
    # sRGB red, mid gray and white under D65, as tables of the standard give them
    found = rgb_to_lab(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]), torch, SRGB_TO_XYZ_FINE)
    expected = torch.tensor([[53.24, 80.09, 67.20], [53.39, 0.0, 0.0], [100.0, 0.0, 0.0]])
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
