"""Masks of instances: frames, crops and pasting as inverses; the decoder's shapes, gradient and learning."""

import numpy as np
import pytest
import torch

from refseg.errors import ConfigError, DataError
from refseg.models.instances.masks import (
    CROP,
    InstanceMasks,
    MaskDecoderConfig,
    crop_of,
    frame_of,
    mask_loss,
    paste,
)
from refseg.nn.boxes import OUTSIDE
from refseg.training.instances.annotated import read_annotated
from refseg.training.instances.judge import iou, score_masks
from refseg.training.instances.train_masks import (
    MaskTraining,
    jittered,
    mask_samples,
    moving_average,
    pasted,
    tinted,
    train_masks,
)
from tests.support.instance_pictures import painted, two_discs

SMALL = MaskDecoderConfig(coarse=16, middle=8, fine=4)


def test_the_frame_is_the_box_with_an_eighth_around_it():
    assert frame_of((10.0, 20.0, 50.0, 100.0)) == (5.0, 10.0, 55.0, 110.0)
    x0, y0, x1, y1 = frame_of((7.0, 7.0, 7.0, 7.0))
    assert (x1 - x0, y1 - y0) == (2, 2)


def test_a_crop_shows_a_ramp_where_it_lies():
    # Horizontal position as brightness: pixel i of the crop lies at a known place of the picture.
    image = np.tile(np.arange(200, dtype=np.uint8), (120, 1))
    box = (40.0, 30.0, 104.0, 94.0)
    crop = crop_of(image, box, 33)
    x0, _, x1, _ = frame_of(box)
    wanted = x0 + np.arange(33) / 32 * (x1 - x0) - 0.5  # the centre of pixel p lies at p + 0.5
    assert crop.shape == (33, 33)
    assert np.abs(crop[16].astype(float) - wanted).max() <= 1.0


def test_what_lies_outside_of_the_picture_is_filled():
    image = np.full((40, 40, 3), 200, np.uint8)
    crop = crop_of(image, (-40.0, 0.0, 40.0, 40.0), 33, fill=128)
    assert (crop[16, 1] == 128).all()
    assert (crop[16, -6] == 200).all()
    assert (crop_of(image, (100.0, 100.0, 120.0, 130.0), 17) == 128).all()


@pytest.mark.parametrize("box", [(20.0, 30.0, 90.0, 80.0), (60.0, 10.0, 140.0, 100.0), (0.0, 0.0, 150.0, 110.0)])
def test_pasting_brings_a_cropped_mask_back(box):
    mask = np.zeros((110, 150), bool)
    mask[int(box[1]) + 4 : int(box[3]) - 6, int(box[0]) + 8 : int(box[2]) - 3] = True
    logits = torch.from_numpy(crop_of(mask.astype(np.uint8) * 255, box, fill=0).astype(np.float32) / 255 - 0.5)
    canvas = np.full(mask.shape, OUTSIDE, np.float32)
    paste(logits, np.array(box, float), canvas)
    assert iou(canvas > 0, mask) > 0.97


def test_pasting_leaves_other_pixels_alone():
    canvas = np.full((50, 60), OUTSIDE, np.float32)
    paste(torch.ones(17, 17), np.array([10.0, 10, 26, 26]), canvas)
    assert set(np.unique(canvas.round(3))) == {OUTSIDE, 1.0}
    assert (canvas > 0).sum() == 20 * 20
    paste(torch.ones(17, 17), np.array([100.0, 100, 110, 110]), canvas)
    assert (canvas > 0).sum() == 20 * 20


