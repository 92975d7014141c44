"""REC and phrases: one box an expression, on sets that have boxes alone, of every kind of system."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from refseg.data import open_dataset
from refseg.data.sample import Instance, Phrase, ReferringDataset, Sample
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import DataError
from refseg.evaluation.evaluate import Writers, evaluate_model, evaluate_protocols
from refseg.metrics import PROTOCOLS, score
from refseg.metrics.grounding import box_iou
from refseg.models import build
from refseg.types import Needs
from tests.evaluation.test_evaluate import BoxFinder, Finder, picture_of, tokenizer
from tests.inference.test_phrases import LONG, WORDS, tiny
from tests.support.contract import filled
from tests.support.format_files import write_flickr30k, write_referit, write_visual_genome

LAYOUTS = [
    {"red": (4, 4, 30, 30), "blue": (36, 8, 56, 36)},
    {"green": (10, 2, 50, 38), "red": (52, 30, 58, 38)},
]


def with_needs(model):
    model.needs = Needs()
    return model


@pytest.fixture
def boxed():
    """Expressions about pictures of which boxes are known and no outline, and one that means nothing."""
    samples = []
    for number, layout in enumerate(LAYOUTS):
        picture, _ = picture_of(layout)
        for colour, box in layout.items():
            item = Instance(len(samples), colour, tuple(map(float, box)))
            samples.append(Sample(f"{number}_{colour}", f"the {colour} one", number, (40, 60), (item,), image=picture))
    samples.append(replace(samples[0], id="none", text="the green one", objects=(), no_target=True))
    return ReferringDataset(samples, name="boxes", split="val")


@pytest.mark.parametrize("model", [Finder, BoxFinder])
def test_rec_on_boxes_alone(boxed, model):
    """Instances and masks alone: the box of the one and the box around the other are the target's."""
    rows, predictions, targets = [], [], []
    writers = Writers(rows.append, predictions.append, targets.append)
    result = evaluate_model(model(True), tokenizer, boxed, "rec", writers=writers)
    assert result["Acc@0.5"] == 1.0
    assert result["box_mIoU"] > 0.8
    assert result.counts["sentences"] == 5
    assert (result.counts["with_target"], result.counts["no_target"], result.counts["pictures"]) == (4, 1, 2)
    assert len(rows) == 4
    assert {line["id"] for line in predictions} == {sample.id for sample in boxed}
    again = score(predictions, targets, "rec")
    assert dict(again) == dict(result)
    told = {line["id"]: np.array(line["boxes"]) for line in predictions}
    overlaps = [box_iou(told[sample.id], sample.boxes())[0, 0] for sample in boxed if not sample.no_target]
    assert result["box_mIoU"] == pytest.approx(float(np.mean(overlaps)))
    assert json.loads(json.dumps(result.to_dict()))["metrics"]["Acc@0.5"] == 1.0


def test_a_box_of_half_overlap_is_not_right_and_several_targets_are_one_box(boxed):
    predictions = [{"id": "half", "boxes": [[0, 0, 4, 4]]}, {"id": "pair", "boxes": [[0, 0, 9, 4], [50, 0, 60, 4]]}]
    targets = [{"id": "half", "boxes": [[0, 0, 8, 4]]}, {"id": "pair", "boxes": [[0, 0, 4, 4], [6, 0, 9, 4]]}]
    result = score(predictions, targets, "rec")
    assert result["Acc@0.5"] == 0.5
    assert result["box_mIoU"] == 0.75


def test_what_has_no_outline_is_told_where_masks_are_compared(boxed):
    result = evaluate_model(Finder(True), tokenizer, boxed, "native")
    assert result.counts["unreadable"] == 4
    assert "only its box is annotated" in result.problems[0]


def caption_of(layout, number):
    """ "the red one and the blue one ..." with a box for each phrase, and a phrase that has none."""
    picture, _ = picture_of(layout)
    text, phrases = "", []
    for key, (colour, box) in enumerate(layout.items()):
        text = f"{text} and " if text else ""
        start = len(text)
        text += f"the {colour} one"
        item = Instance(10 * number + key, colour, tuple(map(float, box)))
        phrases.append(Phrase(f"the {colour} one", start, len(text), (item,), ("colour",)))
    text += " outside"
    phrases.append(Phrase("outside", len(text) - 7, len(text)))
    objects = tuple(item for phrase in phrases for item in phrase.objects)
    return Sample(f"c{number}", text, number, (40, 60), objects, image=picture, phrases=tuple(phrases))


