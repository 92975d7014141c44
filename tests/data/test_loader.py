from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refseg.data import Instance, ReferringDataset, Sample, open_dataset
from refseg.data.batches import BatchDataset, PictureBatches, collate, load_batch
from refseg.data.transforms import InputConfig, place_image, place_mask
from refseg.errors import DataError, ImageError
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
    assert loaded.batch.picture.tolist() == [0, 0, 0, 1]
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
    assert batch.picture is None
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
    assert loaded.batch.picture.tolist() == [0, 0]
    assert len(caplog.records) == 1
    assert "000000000001.jpg" in caplog.text
    with pytest.raises(DataError, match="none of the 1 samples"):
        load_batch([dataset[0]], tokenizer, CONFIG, on_error="skip")
    with pytest.raises(DataError, match="at least one"):
        load_batch([], tokenizer, CONFIG)


def drawn(sentences: list[int]) -> ReferringDataset:
    samples = [sample for number, count in enumerate(sentences) for sample in in_memory(number, (8, 8), count)]
    return ReferringDataset(samples)


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_holds_every_sentence_once(shuffle: bool) -> None:
    dataset = drawn([5, 1, 3, 2])
    batches = PictureBatches(dataset, 2, 2, seed=3, shuffle=shuffle)
    assert sorted(index for batch in batches for index in batch) == list(range(11))
    for batch in batches:
        assert len(batch) <= 4
        assert len({dataset[index].image_id for index in batch}) <= 2
    assert (next(iter(batches)) == [0, 1, 2, 3]) == (not shuffle)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    dataset = drawn([3] * 8)
    first = list(PictureBatches(dataset, 2, 3, seed=1, epoch=4))
    assert first == list(PictureBatches(dataset, 2, 3, seed=1, epoch=4))
    assert first != list(PictureBatches(dataset, 2, 3, seed=1, epoch=5))
    assert first != list(PictureBatches(dataset, 2, 3, seed=2, epoch=4))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_an_epoch_evenly(world: int) -> None:
    dataset = drawn([4] * 7)
    shares = [PictureBatches(dataset, 2, 2, seed=1, rank=rank, world=world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    indices = [index for share in shares for batch in share for index in batch]
    assert len(indices) == len(set(indices)) >= 28 - 2 * (world - 1)
    assert all(len(batch) == 4 for batch in PictureBatches(dataset, 2, 2, drop_last=True, rank=0, world=world))
    with pytest.raises(DataError):
        PictureBatches(dataset, 2, 2, rank=world, world=world)


def test_workers_read_the_same_batches(refcoco: Path) -> None:
    dataset = open_dataset(refcoco)
    batches = BatchDataset(dataset, PictureBatches(dataset, 1, 2, shuffle=False), tokenizer, CONFIG, boxes=True)
    assert len(batches) == 2
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1)
    for own, read in zip(batches, loader, strict=True):
        assert (own.batch.images == read.batch.images).all()
        assert (own.targets.masks == read.targets.masks).all()
        assert own.samples == read.samples


def test_samples_in_memory_and_on_disk_agree(tmp_path: Path) -> None:
    (sample,) = in_memory(5, (12, 18))
    path = tmp_path / "a.png"
    Image.fromarray(sample.image).save(path)
    on_disk = replace(sample, image=None, image_path=path)
    first, second = collate([sample], tokenizer, CONFIG), collate([on_disk], tokenizer, CONFIG)
    assert (first[0].images == second[0].images).all()
    assert (first[1].masks == second[1].masks).all()
