"""Masks, boxes and written answers, against transformers' own reading and against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refseg.models.foundation.placing import (
    Warp,
    box_logits,
    enlarge,
    outline_logits,
    pad,
    pictures_of,
)
from refseg.models.foundation.writing import read_locations, read_pixel_boxes, read_polygons
from refseg.nn.boxes import OUTSIDE


def test_pictures_come_back_from_a_padded_batch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 7, 5, 3), dtype=np.uint8)
    images, mask = torch.zeros(2, 3, 9, 8), torch.zeros(2, 9, 8, dtype=torch.bool)
    images[:, :, :7, :5], mask[:, :7, :5] = torch.from_numpy(pixels).permute(0, 3, 1, 2).float(), True
    for mine, own in zip(pictures_of(images, mask), pixels, strict=True):
        assert (mine == own).all()


def test_warp_is_the_square_of_transformers_pil_processors() -> None:
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    image = np.random.default_rng(1).integers(0, 256, (37, 61, 3), dtype=np.uint8)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    theirs = ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=mean, image_std=std)
    wanted = theirs(images=[image], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(Warp(32, mean, std)([image])["pixel_values"], wanted, atol=1e-5, rtol=0)
    assert Warp.of({"image_mean": mean}, 8, (0.5,) * 3, (0.5,) * 3).mean == tuple(mean)


def test_masks_are_interpolated_as_each_source_does() -> None:
    logits = torch.randn(3, 4, 5) * 3
    size = (9, 13)
    plain = torch.nn.functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    assert (enlarge(logits, size) == plain).all()
    chance = torch.nn.functional.interpolate(logits.sigmoid()[None], size=size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(enlarge(logits, size, "probabilities").sigmoid(), chance, atol=1e-5, rtol=0)
    assert enlarge(logits[:0], size).shape == (0, *size)
    padded = pad(logits, (6, 8))
    assert (padded[:, :4, :5] == logits).all()
    assert (padded[:, 4:] == OUTSIDE).all()
    assert (padded[:, :, 5:] == OUTSIDE).all()


@given(st.lists(st.floats(-0.2, 1.2), min_size=4, max_size=4), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_filled_boxes_hold_the_pixels_whose_centres_they_hold(numbers: list[float], height: int, width: int) -> None:
    x0, y0, x1, y1 = torch.tensor(numbers).tolist()
    filled = box_logits(torch.tensor([numbers]), (height, width))[0] > 0
    for row in range(height):
        for column in range(width):
            x, y = (
                float(np.float32(column + 0.5) / np.float32(width)),
                float(np.float32(row + 0.5) / np.float32(height)),
            )
            assert bool(filled[row, column]) == (x0 <= x < x1 and y0 <= y < y1)


def test_outlines_fill_what_lies_inside() -> None:
    square = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
    filled = outline_logits([square], (40, 80)).numpy() > 0
    assert abs(filled.sum() - 40 * 80 / 4) <= 40 + 20 + 2  # PIL draws the border, too: half its length at most
    assert filled[12:28, 22:58].all()
    assert not filled[:8].any()
    two = outline_logits([square, square * 0.3], (40, 80)).numpy() > 0
    assert (two >= filled).all()
    assert two.sum() > filled.sum()
    assert not (outline_logits([square[:2]], (40, 80)) > 0).any()


POLYGONS = (
    "</s><s><loc_1><loc_2><loc_300><loc_400><loc_500><loc_600></s>",
    "<loc_1><loc_2><loc_300><loc_400><sep><loc_500><loc_600><loc_7><loc_8><loc_9></s><pad>",
    "<poly><loc_1><loc_2><loc_3><loc_4></poly><poly><loc_5><loc_6><loc_7><loc_999></poly>",
    "<loc_1><loc_2><loc_3>",
    "nothing",
    "<loc_10><loc_20><loc_30><loc_40> and <loc_50><loc_60><loc_70><loc_80>",
)


@pytest.mark.parametrize("written", POLYGONS)
def test_polygons_are_those_of_transformers_post_processor(written: str) -> None:
    """Theirs are whole pixels, cut off; ours are not rounded."""
    from types import SimpleNamespace

    from transformers.models.florence2.processing_florence2 import Florence2PostProcessor

    theirs = Florence2PostProcessor({"polygons": {}}, SimpleNamespace(all_special_tokens=[]))
    width, height = 640, 427
    wanted = theirs(text=written, image_size=(width, height), parse_tasks="polygons")["polygons"]
    mine = read_polygons(written)
    assert len(mine) == len(wanted)
    for thing, other in zip(mine, wanted, strict=True):
        cut = [np.floor(outline * [width, height] + 1e-9).reshape(-1).tolist() for outline in thing.outlines]
        assert cut == [polygon for polygon in other["polygons"] if polygon]


def test_boxes_in_written_answers() -> None:
    assert read_locations("<loc0256><loc0512><loc0768><loc1023> zebra ; <loc0000><loc0000><loc0512><loc0512> x") == [
        (512 / 1024, 256 / 1024, 1023 / 1024, 768 / 1024),
        (0.0, 0.0, 0.5, 0.5),
    ]
    assert read_locations("<loc0256><loc0512><loc0768> zebra") == []
    json_answer = '```json\n[{"bbox_2d": [14, 28, 140, 56.5], "label": "zebra"}]\n```'
    assert read_pixel_boxes(json_answer, (56.0, 280.0)) == [(14 / 280, 0.5, 0.5, 56.5 / 56)]
    assert read_pixel_boxes("<|box_start|>(100,200),(300,400)<|box_end|>", (1000.0, 1000.0)) == [(0.1, 0.2, 0.3, 0.4)]
    assert read_pixel_boxes("[]", (1000.0, 1000.0)) == []
    assert read_pixel_boxes("[1, 2, 3]", (1000.0, 1000.0)) == []


def test_pixel_order_of_pil() -> None:
    """`Warp` gives channels first, red first."""
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0] = 255
    values = Warp(2, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))([np.asarray(Image.fromarray(image))])["pixel_values"]
    assert (values[0, 0] == 1).all()
    assert (values[0, 1:] == 0).all()
