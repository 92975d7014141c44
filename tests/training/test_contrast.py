"""Batches for learning between samples: who stands in them, and what the loss is told of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.data.batches import group_numbers
from refseg.data.sample import Instance, Sample
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.models.vlt.config import PAPER
from refseg.models.vlt.contrast import contrastive_loss
from refseg.training.recipe import parse_recipe
from refseg.training.sampling import Order, check_composed, compose
from refseg.training.source import Batches
from refseg.types import ContrastNeeds, Needs

SIZE = (16, 16)


def sentence(picture: int, number: int, objects: tuple[int, ...], path: Path | None = None) -> Sample:
    outline = np.ones(SIZE, dtype=bool)
    return Sample(
        id=f"{picture}_{number}",
        text=f"word{number}",
        image_id=picture,
        size=SIZE,
        objects=tuple(Instance(100 * picture + item, "thing", (0.0, 0.0, 16.0, 16.0), outline) for item in objects),
        no_target=not objects,
        image_path=path,
        image=None if path else np.zeros((*SIZE, 3), dtype=np.uint8),
    )


class Known:
    """Pictures with three sentences about one object, two about another, one about both, and one about none."""

    notice = ""

    def __init__(self, count: int = 12) -> None:
        self.count = count
        meant = [(1,), (1,), (1,), (2,), (2,), (1, 2), ()]
        self.held = [[sentence(p, n, objects) for n, objects in enumerate(meant)] for p in range(count)]

    def samples(self, index: int) -> list[Sample]:
        return self.held[index]

    def texts(self) -> list[str]:
        return [sample.text for samples in self.held for sample in samples]


def objects_of(sample: Sample) -> frozenset[int]:
    return frozenset(item.ann_id for item in sample.objects)


@given(
    seed=st.integers(0, 99),
    start=st.integers(0, 11),
    places=st.integers(1, 8),
    sentences=st.integers(1, 4),
    same=st.integers(0, 4),
    share=st.floats(0, 0.5),
)
@settings(deadline=None, max_examples=60)
def test_a_batch_is_initial_sample_same_object_other_objects_and_other_pictures(
    seed, start, places, sentences, same, share
):
    pictures, config = Known(), ContrastNeeds(True, same_object=same, other_object=share, frames=0)
    order = Order(pictures.count, seed)
    stream = range(start, start + places)
    chosen = compose(pictures, order, seed, stream, sentences, config)
    total = places * sentences
    assert 1 <= len(chosen) <= total
    assert chosen == compose(pictures, order, seed, stream, sentences, config)
    assert len({id(sample) for sample in chosen}) == len(chosen) or places > 12 - start
    first = chosen[0]
    assert first.objects
    here = [sample for sample in chosen[1:] if sample.image_id == first.image_id]
    # A stream that begins again may bring the picture back: look at its first occurrences alone.
    rest = [n for n, sample in enumerate(chosen) if sample.image_id != first.image_id]
    here = chosen[1 : rest[0]] if rest else here
    alike = [sample for sample in here if objects_of(sample) == objects_of(first)]
    available = sum(objects_of(s) == objects_of(first) for s in pictures.samples(first.image_id)) - 1
    again = start + places > pictures.count  # then the next picture may be the same one
    assert len(alike) == min(same, available, total - 1) or not rest or again
    if rest and not again:
        assert len(here) - len(alike) <= round(share * total)
        assert all(sample.objects for sample in here)


def test_the_share_of_other_objects_grows_with_its_setting():
    pictures, order = Known(), Order(12, 0)
    counts = {}
    for share in (0.0, 0.1, 0.3):
        config = ContrastNeeds(True, same_object=0, other_object=share, frames=0)
        chosen = compose(pictures, order, 0, range(10), 1, config)
        counts[share] = sum(sample.image_id == chosen[0].image_id for sample in chosen) - 1
    assert counts == {0.0: 0, 0.1: 1, 0.3: 3}


class Video:
    """Frames of two videos, one after the other; object 1 and 2 in each."""

    notice, count = "", 6

    def samples(self, index: int) -> list[Sample]:
        path = Path(f"/video{index // 3}/{index % 3:05d}.jpg")
        return [replace(sentence(0, n, (n + 1,), path), image_id=index, id=f"{index}_{n}") for n in range(2)]

    def texts(self) -> list[str]:
        return ["word0", "word1"]


def test_frames_before_and_after_give_other_objects_too():
    order, found = Order(6, 3), Counter()
    for start in range(6):
        item = order.item(start)
        config = ContrastNeeds(True, same_object=0, other_object=1.0, frames=2)
        chosen = compose(Video(), order, 0, range(start, start + 6), 1, config)
        first = chosen[0]
        frames = [s.image_id for s in chosen[1:] if objects_of(s) != objects_of(first)]
        near = [s for s in frames if s // 3 == item // 3]
        found[start] = len(set(near))
        assert item in near
    assert set(found.values()) == {3}


def test_groups_tell_objects_and_pictures_apart():
    held = Known().held
    samples = [held[0][0], held[0][1], held[0][3], held[1][0], held[0][6], held[0][6], held[0][5]]
    numbers = group_numbers(samples, [sample.image_id for sample in samples], "picture").tolist()
    assert [row[0] for row in numbers] == [0, 0, 2, 3, 4, 5, 6]
    assert [row[1] for row in numbers] == [0, 0, 0, 3, 0, 0, 0]
    frames = [Video().samples(index)[0] for index in (0, 1, 3)]
    assert group_numbers(frames, [0, 1, 3], "folder").tolist() == [[0, 0], [0, 0], [2, 2]]
    assert group_numbers(frames, [0, 1, 3], "picture").tolist() == [[0, 0], [1, 1], [2, 2]]


def recipe(**data: object):
    values = {"pictures_per_batch": 4, "sentences_per_picture": 2, **data}
    return parse_recipe({"model": {"preset": "vlt-mini"}, "data": values})


def batches(contrast, **data):
    tokenizer = WordTokenizer([f"word{n}" for n in range(7)], 4)
    return Batches(Known(), tokenizer, InputConfig(size=32), recipe(**data), needs=Needs(contrast=contrast))


def test_batches_carry_the_groups_that_the_loss_needs():
    batch, targets = batches(PAPER.needs.contrast)[0]
    assert targets.groups is not None
    assert targets.groups.shape == (len(batch.tokens), 2)
    assert targets.groups[0].tolist() == [0, 0]
    plain_batch, plain = batches(None)[0]
    assert plain.groups is None
    assert len(plain_batch.tokens) == 8
    kept = replace(PAPER.needs.contrast, compose=False)
    as_ever, known = batches(kept)[0]
    assert known.groups is not None
    assert as_ever.tokens.ids.tolist() == plain_batch.tokens.ids.tolist()


def test_a_sentence_at_a_time_cannot_be_composed():
    with pytest.raises(ConfigError, match=r"data\.unit"):
        batches(PAPER.needs.contrast, unit="sentence")


class OneArray(Known):
    """The same, each picture one array, so that it counts as one."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.held = [[replace(sample, image=own[0].image) for sample in own] for own in self.held]


