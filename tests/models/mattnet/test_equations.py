"""MAttNet's equations against slow loops, a region and an expression at a time, and the published tensors' import."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from refseg import official
from refseg.errors import CheckpointError, ConfigError
from refseg.models import build
from refseg.models.mattnet.config import PAPER, LanguageConfig, MAttNetLosses
from refseg.models.mattnet.language import LanguageAttention
from refseg.models.mattnet.losses import (
    Pairs,
    attribute_loss,
    attribute_weights,
    match_regions,
    ranking_losses,
    target_loss,
)
from refseg.models.mattnet.model import MAttNet
from refseg.models.mattnet.modules import RelationshipModule
from refseg.models.mattnet.neighbors import absolute_location, context_regions, offsets, same_class_neighbors
from refseg.nn.boxes import pair_iou
from refseg.types import Regions, Tokens
from tests.support.contract import assert_near, batch_of, filled
from tests.support.tiny_parts import TINY_RESNET
from tests.support.tiny_systems import tiny_mattnet as tiny

WORDS, HIDDEN, EMBED, LOW, HIGH, JOINT, TELLS, OTHERS = 30, 6, 10, 16, 16, 8, 3, 5
VECTOR = 9
"""Sizes of a small published checkpoint."""


def published() -> dict[str, Tensor]:
    """A state dict under the published names, small and random."""
    dice = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {
        "rnn_encoder.embedding.weight": (WORDS, EMBED),
        "rnn_encoder.mlp.0.weight": (VECTOR, EMBED),
        "rnn_encoder.mlp.0.bias": (VECTOR,),
        "weight_fc.weight": (3, 2 * HIDDEN),
        "weight_fc.bias": (3,),
        "sub_encoder.pool5_normalizer.weight": (1, LOW),
        "sub_encoder.fc7_normalizer.weight": (1, HIGH),
        "sub_encoder.att_normalizer.weight": (1, JOINT),
        "sub_encoder.phrase_normalizer.weight": (1, VECTOR),
        "sub_encoder.att_fuse.0.weight": (JOINT, LOW + HIGH),
        "sub_encoder.att_fuse.0.bias": (JOINT,),
        "sub_encoder.att_fc.weight": (TELLS, JOINT),
        "sub_encoder.att_fc.bias": (TELLS,),
        "sub_encoder.attn_fuse.0.weight": (JOINT, HIGH + JOINT + VECTOR),
        "sub_encoder.attn_fuse.0.bias": (JOINT,),
        "sub_encoder.attn_fuse.2.weight": (1, JOINT),
        "sub_encoder.attn_fuse.2.bias": (1,),
        "loc_encoder.lfeat_normalizer.weight": (1, 5),
        "loc_encoder.dif_lfeat_normalizer.weight": (1, 5 * OTHERS),
        "loc_encoder.fc.weight": (JOINT, 5 + 5 * OTHERS),
        "loc_encoder.fc.bias": (JOINT,),
        "rel_encoder.vis_feat_normalizer.weight": (1, HIGH),
        "rel_encoder.lfeat_normalizer.weight": (1, 5),
        "rel_encoder.fc.weight": (JOINT, HIGH + 5),
        "rel_encoder.fc.bias": (JOINT,),
    }
    for way in ("", "_reverse"):
        shapes |= {f"rnn_encoder.rnn.weight_ih_l0{way}": (4 * HIDDEN, VECTOR)}
        shapes |= {f"rnn_encoder.rnn.weight_hh_l0{way}": (4 * HIDDEN, HIDDEN)}
        shapes |= {f"rnn_encoder.rnn.bias_{kind}_l0{way}": (4 * HIDDEN,) for kind in ("ih", "hh")}
    norms = ["sub_encoder.att_fuse.1"]
    for module, inputs in (("sub", HIGH + JOINT), ("loc", JOINT), ("rel", JOINT)):
        shapes |= {f"{module}_attn.fc.weight": (1, 2 * HIDDEN), f"{module}_attn.fc.bias": (1,)}
        for side, width in (("vis", inputs), ("lang", VECTOR)):
            stem = f"{module}_matching.{side}_emb_fc"
            shapes |= {f"{stem}.0.weight": (JOINT, width), f"{stem}.0.bias": (JOINT,)}
            shapes |= {f"{stem}.4.weight": (JOINT, JOINT), f"{stem}.4.bias": (JOINT,)}
            norms += [f"{stem}.1", f"{stem}.5"]
    for norm in norms:
        shapes |= {f"{norm}.{part}": (JOINT,) for part in ("weight", "bias", "running_mean", "running_var")}
    state = {name: torch.randn(shape, generator=dice) * 0.5 for name, shape in shapes.items()}
    for name in state:
        if name.endswith("running_var"):
            state[name] = state[name].abs() + 0.5
    return state


def unit(vector: Tensor) -> Tensor:
    return vector / vector.square().sum().sqrt().clamp(min=1e-12)


def norm(state: dict[str, Tensor], name: str, vector: Tensor) -> Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return (vector - mean) / (variance + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(state: dict[str, Tensor], name: str, vector: Tensor) -> Tensor:
    return state[f"{name}.weight"] @ vector + state[f"{name}.bias"]


def scaled(state: dict[str, Tensor], name: str, vector: Tensor) -> Tensor:
    return unit(vector) * state[f"{name}.weight"][0]


def compared(state: dict[str, Tensor], module: str, region: Tensor, phrase: Tensor) -> Tensor:
    sides = []
    for side, vector in (("vis", region), ("lang", phrase)):
        stem = f"{module}_matching.{side}_emb_fc"
        hidden = norm(state, f"{stem}.1", linear(state, f"{stem}.0", vector)).clamp(min=0)
        sides.append(unit(norm(state, f"{stem}.5", linear(state, f"{stem}.4", hidden))))
    return (sides[0] * sides[1]).sum()


def lstm(state: dict[str, Tensor], way: str, vectors: list[Tensor]) -> list[Tensor]:
    hidden = cell = torch.zeros(HIDDEN)
    found = []
    for vector in vectors:
        gates = (
            state[f"rnn_encoder.rnn.weight_ih_l0{way}"] @ vector
            + state[f"rnn_encoder.rnn.bias_ih_l0{way}"]
            + state[f"rnn_encoder.rnn.weight_hh_l0{way}"] @ hidden
            + state[f"rnn_encoder.rnn.bias_hh_l0{way}"]
        )
        enter, forget, new, leave = gates.chunk(4)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        found.append(hidden)
    return found


def score_of(
    state: dict[str, Tensor], words: list[int], low: Tensor, high: Tensor, boxes: Tensor, names: list[str], own: int,
    size: tuple[int, int],
) -> tuple[float, list[float], list[float], int]:  # fmt: skip
    """S(o_own | r) with the module's scores, the module weights and the deciding thing around, as the published code
    computes them; `low` and `high` are (K, G, C), boxes x0 y0 x1 y1 in pixels of an image of `size`."""
    vectors = [
        linear(state, "rnn_encoder.mlp.0", state["rnn_encoder.embedding.weight"][word]).clamp(min=0) for word in words
    ]
    ahead, back = lstm(state, "", vectors), lstm(state, "_reverse", vectors[::-1])[::-1]
    weights = linear(state, "weight_fc", torch.cat([ahead[-1], back[0]])).softmax(0)
    phrases = {}
    for module in ("sub", "loc", "rel"):
        scores = [linear(state, f"{module}_attn.fc", torch.cat(pair)) for pair in zip(ahead, back, strict=True)]
        attention = torch.cat(scores).softmax(0)
        phrases[module] = sum((a * v for a, v in zip(attention, vectors, strict=True)), torch.zeros(VECTOR))
    # subject
    cells, energies = [], []
    asked = scaled(state, "sub_encoder.phrase_normalizer", phrases["sub"])
    for cell in range(low.shape[1]):
        fc7 = scaled(state, "sub_encoder.fc7_normalizer", high[own, cell])
        pool5 = scaled(state, "sub_encoder.pool5_normalizer", low[own, cell])
        fused = linear(state, "sub_encoder.att_fuse.0", torch.cat([pool5, fc7]))
        blob = norm(state, "sub_encoder.att_fuse.1", fused).clamp(min=0)
        cells.append(torch.cat([fc7, scaled(state, "sub_encoder.att_normalizer", blob)]))
        hidden = linear(state, "sub_encoder.attn_fuse.0", torch.cat([cells[-1], asked])).tanh()
        energies.append(linear(state, "sub_encoder.attn_fuse.2", hidden))
    attention = torch.cat(energies).softmax(0)
    subject = compared(
        state,
        "sub",
        sum((a * c for a, c in zip(attention, cells, strict=True)), torch.zeros(HIGH + JOINT)),
        phrases["sub"],
    )
    # location
    height, width = size
    x0, y0, x1, y1 = boxes[own].tolist()
    across, down = x1 - x0, y1 - y0
    place = torch.tensor(
        [x0 / width, y0 / height, (x1 - 1) / width, (y1 - 1) / height, across * down / (width * height)]
    )
    order = sorted(
        (number for number in range(len(boxes)) if number != own),
        key=lambda number: math.hypot(
            *(
                float((boxes[number, axis] + boxes[number, axis + 2] - boxes[own, axis] - boxes[own, axis + 2]) / 2)
                for axis in (0, 1)
            )
        ),
    )

    def away(number: int) -> Tensor:
        u0, v0, u1, v1 = boxes[number].tolist()
        middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
        area = (u1 - u0) * (v1 - v0) / (across * down)
        left, right = (u0 - middle_x) / across, (u1 - middle_x) / across
        return torch.tensor([left, (v0 - middle_y) / down, right, (v1 - middle_y) / down, area])

    same = [number for number in order if names[number] == names[own]]
    differences = torch.zeros(5 * OTHERS)
    for slot, number in enumerate(same[:OTHERS]):
        differences[5 * slot : 5 * slot + 5] = away(number)
    both = torch.cat(
        [
            scaled(state, "loc_encoder.lfeat_normalizer", place),
            scaled(state, "loc_encoder.dif_lfeat_normalizer", differences),
        ]
    )
    location = compared(state, "loc", linear(state, "loc_encoder.fc", both), phrases["loc"])
    # relationship: things of other classes first, and a score of 0 for every one that is missing of five
    around = ([number for number in order if names[number] != names[own]] + same)[:OTHERS]
    found = [(0.0, -1)] * (OTHERS - len(around))
    for number in around:
        seen = scaled(state, "rel_encoder.vis_feat_normalizer", high[number].mean(0))
        far = scaled(state, "rel_encoder.lfeat_normalizer", away(number))
        value = compared(state, "rel", linear(state, "rel_encoder.fc", torch.cat([seen, far])), phrases["rel"])
        found.append((float(value), number))
    relation, decided = max(found)
    parts = [float(subject), float(location), relation]
    total = sum(float(weight) * part for weight, part in zip(weights, parts, strict=True))
    return total, parts, weights.tolist(), decided


@pytest.fixture(scope="module")
def imported() -> MAttNet:
    model = official.load("mattnet", published(), vision=TINY_RESNET, max_words=7, attributes=("red", "big", "old"))
    assert isinstance(model, MAttNet)
    return model


@torch.no_grad()
def test_scores_are_those_of_the_published_equations(imported: MAttNet) -> None:
    height, width = 60, 84
    corners = "4 6 30 40  40 5 70 30  10 30 36 58  50 28 80 56  2 2 20 20  60 1 82 25  30 20 44 50"
    boxes = torch.tensor([float(value) for value in corners.split()]).view(-1, 4)
    names = ["dog", "cat", "dog", "dog", "cat", "dog", "bird"]
    batch = batch_of(imported.config, size=(height, width), sentences=3, pictures=1, image_index=[0, 0, 0])
    regions = Regions([boxes / torch.tensor([width, height] * 2)], [names])
    state = imported.encode_image(batch.images, batch.pixel_mask, regions)
    output = imported.decode(state, imported.encode_text(batch.tokens), batch.image_index)
    seen = state[0].seen
    for row in range(3):
        words = batch.tokens.ids[row][batch.tokens.mask[row]].tolist()
        for own in range(len(boxes)):
            total, parts, weights, decided = score_of(
                published(), words, seen.low, seen.high, boxes, names, own, (height, width)
            )
            assert_near(output.auxiliary["scores"][row][own], torch.tensor(total), of=torch.ones(1))
            assert_near(output.auxiliary["module_scores"][row][own], torch.tensor(parts), of=torch.ones(1))
            assert_near(output.auxiliary["module_weights"][row], torch.tensor(weights))
            assert int(output.auxiliary["context"][row][own]) == decided
        best = int(output.auxiliary["scores"][row].argmax())
        assert_near(output.boxes[row, 0, 2:], (boxes[best, 2:] - boxes[best, :2]) / torch.tensor([width, height]))


@torch.no_grad()
def test_attributes_are_told_of_the_mean_blob(imported: MAttNet) -> None:
    batch = batch_of(imported.config, sentences=1)
    regions = Regions([torch.tensor([[0.1, 0.1, 0.6, 0.9]])], [["dog"]])
    state = imported.encode_image(batch.images, batch.pixel_mask, regions)[0]
    given, low, high = published(), state.seen.low, state.seen.high
    blobs = []
    for cell in range(low.shape[1]):
        both = torch.cat(
            [
                scaled(given, "sub_encoder.pool5_normalizer", low[0, cell]),
                scaled(given, "sub_encoder.fc7_normalizer", high[0, cell]),
            ]
        )
        blobs.append(norm(given, "sub_encoder.att_fuse.1", linear(given, "sub_encoder.att_fuse.0", both)).clamp(min=0))
    assert state.subject.attributes is not None
    assert_near(state.subject.attributes[0], linear(given, "sub_encoder.att_fc", torch.stack(blobs).mean(0)))


def test_a_checkpoint_that_does_not_fit_says_why() -> None:
    state = published()
    for changes, said in (
        ({"rel_encoder.fc.bias": None}, "relationship.fuse.bias"),
        ({"extra.weight": torch.ones(1)}, "extra.weight"),
        ({"rnn_encoder.embedding.weight": None}, "not a checkpoint of MAttNet"),
        ({"sub_attn.fc.weight": None}, "attention over words"),
    ):
        damaged = {name: value for name, value in {**state, **changes}.items() if value is not None}
        with pytest.raises(CheckpointError, match=said):
            official.load("mattnet", damaged, vision=TINY_RESNET)
    with pytest.raises(ConfigError, match="16 and 16 channels"):
        official.load("mattnet", state)
    with pytest.raises(ConfigError, match="attributes"):
        official.load("mattnet", state, vision=TINY_RESNET, attributes=("red",))
    assert official.recognise(state) == "mattnet"


@torch.no_grad()
def test_module_weights_of_the_paper_read_the_first_and_the_last_word() -> None:
    """Section 3.1: [h_0, h_T], where the code has each direction's last state; nothing stands behind the embedding."""
    model = filled(LanguageAttention(LanguageConfig(vocabulary_size=20, embedding=5, hidden=4), 3)).eval()
    ids = torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0]])
    found = model(Tokens(ids, ids > 0))
    for row, length in enumerate((3, 2)):
        words = model.embedding(ids[row, :length])
        states = model.lstm(words[None])[0][0]
        expected = model.module_scores(torch.cat([states[0], states[-1]])).softmax(0)
        assert_near(found.module_weights[row], expected)
        attention = model.word_scores(states).softmax(0)
        assert_near(found.attention[row, :, :length], attention.T)
        assert_near(found.phrases[row], attention.T @ words)
        assert not found.attention[row, :, length:].any()


