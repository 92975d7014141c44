"""Batches of the other formats: phrases with their boxes, regions with boxes only, pictures inside a parquet file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from refseg.data import Instance, Sample, open_dataset
from refseg.data.batches import collate, load_batch
from refseg.data.sample import Phrase
from refseg.encoders.text.phrases import place_phrases
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import DataError, RefsegError
from refseg.geometry import InputConfig
from tests.support.format_files import write_flickr30k, write_parquet, write_visual_genome

CONFIG = InputConfig(size=32, divisor=32)


def test_phrases_and_the_boxes_around_their_objects(tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    samples = list(open_dataset(tmp_path, "flickr30k", "train"))
    tokenizer = WordTokenizer.learn([sample.text for sample in samples], max_words=20)
    loaded = load_batch(samples, tokenizer, CONFIG, phrases=3, place_phrases=place_phrases)
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
    assert loaded.batch.image_index is not None  # both captions are about one picture


def test_a_caption_without_boxes_is_no_target_for_phrases(tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    every = list(open_dataset(tmp_path, "flickr30k"))
    tokenizer = WordTokenizer.learn([sample.text for sample in every], max_words=20)
    with pytest.raises(DataError, match="no phrase of 'A bearded man waits"):
        load_batch(every, tokenizer, CONFIG, phrases=3, place_phrases=place_phrases)
    assert (
        len(load_batch(every, tokenizer, CONFIG, phrases=3, place_phrases=place_phrases, on_error="skip").samples) == 2
    )


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
    assert loaded.batch.image_index is not None
    assert loaded.batch.image_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(loaded.batch.images) == 3
    assert not torch.equal(loaded.batch.images[0], loaded.batch.images[1])


def test_masks_of_phrases_where_all_are_known() -> None:
    def square(number: int, left: int) -> Instance:
        mask = np.zeros((32, 32), dtype=bool)
        mask[4:12, left : left + 8] = True
        return Instance(number, "thing", (float(left), 4.0, left + 8.0, 12.0), mask)

    one, two, three = square(1, 0), square(2, 10), square(3, 20)
    text, image = "two men beside a dog", np.zeros((32, 32, 3), dtype=np.uint8)
    parts = (Phrase("two men", 0, 7, (one, two)), Phrase("beside", 8, 14), Phrase("a dog", 15, 20, (three,)))
    samples = [
        Sample("1_0", text, 1, (32, 32), (one, two, three), image=image, phrases=parts),
        Sample("1_1", "a dog", 1, (32, 32), (three,), image=image),
        Sample("1_2", "a bus", 1, (32, 32), no_target=True, image=image),
    ]
    tokenizer = WordTokenizer.learn([sample.text for sample in samples], max_words=6)
    batch, targets = collate(samples, tokenizer, CONFIG, phrases=4, place_phrases=place_phrases)
    assert batch.phrases is not None
    assert batch.phrases.mask.sum(dim=1).tolist() == [2, 1, 1]
    assert targets.instances is not None
    assert [len(own) for own in targets.instances] == [2, 1, 1]
    assert [int(own.sum()) for own in targets.instances[0]] == [128, 64]
    assert torch.equal(targets.instances[0].any(dim=0), targets.masks[0])
    assert not targets.instances[2].any()
    assert targets.boxes is not None
    assert not targets.boxes[2].any()
    bare = replace(samples[0], objects=(one, two, replace(three, segmentation=None)))
    assert collate([bare], tokenizer, CONFIG, phrases=4, place_phrases=place_phrases)[1].instances is None


def test_a_phrase_that_is_not_in_its_sentence_costs_that_sentence() -> None:
    image, thing = np.zeros((32, 32, 3), dtype=np.uint8), Instance(1, "dog", (0.0, 0.0, 8.0, 8.0))
    wrong = Sample("1_0", "a dog", 1, (32, 32), (thing,), image=image, phrases=(Phrase("a cat", 0, 5, (thing,)),))
    right = replace(wrong, id="1_1", phrases=(Phrase("a dog", 0, 5, (thing,)),))
    tokenizer = WordTokenizer.learn(["a dog"], max_words=6)
    with pytest.raises(RefsegError, match="1_0: the phrase 'a cat' is not at characters 0 to 5 of 'a dog'"):
        load_batch([wrong, right], tokenizer, CONFIG, phrases=2, place_phrases=place_phrases)
    assert [
        s.id
        for s in load_batch(
            [wrong, right], tokenizer, CONFIG, phrases=2, place_phrases=place_phrases, on_error="skip"
        ).samples
    ] == ["1_1"]


def test_annotated_places_decide_where_a_phrase_stands() -> None:
    image, thing = np.zeros((32, 32, 3), dtype=np.uint8), Instance(1, "man", (0.0, 0.0, 8.0, 8.0))
    text = "a man with a hat beside a man and a hat"
    parts = (
        Phrase("a man", 0, 5),  # not boxed, so that its twin below is the first that is asked for
        Phrase("a man", 24, 29, (thing,)),
        Phrase("a hat", 34, 39, (replace(thing, ann_id=2),)),
    )
    sample = Sample("1_0", text, 1, (32, 32), (thing,), image=image, phrases=parts)
    tokenizer = WordTokenizer.learn([text], max_words=12)
    phrases = load_batch([sample], tokenizer, CONFIG, phrases=2, place_phrases=place_phrases).batch.phrases
    assert phrases is not None
    assert (phrases.start.tolist(), phrases.stop.tolist()) == ([[6, 9]], [[8, 11]])
