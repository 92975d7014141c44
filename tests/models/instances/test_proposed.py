"""Choosing among another model's instances: doubles, names that exclude one another, masks of boxes, odd sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import refseg
from refseg.encoders.vision.proposers import Detections, InstanceProposer
from refseg.errors import RefsegError
from refseg.inference.checkpoint import read_config
from refseg.inference.proposals import over_proposals
from refseg.models.instances.candidates import Crop, crop_mask, gather, things_of
from refseg.models.instances.proposed import ProposedInstances

HEIGHT, WIDTH = 90, 240


class Shelf:
    """A proposer of five crates in a row, the fourth one tall, and of whatever else it is told."""

    def __init__(self, masks: bool = True, **others: Detections) -> None:
        self.masks, self.others = masks, others
        self.asked: list[tuple[str, ...]] = []
        self.pictures: list[tuple[int, int]] = []
        places = [(10 + 45 * place, 40 if place != 3 else 15, 40 + 45 * place, 80) for place in range(5)]
        self.crates = detections(places, masks=masks)

    def encode_picture(self, picture: Image.Image) -> object:
        self.pictures.append(picture.size)
        return picture

    def propose(self, encoded: object, names: Sequence[str]) -> list[Detections]:
        self.asked.append(tuple(names))
        return [self.crates if name == "crate" else self.others.get(name, Detections.none()) for name in names]


def detections(
    boxes: Sequence[Sequence[float]], scores: Sequence[float] | None = None, masks: bool = True
) -> Detections:
    """Boxes with elliptic masks."""
    corners = torch.tensor([list(map(float, box)) for box in boxes])
    rows, columns = torch.arange(HEIGHT)[:, None] + 0.5, torch.arange(WIDTH) + 0.5
    x0, y0, x1, y1 = (value[:, None, None] for value in corners.unbind(1))
    inside = ((columns - (x0 + x1) / 2) / (x1 - x0) * 2) ** 2 + ((rows - (y0 + y1) / 2) / (y1 - y0) * 2) ** 2 <= 1
    return Detections(corners, torch.tensor(scores or [0.9] * len(boxes)), inside if masks else None)


@pytest.fixture(scope="module")
def base() -> Any:
    return refseg.load("instances", device="cpu")


def over(base: Any, proposer: InstanceProposer, **options: bool) -> refseg.Segmenter:
    return refseg.Segmenter(ProposedInstances(base.model, proposer, **options), base.tokenizer, base.info, device="cpu")


def picture(colour: tuple[int, int, int] = (90, 90, 90)) -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), colour)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("the second crate from the left", [1]),
        ("the rightmost crate", [4]),
        ("the middle crate", [2]),
        ("the tallest crate", [3]),
        ("all crates except the leftmost one", [1, 2, 3, 4]),
        ("the two leftmost crates", [0, 1]),
        ("crates", [0, 1, 2, 3, 4]),
        ("the sixth crate from the left", []),
        ("the kiosk", []),
    ],
)
def test_any_noun_is_found_and_the_right_ones_are_chosen(base: Any, text: str, wanted: list[int]) -> None:
    shelf = Shelf()
    answer = over(base, shelf)(picture(), text)
    assert answer.no_target == (not wanted)
    union = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for row in wanted:
        union |= shelf.crates.masks[row].numpy()  # type: ignore[index]
    np.testing.assert_array_equal(answer.mask, union)
    assert len(answer.instances) == len(wanted)
    assert all(instance.label == "crate" for instance in answer.instances)


def test_what_was_asked_is_shown_and_asked_once(base: Any) -> None:
    shelf = Shelf()
    segmenter = over(base, shelf)
    encoded = segmenter.encode(picture())
    answer = encoded.ask("the crate next to the kiosk")
    assert answer.extra["remarks"][0] == "asked for: crate (5 found), kiosk (0 found)"
    encoded.ask(["the left crate", "all crates"])
    assert shelf.asked == [("crate", "kiosk")]
    assert len(shelf.pictures) == 1


def test_a_batch_answers_as_one_by_one(base: Any) -> None:
    texts = ["the left crate", "the kiosk", "two crates on the right", "the crate"]
    together = over(base, Shelf()).encode(picture()).ask(texts)
    assert together == [over(base, Shelf())(picture(), text) for text in texts]


def test_colours_are_those_of_the_masks(base: Any) -> None:
    shelf = Shelf()
    pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    pixels[shelf.crates.masks[3].numpy()] = (220, 20, 20)  # type: ignore[index]
    answer = over(base, shelf)(Image.fromarray(pixels), "the red crate")
    np.testing.assert_array_equal(answer.mask, shelf.crates.masks[3].numpy())  # type: ignore[index]


def test_boxes_get_a_mask_inside_them_or_are_it(base: Any) -> None:
    shelf = Shelf(masks=False)
    for make_masks in (True, False):
        answer = over(base, shelf, make_masks=make_masks)(picture(), "the second crate from the left")
        x0, y0, x1, y1 = (int(value) for value in shelf.crates.boxes[1].tolist())
        box = np.zeros((HEIGHT, WIDTH), dtype=bool)
        box[y0:y1, x0:x1] = True
        assert answer.instances[0].box == pytest.approx((x0, y0, x1, y1), abs=0.01)
        assert not (answer.mask & ~box).any()
        if not make_masks:
            np.testing.assert_array_equal(answer.mask, box)


def test_a_box_in_which_the_mask_head_finds_nothing_is_the_mask(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(masks=False)
    segmenter = over(base, shelf)

    def nothing(pixels: np.ndarray, boxes: torch.Tensor) -> np.ndarray:
        return np.full((len(boxes), *pixels.shape[:2]), -5.0, np.float32)

    monkeypatch.setattr(segmenter.model.proposer, "mask_logits", nothing)
    answer = segmenter(picture(), "the second crate from the left")
    x0, y0, x1, y1 = (int(value) for value in shelf.crates.boxes[1].tolist())
    box = np.zeros((HEIGHT, WIDTH), dtype=bool)
    box[y0:y1, x0:x1] = True
    assert not answer.no_target
    np.testing.assert_array_equal(answer.mask, box)


def test_a_large_picture_is_proposed_in_its_own_pixels(base: Any) -> None:
    shelf = Shelf(masks=False)
    shelf.crates = Detections(shelf.crates.boxes * 10, shelf.crates.scores)
    answer = over(base, shelf, make_masks=False)(picture().resize((WIDTH * 10, HEIGHT * 10)), "the left crate")
    assert shelf.pictures == [(WIDTH * 10, HEIGHT * 10)]
    assert answer.instances[0].box == pytest.approx((100, 400, 400, 800), abs=2)


def test_doubles_of_a_name_are_one_thing() -> None:
    found = detections([(10, 10, 60, 60), (12, 10, 60, 60), (100, 10, 160, 60)], [0.6, 0.9, 0.8])
    things = things_of(found, "crate", (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    assert things.scores.tolist() == pytest.approx([0.9, 0.8])
    # Boxes that agree are two things where their masks are apart.
    left, right = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    left[10:60, 10:30], right[10:60, 35:60] = True, True
    apart = Detections(torch.tensor([[10.0, 10, 60, 60]] * 2), torch.tensor([0.9, 0.8]), torch.stack([left, right]))
    assert len(things_of(apart, "crate", (HEIGHT, WIDTH), (HEIGHT, WIDTH))) == 2


@pytest.mark.parametrize("excludes", [True, False])
def test_a_thing_of_two_names_keeps_the_better_where_they_exclude_one_another(excludes: bool) -> None:
    size = (HEIGHT, WIDTH)
    horse = things_of(detections([(10, 10, 60, 60), (100, 10, 160, 60)], [0.4, 0.9]), "horse", size, size)
    zebra = things_of(detections([(11, 10, 60, 60)], [0.8]), "zebra", size, size)
    gathered = gather(("horse", "zebra"), [horse, zebra], lambda one, other: excludes)
    assert len(gathered.boxes) == 2
    both = gathered.scores[gathered.scores[:, 1] > 0][0].tolist()
    assert both == pytest.approx([0.0, 0.8] if excludes else [0.4, 0.8])


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_mask_comes_back_as_it_was(scale: int) -> None:
    """At the size of a larger image and back at the pixels' centres."""
    mask = np.random.default_rng(0).random((13, 17)) > 0.5
    crop = crop_mask(mask, (13 * scale, 17 * scale))
    assert isinstance(crop, Crop)
    logits = crop.logits((13 * scale, 17 * scale), -10.0)[None, None]
    back = torch.nn.functional.interpolate(logits, size=(13, 17), mode="bilinear", align_corners=False)[0, 0] > 0
    np.testing.assert_array_equal(back.numpy(), mask)
    assert crop_mask(np.zeros((5, 5), dtype=bool), (5, 5)) is None