def test_offsets_of_the_paper_go_from_corner_to_corner() -> None:
    boxes = torch.tensor([[0.1, 0.2, 0.3, 0.6], [0.5, 0.1, 0.9, 0.3]])
    found = offsets(boxes, torch.tensor([[1, -1], [0, -1]]), "corner")
    expected = torch.tensor([(0.5 - 0.1) / 0.2, (0.1 - 0.2) / 0.4, (0.9 - 0.3) / 0.2, (0.3 - 0.6) / 0.4, 0.08 / 0.08])
    torch.testing.assert_close(found[0, 0], expected)
    assert not found[:, 1].any()
    place = absolute_location(boxes, (50, 100))
    torch.testing.assert_close(place[1], torch.tensor([0.5, 0.1, 0.9, 0.3, 0.08]))
    torch.testing.assert_close(absolute_location(boxes, (50, 100), True)[1, 2:4], torch.tensor([0.89, 0.28]))


@pytest.mark.parametrize("seed", range(5))
def test_neighbors_against_a_loop(seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    count = [0, 1, 2, 6, 9][seed]
    start = torch.rand(count, 2, generator=dice) * 0.6
    boxes = torch.cat([start, start + 0.1 + 0.3 * torch.rand(count, 2, generator=dice)], dim=1)
    classes, size = torch.randint(0, 2, (count,), generator=dice), (30, 90)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 * torch.tensor([size[1], size[0]])

    def near(own: int, wanted: list[int]) -> list[int]:
        ranked = sorted(wanted, key=lambda other: math.dist(centers[own].tolist(), centers[other].tolist()))
        return (ranked + [-1] * 5)[:5]

    same = same_class_neighbors(boxes, classes, size, 5).tolist()
    nearest = context_regions(boxes, classes, size, 5, "nearest").tolist()
    first = context_regions(boxes, classes, size, 5, "other_first").tolist()
    assert len(same) == len(nearest) == len(first) == count
    for own in range(count):
        others = [other for other in range(count) if other != own]
        alike = [other for other in others if classes[other] == classes[own]]
        unlike = [other for other in others if other not in alike]
        assert same[own] == near(own, alike)
        assert nearest[own] == near(own, others)
        ranked = [other for group in (unlike, alike) for other in near(own, group)[: len(group)]]
        assert first[own][: min(5, len(unlike))] == near(own, unlike)[: min(5, len(unlike))]
        assert set(first[own]) - {-1} <= set(ranked) | set(others)


@torch.no_grad()
def test_a_missing_context_scores_zero_or_does_not_count() -> None:
    config = tiny(PAPER)
    for padded, expected in ((False, -0.4), (True, 0.0)):
        module = RelationshipModule(replace(config, padded_context=padded), HIGH, VECTOR)
        phrase = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 0]])
        against = torch.tensor([-0.4, (1 - 0.16) ** 0.5, 0, 0, 0, 0, 0, 0])
        contexts = torch.stack([torch.stack([against, against]), torch.stack([against, against])])
        scores, decided = module.scores(contexts, torch.tensor([[True, False], [False, False]]), phrase)
        assert_near(scores, torch.tensor([[expected, 0.0]]), of=torch.ones(1))
        assert decided[0, 0].tolist() == [not padded, False]
        assert not decided[0, 1].any()