def test_every_layer_that_is_used_gets_a_gradient():
    model = InstanceMasks(SMALL)
    full, rough = model(torch.randint(0, 255, (2, 49, 49, 3), dtype=torch.uint8))
    assert full.shape == (2, 49, 49)
    assert rough.shape == (2, 13, 13)
    mask_loss(full, rough, torch.randint(0, 255, (2, 49, 49), dtype=torch.uint8)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_batch_equals_single_crops():
    model = InstanceMasks(SMALL).eval()
    crops = torch.randint(0, 255, (3, CROP, CROP, 3), dtype=torch.uint8)
    with torch.inference_mode():
        together, alone = model(crops)[0], torch.cat([model(crops[[index]])[0] for index in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-3 * float(together.abs().max()))


def test_the_loss_is_smallest_for_the_target():
    target = torch.zeros(1, 33, 33, dtype=torch.uint8)
    target[:, 8:20, 5:25] = 255
    right = torch.where(target > 0, 9.0, -9.0)
    perfect = mask_loss(right, right[:, ::4, ::4], target)
    assert float(perfect) < 0.05
    assert float(mask_loss(-right, right[:, ::4, ::4], target)) > float(perfect) + 1
    assert float(mask_loss(right, -right[:, ::4, ::4], target)) > float(perfect) + 1


def test_masks_learn_discs(tmp_path):
    pictures = read_annotated("made", *two_discs(tmp_path))
    torch.manual_seed(0)
    model = InstanceMasks(SMALL)
    seen = []
    config = MaskTraining(
        steps=50,
        batch_size=2,
        crop=33,
        lr=4e-3,
        trunk_lr=1e-3,
        first_group=3,
        drawn_share=0.0,
        fine_share=0.0,
        paste_share=0.0,
        ema_decay=0.0,
    )
    untrained = _loss(model, pictures)
    train_masks(model, pictures, config, lambda step, loss, seconds: seen.append(step))
    assert seen == [50]
    assert _loss(model, pictures) < 0.75 * untrained


def _loss(model, pictures):
    """The loss of all instances, unchanged."""
    crops, targets = [], []
    for picture in pictures:
        image = picture.image()
        for mask, item in zip(picture.masks(), picture.instances, strict=True):
            crops.append(crop_of(image, item.bbox, 33))
            targets.append(crop_of(mask.astype(np.uint8) * 255, item.bbox, 33, fill=0))
    with torch.no_grad():
        full, rough = model(torch.from_numpy(np.stack(crops)))
        return float(mask_loss(full, rough, torch.from_numpy(np.stack(targets))))


def test_scores_stand_beside_ellipse_and_box(tmp_path):
    pictures = read_annotated("made", *two_discs(tmp_path, 2))
    known = {picture.image().tobytes(): picture.masks() for picture in pictures}

    def exact(image, boxes):
        return np.stack(known[image.tobytes()]) * 2.0 - 1.0

    scores = score_masks(exact, pictures)["made"]
    assert (scores.count, scores.iou, scores.boundary_iou) == (4, 1.0, 1.0)
    # A disc fills pi / 4 of its box; an ellipse is exact up to the pixels of its edge.
    assert scores.box == pytest.approx(np.pi / 4, abs=0.03)
    assert scores.ellipse > 0.95
    assert score_masks(lambda image, boxes: -exact(image, boxes), pictures)["all"].iou < 0.01


def test_predicted_masks_lie_at_their_boxes():
    model = InstanceMasks(SMALL).eval()
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    boxes = np.array([[10.0, 10, 30, 40], [40.0, 20, 78, 58]])
    logits = model.predict(image, boxes, batch=1, crop=33)
    assert logits.shape == (2, 60, 80)
    assert (logits[0, :, 40:] == OUTSIDE).all()
    assert (logits[0, 10:40, 10:30] != OUTSIDE).all()
    assert (logits[1, :, :30] == OUTSIDE).all()


def test_frozen_layers_stay_as_they_are(tmp_path):
    pictures = read_annotated("made", *two_discs(tmp_path, 2))
    model = InstanceMasks(SMALL)
    before = {name: value.clone() for name, value in model.trunk.state_dict().items()}
    train_masks(
        model, pictures, MaskTraining(steps=2, batch_size=2, crop=33, first_group=3, drawn_share=0.0, fine_share=0.0)
    )
    changed = {name for name, value in model.trunk.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("local", "mean", "both")) or int(name.split(".")[1]) >= 3 for name in changed)


def test_time_ends_training(tmp_path):
    pictures = read_annotated("made", *two_discs(tmp_path, 2))
    seen = []
    config = MaskTraining(steps=10_000, batch_size=1, crop=33, max_minutes=0.02, drawn_share=0.0, fine_share=0.0)
    train_masks(InstanceMasks(SMALL), pictures, config, lambda step, loss, seconds: seen.append(step))
    assert len(seen) < 100


def test_nothing_to_learn_from_is_said():
    with pytest.raises(DataError, match="not one instance"):
        train_masks(InstanceMasks(SMALL), [], MaskTraining())


@pytest.mark.parametrize("fields", [{"crop": 96}, {"steps": 0}, {"drawn_share": 2.0}, {"first_group": 8}])
def test_bad_fields_are_named(fields):
    with pytest.raises(ConfigError):
        MaskTraining(**fields)


def test_small_boxes_are_left_out(tmp_path):
    pictures = read_annotated("made", *two_discs(tmp_path, 1))
    assert mask_samples(pictures, 8) == [(0, 0), (0, 1)]
    assert mask_samples(pictures, 30) == [(0, 0)]


def test_jitter_and_tint_stay_in_range():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x0, y0, x1, y1 = jittered((10.0, 10.0, 30.0, 50.0), 0.3, rng)
        assert x1 - x0 >= 10 - 1e-9
        assert y1 - y0 >= 20 - 1e-9
    assert jittered((10.0, 10.0, 30.0, 50.0), 0.0, rng) == (10, 10, 30, 50)
    image, _ = painted((20, 20), [((10, 10), 5, (255, 0, 0))])
    assert (tinted(image, 0.0, rng) == image).all()
    assert (tinted(image, 0.5, rng) != image).any()


def test_what_is_pasted_is_taken_out_of_the_mask_or_lies_behind() -> None:
    image, mask = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    other = np.full((32, 32, 3), 200, np.uint8), mask
    rng = np.random.default_rng(0)
    over = behind = 0
    for _ in range(60):
        pixels, left = pasted((image, mask), other, rng)
        covered = (pixels > 0).any(axis=2)
        assert not (covered & (left > 0)).any(), "what is covered is no part of the mask"
        assert left.sum() >= mask.sum() / 2
        over += int((left != mask).any())
        behind += int(covered.any() and (left == mask).all())
    assert over
    assert behind


def test_the_moving_average_follows_a_short_training_and_smooths_a_long_one() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    averaged = moving_average(layer, 0.9)
    means = []
    for step in range(200):
        with torch.no_grad():
            layer.weight.fill_(1.0 if step % 2 else 3.0)
        averaged.update_parameters(layer)
        means.append(float(averaged.module.weight.detach()))
    assert all(0.9 <= mean <= 3.0 for mean in means)
    assert abs(means[-1] - 2.0) < 0.2
