"""From logits to answers at the picture's own size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.errors import RefsegError
from refseg.geometry import Geometry
from refseg.inference import postprocess as module
from refseg.inference.postprocess import postprocess
from refseg.types import Output


def warped(original: tuple[int, int], model: tuple[int, int] = (32, 32)) -> Geometry:
    return Geometry(original, model, (model[0] / original[0], model[1] / original[1]))


def logits_of(mask: np.ndarray) -> torch.Tensor:
    """Certain logits at the network's input size."""
    return torch.from_numpy(np.where(mask, 20.0, -20.0)).float()[None]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 1000))
def test_a_warped_mask_is_two_bilinear_steps(height: int, width: int, seed: int) -> None:
    logits = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 3
    answer = postprocess(Output(logits, torch.tensor([-5.0])), [warped((height, width))], ["it"])[0]
    enlarged = torch.nn.functional.interpolate(logits[None], size=(32, 32), mode="bilinear")
    expected = torch.nn.functional.interpolate(enlarged, size=(height, width), mode="bilinear")[0, 0]
    sure = expected.abs() > 1e-4  # a rounding error may decide the others
    assert torch.equal(torch.from_numpy(answer.mask)[sure], (expected > 0)[sure])
    if answer.mask.any():
        assert answer.score == pytest.approx(float(expected.sigmoid()[torch.from_numpy(answer.mask)].mean()), abs=1e-4)


def test_padding_never_reaches_the_answer() -> None:
    # A picture of 16 x 32 in the middle of a square of 32; the network sees a target in the padding alone.
    geometry = Geometry((16, 32), (32, 32), (1.0, 1.0), (8.0, 0.0))
    everywhere = np.ones((32, 32), bool)
    everywhere[8:24] = False
    answer = postprocess(Output(logits_of(everywhere), torch.tensor([-1.0])), [geometry], ["it"])[0]
    assert answer.mask.shape == (16, 32)
    assert not answer.mask.any()
    assert (len(answer.boxes), answer.no_target) == (0, True)  # no pixel is left: none
    assert answer.score < 1e-6


def test_a_mask_comes_back_to_where_it_was() -> None:
    original = np.zeros((20, 10), bool)
    original[3:9, 2:6] = True
    placed = np.zeros((48, 64), bool)
    placed[4 : 4 + 40, 8 : 8 + 20] = np.kron(original, np.ones((2, 2))).astype(bool)
    geometry = Geometry((20, 10), (48, 64), (2.0, 2.0), (4.0, 8.0))
    answer = postprocess(Output(logits_of(placed), torch.tensor([-1.0])), [geometry], ["it"])[0]
    assert np.array_equal(answer.mask, original)
    assert answer.boxes.tolist() == [[2, 3, 6, 9]]


def test_a_batch_padded_further_needs_the_size_that_the_network_saw() -> None:
    mask = np.zeros((40, 48), bool)
    mask[:32, 8:16] = True
    answer = postprocess(
        Output(logits_of(mask), torch.tensor([-1.0])), [warped((32, 32))], ["it"], input_size=(40, 48)
    )[0]
    assert np.array_equal(answer.mask, mask[:32, :32])


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(torch.randn(1, 8, 8) * 3)
    whole = postprocess(output, [warped((75, 41))], ["it"])[0]
    monkeypatch.setattr(module, "STRIP", 100)
    strips = postprocess(output, [warped((75, 41))], ["it"])[0]
    assert np.array_equal(whole.mask, strips.mask)
    assert whole.score == pytest.approx(strips.score)
    assert whole.no_target_score == pytest.approx(strips.no_target_score)


def test_the_verdict_clears_the_mask() -> None:
    full = logits_of(np.ones((32, 32), bool)).expand(2, 32, 32)
    none, some = postprocess(Output(full, torch.tensor([1.0, -1.0])), [warped((9, 7))] * 2, ["a", "b"])
    assert (none.no_target, none.mask.any(), len(none.boxes)) == (True, False, 0)
    assert none.no_target_score == pytest.approx(0.7311, abs=1e-4)
    assert none.score == pytest.approx(1 - 0.7311, abs=1e-4)
    assert (some.no_target, some.mask.all(), some.boxes.tolist()) == (False, True, [[0, 0, 7, 9]])
    assert some.score == pytest.approx(1.0)