def whole_and_pieces(pieces: int, batch: int = 32, accumulation: bool = True):
    """The batch of a step in one piece and in several, as groups' numbers of pictures and objects."""
    tokenizer = WordTokenizer([f"word{n}" for n in range(7)], 4)
    values = {"pictures_per_batch": batch, "sentences_per_picture": 1}
    needs = Needs(contrast=PAPER.needs.contrast)
    every = []
    for count in (1, pieces):
        made = parse_recipe(
            {
                "model": {"preset": "vlt-mini"},
                "data": values,
                "training": {"accumulation": count if accumulation else 1},
            }
        )
        shares = [(0, 1)] if accumulation else [(n, count) for n in range(count)]
        every.append(
            [
                Batches(OneArray(40), tokenizer, InputConfig(size=32), made, process, processes, needs)[number]
                for process, processes in shares
                for number in range(count if accumulation else 1)
            ]
        )
    return every


@pytest.mark.parametrize("accumulation", [True, False], ids=["accumulation", "processes"])
def test_a_batch_in_eight_pieces_keeps_its_negatives_beside_the_initial_sample(accumulation):
    (whole,), pieces = whole_and_pieces(8, accumulation=accumulation)
    assert len(pieces) == 8
    assert len(whole[0].tokens) == sum(len(batch.tokens) for batch, _ in pieces) == 32
    groups = pieces[0][1].groups
    negatives = (groups[:, 1] == groups[0, 1]) & (groups[:, 0] != groups[0, 0])
    positives = groups[1:, 0] == groups[0, 0]
    # The whole batch has three, round(0.1 * 32); a piece of 4 as many as leave room for a positive where there is one.
    assert int(negatives.sum()) >= 2
    assert int(negatives.sum() + positives.sum()) == 3
    # In the others all pictures differ, and nothing is about the initial sample.
    assert int((whole[1].groups[:, 1] == groups[0, 1]).sum()) >= 4
    for _, targets in pieces[1:]:
        assert len(set(targets.groups[:, 1].tolist())) == len(targets.groups)
    assert [targets.initial_weight for _, targets in pieces] == [8.0, *[0.0] * 7]
    assert whole[1].initial_weight == 1.0


