"""Where words hold in a picture: `Targets.tags`, for losses on what a picture shows whatever the sentence."""

import numpy as np
import pytest
import torch

from refseg.data.batches import collate
from refseg.data.sample import Instance, Sample
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.generation.scenes import generate, scene_samples
from refseg.geometry import InputConfig
from refseg.nn.losses import tag_loss

TAGS = ("person", "red", "standing", "ball")


def test_tag_maps_are_the_objects_that_a_word_holds_of():
    scene = generate(3, 5, size=128, sentences=6)
    samples = scene_samples(scene)
    _, targets = collate(samples, WordTokenizer.learn(s.text for s in samples), InputConfig(size=128), tags=TAGS)
    assert targets.tags is not None
    assert targets.tags.shape == (1, len(TAGS), 32, 32)
    for number, tag in enumerate(TAGS):
        expected = np.zeros((128, 128), dtype=bool)
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            words = {thing.category, *thing.families, thing.colour, *(thing.traits or ())}
            if tag in words:
                expected |= mask
        assert np.array_equal(targets.tags[0, number].numpy(), expected[::4, ::4])


def test_without_all_objects_known_there_are_no_tag_maps():
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), dtype=bool)
    mask[:8, :8] = True
    cup = Instance(1, "cup", (0.0, 0.0, 8.0, 8.0), mask)
    sample = Sample("0_0", "cup", 0, (64, 64), objects=(cup,), image=image)
    _, targets = collate([sample], WordTokenizer(["cup"]), InputConfig(size=64), tags=("cup",))
    assert targets.tags is None


def test_tag_loss_is_the_mean_of_two_means():
    logits = torch.randn(2, 3, 4, 5)
    targets = torch.rand(2, 3, 4, 5) > 0.7
    inside, outside = [], []
    for n in range(2):
        for i in range(4):
            for j in range(5):
                total = 0.0
                for t in range(3):
                    p = torch.sigmoid(logits[n, t, i, j])
                    total -= float(torch.log(p if targets[n, t, i, j] else 1 - p))
                (inside if bool(targets[n, :, i, j].any()) else outside).append(total)
    expected = (sum(inside) / len(inside) + sum(outside) / len(outside)) / 2
    assert float(tag_loss(logits, targets)) == pytest.approx(expected, rel=1e-5)