def test_what_cannot_be_is_refused(base: Any) -> None:
    size = (HEIGHT, WIDTH)
    with pytest.raises(RefsegError, match="do not belong together"):
        Detections(torch.zeros(1, 4), torch.zeros(1), labels=("crate", "crate"))
    with pytest.raises(RefsegError, match="scores 0 to 1"):
        things_of(Detections(torch.tensor([[0.0, 0, 5, 5]]), torch.tensor([1.5])), "crate", size, size)
    wrong = Detections(torch.tensor([[0.0, 0, 5, 5]]), torch.ones(1), torch.ones(1, 3, 3, dtype=torch.bool))
    with pytest.raises(RefsegError, match="masks of"):
        things_of(wrong, "crate", size, size)
    with pytest.raises(RefsegError, match="Linear does not choose among instances"):
        over_proposals(torch.nn.Linear(1, 1), Shelf())
    with pytest.raises(RefsegError, match="Linear gives no instances"):
        over_proposals(base.model, torch.nn.Linear(1, 1))


def test_what_is_trained_is_saved_as_a_model_of_instances(base: Any, tmp_path: Path) -> None:
    proposed = over(base, Shelf())
    proposed.save_pretrained(tmp_path / "saved")
    again = refseg.load(tmp_path / "saved", device="cpu", proposals=Shelf())
    assert again(picture(), "the left crate") == proposed(picture(), "the left crate")
    assert read_config(tmp_path / "saved")["system"] == "instances"
