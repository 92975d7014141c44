"""ISFP: the contract, equations 3.1 to 3.4 against loops written from the thesis, and its oracles."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from refseg.errors import RefsegError
from refseg.models import build
from refseg.models.isfp.config import (
    ABLATIONS,
    MINI,
    PAPER,
    PAPER_SWIN,
    PropagationConfig,
    RefinementConfig,
)
from refseg.models.isfp.grid import gravity_centres, grid_targets
from refseg.models.isfp.model import chosen_cells, masks_of_cells, with_true_location, with_true_masks
from refseg.models.isfp.propagation import Propagation, RelationAnalysis, sweep
from refseg.types import Targets
from tests.support.contract import ModelContract, assert_near, batch_of, filled, targets_of
from tests.support.tiny_systems import tiny_isfp as tiny

TAGS = {
    "losses.tags": "there are no tags",
    "tags": "tested in test_systems",
    "text.train_embedding": "says what training changes, tested with the encoder",
}
HEAD = {**TAGS, "losses.no_target": "no head: without effect"}
BEST = {"cell_threshold": "one cell answers", "answer": "tested below: it reads what these targets do not hold"}
CHANGES: dict[str, Any] = {
    "branches.rates": (1, 3),
    "losses.refine_threshold": 0.9,
    "refinement.output_stride": 2,
}
DARKNET = {**CHANGES, "vision.widths": (4, 8, 8, 12, 16, 16), "vision.depths": (1, 1, 1, 2, 1)}
RESNET = {
    **CHANGES,
    "vision.widths": (8, 16, 16, 20),
    "vision.depths": (1, 1, 2, 1),
    "vision.norm_groups": 1,
    "cell_threshold": 0.9999,
    "answer": "best",
}


class Fine:
    """Answers of the input's own size."""

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


class Coarse:
    """Answers at stride 8: there is no refinement."""

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        return math.ceil(height / 8), math.ceil(width / 8)


class TestPaper(Fine, ModelContract):
    config = tiny(PAPER)
    changes: ClassVar[dict[str, Any]] = {**DARKNET, "refinement.input_stride": 2}
    inactive: ClassVar[dict[str, str]] = {**HEAD, **BEST}


class TestSwin(Fine, ModelContract):
    config = tiny(PAPER_SWIN)
    knobs = "width"
    unreached = frozenset({"vision.norm0.weight", "vision.norm0.bias"})  # of the map at stride 4, which nobody reads


class TestMini(ModelContract):
    config = replace(tiny(MINI), no_target_head=True)
    changes: ClassVar[dict[str, Any]] = {**RESNET, "refinement.input_stride": 8}
    inactive: ClassVar[dict[str, str]] = {
        **TAGS,
        "identify": "off, there are no cells to unite: an error, see test_wrong_configurations",
    }


class TestConvolution(Coarse, ModelContract):
    config = tiny(ABLATIONS["table 3.1: baseline, IEM"])
    knobs = "propagation.kind"


class TestBaseline(Coarse, ModelContract):
    config = replace(tiny(ABLATIONS["table 3.1: baseline"]), no_target_head=True)
    knobs = "losses"
    changes: ClassVar[dict[str, Any]] = CHANGES
    inactive: ClassVar[dict[str, str]] = {
        **TAGS,
        "losses.identify": "there is no identification branch",
        "losses.refine": "there is no refinement",
        "losses.refine_threshold": "there is no refinement",
    }


# What the sources say


def test_presets_say_what_the_thesis_says() -> None:
    losses = PAPER.losses
    assert (losses.identify, losses.segment, losses.refine, losses.refine_threshold) == (10.0, 0.03, 0.5, 0.3)
    assert (PAPER.grid, PAPER.input.size, PAPER.branches.layers, PAPER.answer) == (13, 416, 4, "best")
    with torch.device("meta"):
        model = build(PAPER)
    assert model.segmentation.output.weight.shape[0] == 169
    assert model.relations.propagation.own.shape == (2, 4, 512, 512)