def test_phrases_are_asked_by_themselves_where_a_system_reads_none():
    captions = ReferringDataset([caption_of(layout, number) for number, layout in enumerate(LAYOUTS)])
    predictions, targets = [], []
    writers = Writers(None, predictions.append, targets.append)
    scores = evaluate_protocols(
        with_needs(BoxFinder(True)), tokenizer, captions, ["flickr30k", "flickr30k-merged"], writers=writers
    )
    assert [entry["Recall@1"] for entry in scores] == [1.0, 1.0]
    assert scores[0].counts["phrases"] == 4
    assert [line["id"] for line in predictions] == ["c0_0", "c0_1", "c1_0", "c1_1"]
    assert dict(score(predictions, targets, "flickr30k")) == dict(scores[0])


def test_phrases_are_read_in_their_caption_where_a_system_reads_them(tmp_path):
    """RefTR on a small copy of Flickr30k Entities: the boxes written are those of one call a caption."""
    from refseg.inference.predictor import Segmenter

    samples = open_dataset(write_flickr30k(tmp_path), "flickr30k")
    segmenter = Segmenter(filled(build(tiny("rec"))), WordTokenizer(WORDS, LONG), device="cpu")
    predictions: list = []
    result = evaluate_model(
        segmenter.model,
        segmenter.tokenizer,
        samples,
        "flickr30k-merged",
        writers=Writers(prediction=predictions.append),
    )
    wanted = {}
    for sample in samples:
        known = [(place, phrase) for place, phrase in enumerate(sample.phrases) if phrase.objects]
        spans = [(phrase.start, phrase.stop) for _, phrase in known]
        if not spans:
            continue
        for (place, _), answer in zip(known, segmenter(sample.read_image(), sample.text, phrases=spans), strict=True):
            wanted[f"{sample.id}_{place}"] = answer.boxes
    assert result.counts["phrases"] == len(wanted) == len(predictions) > 2
    for line in predictions:
        np.testing.assert_allclose(np.clip(line["boxes"], 0, None), wanted[line["id"]], atol=1e-3)
    assert 0 <= result["Recall@1"] <= 1


def test_a_phrase_that_is_not_at_its_characters_is_told(tmp_path):
    samples = open_dataset(write_flickr30k(tmp_path), "flickr30k")
    broken = [replace(samples[0], phrases=(replace(samples[0].phrases[0], start=1),)), *samples[1:]]
    model = filled(build(tiny("rec")))
    result = evaluate_model(model, WordTokenizer(WORDS, LONG), ReferringDataset(broken), "flickr30k")
    assert result.counts["unreadable"] == 1
    assert "is not at characters 1 to" in result.problems[0]


@pytest.mark.parametrize("write", [write_visual_genome, write_referit])
def test_sets_with_boxes_are_scored_by_rec(tmp_path, write):
    samples = open_dataset(write(tmp_path), split=None)
    bare = [
        replace(sample, objects=tuple(replace(item, segmentation=None) for item in sample.objects))
        for sample in samples
    ]
    model = filled(build(tiny("rec")))
    result = evaluate_model(model, WordTokenizer(WORDS, LONG), ReferringDataset(bare), "rec")
    assert result.counts["with_target"] == len(samples) > 0
    assert 0 <= result["box_mIoU"] <= 1


def test_boxes_stand_beside_masks_in_the_lines_that_are_written(boxed):
    masks = []
    for number, layout in enumerate(LAYOUTS):
        picture, outlines = picture_of(layout)
        for colour, box in layout.items():
            item = Instance(len(masks), colour, tuple(map(float, box)), outlines[colour])
            masks.append(Sample(f"{number}_{colour}", f"the {colour} one", number, (40, 60), (item,), image=picture))
    predictions, targets = [], []
    writers = Writers(None, predictions.append, targets.append)
    result = evaluate_model(BoxFinder(True), tokenizer, ReferringDataset(masks), "native", writers=writers)
    assert all(len(line["boxes"]) == 1 for line in predictions)
    assert result["Acc@0.5"] == 1.0
    again = score(predictions, targets, "native")
    assert {name: again[name] for name in again} == {name: result[name] for name in again}


def test_protocols_of_one_task_alone(boxed):
    with pytest.raises(DataError, match="rec compares box, grec boxes"):
        evaluate_protocols(BoxFinder(True), tokenizer, boxed, ["grec", "rec"])
    assert PROTOCOLS["rec"].task == "box"


def test_the_order_of_a_run_does_not_matter(boxed):
    torch.manual_seed(0)
    whole = evaluate_model(BoxFinder(True), tokenizer, boxed, "rec")
    turned = evaluate_model(BoxFinder(True), tokenizer, boxed.subset([4, 2, 0, 3, 1]), "rec", batch_size=1)
    assert dict(whole) == pytest.approx(dict(turned))
