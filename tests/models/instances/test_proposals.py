"""Proposals: classes, merging, colours, geometry; one picture equals many; the cache."""

import numpy as np
import pytest
import torch

from refseg.encoders.vision.nanodet import NanoDetConfig
from refseg.errors import DataError
from refseg.models.instances.classes import CLASSES, COCO, DRAWN, PART_OF, SECOND, class_index
from refseg.models.instances.config import DetectorConfig, ProposalConfig
from refseg.models.instances.proposals import (
    Proposer,
    believe_drawn,
    class_columns,
    colour_shares,
    colour_table,
    merge_heads,
)
from refseg.models.instances.types import COLOURS, Proposals, collate
from refseg.nn.boxes import pair_iou
from refseg.palette import COLORS as MAPPED
from refseg.training.instances.cache import ProposalCache, fill, fingerprint
from tests.support.instance_pictures import painted

TINY = DetectorConfig(
    NanoDetConfig(stem_width=24, widths=(8, 12, 16), depths=(1, 1, 1), pyramid=96, side=64),
    ProposalConfig(min_score=0.0, most=12),
)


@pytest.fixture(scope="module")
def proposer():
    torch.manual_seed(0)
    return Proposer(TINY).eval()


def pictures(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (40 + 8 * number, 60, 3)).astype(np.uint8) for number in range(count)]


def equal(first, second, tolerance=1e-4):
    assert first.size == second.size
    for name in ("boxes", "scores", "class_probs", "features", "colours", "mask_logits"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), rtol=tolerance, atol=tolerance)


def test_class_lists_fit_together():
    assert len(COCO) == 80
    assert len(set(CLASSES)) == len(CLASSES)
    assert class_index("sofa") == CLASSES.index("couch")
    assert class_index("no such thing") is None
    columns = class_columns()
    assert len(columns) == len(SECOND)
    for number, name in enumerate(SECOND):
        wanted = class_index(name.removeprefix("drawn "))
        assert columns[number] == wanted
    assert {name.removeprefix("drawn ") for name in SECOND if name.startswith("drawn")} == set(DRAWN)
    assert {"person", "cat", "tiger"} & PART_OF == set()
    assert {"hair", "left mirror"} <= PART_OF


def test_drawn_classes_are_believed_in_drawn_pictures_only():
    logits = torch.full((2, 3, len(SECOND)), 2.0)
    gated = believe_drawn(logits, torch.tensor([20.0, -20.0])).sigmoid()
    drawn = torch.tensor([name.startswith("drawn ") for name in SECOND])
    torch.testing.assert_close(gated[0], logits[0].sigmoid(), rtol=0, atol=1e-5)
    torch.testing.assert_close(gated[1][:, ~drawn], logits[1][:, ~drawn].sigmoid())
    assert float(gated[1][:, drawn].max()) < 1e-4


def test_proposals_hold_what_they_promise(proposer):
    image = pictures(1)[0]
    found = proposer.propose(image)
    assert 1 <= len(found) <= 12
    assert found.size == image.shape[:2]
    assert found.class_probs.shape == (len(found), len(CLASSES))
    assert bool((found.boxes[:, 2:] > found.boxes[:, :2]).all())
    assert float(found.boxes.min()) >= 0
    assert float(found.boxes.max()) <= 1
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    torch.testing.assert_close(found.scores, found.class_probs.max(dim=1).values)
    torch.testing.assert_close(found.colours.sum(dim=1), torch.ones(len(found)))
    overlap = pair_iou(found.boxes, found.boxes).fill_diagonal_(0)
    part = torch.tensor([name in PART_OF for name in CLASSES])[found.class_probs.argmax(dim=1)]
    assert float(overlap[~part][:, ~part].max()) <= TINY.proposals.merge_overlap + 1e-6


def test_many_pictures_equal_single_ones(proposer):
    images = pictures(3)
    for image, found in zip(images, proposer.propose_many(images), strict=True):
        equal(proposer.propose(image), found)


def test_masks_have_the_pictures_size(proposer):
    image = pictures(1)[0]
    found = proposer.propose(image).select([1, 0])
    masks = proposer.masks(image, found)
    assert masks.shape == (2, *image.shape[:2])
    assert masks.dtype == bool


def probs(**named):
    row = torch.zeros(len(CLASSES))
    for name, value in named.items():
        row[CLASSES.index(name)] = value
    return row


def test_boxes_of_one_thing_are_merged_and_parts_are_not():
    box = torch.tensor([0.1, 0.1, 0.5, 0.9])
    near = box + torch.tensor([0.0, 0, 0.01, 0.0])
    far = torch.tensor([0.6, 0.1, 0.9, 0.9])
    boxes = torch.stack([near, box, far, box, box])
    class_probs = torch.stack(
        [probs(person=0.6), probs(person=0.3, man=0.8), probs(cat=0.9), probs(dress=0.7), probs(dress=0.2, hair=0.1)]
    )
    kept, merged = merge_heads(boxes, class_probs, 0.8)
    assert len(kept) == 3
    torch.testing.assert_close(kept, torch.stack([far, box, box]))
    torch.testing.assert_close(merged[1], probs(person=0.6, man=0.8))
    torch.testing.assert_close(merged[2], probs(dress=0.7, hair=0.1))
    assert merge_heads(boxes[:0], class_probs[:0], 0.8)[0].shape == (0, 4)


