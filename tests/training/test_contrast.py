"""Batches for learning between samples: who stands in them, and what the loss is told of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.data.batches import group_numbers
from refseg.data.sample import Instance, Sample
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.models.vlt.config import PAPER
from refseg.training.recipe import parse_recipe
from refseg.training.sampling import Order, compose
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