def pairs_of(scores: Tensor, positive: Tensor, negative: Tensor, pictures: list[int], groups: Tensor) -> list[Pairs]:
    return [Pairs(pictures[row], scores[row], groups, positive[row], negative[row]) for row in range(len(scores))]


def test_ranking_losses_against_a_loop() -> None:
    """Every pair of the same picture is compared; the hardest one counts."""
    dice = torch.Generator().manual_seed(0)
    scores = torch.rand(5, 4, generator=dice)
    positive = torch.eye(4, dtype=torch.bool)[torch.tensor([0, 1, 0, 3, 2])]
    positive[4] = False  # means nothing
    negative = ~positive
    pictures, groups, margin = [0, 0, 1, 0, 0], torch.tensor([0, 0, 1, 1]), 0.3
    config = MAttNetLosses(margin=margin, negatives="hardest")
    objects, expressions = ranking_losses(
        pairs_of(scores, positive, negative, pictures, groups), config, torch.zeros(())
    )
    wanted_objects, wanted_expressions = [], []
    for row in range(5):
        if not positive[row].any():
            continue
        target = int(positive[row].int().argmax())
        rivals = [float(scores[row, other]) for other in range(4) if other != target]
        wanted_objects.append(max(0.0, margin + max(rivals) - float(scores[row, target])))
        others = [other for other in range(5) if other != row and pictures[other] == pictures[row]]
        said = [float(scores[other, target]) for other in others if negative[other, target]]
        if said:
            wanted_expressions.append(max(0.0, margin + max(said) - float(scores[row, target])))
    assert len(wanted_expressions) == 3  # the only expression of its picture is compared with no other
    assert float(objects) == pytest.approx(sum(wanted_objects) / 4, abs=1e-6)
    assert float(expressions) == pytest.approx(sum(wanted_expressions) / 3, abs=1e-6)


