"""MAttNet: the contract, given regions, and targets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from refseg.errors import RefsegError
from refseg.models import build
from refseg.models.mattnet.config import MINI, OFFICIAL, PAPER, PRESETS, MAttNetConfig
from refseg.models.mattnet.losses import match_regions
from refseg.models.mattnet.model import _target_boxes
from refseg.nn.boxes import pair_iou
from refseg.types import Regions, Targets
from tests.support.contract import ModelContract, batch_of, filled, leaf_fields
from tests.support.learning import drawn_batch, fit
from tests.support.tiny_parts import TINY_RESNET
from tests.support.tiny_systems import tiny_mattnet as tiny


def frozen(config: MAttNetConfig) -> frozenset[str]:
    """Parameters that nothing trains."""
    with torch.device("meta"):
        names = [name for name, _ in build(config).named_parameters()]
    return frozenset(name for name in names if name.startswith(("proposer.", "vision.")))


LISTS = frozenset(
    {"scores", "module_scores", "logits", "cells", "context", "boxes", "groups", "attribute_logits", "attributes"}
)
ELSEWHERE = {
    name: "tested with the detector, in tests/models/instances"
    for name in leaf_fields(tiny(MINI))
    if name.startswith("detector.")
} | {"fine_masks": "tested below: the mask decoder takes a second", "max_masks": "tested below"}


class _MAttNet(ModelContract):
    per_expression = LISTS

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


class TestMini(_MAttNet):
    config = replace(tiny(MINI), attributes=("red", "big", "wooden"))
    unreached = frozen(config)
    inactive: ClassVar[dict[str, str]] = ELSEWHERE | {
        "modular": "the baseline has no relationship; tested as a row of the ablation",
        "subject_attributes": "attributes need the blob; tested as a row of the ablation",
        "regions": "attributes need annotated regions; tested with PAPER",
        "losses.same_class": "the hardest negative is of any class; tested with PAPER",
        "losses.attribute_weights": "counts are not given; tested with PAPER",
    }
    changes: ClassVar[dict[str, Any]] = {
        "vision": TINY_RESNET,
        "attributes": ("red", "big"),
        "attribute_counts": (9, 4, 4),
        "neighbors": 1,
        "contexts": 1,
    }


class TestPaper(_MAttNet):
    config = replace(tiny(PAPER), attributes=("red", "big"), attribute_counts=(9, 4))
    unreached = frozen(config)
    knobs = "losses."
    inactive: ClassVar[dict[str, str]] = {"losses.target": "the best region is chosen"}
    changes: ClassVar[dict[str, Any]] = {"losses.same_class": 1.0}


def test_regions_decide_what_training_loads() -> None:
    assert PAPER.needs.regions
    assert not replace(PAPER, regions="detected").needs.regions


def test_presets_are_what_they_say() -> None:
    assert next(iter(PRESETS)) == "MINI"
    assert (PAPER.losses.margin, OFFICIAL.losses.same_class, OFFICIAL.grid) == (0.1, 0.3, 7)


def test_mini_learns_which_thing_is_meant() -> None:
    """Eight expressions about two drawn scenes, two of them about nothing, learnt by heart on annotated regions."""
    torch.manual_seed(0)
    config = replace(tiny(MINI), text=replace(MINI.text, embedding=24, projection=24, hidden=24), embed_dim=32)
    config, batch, targets = drawn_batch(config, size=96, regions=True, instances=True)
    output = fit(build(config), batch, targets, steps=80, rate=lambda step: 3e-3)
    assert output.no_target_logits is not None
    for number, wanted in enumerate(_target_boxes(targets)):
        positive, _ = match_regions(pair_iou(output.auxiliary["boxes"][number], wanted))
        assert ((output.auxiliary["logits"][number] > 0) == positive).all()
        assert bool(output.no_target_logits[number] > 0) == bool(targets.no_target[number])


@torch.no_grad()
def test_given_masks_are_the_answer_and_fine_ones_are_made_once() -> None:
    batch = batch_of(tiny(MINI), sentences=1)
    masks = torch.zeros(4, 64, 80, dtype=torch.bool)
    for number in range(4):
        masks[number, 10 * number : 10 * number + 5, 20:30] = True
    assert batch.regions is not None
    model = filled(build(replace(tiny(PAPER), selection="best"))).eval()
    given = replace(batch, regions=replace(batch.regions, masks=[masks]))
    output = model(given)
    best = int(output.auxiliary["scores"][0].argmax())
    assert torch.equal(output.mask_logits[0] > 0, masks[best])
    fine = filled(build(replace(tiny(MINI), fine_masks=True, max_masks=1))).eval()
    fine.logit_bias.fill_(50.0)
    coarse = filled(build(replace(tiny(MINI), max_masks=2))).eval()
    coarse.logit_bias.fill_(50.0)
    state = fine.encode_image(batch.images, batch.pixel_mask, batch.regions)
    first = fine.decode(state, fine.encode_text(batch.tokens))
    made = dict(state[0].seen.fine)
    again = fine.decode(state, fine.encode_text(batch.tokens))
    assert len(made) == 1
    assert state[0].seen.fine == made
    assert torch.equal(first.mask_logits, again.mask_logits)
    found = coarse(batch)
    assert first.instances is not None
    assert found.instances is not None
    assert (len(first.instances.boxes[0]), len(found.instances.boxes[0])) == (1, 2)
    assert not torch.equal(first.instances.mask_logits[0][0], found.instances.mask_logits[0][0])
    with pytest.raises(RefsegError, match="regions of 1 images are given for 2"):
        fine.encode_image(batch.images.repeat(2, 1, 1, 1), batch.pixel_mask.repeat(2, 1, 1), batch.regions)


@torch.no_grad()
@pytest.mark.parametrize("name", ["MINI", "PAPER"])
def test_an_image_without_regions_has_an_answer(name: str) -> None:
    config = tiny(PRESETS[name])
    batch = batch_of(config, sentences=2)
    none = Regions([torch.zeros(0, 4)] * 2, [[]] * 2)
    output = filled(build(config)).eval()(replace(batch, regions=none))
    assert not (output.mask_logits > 0).any()
    assert output.instances is not None
    assert output.boxes is not None
    assert [len(boxes) for boxes in output.instances.boxes] == [0, 0]
    assert not output.boxes.any()
    if output.no_target_logits is not None:
        assert (output.no_target_logits > 0).all()


def test_boxes_of_targets_are_those_of_their_masks() -> None:
    """Against a loop over pixels, with targets that are not in the picture, and expressions without any."""
    dice = torch.Generator().manual_seed(0)
    singly = [torch.rand(count, 9, 12, generator=dice) > 0.96 for count in (2, 0, 3)]
    singly[2][1] = False
    empty = torch.zeros(9, 12, dtype=torch.bool)
    union = torch.stack([each.any(dim=0) if len(each) else empty for each in singly])
    given = Targets(union, ~union.flatten(1).any(1), instances=singly)
    for targets, masks in ((given, singly), (replace(given, instances=None), list(union[:, None]))):
        for found, own in zip(_target_boxes(targets), masks, strict=True):
            wanted = []
            for mask in own:
                points = mask.nonzero().tolist()
                if points:
                    rows, columns = zip(*points, strict=True)
                    wanted.append([min(columns), min(rows), max(columns) + 1, max(rows) + 1])
            assert found.tolist() == wanted


def test_expressions_of_a_picture_are_answered_together_as_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where so many do not fit into one turn."""
    config = tiny(MINI)
    model = filled(build(config)).eval()
    batch = batch_of(config, sentences=6, pictures=2, image_index=[0, 1, 0, 0, 1, 0])
    with torch.no_grad():
        together = model(batch)
        monkeypatch.setattr("refseg.models.mattnet.model._AT_ONCE", 1)
        apart = model(batch)
    for name in ("scores", "module_scores", "cells", "context"):
        for one, other in zip(together.auxiliary[name], apart.auxiliary[name], strict=True):
            torch.testing.assert_close(one, other)
    assert together.auxiliary["scores"][0].shape != (0,)