# Equations


def rectified(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, 0.1 * value)


def normalised(value: Tensor, norm: Any) -> Tensor:
    """The vector of one place, by the statistics at hand."""
    return (value - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize("product_norm", [True, False])
@torch.no_grad()
def test_equation_3_1(product_norm: bool) -> None:
    model = filled(build(replace(tiny(PAPER), product_norm=product_norm))).eval()
    batch = batch_of(model.config, sentences=2)
    maps, text = model.vision(batch.images), model.encode_text(batch.tokens)
    found = model.fusion(model.encode_image(batch.images, batch.pixel_mask).visual, text.sentence)
    fusion = model.fusion
    for level, stride in enumerate((8, 16, 32)):
        conv = model.visual[level]
        for index in range(2):
            sentence = rectified(normalised(fusion.sentence.weight @ text.sentence[index], fusion.sentence_norm))
            for row in range(64 // stride):
                for column in range(80 // stride):
                    seen = conv.conv.weight[:, :, 0, 0] @ maps[stride][index, :, row, column]
                    product = rectified(normalised(seen, conv.norm)) * sentence
                    if product_norm:
                        product = rectified(normalised(product, fusion.norms[level]))
                    assert_near(found[level][index, :, row, column], product)


STEPS = {"DR": (1, 1), "DL": (1, -1), "UR": (-1, 1), "UL": (-1, -1)}
"""Down and right of each direction's steps."""


def slow_sweep(cells: Tensor, own: Tensor, incoming: Tensor, forget: float, direction: str) -> Tensor:
    """Equation 3.2 pixel by pixel, (S, S, C): a cell waits for the row, the column and the diagonal before it."""
    down, right = STEPS[direction]
    height, width, _ = cells.shape
    hidden: dict[tuple[int, int], Tensor] = {}
    for row in range(height)[::down]:
        for column in range(width)[::right]:
            past = [(row - down, column), (row, column - right), (row - down, column - right)]
            total = sum((hidden[place] for place in past if place in hidden), start=torch.zeros_like(cells[0, 0]))
            hidden[row, column] = rectified(own @ cells[row, column] + forget * (incoming @ total))
    return torch.stack([torch.stack([hidden[row, column] for column in range(width)]) for row in range(height)])


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (2, 5), (5, 3)])
def test_equations_3_2_and_3_3_along_diagonals_equal_pixel_by_pixel(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    grid = torch.randn(2, 3, *size, 4, dtype=torch.float64, requires_grad=True)
    own, incoming = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    fast = sweep(grid, own, incoming, 0.4)
    slow = torch.stack(
        [torch.stack([slow_sweep(grid[p, b], own[p], incoming[p], 0.4, "DR") for b in range(3)]) for p in range(2)]
    )
    assert torch.allclose(fast, slow, atol=1e-12)
    weights = torch.randn_like(fast)
    for one, other in zip(
        torch.autograd.grad((fast * weights).sum(), [grid, own, incoming]),
        torch.autograd.grad((slow * weights).sum(), [grid, own, incoming]),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-10)


def test_equation_3_3_written_out() -> None:
    own, incoming = torch.randn(2, 1, 3, 3)
    grid = torch.randn(1, 1, 2, 2, 3)
    found = sweep(grid, own, incoming, 1 / 3)[0, 0]
    first = rectified(own[0] @ grid[0, 0, 0, 0])
    assert_near(found[0, 0], first)
    right = rectified(own[0] @ grid[0, 0, 0, 1] + incoming[0] @ first / 3)
    below = rectified(own[0] @ grid[0, 0, 1, 0] + incoming[0] @ first / 3)
    assert_near(found[1, 1], rectified(own[0] @ grid[0, 0, 1, 1] + incoming[0] @ (right + below + first) / 3))


@pytest.mark.parametrize("share", [False, True])
@torch.no_grad()
def test_four_bidirectional_paths(share: bool) -> None:
    propagation = Propagation(PropagationConfig(share=share, forget=0.5), 4)
    features = torch.randn(2, 4, 5, 5)
    found = propagation(features)
    paths = [("DR", "UL"), ("DL", "UR"), ("UR", "DL"), ("UL", "DR")]
    for index in range(2):
        total = torch.zeros(5, 5, 4)
        for number, path in enumerate(paths):
            states = features[index].permute(1, 2, 0)
            for turn, direction in enumerate(path):
                place = (0, 0) if share else (turn, number)
                states = slow_sweep(states, propagation.own[place], propagation.incoming[place], 0.5, direction)
            total += states
        assert_near(found[index], total.permute(2, 0, 1))


@torch.no_grad()
def test_every_cell_hears_of_every_other() -> None:
    """A path alone links only cells that lie on its diagonal of the grid, the four together all of them."""
    torch.manual_seed(1)
    analysis = RelationAnalysis(PropagationConfig(normalise=False), 3)
    features = torch.randn(1, 3, 4, 4)
    before = analysis(features)
    for cell in range(16):
        changed = features.clone()
        changed[0, :, cell // 4, cell % 4] += 5
        assert (analysis(changed) != before).all()


@torch.no_grad()
def test_identifying_map_sums_paths_and_features() -> None:
    analysis = filled(RelationAnalysis(PropagationConfig(), 4)).eval()
    features = torch.randn(2, 4, 3, 3)
    total = features + analysis.propagation(features)
    for row in range(3):
        for column in range(3):
            vector = normalised(total[1, :, row, column], analysis.norm)
            expected = analysis.output.weight[0, :, 0, 0] @ vector + analysis.output.bias[0]
            assert_near(analysis(features)[1, row, column], expected)


@torch.no_grad()
def test_sweeps_take_one_product_a_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all paths and sentences together: 25 diagonals there, 25 back, and W_1 of all cells before each."""
    calls, product = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda *matrices: calls.append(1) or product(*matrices))
    Propagation(PropagationConfig(), 4)(torch.randn(3, 4, 13, 13))
    assert len(calls) == 2 * (25 + 1)


# Grid, losses, answers


def test_positive_cells_lie_around_the_centre_of_gravity() -> None:
    masks = torch.zeros(3, 40, 80, dtype=torch.bool)
    masks[0, 10:14, 30:50] = True  # centre (12, 40): cell (1, 2) of 5 x 5
    masks[1, :4, :4] = True  # in a corner: four cells are left
    centres, some = gravity_centres(masks)
    assert centres.tolist() == [[12.0, 40.0], [2.0, 2.0], [0.0, 0.0]]
    assert some.tolist() == [True, True, False]
    found = grid_targets(Targets(masks, ~some), 5, separate=False)
    assert found.positive[0].nonzero().tolist() == [[r, c] for r in (0, 1, 2) for c in (1, 2, 3)]
    assert found.centres[0].nonzero().tolist() == [[1, 2]]
    assert found.positive[1].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert not found.positive[2].any()
    assert not found.centres[2].any()
    assert found.owner[0].unique().tolist() == [-1, 0]


def test_several_targets_have_cells_of_their_own() -> None:
    """Two things two cells apart: the column of cells between them goes to the nearer one."""
    one, two = torch.zeros(2, 50, 50, dtype=torch.bool)
    one[20:30, 10:17] = True  # centre column 13.5, cell 1
    two[20:30, 32:38] = True  # centre column 35, cell 3; column 2 reaches from 20 to 30
    targets = Targets(
        torch.stack([one | two, two]),
        torch.tensor([False, False]),
        instances=[torch.stack([one, two]), two[None]],
    )
    found = grid_targets(targets, 5, separate=True)
    assert found.owner[0, 2].tolist() == [0, 0, 1, 1, 1]
    assert found.owner[1, 2].tolist() == [-1, -1, 2, 2, 2]
    assert found.centres[0].nonzero().tolist() == [[2, 1], [2, 3]]
    together = grid_targets(targets, 5, separate=False)
    assert together.centres[0].nonzero().tolist() == [[2, 2]]


def test_channels_belong_to_cells_row_by_row() -> None:
    channels = torch.arange(9.0)[None, :, None, None].expand(2, 9, 2, 3)
    identify = torch.full((2, 3, 3), -5.0)
    identify[0, 1, 2] = -1.0
    identify[1, 2, 0], identify[1, 0, 1] = 3.0, 1.0
    best = chosen_cells(identify, None)
    assert best.flatten(1).sum(dim=1).tolist() == [1, 1]
    assert masks_of_cells(channels, best)[:, 0, 0].tolist() == [5.0, 6.0]
    some = chosen_cells(identify, 0.5)
    assert some.flatten(1).nonzero().tolist() == [[0, 5], [1, 1], [1, 6]]
    assert masks_of_cells(channels, some & (identify < 2))[:, 1, 2].tolist() == [5.0, 1.0]
    assert (masks_of_cells(channels, torch.zeros_like(best)) < -10).all()


def entropy(logit: Tensor, truth: bool) -> float:
    return -math.log(float(logit.double().sigmoid()) if truth else 1 - float(logit.double().sigmoid()))


@pytest.mark.parametrize("threshold", [-1.0, 0.99])
@torch.no_grad()
def test_equation_3_4(threshold: float) -> None:
    """Sums over cells, over the pixels of positive channels, and over a coarse mask's worth of refined pixels."""
    config = tiny(PAPER)
    model = filled(build(replace(config, losses=replace(config.losses, refine_threshold=threshold)))).eval()
    batch = batch_of(model.config)
    output, targets = model(batch), targets_of(batch)
    losses = model.losses(output, targets)
    found = output.auxiliary
    truth = grid_targets(targets, 3, separate=False).positive
    identify = segment = refine = 0.0
    for index in range(3):
        for cell in range(9):
            row, column = divmod(cell, 3)
            identify += entropy(found["identify_logits"][index, row, column], bool(truth[index, row, column]))
            if truth[index, row, column]:
                for y in range(8):
                    for x in range(10):
                        mask = bool(targets.masks[index, 8 * y + 4, 8 * x + 4])
                        segment += entropy(found["channel_logits"][index, cell, y, x], mask)
        best = int(found["identify_logits"][index].argmax())
        coarse = found["channel_logits"][index, best] > 0
        meant = targets.masks[index].float().unfold(0, 8, 8).unfold(1, 8, 8).mean(dim=(2, 3)) >= 0.5
        iou = float((coarse & meant).sum() / (coarse | meant).sum().clamp(min=1))
        if iou > threshold:
            pixels = F.binary_cross_entropy_with_logits(
                output.mask_logits[index], targets.masks[index].float(), reduction="none"
            )
            refine += float(pixels.mean()) * 80
    assert float(losses["identify"]) == pytest.approx(10 * identify / 3, rel=1e-4)
    assert float(losses["segment"]) == pytest.approx(0.03 * segment / 3, rel=1e-4)
    assert float(losses["refine"]) == pytest.approx(0.5 * refine / 3, rel=1e-4)
    assert (refine > 0) == (threshold < 0)


@torch.no_grad()
def test_refinement_adds_to_the_enlarged_coarse_mask() -> None:
    for config, size in ((RefinementConfig(width=4), (32, 48)), (RefinementConfig(width=4, output_stride=4), (8, 12))):
        model = filled(build(replace(tiny(PAPER), refinement=config))).eval()
        refinement = model.refinement
        picture, coarse = torch.randn(1, 3, 8, 12), torch.randn(1, 4, 6)
        probability = F.interpolate(coarse[None].sigmoid(), size=(8, 12), mode="bilinear")
        maps = refinement.first(torch.cat([picture, probability], dim=1))
        if config.output_stride == 1:
            maps = maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        maps = refinement.second(maps)
        if config.output_stride == 1:
            maps = maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        expected = refinement.third(maps)[:, 0] + F.interpolate(coarse[None], size=size, mode="bilinear")[0]
        assert_near(refinement(picture, coarse, (32, 48)), expected)


@torch.no_grad()
def test_cross_scale_paths() -> None:
    model = filled(build(tiny(PAPER))).eval()
    paths = model.cross_scale
    fine, middle, coarse = torch.randn(1, 16, 8, 12), torch.randn(1, 16, 4, 6), torch.randn(1, 16, 2, 3)
    deep, wide = paths([fine, middle, coarse])
    down = paths.down[0](torch.cat([F.avg_pool2d(fine, 2), middle], dim=1))
    assert_near(deep, paths.down[1](torch.cat([F.avg_pool2d(down, 2), coarse], dim=1)))
    up = paths.up[0](torch.cat([coarse.repeat_interleave(2, 2).repeat_interleave(2, 3), middle], dim=1))
    assert_near(wide, paths.up[1](torch.cat([up.repeat_interleave(2, 2).repeat_interleave(2, 3), fine], dim=1)))


# Table 3.2


@torch.no_grad()
def test_true_location_chooses_the_centres_cell() -> None:
    model = filled(build(tiny(ABLATIONS["table 3.1: baseline, IEM, RAM"]))).eval()
    batch = batch_of(model.config)
    targets = targets_of(batch)
    told, free = with_true_location(model, batch, targets), model(batch)
    truth = grid_targets(targets, 3, separate=False).centres
    assert torch.equal(told.auxiliary["cells"], truth)
    for index in range(2):
        cell = int(truth[index].flatten().nonzero())
        assert torch.equal(told.mask_logits[index], free.auxiliary["channel_logits"][index, cell])
    assert (told.mask_logits[2] < 0).all()  # nothing is meant


@torch.no_grad()
def test_true_masks_are_worth_what_the_chosen_cell_stands_for() -> None:
    model = filled(build(tiny(PAPER))).eval()
    batch = batch_of(model.config)
    targets, output = targets_of(batch), model(batch)
    output.auxiliary["cells"] = grid_targets(targets, 3, separate=False).centres
    found = with_true_masks(model, output, targets)
    assert torch.equal(found.mask_logits > 0, targets.masks)
    output.auxiliary["cells"] = ~grid_targets(targets, 3, separate=False).positive
    assert not (with_true_masks(model, output, targets).mask_logits > 0).any()


def test_a_baseline_has_no_oracles() -> None:
    model = build(tiny(ABLATIONS["table 3.1: baseline"])).eval()
    batch = batch_of(model.config)
    with pytest.raises(RefsegError, match="no identification branch"):
        with_true_location(model, batch, targets_of(batch))
    with pytest.raises(RefsegError, match="no chosen cell"):
        with_true_masks(model, model(batch), targets_of(batch))


def test_union_learns_from_each_target_apart() -> None:
    config = tiny(MINI)
    assert config.needs.instances
    assert not PAPER.needs.instances
    model = filled(build(config)).eval()
    batch = batch_of(config)
    whole = targets_of(batch)
    left, right = whole.masks.clone(), whole.masks.clone()
    left[:, :, 25:], right[:, :, :25] = False, False
    apart = replace(whole, instances=[torch.stack(pair) for pair in zip(left, right, strict=True)])
    with torch.no_grad():
        output = model(batch)
        one, two = model.losses(output, whole), model.losses(output, apart)
    assert float(one["identify"]) != float(two["identify"])
    assert float(one["segment"]) != float(two["segment"])
    assert float(one["refine"]) == float(two["refine"])
