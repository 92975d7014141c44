"""The second heads' assignment and losses; what is frozen; what a picture is silent on."""

import numpy as np
import pytest
import torch

from refseg.encoders.vision.nanodet import NanoDetConfig, decode
from refseg.errors import ConfigError, DataError
from refseg.models.instances.classes import SECOND
from refseg.models.instances.proposals import InstanceDetector
from refseg.nn.boxes import pair_iou
from refseg.training.instances.annotated import read_annotated
from refseg.training.instances.train_detector import (
    DetectorTraining,
    Truth,
    assign,
    detection_loss,
    places,
    train_detector,
)
from tests.support.instance_pictures import two_discs

TINY = NanoDetConfig(stem_width=24, widths=(8, 12, 16), depths=(1, 1, 1), pyramid=96, classes=3, side=64)
NO_MASKS = (torch.zeros(0, 4), torch.zeros(0, 28, 28))


def truth(boxes, labels, known=5):
    return Truth(
        torch.tensor(boxes).view(-1, 4), torch.tensor(labels, dtype=torch.long), torch.ones(known) > 0, *NO_MASKS
    )


def exact_outputs(side, box, label, classes=5, bins=8):
    """Head outputs in which every place inside `box` at stride 8 answers with exactly this box."""
    cells = side // 8
    out = torch.full((1, classes + 4 * bins, cells, cells), 0.0)
    out[:, :classes] = -9.0
    for row in range(cells):
        for column in range(cells):
            sides = [column * 8 - box[0], row * 8 - box[1], box[2] - column * 8, box[3] - row * 8]
            if min(sides) > 0 and max(sides) / 8 < bins - 1:
                out[0, label, row, column] = 9.0
                for number, value in enumerate(np.array(sides) / 8):
                    low = int(value)
                    rest = value - low
                    bin_logits = out[0, classes + number * bins : classes + (number + 1) * bins, row, column]
                    bin_logits[:] = -30.0
                    bin_logits[low] = float(np.log(max(1 - rest, 1e-9)))
                    bin_logits[low + 1] = float(np.log(max(rest, 1e-9)))
    return out


def test_places_are_where_boxes_are_decoded_from():
    outputs = [torch.zeros(1, 2 + 4 * 8, side, side) for side in (8, 4, 2, 1)]
    for out, stride in zip(outputs, (8, 16, 32, 64), strict=True):
        out[:, 2::8] = 60.0 + 0 * stride  # every side's distance is 0
    points, strides = places([(8, 8), (4, 4), (2, 2), (1, 1)])
    decoded = decode(outputs, 2).boxes[0]
    torch.testing.assert_close(decoded[:, :2], points, rtol=0, atol=1e-3)
    torch.testing.assert_close(decoded[:, 2:], points, rtol=0, atol=1e-3)
    assert strides.unique().tolist() == [8.0, 16.0, 32.0, 64.0]


def test_only_places_inside_compete_and_each_answers_once():
    generator = torch.Generator().manual_seed(0)
    points, strides = places([(8, 8), (4, 4), (2, 2), (1, 1)])
    boxes = torch.cat([points - 12, points + 14 + 4 * torch.rand(len(points), 2, generator=generator)], dim=1)
    logits = torch.randn(len(points), 5, generator=generator)
    objects = truth([[3.0, 3, 40, 40], [20.0, 20, 60, 62]], [1, 4])
    where, which, iou = assign(boxes, logits, points, strides, objects)
    assert len(where) == len(where.unique())
    assert set(which.tolist()) == {0, 1}
    inside = (points[where] > objects.boxes[which, :2]) & (points[where] < objects.boxes[which, 2:])
    assert bool(inside.all())
    wanted = pair_iou(boxes, objects.boxes)[where, which]
    torch.testing.assert_close(iou, wanted)


