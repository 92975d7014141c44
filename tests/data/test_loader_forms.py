"""Batches of the other forms: phrases with their boxes, regions with boxes only, pictures inside a parquet file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from form_files import write_flickr30k, write_parquet, write_visual_genome

from refseg.data import open_dataset
from refseg.data.loader import load_batch
from refseg.data.transforms import InputConfig
from refseg.errors import DataError
from refseg.text.tokenizer import WordTokenizer

CONFIG = InputConfig(size=32, divisor=32)


def test_phrases_and_the_boxes_around_their_objects(tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    samples = list(open_dataset(tmp_path, "flickr30k", "train"))
    tokenizer = WordTokenizer.learn([sample.text for sample in samples], max_words=20)
    loaded = load_batch(samples, tokenizer, CONFIG, phrases=3)
    phrases, boxes = loaded.batch.phrases, loaded.targets.boxes
    assert phrases is not None
    assert boxes is not None
    # the first caption has two phrases with boxes, the second one ("a bar" is a scene)
    assert phrases.mask.tolist() == [[True, True, False], [True, False, False]]
    words = loaded.batch.tokens.ids[0]
    assert (words[phrases.start[0, 0] : phrases.stop[0, 0]] == phrases.ids[0, 0][phrases.word_mask[0, 0]]).all()
    assert phrases.start[0].tolist() == [0, 5, 0]
    # around (0, 0, 10, 20) and (20, 5, 30, 15) in a picture of 60 x 40
    assert torch.allclose(boxes[0, 0], torch.tensor([0.25, 0.25, 0.5, 0.5]))
    assert torch.allclose(boxes[0, 1], torch.tensor([25 / 60, 10 / 40, 10 / 60, 10 / 40]))
    assert not boxes[0, 2].any()
    assert loaded.batch.picture is not None  # both captions are about one picture


def test_a_caption_without_boxes_is_no_target_for_phrases(tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    every = list(open_dataset(tmp_path, "flickr30k"))
    tokenizer = WordTokenizer.learn([sample.text for sample in every], max_words=20)
    with pytest.raises(DataError, match="no phrase of 'A bearded man waits"):
        load_batch(every, tokenizer, CONFIG, phrases=3)
    assert len(load_batch(every, tokenizer, CONFIG, phrases=3, on_error="skip").samples) == 2


def test_boxes_only(tmp_path: Path) -> None:
    write_visual_genome(tmp_path)
    samples = list(open_dataset(tmp_path))
    tokenizer = WordTokenizer.learn([sample.text for sample in samples], max_words=5)
    loaded = load_batch(samples, tokenizer, CONFIG, boxes=True)
    assert loaded.targets.boxes is not None
    assert torch.allclose(loaded.targets.boxes[0, 0], torch.tensor([9 / 60, 9 / 40, 10 / 60, 10 / 40]))
    assert not loaded.targets.masks.any()
    for options in ({}, {"boxes": True, "instances": True}):
        with pytest.raises(DataError, match="only its box is annotated"):
            load_batch(samples, tokenizer, CONFIG, **options)


def test_pictures_inside_a_file_are_told_apart(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    samples = list(open_dataset(tmp_path))
    tokenizer = WordTokenizer.learn([sample.text for sample in samples], max_words=5)
    loaded = load_batch(samples, tokenizer, CONFIG)
    assert loaded.batch.picture is not None
    assert loaded.batch.picture.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(loaded.batch.images) == 3
    assert not torch.equal(loaded.batch.images[0], loaded.batch.images[1])
