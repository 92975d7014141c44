"""The things of pictures that two-stage models choose among."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from refseg.data.batches import collate
from refseg.data.regions import annotated_regions, things_of
from refseg.data.sample import Instance, Sample
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.geometry import InputConfig

DOG = Instance(1, "dog", (10.0, 5.0, 30.0, 25.0), np.ones((40, 80), dtype=bool), tags=("brown",))
CAT = Instance(2, "cat", (40.0, 0.0, 90.0, 40.0), np.ones((40, 80), dtype=bool))
BIRD = Instance(3, "bird", (0.0, 0.0, 8.0, 8.0), np.ones((40, 80), dtype=bool))
FIRST = Sample("1", "the old dog", 1, (40, 80), (DOG,), image=np.zeros((40, 80, 3), np.uint8))
SECOND = replace(FIRST, id="2", text="Dog and cat", objects=(DOG, CAT))


def test_spoken_things_stand_in_where_not_all_are_known() -> None:
    assert things_of([FIRST, SECOND]) == [DOG, CAT]
    assert things_of([FIRST, replace(SECOND, surroundings=(BIRD, DOG, CAT))]) == [BIRD, DOG, CAT]
    assert things_of([replace(FIRST, objects=(), no_target=True)]) == []


def test_boxes_are_of_the_picture_and_words_of_one_thing_are_its_attributes() -> None:
    other = replace(FIRST, id="3", image_id=2, objects=(), no_target=True)
    found = annotated_regions([FIRST, other, SECOND], [0, 1, 0])
    torch.testing.assert_close(found.boxes[0], torch.tensor([[0.125, 0.125, 0.375, 0.625], [0.5, 0.0, 1.0, 1.0]]))
    assert found.labels == [["dog", "cat"], []]
    assert found.boxes[1].shape == (0, 4)
    # "Dog and cat" means two things, so that its words are nobody's.
    assert found.attributes == [[("brown", "the", "old", "dog"), ()], []]


def test_a_batch_has_regions_where_they_are_asked_for() -> None:
    config, tokenizer = InputConfig(size=64, resize="longest"), WordTokenizer(["the", "dog"], 5)
    assert collate([FIRST, SECOND], tokenizer, config)[0].regions is None
    batch, _ = collate([FIRST, SECOND], tokenizer, config, regions=True)
    assert batch.regions is not None
    assert batch.image_index is not None
    assert len(batch.images) == len(batch.regions.boxes) == 1
    expanded = batch.expanded()
    assert expanded.regions is not None
    assert expanded.regions.labels == [["dog", "cat"]] * 2
    assert torch.equal(batch.to("cpu").regions.boxes[0], batch.regions.boxes[0])
