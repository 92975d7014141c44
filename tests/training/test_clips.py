"""Learning from clips: windows of frames, batches in runs, negatives from neighbouring frames, what cannot be read."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from refseg.data import open_dataset
from refseg.data.batches import collate
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import ConfigError, DataError
from refseg.geometry import InputConfig
from refseg.models import build
from refseg.models.vlt.config import PAPER_VIDEO
from refseg.models.vlt.contrast import contrastive_loss
from refseg.training.clips import ClipPictures, in_runs, window_starts
from refseg.training.epochs import in_steps
from refseg.training.evaluation import open_evaluation
from refseg.training.recipe import parse_recipe
from refseg.training.sampling import compose
from refseg.training.source import Batches, open_pictures
from refseg.types import Batch, ContrastNeeds, Targets, Tokens
from tests.support.small_video import write_davis, write_youtube
from tests.support.tiny_parts import tiny_vlt

WORDS = WordTokenizer(["a", "dog", "runs", "the", "cat", "brown", "bird", "other"], 7)


def recipe_of(root: Path, **data: Any) -> Any:
    table = {"root": str(root), "dataset": "ref-youtube-vos", "frames": 3, "pictures_per_batch": 2, **data}
    return parse_recipe({"model": {"preset": "vlt-mini"}, "data": table})


@pytest.mark.parametrize(("length", "starts"), [(1, [0]), (3, [0]), (4, [0, 1]), (6, [0, 3]), (8, [0, 3, 5])])
def test_windows_hold_every_frame(length: int, starts: list[int]) -> None:
    assert window_starts(length, 3) == starts
    assert {frame for start in starts for frame in range(start, min(start + 3, length))} == set(range(length))


def test_a_batch_holds_the_frames_of_its_windows(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    recipe = recipe_of(tmp_path, sentences_per_picture=3)
    pictures = open_pictures(recipe.data)
    assert isinstance(pictures, ClipPictures)
    assert [pictures.size(of) for of in ("item", "object", "sentence")] == [4, 4, 10]
    batch, targets = Batches(pictures, WORDS, InputConfig(size=32), recipe)[0]
    assert batch.frames == 3
    assert len(batch.images) % 3 == len(batch.tokens) % 3 == 0
    index = torch.arange(len(batch.tokens)) if batch.image_index is None else batch.image_index
    assert (index.view(-1, 3) - index.view(-1, 3)[:, :1] == torch.arange(3)).all()
    assert (index.view(-1, 3)[:, 0] % 3 == 0).all()
    chosen = Batches(pictures, WORDS, InputConfig(size=32), recipe)._piece([0, 1], 0, 1)
    assert len(batch.tokens) == 3 * len(chosen)
    clips = {clip.place: clip for clip in pictures.clips}
    plain = InputConfig(size=32)
    for row, sample in enumerate(chosen):
        clip, middle = clips[sample.ref_id], sample.sent_id
        frames = [clip.sample(middle + offset) for offset in (-1, 0, 1)]
        alone, wanted = collate(frames, WORDS, plain)
        rows = slice(3 * row, 3 * row + 3)
        assert torch.equal(targets.masks[rows], wanted.masks)
        assert torch.equal(targets.no_target[rows], wanted.no_target)
        assert torch.equal(batch.tokens.ids[rows], alone.tokens.ids)
        assert torch.equal(batch.images[index[rows]], alone.images)


def test_a_short_video_repeats_its_last_frame(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    pictures = ClipPictures(open_dataset(tmp_path, split="train"), 6, "sentence")
    assert pictures.count == 5
    batch, targets = pictures.batch(
        pictures.samples(0), partial(collate, tokenizer=WORDS, input_config=InputConfig(size=32))
    )
    assert (len(batch.images), len(batch.tokens), batch.frames) == (6, 6, 6)
    assert torch.equal(batch.images[3], batch.images[5])
    assert torch.equal(targets.masks[3], targets.masks[4])


def test_runs_of_windows_that_overlap(tmp_path: Path) -> None:
    """Images are stored once each; a video encoder wants them in runs."""
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 8, 8)
    index = torch.tensor([0, 1, 2, 1, 2, 3, 0, 1, 2])
    tokens = Tokens(torch.arange(9).view(9, 1), torch.ones(9, 1, dtype=torch.bool))
    batch = Batch(images, torch.ones(4, 8, 8, dtype=torch.bool), tokens, image_index=index)
    targets = Targets(torch.zeros(9, 8, 8, dtype=torch.bool), torch.zeros(9, dtype=torch.bool))
    runs, _ = in_runs(batch, targets, 3)
    assert runs.frames == 3
    assert runs.image_index is not None
    assert torch.equal(runs.images[:, 0, 0, 0], torch.tensor([0.0, 1, 2, 1, 2, 3]))
    assert torch.equal(runs.images[runs.image_index], images[index])
    assert runs.expanded().frames == 3


def test_a_clip_that_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = write_youtube(tmp_path)
    pictures = ClipPictures(open_dataset(tmp_path, split="train"), 3, "sentence")
    (home / "train" / "JPEGImages" / "def" / "00010.jpg").write_bytes(b"no picture")
    load = partial(collate, tokenizer=WORDS, input_config=InputConfig(size=32))
    good, bad = pictures.samples(0), pictures.samples(pictures.count - 1)  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        batch, _ = pictures.batch([*bad, *good], load)
    assert len(batch.tokens) == 3
    assert "clip def_1" in caplog.text
    with pytest.raises(DataError, match="none of the 1 clips"):
        pictures.batch(bad, load)


@pytest.mark.parametrize("anchors", ["first", "all"])
@pytest.mark.parametrize("reach", [0, 1, 2])
def test_contrast_over_frames_against_a_loop(anchors: Any, reach: int) -> None:
    """Equation 4.8: those of the initial frame's object draw, other objects at most `reach` frames away drive apart."""
    frames, count = 3, 4
    features = torch.randn(count * frames, 5)
    objects = torch.tensor([0, 0, 1, 2]).repeat_interleave(frames)
    pictures = torch.tensor([0, 0, 0, 9]).repeat_interleave(frames)
    found = contrastive_loss(features, objects, pictures, 0.5, anchors=anchors, frames=frames, reach=reach)
    units = features / features.norm(dim=1, keepdim=True)
    losses = []
    for row in [frames // 2] if anchors == "first" else range(len(features)):
        near = [other for other in range(len(features)) if abs(other % frames - row % frames) <= reach]
        negatives = [other for other in near if objects[other] != objects[row] and pictures[other] == pictures[row]]
        positives = [
            o for o in range(len(features)) if o != row and o % frames == row % frames and objects[o] == objects[row]
        ]
        against = sum(torch.exp(units[row] @ units[other] / 0.5) for other in negatives)
        terms = [torch.exp(units[row] @ units[other] / 0.5) for other in positives]
        if terms:
            losses.append(-torch.stack([torch.log(term / (against + term)) for term in terms]).mean())
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_other_objects_come_from_the_window(tmp_path: Path) -> None:
    """The composed batch has a window's other object, and its loss reads it in the neighbouring frames."""
    write_youtube(tmp_path)
    recipe = recipe_of(tmp_path, pictures_per_batch=8, sentences_per_picture=1)
    pictures = open_pictures(recipe.data)
    config = replace(tiny_vlt(PAPER_VIDEO), text=replace(tiny_vlt(PAPER_VIDEO).text, vocabulary_size=30))
    batches = Batches(pictures, WORDS, config.input, recipe, needs=config.needs)
    assert batches.composed is not None
    assert batches.composed.frames == 0
    batch, targets = batches[0]
    assert targets.groups is not None
    # Rows of the first clip and of the same video's are one picture: their folder.
    same = (targets.groups[:, 1] == targets.groups[0, 1]).view(-1, 3)
    assert (same == same[:, :1]).all()
    first = pictures.items[batches.order.item(0)][0]
    composed = compose(pictures, batches.order, recipe.training.seed, range(8), 1, batches.composed)
    assert len({tuple(item.ann_id for item in sample.objects) for sample in composed[:3]} - {()}) > 1
    assert {sample.ref_id for sample in composed[:2]} <= {clip.place for clip in first}
    model = build(config).train()
    with torch.no_grad():
        output = model(batch)
        parts = model.losses(output, targets)
        assert float(parts["contrastive"]) > 0
        alone = replace(targets, groups=torch.arange(len(targets.groups))[:, None].expand(-1, 2))
        assert float(model.losses(output, alone)["contrastive"]) != float(parts["contrastive"])


def test_epochs_of_clips(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    recipe = recipe_of(tmp_path, sentences_per_picture=1)
    for of, steps in (("item", 2), ("sentence", 5)):
        told = replace(recipe, training=replace(recipe.training, epochs=1.0, epoch_of=of))
        assert in_steps(told, open_pictures(recipe.data)).training.steps == steps


def test_evaluation_is_of_the_first_videos(tmp_path: Path) -> None:
    write_youtube(tmp_path)
    recipe = recipe_of(tmp_path)
    values = replace(recipe.evaluation, split="train", protocol="youtube-vos", metric="J&F", pictures=1)
    assert [clip.id for clip in open_evaluation(replace(recipe, evaluation=values)).samples.clips] == [
        "abc_0", "abc_1", "abc_2",
    ]  # fmt: skip


def test_wrong_recipes(tmp_path: Path) -> None:
    from tests.support.published_files import annotation, referent, sentence, write_dataset, write_pictures

    write_youtube(tmp_path)
    with pytest.raises(ConfigError, match="frames: clips are read from a data set of video"):
        parse_recipe({"data": {"frames": 3}})
    with pytest.raises(ConfigError, match="frames: clips are not augmented"):
        recipe_of(tmp_path, augment={"hflip": 0.5})
    with pytest.raises(ConfigError, match=r"data.split: the masks of ref-youtube-vos valid are not published"):
        open_pictures(recipe_of(tmp_path, split="valid").data)
    write_pictures(tmp_path, [1])
    refs = [referent(1, 1, 1, "train", [sentence(1, "the ball")])]
    write_dataset(tmp_path, "refcoco", "refs(unc).p", refs, [annotation(1, 1, left=4, top=4, side=9)])
    with pytest.raises(ConfigError, match=r"data\.frames: refcoco holds pictures, not clips"):
        open_pictures(recipe_of(tmp_path, dataset="refcoco").data)
    with pytest.raises(ConfigError, match="metric: 'gIoU' is none of davis"):
        parse_recipe({"evaluation": {"every": 1, "protocol": "davis"}})


def test_davis_is_learnt_from_too(tmp_path: Path) -> None:
    write_davis(tmp_path)
    pictures = open_pictures(recipe_of(tmp_path, dataset="ref-davis17", frames=2).data)
    assert len(pictures.samples(0)) == 8
    assert ContrastNeeds(True, 8, 0.1, 2) == PAPER_VIDEO.needs.contrast