@given(seed=st.integers(0, 50), pieces=st.sampled_from([1, 2, 4]), sentences=st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_pieces_together_are_the_batch_where_its_group_fits_into_one(seed, pieces, sentences):
    pictures = Known()
    needs, order = ContrastNeeds(True, same_object=1, other_object=0.15, frames=0), Order(pictures.count, seed)
    places = range(12)
    whole = compose(pictures, order, seed, places, sentences, needs)
    parts = [compose(pictures, order, seed, places, sentences, needs, piece, pieces) for piece in range(pieces)]
    if 1 + 1 + round(0.15 * 12 * sentences) <= 12 * sentences // pieces:
        assert [sample.id for part in parts for sample in part] == [sample.id for sample in whole]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    negatives = [s for s in parts[0][1:] if s.image_id == parts[0][0].image_id]
    assert any(objects_of(sample) != objects_of(parts[0][0]) for sample in negatives)


def test_the_loss_of_a_split_batch_is_that_of_the_whole():
    """The mean over the pieces, as accumulation and processes make it, of what the model's loss weighs."""
    torch.manual_seed(0)
    features = torch.randn(32, 5)
    config = replace(PAPER.inter_sample, kind="cl")
    groups = torch.arange(32)[:, None].repeat(1, 2)
    groups[1, 0], groups[:4, 1] = 0, 0  # initial, one about the same, two about other objects of its picture
    whole = contrastive_loss(features, groups[:, 0], groups[:, 1], config.temperature, anchors="first")
    parts = [
        weight
        * contrastive_loss(features[low : low + 4], *groups[low : low + 4].T, config.temperature, anchors="first")
        for low, weight in zip(range(0, 32, 4), [8.0, *[0.0] * 7], strict=True)
    ]
    assert float(whole) > 0.1
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_a_batch_that_cannot_hold_a_negative_is_refused():
    needs = PAPER.needs.contrast
    check_composed(32, 1, 8, needs)
    with pytest.raises(
        ConfigError, match=r"model\.inter_sample\.other_object: 0\.1 of a batch of 4 expressions is none"
    ):
        check_composed(4, 1, 1, needs)
    with pytest.raises(ConfigError, match=r"training\.accumulation: .* 16 pieces .* leaves 2 a piece"):
        check_composed(32, 1, 16, needs)
    check_composed(4, 1, 4, replace(needs, other_object=0.0))
    with pytest.raises(ConfigError, match=r"other_object"):
        batches(needs, sentences_per_picture=1)
