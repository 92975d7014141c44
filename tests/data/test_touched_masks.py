"""Masks that take every pixel of the network's input that they touch."""

from __future__ import annotations

import numpy as np
import torch

from refseg.data.sample import Instance
from refseg.data.transforms import place_mask, place_objects
from refseg.geometry import InputConfig, geometry_of


def test_a_touched_pixel_counts() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[9:21, 10:31] = True
    config = InputConfig(size=32, resize="letterbox", divisor=16, rasterise="touched")
    geometry = geometry_of((40, 60), config)
    found = place_objects([Instance(1, "cup", (10.0, 9.0, 31.0, 21.0), mask)], geometry, config)[0]
    assert torch.equal(found, place_mask(mask, geometry, touched=True))
    nearest = place_mask(mask, geometry)
    assert not (nearest & ~found).any()  # wider, never narrower
    assert found.sum() > nearest.sum()
    # 40 x 60 becomes 21 x 32 with 5 rows above. Row i of 21 reads what lies within a row's width, 1 / 0.525, of its
    # centre (i + 0.5) / 0.525: rows 4 to 11 reach the centre of a row from 9 to 20.
    reached = [i for i in range(21) if any(abs((i + 0.5) / 0.525 - (row + 0.5)) < 1 / 0.525 for row in range(9, 21))]
    assert reached == list(range(4, 12))
    assert found.any(dim=1).nonzero()[:, 0].tolist() == [5 + i for i in reached]
    assert not found[:5].any()
    assert not found[26:].any()


def test_the_same_size_changes_nothing() -> None:
    mask = np.random.default_rng(0).random((32, 32)) > 0.5
    geometry = geometry_of((32, 32), InputConfig(size=32))
    assert torch.equal(place_mask(mask, geometry, touched=True), torch.from_numpy(mask))