def test_an_object_takes_as_many_places_as_its_best_ious_add_up_to():
    points, strides = places([(8, 8)])
    box = torch.tensor([[10.0, 10, 50, 50]])
    boxes = box.expand(len(points), -1)  # an IoU of 1 everywhere: ten places
    objects, logits = truth([box[0].tolist()], [0]), torch.zeros(len(points), 5)
    where, _, _ = assign(boxes, logits, points, strides, objects)
    assert len(where) == 10
    poor = (box + torch.tensor([0.0, 0, 400, 400])).expand(len(points), -1)  # an IoU near 0: one place
    where, _, _ = assign(poor, logits, points, strides, objects)
    assert len(where) == 1


def test_nothing_to_assign():
    points, strides = places([(8, 8)])
    for objects in (truth([], []), truth([[1.0, 1, 2, 2]], [0])):
        where, which, iou = assign(torch.zeros(64, 4), torch.zeros(64, 5), points, strides, objects)
        assert len(where) == len(which) == len(iou) == 0


def test_the_loss_is_small_for_the_right_answer_alone():
    box = (6.0, 9.0, 45.0, 41.0)
    objects = truth([list(box)], [2])

    def loss(shown, label):
        """Of outputs in which only the places that are to answer do."""
        out = exact_outputs(64, shown, label)
        decoded = decode([out], 5)
        where, _, _ = assign(decoded.boxes[0], decoded.logits[0], *places([(8, 8)]), objects)
        silent = torch.ones(64, dtype=torch.bool)
        silent[where] = False
        out[0, label].view(-1)[silent] = -9.0
        return float(detection_loss([out], [objects], 5))

    right = loss(box, 2)
    # What is left is the entropy of the distributions between two bins, at most .25 ln 2.
    assert right < 0.25 * np.log(2) + 0.02
    assert loss(box, 1) > right + 1
    assert loss((16.0, 19.0, 60.0, 60.0), 2) > right + 0.3


def test_a_silent_class_is_neither_right_nor_wrong():
    box = (6.0, 9.0, 45.0, 41.0)
    outputs = exact_outputs(64, box, 1)
    loud = truth([], [])
    silent = Truth(loud.boxes, loud.labels, torch.tensor([True, False, True, True, True]), *NO_MASKS)
    assert float(detection_loss([outputs], [loud], 5)) > 1
    assert float(detection_loss([outputs], [silent], 5)) < 1e-3


def test_the_second_heads_start_from_the_first_ones_boxes():
    model = InstanceDetector(TINY, classes=7).eval()
    model.second.start_from(model.first)
    with torch.inference_mode():
        maps, second = model(torch.randn(1, 3, 64, 64))
    for ours, theirs in zip(second, maps.outputs, strict=True):
        torch.testing.assert_close(ours[:, 7:], theirs[:, 3:])
        assert float(ours[:, :7].sigmoid().max()) < 0.3


def test_training_moves_second_heads_and_coarse_masks_only(tmp_path):
    pictures = read_annotated("made", *two_discs(tmp_path, 3))
    torch.manual_seed(0)
    model = InstanceDetector(TINY)
    model.second.start_from(model.first)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_detector(model, pictures, DetectorTraining(steps=3, batch_size=2, side=96, drawn_share=0.0))
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"second", "coarse"}
    trained = [name for name in before if name.startswith(("second", "coarse"))]
    assert [name for name in trained if torch.equal(model.state_dict()[name], before[name])] == []


def test_mirrored_names_change_sides():
    from refseg.training.instances.train_detector import _MIRRORED

    left, right = SECOND.index("left mirror"), SECOND.index("right mirror")
    assert _MIRRORED[left] == right
    assert _MIRRORED[right] == left
    assert all(_MIRRORED[_MIRRORED[number]] == number for number in _MIRRORED)


def test_without_pictures_there_is_no_training():
    with pytest.raises(DataError, match="no picture"):
        train_detector(InstanceDetector(TINY), [], DetectorTraining())


@pytest.mark.parametrize("fields", [{"side": 100}, {"steps": 0}, {"smallest_zoom": 0.0}])
def test_bad_fields_are_named(fields):
    with pytest.raises(ConfigError):
        DetectorTraining(**fields)