def test_colours_of_a_disc_are_those_inside_it():
    image, masks = painted((100, 100), [((50, 50), 40, (205, 30, 35))])
    steps = 10 + ((np.arange(28) + 0.5) * 80 / 28).astype(int)
    inside = masks[0][steps[:, None], steps]
    logits = torch.from_numpy(np.where(inside, 9.0, -9.0)).float()[None]
    box = torch.tensor([[0.1, 0.1, 0.9, 0.9]])
    shares = dict(zip(COLOURS, colour_shares(image, box, logits)[0].tolist(), strict=True))
    assert shares["red"] > 0.95
    around = dict(zip(COLOURS, colour_shares(image, box, -logits)[0].tolist(), strict=True))
    assert around["gray"] > 0.9
    assert around["red"] < 0.05


def test_the_colour_table_knows_its_own_examples():
    assert set(COLOURS) == set(MAPPED)
    table = colour_table()
    assert table.shape == (32768, 11)
    torch.testing.assert_close(table.sum(dim=1), torch.ones(32768))
    for name, (r, g, b) in {"blue": (40, 82, 192), "yellow": (242, 212, 50), "black": (18, 18, 18)}.items():
        code = (r >> 3) * 1024 + (g >> 3) * 32 + (b >> 3)
        assert COLOURS[int(table[code].argmax())] == name


def test_a_batch_pads_and_says_where():
    torch.manual_seed(1)
    items = [
        Proposals(
            torch.rand(count, 4), torch.rand(count), torch.rand(count, len(CLASSES)), torch.rand(count, 288),
            torch.rand(count, 11), torch.rand(count, 28, 28), (10, 20 + count),
        )
        for count in (3, 0, 5)
    ]  # fmt: skip
    batch = collate(items)
    assert batch.mask.sum(dim=1).tolist() == [3, 0, 5]
    assert batch.sizes.tolist() == [[10, 23], [10, 20], [10, 25]]
    torch.testing.assert_close(batch.features[0, :3], items[0].features)
    assert float(batch.boxes[0, 3:].abs().sum() + batch.boxes[1].abs().sum()) == 0


class Shown:
    def __init__(self, key, image):
        self.key, self._image, self.looked = key, image, 0

    def image(self):
        self.looked += 1
        return self._image


def test_the_cache_goes_on_where_it_stopped(tmp_path, proposer):
    shown = [Shown(f"made/{number}", image) for number, image in enumerate(pictures(5))]
    path, made_by = tmp_path / "proposals.sqlite", fingerprint(proposer)
    steps = []
    with ProposalCache(path, made_by) as cache:
        assert fill(cache, proposer, shown[:2], batch_size=4) == 2
    with ProposalCache(path, made_by) as cache:
        assert fill(cache, proposer, shown, batch_size=2, progress=steps.append) == 3
        assert len(cache) == 5
        assert "made/4" in cache
        assert cache.keys() == {item.key for item in shown}
    assert [item.looked for item in shown] == [1] * 5
    assert steps == [2, 2, 1]
    with ProposalCache(path) as cache:
        for item in shown:
            kept, wanted = cache.get(item.key), proposer.propose(item.image())
            # 16 bits keep three digits; mask logits are kept in steps of 1 / 12.
            equal(kept, Proposals(**{**wanted.__dict__, "mask_logits": kept.mask_logits}), tolerance=2e-3)
            assert float((kept.mask_logits - wanted.mask_logits.clamp(-10.58, 10.58)).abs().max()) <= 1 / 24 + 1e-4
        assert cache.get("made/0", masks=False).mask_logits.numel() == 0
        with pytest.raises(DataError, match="no proposals of picture"):
            cache.get("made/9")


def test_a_cache_of_other_weights_is_refused(tmp_path, proposer):
    path = tmp_path / "proposals.sqlite"
    ProposalCache(path, fingerprint(proposer)).close()
    with torch.no_grad():
        proposer.detector.second.heads[0].output.conv.bias[0] += 1
    other = fingerprint(proposer)
    with torch.no_grad():
        proposer.detector.second.heads[0].output.conv.bias[0] -= 1
    with pytest.raises(DataError, match="other weights"):
        ProposalCache(path, other)
    assert fingerprint(Proposer(DetectorConfig(TINY.detector, ProposalConfig(most=11)))) != fingerprint(proposer)


def test_what_is_no_cache_is_refused(tmp_path):
    (tmp_path / "text").write_text("no data base at all, but long enough to be read as one " * 40)
    with pytest.raises(DataError, match="no cache of proposals"):
        ProposalCache(tmp_path / "text", "x")
    with pytest.raises(DataError, match="there is no cache"):
        ProposalCache(tmp_path / "none")
