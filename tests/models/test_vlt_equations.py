"""VLT's numbered equations against loops written from the text, and what the published code does otherwise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from refseg.encoders.text.glove_transformer import sinusoidal_positions
from refseg.models import build
from refseg.models.vlt.config import PAPER, MaskDecoderConfig, QueryConfig, TransformerConfig
from refseg.models.vlt.contrast import InterSampleConfig, contrastive_loss, select_word
from refseg.models.vlt.decoder import MaskFeatures, Transformer
from refseg.models.vlt.fusion import ConvSettings, FusionConfig, RawVision, SpatialDynamicFusion, TileFusion, halved
from refseg.models.vlt.queries import QueryBalance, QueryGeneration, coordinates
from tests.support.contract import assert_differs, assert_near, batch_of, filled
from tests.support.tiny_parts import tiny_vlt

C, H, W, L, Q = 8, 3, 4, 5, 3
SETTINGS = ConvSettings(0.0, 1e-5)


def relu_conv(conv, maps):
    """Conv of section 4.2.1: convolution, normalisation with its running statistics, rectification."""
    kernel, norm = conv.conv.weight, conv.norm
    maps = F.conv2d(maps, kernel, padding=kernel.shape[-1] // 2)
    maps = (maps - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    return (maps * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)


def text_conv(conv, words):
    """The same over the words of one sentence, (L, C)."""
    kernel, norm, rows = conv.conv.weight, conv.norm, []
    for place in range(len(words)):
        row = torch.zeros(len(kernel))
        for tap in range(kernel.shape[2]):
            neighbour = place + tap - kernel.shape[2] // 2
            if 0 <= neighbour < len(words):
                row += kernel[:, :, tap] @ words[neighbour]
        row = (row - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        rows.append(row.clamp(min=0))
    return torch.stack(rows)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("with_sentence", [True, False])
@torch.no_grad()
def test_spatial_dynamic_fusion(kernel, with_sentence):
    """Equations 4.1 to 4.3, place by place."""
    fusion = filled(SpatialDynamicFusion(FusionConfig(sentence=with_sentence, text_kernel=kernel), C, SETTINGS)).eval()
    raw, words, sentence = torch.randn(1, C, H, W), torch.randn(1, L, C), torch.randn(1, C)
    mask = torch.tensor([[True, True, True, False, False]])
    found = fusion.decode(fusion.encode(raw), words, sentence, mask)
    language = (words * mask[..., None])[0]
    real = mask[0].tolist()
    if with_sentence:
        language, real = torch.cat([sentence, language]), [True, *real]
    keys, values = text_conv(fusion.key, language), text_conv(fusion.value, language)
    queries = relu_conv(fusion.query, raw)[0]
    tailored, looked = torch.zeros(1, C, H, W), torch.zeros(L)
    for row in range(H):
        for column in range(W):
            scores = [float(queries[:, row, column] @ key) / math.sqrt(C) for key in keys]
            powers = [math.exp(score) if seen else 0.0 for score, seen in zip(scores, real, strict=True)]
            for number, (power, value) in enumerate(zip(powers, values, strict=True)):
                share = power / sum(powers)
                tailored[0, :, row, column] += share * value
                if number >= int(with_sentence):
                    looked[number - int(with_sentence)] += share / (H * W)
    assert_near(found.features, relu_conv(fusion.output, torch.cat([tailored, raw], dim=1)))
    assert_near(found.attention[0], looked)


@torch.no_grad()
def test_tile_copies_the_sentence_to_every_place():
    fusion = filled(TileFusion(FusionConfig("tile"), C, SETTINGS)).eval()
    more = TileFusion(FusionConfig("tile_conv4"), C, SETTINGS)
    assert (len(fusion.layers), len(more.layers)) == (1, 4)
    raw, sentence = torch.randn(1, C, H, W), torch.randn(1, C)
    found = fusion.decode(fusion.encode(raw), torch.randn(1, L, C), sentence, torch.ones(1, L, dtype=torch.bool))
    tiled = torch.zeros(1, C, H, W)
    for row in range(H):
        for column in range(W):
            tiled[0, :, row, column] = sentence[0]
    assert_near(found.features, relu_conv(fusion.layers[0], torch.cat([tiled, raw], dim=1)))


@torch.no_grad()
def test_raw_vision_is_three_maps_of_one_size():
    raw = filled(RawVision({8: 4, 16: 6, 32: 10}, C, 16, SETTINGS)).eval()
    maps = {8: torch.randn(1, 4, 8, 8), 16: torch.randn(1, 6, 4, 4), 32: torch.randn(1, 10, 2, 2)}
    parts = {stride: relu_conv(raw.laterals[str(stride)], level) for stride, level in maps.items()}
    up = F.interpolate(parts[32], size=(4, 4), mode="bilinear", align_corners=False)
    assert_near(raw(maps), parts[16] + F.avg_pool2d(parts[8], 2) + up)
    assert halved(torch.ones(1, 1, 3, 5)).eq(1).all()


@torch.no_grad()
def test_query_generation():
    """Equations 4.4 to 4.6, query by query and word by word."""
    generation = filled(QueryGeneration(QueryConfig(number=Q), C, C, C, H, SETTINGS)).eval()
    raw, words = torch.randn(1, C, H, H), torch.randn(1, L, C)
    mask = torch.tensor([[True, True, True, False, False]])
    maps = raw
    assert len(generation.reduce) == 3
    for conv in generation.reduce:
        maps = relu_conv(conv, maps)
    visual = generation.visual_queries(raw)
    found = generation(visual, words, mask)
    for query in range(Q):
        flat = torch.stack([maps[0, query, row, column] for row in range(H) for column in range(H)])
        own = (generation.visual.weight @ flat).clamp(min=0)
        scores = []
        for word in words[0, :3]:
            scores.append(math.exp(float(own @ (generation.key.weight @ word).clamp(min=0)) / math.sqrt(C)))
        gathered = torch.zeros(C)
        for score, word in zip(scores, words[0, :3], strict=True):
            gathered += score / sum(scores) * (generation.value.weight @ word).clamp(min=0)
        assert_near(found.vectors[0, query], gathered + own)
        assert_near(found.attention[0, query], torch.tensor([*(score / sum(scores) for score in scores), 0.0, 0.0]))


@torch.no_grad()
def test_query_generation_of_the_code():
    """Coordinates, positions of words and queries, eight heads (here two) whose projections are rectified."""
    generation = filled(QueryGeneration(QueryConfig(number=Q, form="code", heads=2), C, 6, C, H, SETTINGS)).eval()
    raw, words = torch.randn(1, C, H, H), torch.randn(1, L, 6)
    mask = torch.ones(1, L, dtype=torch.bool)
    visual = generation.visual_queries(raw)
    found = generation(visual, words, mask)
    maps = torch.cat([raw, coordinates(H, H)[None]], dim=1)
    for conv in generation.reduce[:3]:
        maps = relu_conv(conv, maps)
    maps = F.conv2d(maps, generation.reduce[3].weight, generation.reduce[3].bias)
    own = F.relu(generation.visual(maps.flatten(2)))
    assert_near(visual, own)
    language = F.relu(generation.key(words))
    query_in, word_in = own + sinusoidal_positions(Q, C), language + sinusoidal_positions(L, C)
    parts = [
        F.relu(layer(tokens))
        for layer, tokens in zip(generation.projections, (query_in, word_in, word_in), strict=True)
    ]
    attention = generation.attention
    queries, keys, values = (
        F.relu(layer(part))[0]
        for layer, part in zip((attention.query, attention.key, attention.value), parts, strict=True)
    )
    gathered, share = torch.zeros(Q, C), torch.zeros(Q, L)
    half = C // 2
    for head in (slice(0, half), slice(half, C)):
        weights = (queries[:, head] @ keys[:, head].T / math.sqrt(half)).softmax(dim=1)
        gathered[:, head] = weights @ values[:, head]
        share += weights / 2
    assert_near(found.vectors[0], F.relu(attention.output(gathered)) + own[0])
    assert_near(found.attention[0], share)


@torch.no_grad()
def test_maps_of_another_grid_are_resized_for_the_linear_layer():
    generation = filled(QueryGeneration(QueryConfig(number=Q), C, C, C, 4, SETTINGS)).eval()
    constant = torch.ones(1, C, 1, 1)
    assert generation.visual_queries(torch.randn(1, C, 5, 3)).shape == (1, Q, C)
    one = generation.visual_queries(constant.expand(1, C, 4, 4))
    assert one.shape == (1, Q, C)


def test_coordinates():
    found = coordinates(2, 3)
    assert found.shape == (6, 2, 3)
    for channel in range(3):
        assert found[channel].tolist() == [[-1.0, 0.0, 1.0]] * 2
        assert found[3 + channel].tolist() == [[-1.0] * 3, [1.0] * 3]


@torch.no_grad()
def test_query_balance():
    balance = filled(QueryBalance(C))
    queries, responses = torch.randn(2, Q, C), torch.randn(2, Q, C)
    balanced, confidence = balance(queries, responses)
    for batch in range(2):
        for number in range(Q):
            left = balance.response(responses[batch, number]).clamp(min=0)
            right = balance.query(queries[batch, number]).clamp(min=0)
            inner = balance.joint(torch.cat([left, right])).clamp(min=0)
            expected = 1 / (1 + math.exp(-float(balance.confidence(inner))))
            assert float(confidence[batch, number]) == pytest.approx(expected, rel=1e-5)
            assert_near(balanced[batch, number], responses[batch, number] * expected)


@torch.no_grad()
def test_mask_features():
    """Equation 4.7: an inner product of each response with each place."""
    kernel = MaskFeatures(MaskDecoderConfig(), C, 4)
    responses, memory = torch.randn(1, Q, C), torch.randn(1, H * W, C)
    found = kernel(responses, memory, (H, W))
    for number in range(Q):
        for row in range(H):
            for column in range(W):
                expected = float(responses[0, number] @ memory[0, row * W + column])
                assert float(found[0, number, row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    dense = filled(MaskFeatures(MaskDecoderConfig(source="dense"), C, H))
    found = dense(responses, memory[:, : H * H], (H, H))
    assert_near(found[0, 1, 2, 0], dense.dense(responses[0, 1])[2 * H].clamp(min=0))
    assert dense(responses, memory, (H, W)).shape == (1, Q, H, W)


@torch.no_grad()
def test_causal_queries_see_those_before_them():
    model = filled(Transformer(TransformerConfig(heads=2, feedforward=8, causal=True), C)).eval()
    queries, memory = torch.randn(1, Q, C), torch.randn(1, 6, C)
    before = model.decode(queries, memory, None, None)
    changed = queries.clone()
    changed[0, 2] = torch.randn(C)  # the same number added to all channels, a LayerNorm would take out
    after = model.decode(changed, memory, None, None)
    assert torch.equal(before[0, :2], after[0, :2])
    assert_differs(before[0, 2], after[0, 2])
    free = Transformer(TransformerConfig(heads=2, feedforward=8), C).eval()
    one, other = (free.decode(each, memory, None, None)[0, 0] for each in (queries, changed))
    assert_differs(one, other)


# Learning between samples


def slow_contrast(features, objects, pictures, tau, masked=None, word=None, anchors="all"):
    """Equation 4.8 by its sums, with sentences of a masked word among S_SO."""

    def cosine(one, other):
        return float(one @ other / one.norm() / other.norm())

    losses = []
    for start in range(len(features)) if anchors == "all" else [0]:
        positive = [features[i] for i in range(len(features)) if i != start and objects[i] == objects[start]]
        if masked is not None:
            positive += [masked[i] for i in range(len(features)) if objects[i] == objects[start] and word[i]]
        negative = [
            features[i] for i in range(len(features)) if pictures[i] == pictures[start] and objects[i] != objects[start]
        ]
        if not positive:
            continue
        total = 0.0
        for plus in positive:
            top = math.exp(cosine(plus, features[start]) / tau)
            bottom = sum(math.exp(cosine(minus, features[start]) / tau) for minus in [*negative, plus])
            total -= math.log(top / bottom)
        losses.append(total / len(positive))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("anchors", ["first", "all"])
@pytest.mark.parametrize("with_masked", [True, False])
def test_contrastive_loss(anchors, with_masked):
    features, masked = torch.randn(7, 12, dtype=torch.float64), torch.randn(7, 12, dtype=torch.float64)
    objects, pictures = torch.tensor([0, 0, 2, 2, 4, 5, 0]), torch.tensor([0, 0, 0, 0, 0, 5, 0])
    word = torch.tensor([True, False, True, True, False, True, True])
    extra = (masked, word) if with_masked else (None, None)
    found = contrastive_loss(features, objects, pictures, 0.1, *extra, anchors)
    expected = slow_contrast(features, objects.tolist(), pictures.tolist(), 0.1, *extra, anchors)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_contrastive_loss_without_anything_to_compare():
    features = torch.randn(3, 4, requires_grad=True)
    loss = contrastive_loss(features, torch.arange(3), torch.arange(3), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert features.grad.isfinite().all()
    # Positives alone: nothing is in the way, so that nothing is lost.
    alone = contrastive_loss(features, torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.long), 0.1)
    assert float(alone.detach()) == pytest.approx(0.0, abs=1e-6)


def test_contrastive_loss_draws_together_and_drives_apart():
    features = torch.randn(4, 6, requires_grad=True)
    objects, pictures = torch.tensor([0, 0, 2, 2]), torch.zeros(4, dtype=torch.long)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(contrastive_loss(features, objects, pictures, 0.1), features)
        with torch.no_grad():
            features -= 0.5 * gradient
    near = F.cosine_similarity(features[0], features[1], dim=0), F.cosine_similarity(features[2], features[3], dim=0)
    far = F.cosine_similarity(features[0], features[2], dim=0)
    assert min(near) > far + 0.5


def attention_of(rows):
    """A_qd of two queries that both look so."""
    return torch.tensor([rows], dtype=torch.float32).transpose(0, 1).expand(-1, 2, -1) / 2


def test_selected_words():
    mask = torch.tensor([[True] * 4 + [False], [True, True, False, False, False]])
    attention = attention_of([[0.1, 0.6, 0.2, 0.1, 0.9], [0.5, 0.5, 0.0, 0.0, 0.0]])
    many = attention.repeat(4000, 1, 1), mask.repeat(4000, 1)  # 4000 batches of the two expressions, one behind another
    draw = {
        kind: select_word(*many, InterSampleConfig(word_select=kind, threshold=0.15)).view(4000, 2)
        for kind in ("random", "threshold", "probability")
    }
    for words in draw.values():
        assert words[:, 1].eq(-1).all()
        assert words[:, 0].max() < 4
    shares = {kind: torch.bincount(words[:, 0], minlength=4) / 4000 for kind, words in draw.items()}
    powers = torch.tensor([0.1, 0.6, 0.2, 0.1]).exp()
    assert torch.allclose(shares["probability"], powers / powers.sum(), atol=0.04)
    assert torch.allclose(shares["random"], torch.full((4,), 0.25), atol=0.04)
    assert torch.allclose(shares["threshold"], torch.tensor([0.0, 0.5, 0.5, 0.0]), atol=0.04)
    assert select_word(attention, mask, InterSampleConfig(least_words=4)).tolist() == [-1, -1]
    spread = InterSampleConfig(word_select="threshold", threshold=5.0)
    assert 0 <= int(select_word(attention, mask, spread)[0]) < 4


@torch.no_grad()
def test_a_masked_word_is_not_looked_at_and_the_rest_is_normalised_anew():
    config = replace(tiny_vlt(PAPER), inter_sample=InterSampleConfig(least_words=2))
    model = filled(build(config)).eval()
    model.text.words.weight.mul_(8)  # so that a word more or less shows
    batch = batch_of(config)
    model.training = True  # the model's own switch alone: its normalisations and dropout stay in evaluation
    output = model(batch)
    word = output.auxiliary["masked_word"]
    assert word.tolist()[0] == -1  # two words
    assert (word[1:] >= 0).all()
    kept = output.auxiliary["mask_features"], output.auxiliary["masked_features"]
    assert torch.equal(kept[0][0], kept[1][0])
    assert_differs(kept[0][1], kept[1][1])
    text = model.encode_text(batch.tokens)
    state = model.encode_image(batch.images, batch.pixel_mask)
    less = batch.tokens.mask.clone()
    less[1, word[1]] = False
    queries = model.query_generation(state.visual_queries, model.project_text(text.words), less)
    assert float(queries.attention[1, :, word[1]].abs().max()) == 0.0
    assert torch.allclose(queries.attention[1].sum(dim=-1), torch.ones(config.queries.number))