def test_sampled_negatives_come_from_the_targets_class_as_often_as_said() -> None:
    scores = torch.tensor([[0.0, 0.1, 0.2, 0.4]])
    positive = torch.tensor([[True, False, False, False]])
    groups = torch.tensor([0, 0, 1, 1])
    torch.manual_seed(0)
    drawn = []
    for _ in range(600):
        pair = pairs_of(scores, positive, ~positive, [0], groups)
        drawn.append(float(ranking_losses(pair, MAttNetLosses(margin=0.5, same_class=0.3), torch.zeros(()))[0]))
    shares = {round(value - 0.5, 1): drawn.count(value) / 600 for value in set(drawn)}
    # Three standard deviations of a share of .3 among 600 are .056.
    assert shares[0.1] == pytest.approx(0.3, abs=0.06)
    assert shares[0.2] == pytest.approx(0.35, abs=0.06)
    assert shares[0.4] == pytest.approx(0.35, abs=0.06)


def test_regions_are_matched_by_overlap() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 20, 10, 30]])
    positive, negative = match_regions(pair_iou(boxes, torch.tensor([[0.0, 0, 10, 10], [21, 0, 30, 10]])))
    assert positive.tolist() == [True, False, True, False]
    assert negative.tolist() == [False, False, False, True]  # the second is nearly the first target: neither
    positive, negative = match_regions(pair_iou(boxes, torch.zeros(0, 4)))
    assert not positive.any()
    assert negative.all()
    assert len(match_regions(pair_iou(torch.zeros(0, 4), boxes))[0]) == 0


