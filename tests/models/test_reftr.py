"""RefTR: the contract, equations 1 to 4 against loops written from the paper, and phrases with their context."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import CheckpointError, RefsegError
from refseg.inference.checkpoint import save_model
from refseg.models import build
from refseg.models.reftr.config import (
    MINI,
    OFFICIAL,
    OFFICIAL_MULTI,
    OFFICIAL_REC,
    PAPER,
    RefTRConfig,
    RefTRLosses,
)
from refseg.models.reftr.heads import boxes_of_masks
from refseg.models.reftr.model import RefTR
from refseg.models.reftr.queries import Consistency, QueryEncoder
from refseg.training.optimizer import parameter_groups
from refseg.training.recipe import parse_recipe, read_recipe
from refseg.training.setup import load_pretrained
from refseg.types import Batch, Phrases, Targets, Tokens
from tests.support.contract import ModelContract, assert_differs, assert_near, batch_of, filled, targets_of, tensors_of
from tests.support.tiny_parts import TINY_WORDS
from tests.support.tiny_systems import tiny_reftr as tiny

TINY_RESNET = ResNetConfig(
    block="basic",
    widths=(16, 16, 16, 16),
    depths=(1, 1, 1, 1),
    stem="conv3",
    stem_width=16,
    norm="group",
    norm_groups=2,
)


CHANGES = {
    "vision.widths": (16, 16, 16, 20),
    "vision.depths": (1, 1, 2, 1),
    "vision.norm_groups": 1,
    "mask_groups": 1,
    "width": 64,
    "text.max_words": 6,
    "text.positions": 12,
    "tags": ("red",),
}
ALONE = {
    "losses.phrases": "the contract asks one phrase a sentence; tested below",
    "losses.no_target": "without no_target_head there is no such loss; tested below",
    "losses.tags": "without tags there is no such loss",
    "phrases": "says what training reads; tested with the training loop's batches below",
}
NO_MASKS = {
    f"losses.{name}": "no mask head" for name in ("focal", "dice", "focal_alpha", "focal_gamma", "mask_size")
} | {
    "mask_groups": "no mask head",
    "mask_prior": "no mask head",
    "losses.consistency": "wants boxes and masks: an error, see test_wrong_configurations",
}


# One query has nobody but itself to look at.
LONELY = frozenset(
    f"decoder.{layer}.self_attention.{part}.{kind}"
    for layer in range(2)
    for part in ("query", "key")
    for kind in ("weight", "bias")
)


class Contract(ModelContract):
    def test_gradient_reaches_every_parameter(self, model: torch.nn.Module) -> None:
        """As in the contract, with several words in every sentence and a target for each: words are compared with each
        other, and a sentence without target has no box."""
        batch = full_sentences(self.config)
        masks = torch.zeros_like(batch.pixel_mask)
        for index in range(3):
            masks[index, 5 + index : 45, 10 : 40 + index] = True
        targets = replace(targets_of(batch, self.config), masks=masks, no_target=torch.zeros(3, dtype=torch.bool))
        sum(model.losses(model.train()(batch), targets).values()).backward()  # type: ignore[operator]
        dry = {
            name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
        }
        # The same for all words, so their softmax takes it away but for rounding.
        assert dry - {"query_encoder.query.bias"} == set(self.unreached)


class TestPaper(Contract):
    config = tiny(PAPER)
    unreached = LONELY
    knobs = "context"
    changes: ClassVar[dict[str, Any]] = CHANGES
    inactive: ClassVar[dict[str, str]] = ALONE


class TestOfficial(Contract):
    config = tiny(OFFICIAL)
    unreached = LONELY
    softened = frozenset({"query_encoder.query.weight"})
    changes: ClassVar[dict[str, Any]] = CHANGES
    inactive: ClassVar[dict[str, str]] = ALONE


class TestBoxesAlone(Contract):
    config = tiny(OFFICIAL_REC)
    unreached = LONELY
    softened = frozenset({"query_encoder.query.weight"})
    knobs = "losses."
    changes: ClassVar[dict[str, Any]] = CHANGES
    inactive: ClassVar[dict[str, str]] = ALONE | NO_MASKS


class TestMiniWithNoTarget(Contract):
    knobs = "losses."
    config = replace(
        tiny(MINI), no_target_head=True, tags=("red", "cat"), losses=replace(MINI.losses, consistency=0.5), queries=2
    )
    changes: ClassVar[dict[str, Any]] = {**CHANGES, "tasks": "both", "losses.consistency": 0.1}
    inactive: ClassVar[dict[str, str]] = {
        "losses.phrases": ALONE["losses.phrases"],
        "tasks": "consistency wants both: an error, see test_wrong_configurations",
    }


# What the sources say


def test_presets_say_what_the_sources_say() -> None:
    assert (PAPER.input.size, PAPER.input.resize) == (640, "longest")
    assert (PAPER.context, PAPER.query_bias, PAPER.box_layers) == ("average", "content", 2)
    assert (OFFICIAL.context, OFFICIAL.query_bias, OFFICIAL.box_layers) == ("attention", "content_position", 3)
    assert (OFFICIAL_MULTI.text.max_words, OFFICIAL.text.max_words) == (90, 40)
    assert (OFFICIAL.losses.auxiliary, OFFICIAL_REC.losses.auxiliary) == (0.0, 1.0)


def test_parameters_are_as_many_as_the_published_model_has() -> None:
    with torch.device("meta"):
        model = build(OFFICIAL)
    parts = {name: sum(value.numel() for value in part.parameters()) for name, part in model.named_children()}
    assert parts["vision"] == 23_454_912
    assert parts["text"] == 109_482_240
    assert parts["mask_head"] == 3_304_089
    assert parts["query_encoder"] == 462_336
    assert sum(value.numel() for value in model.parameters()) == 155_417_181


def test_runs_with_a_swin_transformer() -> None:
    swin = SwinConfig(embed_dim=16, depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), window=4)
    config = replace(tiny(OFFICIAL), vision=swin)
    output = build(config).eval()(batch_of(config))
    assert tuple(output.mask_logits.shape) == (3, 16, 20)


# Equations


@torch.no_grad()
def test_equation_1_averages_the_span() -> None:
    model = QueryEncoder(tiny(PAPER))
    words = torch.randn(2, 6, 32)
    span = torch.zeros(2, 3, 6, dtype=torch.bool)
    bounds = [[(1, 3), (2, 6), (0, 1)], [(4, 5), (1, 2), (0, 6)]]
    for sentence in range(2):
        for phrase, (left, right) in enumerate(bounds[sentence]):
            span[sentence, phrase, left:right] = True
    found, attention = model._context(words, span)
    assert attention is None
    for sentence in range(2):
        for phrase, (left, right) in enumerate(bounds[sentence]):
            total = torch.zeros(32)
            for token in range(left, right):
                total += words[sentence, token]
            assert_near(found[sentence, phrase], total / (right - left))


@torch.no_grad()
def test_equation_2_adds_a_bias_to_what_the_perceptron_fuses() -> None:
    model = filled(QueryEncoder(replace(tiny(PAPER), queries=2))).eval()
    words, vectors = torch.randn(1, 6, 32), torch.randn(1, 3, 32)
    span = torch.ones(1, 3, 6, dtype=torch.bool)
    queries, positions, _ = model(words, span, vectors)
    assert not positions.any()
    for phrase in range(3):
        both = torch.cat([words[0].mean(dim=0), vectors[0, phrase]])
        for step in (0, 4):
            linear, norm = model.fuse[step], model.fuse[step + 1]
            values = linear.weight @ both + linear.bias
            normal = (values - values.mean()) / (values.var(unbiased=False) + norm.eps).sqrt()
            both = (normal * norm.weight + norm.bias).clamp(min=0)
        for query in range(2):
            assert_near(queries[0, 2 * phrase + query], both + model.bias.weight[query])


@torch.no_grad()
def test_context_of_the_code_asks_with_every_word_for_the_first() -> None:
    model = filled(QueryEncoder(replace(tiny(OFFICIAL), queries=2))).eval()
    words, vectors = torch.randn(1, 5, 32), torch.randn(1, 2, 32)
    span = torch.tensor([[[False, True, True, False, False], [False, False, False, True, False]]])
    queries, positions, attention = model(words, span, vectors)
    key = model.key(words[0, 0])
    for phrase in range(2):
        weights = [math.exp(float(model.query(words[0, t]) @ key)) if span[0, phrase, t] else 0.0 for t in range(5)]
        gathered = torch.zeros(32)
        for token in range(5):
            share = weights[token] / sum(weights)
            assert float(attention[0, phrase, token]) == pytest.approx(share, rel=1e-4)
            gathered += share * model.value(words[0, token])
        context = words[0, 0] + model.output(gathered)
        fused = model.fuse(torch.cat([context, vectors[0, phrase]]))
        for query in range(2):
            assert_near(queries[0, 2 * phrase + query], fused + model.bias.weight[query, :32])
            assert_near(positions[0, 2 * phrase + query], fused + model.bias.weight[query, 32:])


def slow_giou(one: list[float], other: list[float]) -> float:
    def sides(box: list[float]) -> tuple[float, float, float, float]:
        return box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2

    a, b = sides(one), sides(other)
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = one[2] * one[3] + other[2] * other[3] - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union - (hull - union) / hull


def test_equation_3_is_the_boxes_loss() -> None:
    config = replace(tiny(OFFICIAL_REC), queries=2, losses=RefTRLosses(box_l1=3.0, box_giou=0.5, auxiliary=0.25))
    model = filled(build(config)).eval()
    batch = batch_of(config)
    output = model(batch)
    boxes = torch.tensor([[[0.3, 0.4, 0.2, 0.3]], [[0.6, 0.5, 0.5, 0.9]], [[0.0, 0.0, 0.0, 0.0]]])
    with torch.no_grad():
        losses = model.losses(output, replace(targets_of(batch), boxes=boxes))
    totals = []
    for layer in (output.auxiliary["query_boxes"], *output.auxiliary["earlier_boxes"]):
        distance = overlap = 0.0
        for sentence in range(2):  # the third means nothing
            for query in range(2):
                found, wanted = layer[sentence, 0, query].tolist(), boxes[sentence, 0].tolist()
                distance += sum(abs(a - b) for a, b in zip(found, wanted, strict=True)) / (2 * 2)
                overlap += (1 - slow_giou(found, wanted)) / (2 * 2)
        totals.append((3.0 * distance, 0.5 * overlap))
    assert float(losses["box_l1"]) == pytest.approx(totals[0][0], rel=1e-4)
    assert float(losses["box_giou"]) == pytest.approx(totals[0][1], rel=1e-4)
    assert float(losses["earlier"]) == pytest.approx(0.25 * sum(totals[1]), rel=1e-4)


@pytest.mark.parametrize("size", ["input", "output"])
def test_equation_4_is_the_masks_loss(size: str) -> None:
    config = replace(tiny(OFFICIAL), tasks="res", losses=RefTRLosses(focal=2.0, dice=0.5, mask_size=size))
    model = filled(build(config)).eval()
    batch = batch_of(config, size=(32, 32))
    with torch.no_grad():
        output, targets = model(batch), targets_of(batch)
    logits, masks = output.mask_logits, targets.masks.float()
    if size == "input":
        logits = torch.nn.functional.interpolate(logits[:, None], size=(32, 32), mode="bilinear")[:, 0]
    else:
        masks = torch.nn.functional.avg_pool2d(masks[:, None], 4)[:, 0]
    focal = dice = 0.0
    for sentence in range(3):
        each, shared, total = 0.0, 0.0, 0.0
        pairs = list(zip(logits[sentence].flatten().tolist(), masks[sentence].flatten().tolist(), strict=True))
        for logit, target in pairs:
            p = 1 / (1 + math.exp(-logit))
            wrong = p * (1 - target) + (1 - p) * target
            entropy = -(target * math.log(p) + (1 - target) * math.log(1 - p))
            each += (0.25 * target + 0.75 * (1 - target)) * wrong**2 * entropy
            shared, total = shared + p * target, total + p + target
        focal += each / len(pairs) / 3
        dice += (1 - (2 * shared + 1) / (total + 1)) / 3
    losses = model.losses(output, targets)
    assert set(losses) == {"focal", "dice"}
    assert float(losses["focal"]) == pytest.approx(2.0 * focal, rel=1e-3)
    assert float(losses["dice"]) == pytest.approx(0.5 * dice, rel=1e-3)


@pytest.mark.parametrize("count", [1, 3])
@torch.no_grad()
def test_consistency_is_the_energy_between_queries_and_pixels(count: int) -> None:
    model = filled(Consistency(8, 4, count))
    queries, features = torch.randn(2, count, 8), torch.randn(2, 4, 3, 5)
    found = model(queries, features)
    for phrase in range(2):
        pixels = features[phrase].flatten(1).T
        of_pixels = model.of_pixel(pixels)[:, 0].softmax(dim=0)
        of_queries = torch.ones(1) if count == 1 else model.of_query(queries[phrase])[:, 0].softmax(dim=0)
        energy = 0.0
        for i in range(count):
            meaning = model.project(queries[phrase, i])
            for j in range(15):
                cosine = float(meaning @ pixels[j] / meaning.norm() / pixels[j].norm())
                energy += float(of_queries[i]) * (cosine + 1) / 2 * float(of_pixels[j])
        assert float(found[phrase]) == pytest.approx(-math.log(energy), rel=1e-4)


@torch.no_grad()
def test_masks_start_at_their_prior() -> None:
    config = replace(tiny(MINI), mask_prior=0.02)
    biases = [build(each).mask_head.logits.bias for each in (config, tiny(OFFICIAL))]
    assert [round(float(bias.sigmoid()), 4) for bias in biases] == [0.02, 0.5]


# Many phrases of a sentence


def phrases_of(batch: Batch, spans: list[list[tuple[int, int]]]) -> Phrases:
    """Phrases that stand at these places of the sentences, tokenised as the words there between two special ones."""
    count, length = max(len(each) for each in spans), batch.tokens.ids.shape[1]
    ids = torch.zeros(len(spans), count, length, dtype=torch.long)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[..., :2] = True
    start, stop = torch.zeros(len(spans), count, dtype=torch.long), torch.ones(len(spans), count, dtype=torch.long)
    real = torch.zeros(len(spans), count, dtype=torch.bool)
    for sentence, own in enumerate(spans):
        for phrase, (left, right) in enumerate(own):
            words = batch.tokens.ids[sentence, left:right]
            ids[sentence, phrase, 1 : 1 + len(words)] = words
            mask[sentence, phrase, : 2 + len(words)] = True
            start[sentence, phrase], stop[sentence, phrase], real[sentence, phrase] = left, right, True
    return Phrases(ids, mask, start, stop, real)


SPANS = [[(1, 3), (3, 4), (2, 4)], [(1, 2)], [(2, 3), (1, 2)]]


def full_sentences(config: RefTRConfig) -> Batch:
    batch = batch_of(config)
    mask = torch.ones_like(batch.tokens.mask)
    mask[:, 5:] = False
    ids = torch.randint(2, 30, batch.tokens.ids.shape) * mask
    return Batch(batch.images, batch.pixel_mask, Tokens(ids, mask))


@pytest.fixture(params=[OFFICIAL, MINI], ids=["pieces", "words"])
def asked(request: pytest.FixtureRequest) -> tuple[RefTR, Batch, Phrases]:
    config = tiny(request.param)
    batch = full_sentences(config)
    return filled(build(config)).eval(), batch, phrases_of(batch, SPANS)  # type: ignore[return-value]


def answer(model: RefTR, batch: Batch, phrases: Phrases | None) -> Any:
    with torch.no_grad():
        return model(Batch(batch.images, batch.pixel_mask, batch.tokens, phrases))


def test_answers_of_phrases_follow_their_order(asked: tuple[RefTR, Batch, Phrases]) -> None:
    model, batch, phrases = asked
    output = answer(model, batch, phrases)
    assert tuple(output.boxes.shape) == (3, 3, 4)
    assert tuple(output.phrase_mask_logits.shape) == (3, 3, 16, 20)
    order = [2, 0, 1]
    turned = Phrases(*(getattr(phrases, name)[:, order] for name in ("ids", "word_mask", "start", "stop", "mask")))
    again = answer(model, batch, turned)
    assert_near(again.boxes, output.boxes[:, order])
    assert_near(again.phrase_mask_logits, output.phrase_mask_logits[:, order])
    assert_near(again.mask_logits, output.mask_logits)


def test_union_is_of_the_real_phrases(asked: tuple[RefTR, Batch, Phrases]) -> None:
    model, batch, phrases = asked
    output = answer(model, batch, phrases)
    for sentence, own in enumerate(SPANS):
        each = output.phrase_mask_logits[sentence, : len(own)]
        assert torch.equal(output.mask_logits[sentence], each.amax(dim=0))


def test_missing_phrases_change_nothing(asked: tuple[RefTR, Batch, Phrases]) -> None:
    model, batch, phrases = asked
    output = answer(model, batch, phrases)
    short = Phrases(*(getattr(phrases, name)[1:2, :1] for name in ("ids", "word_mask", "start", "stop", "mask")))
    alone = Batch(batch.images[1:2], batch.pixel_mask[1:2], Tokens(batch.tokens.ids[1:2], batch.tokens.mask[1:2]))
    single = answer(model, alone, short)
    assert_near(single.boxes, output.boxes[1:2, :1])
    assert_near(single.mask_logits, output.mask_logits[1:2])


def logits(boxes: Tensor) -> Tensor:
    """What the sigmoid of the box head took in."""
    return boxes.double().logit()


def test_phrases_see_each_other_and_their_sentence(asked: tuple[RefTR, Batch, Phrases]) -> None:
    model, batch, phrases = asked
    output = answer(model, batch, phrases)
    ids = phrases.ids.clone()
    ids[0, 1] = (ids[0, 1] + 7) % 30
    other = answer(model, batch, replace(phrases, ids=ids))
    assert_differs(logits(other.boxes[0, 0]), logits(output.boxes[0, 0]))
    assert_near(other.boxes[1:], output.boxes[1:])
    start, stop = phrases.start.clone(), phrases.stop.clone()
    start[1, 0], stop[1, 0] = 3, 4
    moved = answer(model, batch, replace(phrases, start=start, stop=stop))
    assert_differs(logits(moved.boxes[1, 0]), logits(output.boxes[1, 0]))


def test_a_sentence_without_phrases_is_one_itself() -> None:
    config = tiny(OFFICIAL)
    model, batch = filled(build(config)).eval(), full_sentences(config)
    inner = torch.ones(3, 1, dtype=torch.long)
    whole = Phrases(
        batch.tokens.ids[:, None], batch.tokens.mask[:, None], inner, 4 * inner, torch.ones(3, 1, dtype=torch.bool)
    )
    for single, phrase in zip(
        tensors_of(answer(model, batch, None)), tensors_of(answer(model, batch, whole)), strict=True
    ):
        assert_near(single, phrase)


@pytest.mark.parametrize("config", [OFFICIAL, MINI])
def test_sentences_and_phrases_without_a_word_have_an_answer(config: RefTRConfig) -> None:
    config = tiny(config)
    model, batch = filled(build(config)).eval(), full_sentences(config)
    mask = batch.tokens.mask.clone()
    mask[0, 2:] = False  # [CLS] [SEP]
    bare = Batch(batch.images, batch.pixel_mask, Tokens(batch.tokens.ids, mask))
    phrases = phrases_of(bare, [[(0, 1)], [], [(3, 3)]])
    for given in (None, phrases):
        assert all(value.isfinite().all() for value in tensors_of(answer(model, bare, given)))


def test_losses_of_phrases(asked: tuple[RefTR, Batch, Phrases]) -> None:
    model, batch, phrases = asked
    output = answer(model, batch, phrases)
    real = phrases.mask
    masks = torch.zeros(6, 64, 80, dtype=torch.bool)
    for index in range(6):
        masks[index, 4 * index : 40, 8 : 20 + 4 * index] = True
    apart = list(masks.split([3, 1, 2]))
    union = torch.stack([each.any(dim=0) for each in apart])
    told = Targets(union, torch.zeros(3, dtype=torch.bool), instances=apart)
    boxes = torch.zeros(3, 3, 4)
    boxes[real] = boxes_of_masks(masks, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(6, 4))
    summed = model.losses(output, told)
    assert_near(summed["box_l1"], model.losses(output, replace(told, boxes=boxes))["box_l1"])
    # By hand: all phrases' distances, over three sentences.
    distance = (output.boxes[real] - boxes[real]).abs().sum() / 3
    assert_near(summed["box_l1"], model.config.losses.box_l1 * distance)
    mean = build(replace(model.config, losses=replace(model.config.losses, phrases="mean")))
    averaged = mean.losses(output, told)
    for name in ("box_l1", "box_giou", "focal", "dice"):
        assert float(summed[name]) == pytest.approx(2 * float(averaged[name]), rel=1e-4)
    # Without the phrases' own masks, their union is compared.
    only_union = model.losses(output, replace(told, instances=None, boxes=boxes))
    assert_differs(only_union["dice"], summed["dice"])
    model.train().zero_grad()
    trained = model(Batch(batch.images, batch.pixel_mask, batch.tokens, phrases))
    sum(model.losses(trained, told).values()).backward()
    dry = {name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    assert dry <= {"query_encoder.query.bias"}
    with pytest.raises(RefsegError, match="expression 1: 1 phrases, but 3 masks"):
        model.losses(output, replace(told, instances=[apart[0], apart[0], apart[2]]))
    with pytest.raises(RefsegError, match="need a box each"):
        model.losses(output, replace(told, instances=None))
    with pytest.raises(RefsegError, match=r"boxes of \(3, 1\) phrases, but \(3, 3\) were asked"):
        model.losses(output, replace(told, boxes=boxes[:, :1]))


def test_training_reads_the_phrases_that_the_configuration_asks_for() -> None:
    from refseg.data.sample import Instance, Phrase, Sample
    from refseg.training.source import Batches

    text = "a man beside a red ball"
    man, ball = Instance(1, "man", (4.0, 8.0, 20.0, 40.0)), Instance(2, "ball", (30.0, 30.0, 40.0, 42.0))
    phrases = (Phrase("a man", 0, 5, (man,)), Phrase("a red ball", 13, 23, (ball,)))
    image = np.full((48, 48, 3), 90, dtype=np.uint8)
    sample = Sample("1_0", text, image_id=1, size=(48, 48), objects=(man, ball), phrases=phrases, image=image)

    class Pictures:
        count, notice = 1, ""

        def samples(self, index: int) -> list[Sample]:
            return [sample]

        def texts(self) -> list[str]:
            return [text]

    tokenizer = WordTokenizer.learn([text], 6)
    config = tiny(replace(OFFICIAL_MULTI, text=TINY_WORDS))
    recipe = parse_recipe({"model": {"preset": "reftr-mini"}, "data": {"pictures_per_batch": 1}})
    batch, targets = Batches(Pictures(), tokenizer, config.input, recipe, needs=config.needs)[0]
    assert batch.phrases is not None
    assert tuple(targets.boxes.shape) == (1, 16, 4)
    assert batch.phrases.mask[0].tolist() == [True, True] + [False] * 14
    model = build(config).eval()
    with torch.no_grad():
        output = model(batch)
        found = model.losses(output, targets)["box_l1"]
    expected = torch.tensor([[0.25, 0.5, 16 / 48, 32 / 48], [35 / 48, 0.75, 10 / 48, 0.25]])
    assert_near(found, (output.boxes[0, :2] - expected).abs().sum())


# Boxes, verdicts, several tasks


def test_boxes_count_where_there_is_a_target_and_come_from_masks_without_being_told() -> None:
    config = tiny(OFFICIAL)
    model, batch = filled(build(config)).eval(), batch_of(config)
    real = batch.pixel_mask.clone()
    real[:, :, 60:] = False
    batch = Batch(batch.images, real, batch.tokens)
    targets, output = targets_of(batch), model(batch)
    # Rectangles of rows 5 to 45 and columns 10 to 40, in a picture of 64 x 60 without padding.
    boxes = torch.tensor([[25 / 60, 25 / 64, 30 / 60, 40 / 64], [25.5 / 60, 25.5 / 64, 31 / 60, 39 / 64]])
    told = torch.cat([boxes, torch.ones(1, 4)])[:, None]
    found, expected = model.losses(output, targets), model.losses(output, replace(targets, boxes=told))
    for name in ("box_l1", "box_giou"):
        assert_near(found[name], expected[name])
    nothing = Targets(torch.zeros_like(targets.masks), torch.ones(3, dtype=torch.bool))
    assert float(model.losses(output, nothing)["box_l1"].detach()) == 0.0


def test_a_model_of_boxes_answers_with_their_inside() -> None:
    config = tiny(OFFICIAL_REC)
    model, batch = filled(build(config)).eval(), batch_of(config)
    output = model(batch)
    for logits, (x, y, width, height) in zip(output.mask_logits, output.boxes[:, 0].tolist(), strict=True):
        for row in range(16):
            for column in range(20):
                across, down = abs((column + 0.5) / 20 - x) < width / 2, abs((row + 0.5) / 16 - y) < height / 2
                assert bool(logits[row, column] > 0) == (across and down)


def test_verdict_is_learnt_with_its_weight() -> None:
    config = replace(tiny(OFFICIAL), no_target_head=True, losses=RefTRLosses(no_target=0.5))
    model, batch = filled(build(config)).eval(), batch_of(config)
    output, targets = model(batch), targets_of(batch)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(output.no_target_logits, targets.no_target.float())
    assert_near(model.losses(output, targets)["no_target"], 0.5 * expected)
    assert build(tiny(OFFICIAL)).eval()(batch).no_target_logits is None


@torch.no_grad()
def test_words_of_the_sentence_may_come_from_the_embeddings_alone() -> None:
    config = replace(tiny(OFFICIAL), context_words="embeddings")
    model = build(config).eval()
    tokens = batch_of(config).tokens
    features = model.encode_text(tokens)
    turned = tokens.ids.clone()
    turned[:, 1] = 5
    again = model.encode_text(Tokens(turned, tokens.mask))
    assert_near(features.words[:, [0, 2, 3]], again.words[:, [0, 2, 3]])
    assert_differs(features.sentence, again.sentence)


@pytest.mark.parametrize("config", [OFFICIAL, MINI])
def test_bfloat16_is_close(config: RefTRConfig) -> None:
    config = replace(tiny(config), dropout=0.0)
    model, batch = filled(build(config)).eval(), batch_of(config)
    with torch.no_grad():
        exact = model(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = model(batch)
    assert near.boxes.dtype == torch.float32
    assert_near(exact.boxes, near.boxes, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model.train()(batch)
    losses = model.losses(replace(output, mask_logits=output.mask_logits.float()), targets_of(batch))
    assert all(value.isfinite() for value in losses.values())


# The two stages of the published training

RECIPES = Path(__file__).parents[2] / "recipes"


def test_stage_b_starts_from_the_boxes_of_stage_a(tmp_path: Path) -> None:
    boxes, both = filled(build(tiny(OFFICIAL_REC))), build(tiny(OFFICIAL))
    tokenizer = WordTokenizer([f"w{number}" for number in range(28)], 7)
    save_model(tmp_path / "a", boxes, tokenizer)
    new = read_recipe(RECIPES / "reftr-official-refcoco-masks.toml").pretrained.allow_missing
    values: dict[str, Any] = {"pretrained": {"model": str(tmp_path / "a"), "allow_missing": list(new)}}
    first = {name: value.clone() for name, value in both.state_dict().items()}
    load_pretrained(both, parse_recipe(values), tokenizer)
    for name, value in both.state_dict().items():
        own = name.startswith(("pixel_attention.", "mask_head."))
        assert torch.equal(value, first[name] if own else boxes.state_dict()[name])
    values["pretrained"]["allow_missing"] = ["pixel_attention.*"]
    with pytest.raises(CheckpointError, match=r"missing: mask_head\.convs"):
        load_pretrained(both, parse_recipe(values), tokenizer)


@pytest.mark.parametrize("name", ["reftr-official-refcoco", "reftr-official-refcoco-masks"])
def test_recipes_train_what_the_published_code_trains(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    with torch.device("meta"):
        model = build(recipe.model_config())
    groups = parameter_groups(model, recipe.optimizer)
    masks = 3_304_089 + 131_584 if recipe.model_config().tasks == "rec" else 0  # which stage A does not have
    assert sum(value.numel() for group in groups for value in group["params"]) == 155_194_781 - masks
    assert {group["weight_decay"] for group in groups} == {1e-4}
    assert {round(group["lr"], 8) for group in groups} == {1e-4, 1e-5}
