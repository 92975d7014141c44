"""Masks as protocols want them: enlarging, cropping and cutting against slow or independent ways of doing each."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from refseg.data.rle import encode
from refseg.data.sample import Instance, Sample
from refseg.evaluation.protocol_masks import foreground, predict, target_mask
from refseg.geometry import InputConfig, geometry_of
from refseg.inference.postprocess import postprocess
from refseg.metrics import PROTOCOLS
from refseg.types import Output

NATIVE = PROTOCOLS["native"]
WARP = InputConfig(size=32, resize="warp")
LETTERBOX = InputConfig(size=32, resize="letterbox")
SIZE = (32, 32)


def logits_of(height=8, width=8, seed=0):
    return torch.randn(height, width, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("config", [WARP, LETTERBOX, InputConfig(size=32, resize="longest")])
def test_original_resolution_is_what_people_get(config):
    """Under rules of native, `foreground` and `postprocess` are two ways to the same mask."""
    geometry = geometry_of((20, 27), config)
    logits = logits_of(geometry.model_size[0] // 4, geometry.model_size[1] // 4)
    output = Output(logits[None], torch.zeros(1))
    wanted = postprocess(output, [geometry], [""], 0.5, 1.0)[0].mask
    found = foreground(logits, geometry, replace(NATIVE, name="other"), geometry.model_size)
    assert found.shape == (20, 27)
    assert (found == wanted).mean() > 0.995  # they differ where a logit is 0 but for rounding
    assert 0 < wanted.mean() < 1


def test_native_masks_are_the_segmenters_and_never_cleared():
    geometry = geometry_of((20, 27), WARP)
    output = Output(logits_of()[None], torch.tensor([5.0]))
    answer = predict(output, [geometry], NATIVE, SIZE)[0]
    assert answer.no_target is True
    assert answer.no_target_score == pytest.approx(1 / (1 + np.exp(-5.0)))
    assert (answer.mask == postprocess(output, [geometry], [""], 0.5, 1.0)[0].mask).all()
    assert answer.mask.any()


def test_without_a_head_native_says_none_by_the_50_pixel_rule_and_the_others_say_nothing():
    geometry = geometry_of((20, 20), WARP)
    logits = torch.full((1, 8, 8), -9.0)
    logits[0, 0, 0] = 9.0
    native = predict(Output(logits), [geometry], NATIVE, SIZE)[0]
    assert (native.no_target, native.mask.any()) == (True, False)
    lavt = predict(Output(logits), [geometry], PROTOCOLS["lavt"], SIZE)[0]
    assert (lavt.no_target, lavt.no_target_score) == (None, None)
    assert 0 < lavt.mask.sum() < 50


def test_input_resolution_is_the_picture_on_the_input_without_padding():
    geometry = geometry_of((16, 32), LETTERBOX)
    mask = foreground(torch.ones(8, 8), geometry, PROTOCOLS["reftr"], SIZE)
    assert mask.shape == (16, 32)
    assert mask.all()


def test_the_order_of_resizing_and_sigmoid_matters():
    """Halfway between logits -8 and 2 the logit is -3 (p 0.05), but the mean of the probabilities is 0.44."""
    logits = torch.tensor([[-8.0, 2.0]])
    wide = geometry_of((1, 32), InputConfig(size=32))
    late, early = (
        foreground(logits, wide, replace(NATIVE, threshold=0.35, resized=what), SIZE).sum()
        for what in ("logits", "probabilities")
    )
    assert late < early


@pytest.mark.parametrize("threshold", [0.25, 0.35, 0.5])
def test_thresholds_on_logits_are_those_on_probabilities(threshold):
    geometry = geometry_of((32, 32), WARP)
    logits = logits_of(32, 32)
    found = foreground(logits, geometry, replace(NATIVE, threshold=threshold), SIZE)
    assert (found == (logits.sigmoid() > threshold).numpy()).all()


def test_a_tie_is_background_unless_inclusive():
    geometry = geometry_of((32, 32), WARP)
    zero = torch.zeros(32, 32)
    assert not foreground(zero, geometry, PROTOCOLS["restr"], SIZE).any()
    assert foreground(zero, geometry, PROTOCOLS["gsva"], SIZE).all()
    for level, share in ((0.0, 1.0), (1.0, 0.0)):
        assert foreground(zero, geometry, replace(NATIVE, threshold=level), SIZE).mean() == share


def test_bicubic_is_corner_aligned_and_then_affine():
    """CRIS: corner pixels of the map stay corner pixels of the input; pixel 0 of the picture samples pixel 0."""
    logits = torch.full((4, 4), -20.0)
    logits[0, 0] = 20.0
    cris = PROTOCOLS["cris"]
    mask = foreground(logits, geometry_of((32, 32), WARP), cris, SIZE)
    # probabilities 1 and 0 at input pixels 0 and 31 / 3: over 0.35 up to about 0.6 of the way (the cubic's weights)
    t = np.arange(0, 31 / 3) * 3 / 31
    a = -0.75
    weights = (a + 2) * t**3 - (a + 3) * t**2 + 1
    beyond = a * (1 + t) ** 3 - 5 * a * (1 + t) ** 2 + 8 * a * (1 + t) - 4 * a  # the border pixel is repeated
    wanted = int((weights + beyond > 0.35).sum())
    assert mask[0].sum() == wanted
    bilinear = foreground(logits, geometry_of((32, 32), WARP), replace(cris, interpolation="bilinear"), SIZE)
    assert bilinear[0].sum() != wanted


def test_bicubic_reaches_a_letterboxed_picture():
    geometry = geometry_of((10, 20), LETTERBOX)
    logits = torch.full((8, 8), -9.0)
    logits[:, 4:] = 9.0
    mask = foreground(logits, geometry, PROTOCOLS["cris"], SIZE)
    assert mask.shape == (10, 20)
    assert not mask[:, :8].any()
    assert mask[1:-1, 12:-1].all()


def test_targets_come_to_the_input_as_the_source_makes_them():
    corners = np.array([1.0, 1.0, 9.4, 1.0, 9.4, 7.0, 1.0, 7.0])
    sample = Sample("1_1", "it", 1, (10, 12), objects=(Instance(1, "box", (1.0, 1.0, 9.4, 7.0), [corners]),))
    geometry = geometry_of((10, 12), WARP)
    assert (target_mask(sample, geometry, NATIVE, WARP) == sample.mask()).all()
    polygons = target_mask(sample, geometry, PROTOCOLS["rela"], WARP)
    nearest = target_mask(sample, geometry, PROTOCOLS["lavt"], WARP)
    assert polygons.shape == nearest.shape == (32, 32)
    assert (polygons != nearest).any()
    assert not target_mask(Sample("2_2", "it", 1, (10, 12), no_target=True), geometry, NATIVE, WARP).any()


@pytest.mark.parametrize("config", [WARP, LETTERBOX])
@pytest.mark.parametrize("name", ["native", "lavt"])
def test_the_likeliest_pixel_is_found_in_the_masks_own_resolution(config, name):
    geometry = geometry_of((20, 40), config)
    protocol = PROTOCOLS[name]
    for place in ((3, 5), (12, 33), (19, 39), (0, 0)):
        top, left, _, _ = geometry.content()
        on_input = int((place[0] + 0.5) * geometry.scale[0] + top), int((place[1] + 0.5) * geometry.scale[1] + left)
        logits = torch.full((32, 32), -5.0)
        logits[on_input] = 5.0
        x, y = predict(Output(logits[None], torch.zeros(1)), [geometry], protocol, SIZE)[0].point
        if name == "native":
            assert abs(y - place[0]) <= 1
            assert abs(x - place[1]) <= 1
        else:
            assert (y, x) == (on_input[0] - top, on_input[1] - left)


def test_boxes_are_pixels_of_the_picture():
    geometry = geometry_of((20, 40), WARP)
    output = Output(logits_of()[None], torch.zeros(1), boxes=torch.tensor([[[0.5, 0.5, 0.5, 1.0]]]))
    for name in ("native", "reftr"):
        assert predict(output, [geometry], PROTOCOLS[name], SIZE)[0].boxes.tolist() == [[10, 0, 30, 20]]


def test_encoded_targets_survive():
    mask = np.zeros((6, 6), dtype=bool)
    mask[2:4, 1:5] = True
    sample = Sample("1_1", "it", 1, (6, 6), objects=(Instance(1, "x", (1.0, 2.0, 5.0, 4.0), encode(mask)),))
    assert (target_mask(sample, geometry_of((6, 6), WARP), NATIVE, WARP) == mask).all()