def test_thresholds_decide() -> None:
    output = Output(torch.full((1, 32, 32), 0.4), torch.tensor([0.4]))  # probability 0.5987
    geometry = [warped((8, 8))]
    assert postprocess(output, geometry, ["it"])[0].no_target
    assert postprocess(output, geometry, ["it"], no_target_threshold=0.6)[0].mask.all()
    assert not postprocess(output, geometry, ["it"], 0.6, 0.6)[0].mask.any()
    assert not postprocess(Output(output.mask_logits, torch.zeros(1)), geometry, ["it"])[0].no_target  # a tie: a target
    assert not postprocess(Output(torch.zeros(1, 32, 32), None), geometry, ["it"])[0].mask.any()  # ties: background


def test_a_mask_without_a_pixel_says_none() -> None:
    output = Output(torch.full((1, 32, 32), -1.0), torch.tensor([-2.0]))  # probabilities 0.269 and 0.119
    answer = postprocess(output, [warped((8, 8))], ["it"], no_target_threshold=1.0)[0]
    assert answer.no_target
    assert answer.no_target_score == pytest.approx(1 - 0.2689, abs=1e-3)
    assert answer.score == pytest.approx(0.2689, abs=1e-3)
    assert not postprocess(output, [warped((8, 8))], ["it"], threshold=0.2, no_target_threshold=1.0)[0].no_target


@pytest.mark.parametrize(("pixels", "none"), [(49, True), (50, False)])
def test_without_a_head_fewer_than_fifty_pixels_say_none(pixels: int, none: bool) -> None:
    mask = np.zeros(32 * 32, bool)
    mask[:pixels] = True
    answer = postprocess(Output(logits_of(mask.reshape(32, 32))), [warped((32, 32))], ["it"])[0]
    assert answer.no_target is none
    assert answer.mask.sum() == (0 if none else pixels)
    assert (answer.no_target_score >= 0.5) is none  # the 50th most certain pixel decides both


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_without_a_head_the_probability_agrees_with_the_rule(seed: int, threshold: float) -> None:
    logits = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(seed)) - 2
    answer = postprocess(Output(logits), [warped((30, 20))], ["it"], threshold)[0]
    assert answer.no_target == (answer.no_target_score >= 1 - threshold)


def test_a_picture_of_one_pixel() -> None:
    for head in (None, torch.tensor([-1.0])):
        answer = postprocess(Output(torch.full((1, 8, 8), 3.0), head), [warped((1, 1))], ["it"])[0]
        assert answer.mask.tolist() == [[True]]
        assert answer.boxes.tolist() == [[0, 0, 1, 1]]
        assert not answer.no_target


def test_predicted_boxes_take_the_place_of_parts() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]]])
    answer = postprocess(Output(torch.full((1, 8, 8), 3.0), boxes=boxes), [warped((40, 80))], ["it"])[0]
    assert answer.boxes.tolist() == [[20, 10, 60, 30], [0, 0, 20, 10]]


def test_bfloat16_logits_are_taken() -> None:
    output = Output(torch.randn(1, 8, 8).bfloat16(), torch.tensor([-2.0]).bfloat16())
    assert postprocess(output, [warped((11, 13))], ["it"])[0].mask.shape == (11, 13)


def test_bad_arguments_are_named() -> None:
    output = Output(torch.zeros(1, 8, 8))
    with pytest.raises(RefsegError, match="1 answers need 1 geometries"):
        postprocess(output, [], ["it"])
    with pytest.raises(RefsegError, match="no_target_threshold"):
        postprocess(output, [warped((4, 4))], ["it"], 0.5, 1.5)
    with pytest.raises(RefsegError, match="threshold"):
        postprocess(output, [warped((4, 4))], ["it"], -0.1)