def test_losses_of_attributes_and_targets_against_loops() -> None:
    assert attribute_weights((4, 16), "inverse_root") == [0.5, 0.25]
    assert attribute_weights((1, 4, 100), "rescaled") == pytest.approx([10.0, 1 + 9 * 0.4 / 0.9, 1.0])
    assert attribute_weights((7, 7), "rescaled") == [1.0, 1.0]
    logits, held = torch.tensor([[0.5, -1.0], [2.0, 3.0]]), torch.tensor([[True, False], [False, False]])
    weights = torch.tensor([2.0, 0.5])
    found = attribute_loss(list(logits), list(held), weights, torch.zeros(()))
    wanted = (2.0 * math.log(1 + math.exp(-0.5)) + 0.5 * math.log(1 + math.exp(-1.0))) / 2  # the second is unknown
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    right, wrong = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    pair = pairs_of(torch.zeros(1, 3), right, wrong, [0], torch.zeros(3, dtype=torch.long))
    found = target_loss(pair, [torch.tensor([1.0, -2.0, 9.0])], torch.zeros(()))
    wanted = (math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(-2.0))) / 2  # the third is neither
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_every_expression_counts_alike_in_the_target_loss() -> None:
    """Against a loop, with expressions about pictures of different numbers of things, one of which knows nothing."""
    dice = torch.Generator().manual_seed(0)
    logits = [torch.randn(count, generator=dice) for count in (5, 2, 3, 4)]
    right = [torch.rand(len(each), generator=dice) > 0.6 for each in logits]
    wrong = [~each & (torch.rand(len(each), generator=dice) > 0.3) for each in right]
    right[2], wrong[2] = torch.zeros(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    pairs = [
        Pairs(0, each, torch.zeros(len(each), dtype=torch.long), yes, no)
        for each, yes, no in zip(logits, right, wrong, strict=True)
    ]
    wanted = []
    for each, yes, no in zip(logits, right, wrong, strict=True):
        terms = [
            math.log1p(math.exp(-value if meant else value))
            for value, meant, other in zip(each.tolist(), yes.tolist(), no.tolist(), strict=True)
            if meant or other
        ]
        wanted += [sum(terms) / len(terms)] if terms else []
    assert len(wanted) == 3
    assert float(target_loss(pairs, logits, torch.zeros(()))) == pytest.approx(sum(wanted) / 3, rel=1e-5)
    assert float(target_loss(pairs[2:3], logits[2:3], torch.ones(()))) == 1.0


def test_a_model_of_the_paper_has_the_papers_parts() -> None:
    with torch.device("meta"):
        model = build(PAPER)
    names = {name.rpartition(".")[0] for name in model.state_dict()}
    assert not any("scale" in name for name in names)
    assert model.text.project is None
    assert model.text.module_scores.in_features == 4 * PAPER.text.hidden
