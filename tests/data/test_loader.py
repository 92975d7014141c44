from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refseg.data import Instance, Sample, open_dataset
from refseg.data.batches import collate, load_batch
from refseg.data.transforms import place_image, place_mask
from refseg.errors import DataError, ImageError
from refseg.geometry import InputConfig
from refseg.types import Tokens

CONFIG = InputConfig(size=64)


def tokenizer(texts: list[str]) -> Tokens:
    """One number a word: its length."""
    ids = torch.zeros(len(texts), 8, dtype=torch.long)
    for row, text in enumerate(texts):
        for column, word in enumerate(text.split()[:8]):
            ids[row, column] = len(word)
    return Tokens(ids, ids > 0)


def in_memory(number: int, size: tuple[int, int], sentences: int = 1) -> list[Sample]:
    """Sentences about one drawn picture with one object on its left half."""
    image = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, dtype=bool)
    mask[:, : size[1] // 2] = True
    item = Instance(number, "box", (0.0, 0.0, float(size[1] // 2), float(size[0])), mask)
    return [
        Sample(f"{number}_{k}", f"words {k}", number, size, (item,), image=image, sent_id=k) for k in range(sentences)
    ]


def test_sentences_share_their_picture(grefcoco: Path) -> None:
    dataset = open_dataset(grefcoco)
    loaded = load_batch(list(dataset), tokenizer, CONFIG, instances=True, boxes=True)
    assert loaded.batch.images.shape == (2, 3, 64, 64)
    assert loaded.batch.image_index.tolist() == [0, 0, 0, 1]
    assert loaded.batch.tokens.mask.sum(dim=1).tolist() == [2, 2, 3, 2]
    assert loaded.targets.no_target.tolist() == [False, False, True, False]
    assert [len(own) for own in loaded.targets.instances] == [1, 2, 0, 1]
    expanded = loaded.batch.expanded()
    for row, sample in enumerate(loaded.samples):
        pixels, real, geometry = place_image(sample.read_image(), CONFIG)
        assert (expanded.images[row] == pixels).all()
        assert (expanded.pixel_mask[row] == real).all()
        assert loaded.geometries[row] == geometry
        union = loaded.targets.instances[row].any(dim=0)
        assert (loaded.targets.masks[row] == union).all()
    # two squares, from x 4 to 40 and y 4 to 14 in a picture of 60 x 40
    assert torch.allclose(loaded.targets.boxes[1, 0], torch.tensor([22 / 60, 9 / 40, 36 / 60, 10 / 40]))
    assert (loaded.targets.boxes[2] == 0).all()


def test_one_sentence_a_picture_needs_no_table() -> None:
    batch, targets = collate(in_memory(1, (10, 20)) + in_memory(2, (30, 7)), tokenizer, CONFIG)
    assert batch.image_index is None
    assert targets.boxes is None
    assert targets.instances is None
    assert targets.masks[:, :, :27].all()
    assert not targets.masks[:, :, 36:].any()


def test_pictures_of_two_sizes_are_padded_to_the_larger() -> None:
    config = InputConfig(size=48, resize="longest", divisor=8, rasterise="original")
    samples = in_memory(1, (20, 40)) + in_memory(2, (40, 10))
    loaded = load_batch(samples, tokenizer, config)
    assert loaded.batch.images.shape == (2, 3, 48, 48)
    for row, sample in enumerate(samples):
        pixels, real, geometry = place_image(sample.image, config)
        height, width = real.shape
        assert (loaded.batch.images[row, :, :height, :width] == pixels).all()
        assert (loaded.batch.images[row][:, ~loaded.batch.pixel_mask[row]] == 0).all()
        assert int(loaded.batch.pixel_mask[row].sum()) == int(real.sum())
        assert loaded.geometries[row] == replace(geometry, model_size=(48, 48))
        assert (loaded.targets.masks[row] == place_mask(sample.mask(), loaded.geometries[row])).all()
    grey = load_batch(samples, tokenizer, replace(config, padding=(128.0, 128.0, 128.0))).batch
    wanted = torch.tensor([(128 - m) / s for m, s in zip(config.mean, config.std, strict=True)])
    assert torch.allclose(grey.images[1][:, ~grey.pixel_mask[1]].mean(dim=1), wanted, atol=1e-5)


def test_what_cannot_be_read_ends_in_its_error_or_is_left_out(refcoco: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = open_dataset(refcoco)
    path = refcoco / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ImageError, match=r"000000000001\.jpg"):
        load_batch(list(dataset), tokenizer, CONFIG)
    with caplog.at_level(logging.WARNING):
        loaded = load_batch(list(dataset), tokenizer, CONFIG, on_error="skip")
    assert [sample.id for sample in loaded.samples] == ["8_2", "8_3"]
    assert loaded.batch.image_index.tolist() == [0, 0]
    assert len(caplog.records) == 1
    assert "000000000001.jpg" in caplog.text
    with pytest.raises(DataError, match="none of the 1 samples"):
        load_batch([dataset[0]], tokenizer, CONFIG, on_error="skip")
    with pytest.raises(DataError, match="at least one"):
        load_batch([], tokenizer, CONFIG)


def test_samples_in_memory_and_on_disk_agree(tmp_path: Path) -> None:
    (sample,) = in_memory(5, (12, 18))
    path = tmp_path / "a.png"
    Image.fromarray(sample.image).save(path)
    on_disk = replace(sample, image=None, image_path=path)
    first, second = collate([sample], tokenizer, CONFIG), collate([on_disk], tokenizer, CONFIG)
    assert (first[0].images == second[0].images).all()
    assert (first[1].masks == second[1].masks).all()
