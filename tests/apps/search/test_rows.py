"""Proposals as bytes, the bound that classes give, and scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refseg.apps.search.proposals import (
    pack_masks,
    pack_proposals,
    presence_codes,
    presence_of,
    unpack_proposals,
)
from refseg.apps.search.ranking import CALIBRATION, Classes, likelihood_codes
from refseg.errors import DataError
from refseg.models.instances.chooser import Candidates, Chooser
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.config import ChooserConfig
from refseg.models.instances.evidence import lay_out
from refseg.models.instances.expression import parse
from refseg.models.instances.summary import summarise
from refseg.models.instances.types import COLOURS, Proposals
from refseg.models.instances.words import Lexicon

EXPRESSIONS = (
    "the dog",
    "the red car on the left",
    "the man with a green bag",
    "two cats",
    "all animals",
    "the second person from the left",
    "the cat and the dog",
    "all dogs except the largest one",
    "the blue thing",
    "the woman in white next to the bus",
    "the smallest ketchup",
    "the bus between two cars",
    "the boy",
)


def random_proposals(count: int, seed: int, size: tuple[int, int] = (480, 640)) -> Proposals:
    """Boxes anywhere; most probabilities are small, as a detector's are."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * 0.7
    boxes = torch.cat([corner, corner + 0.05 + torch.rand(count, 2, generator=random) * 0.25], dim=1)
    probs = torch.rand(count, len(CLASSES), generator=random) ** 6 * 0.98
    colours = torch.rand(count, len(COLOURS), generator=random)
    masks = torch.randn(count, 28, 28, generator=random)
    return Proposals(
        boxes,
        probs.amax(1) if count else torch.zeros(0),
        probs,
        torch.zeros(count, 0),
        colours / colours.sum(1, keepdim=True),
        masks,
        size,
        drawn=0.3,
    )


def candidates(proposals: Proposals) -> Candidates:
    layout = lay_out(proposals.boxes, proposals.size)
    return Candidates(proposals.class_probs, proposals.colours, layout, proposals.drawn)


@pytest.mark.parametrize("count", [0, 1, 40])
def test_bytes_keep_proposals_to_their_precision(count: int) -> None:
    before = random_proposals(count, seed=3)
    after = unpack_proposals(pack_proposals(before), pack_masks(before))
    assert after.size == before.size
    assert after.drawn == pytest.approx(before.drawn, abs=0.5 / 65535)
    assert len(after) == count
    # Half a step of 16 bits, of the scale of logarithms in 16 and 8 bits, of a square root in 8 bits; and float32.
    torch.testing.assert_close(after.boxes, before.boxes, rtol=0, atol=0.5 / 65535 + 1e-6)
    fine = before.class_probs >= 0.0205
    coarse = (before.class_probs < 0.0195) & (before.class_probs > 0.00105)
    step = np.log(1000)
    torch.testing.assert_close(
        after.class_probs[fine], before.class_probs[fine], rtol=np.expm1(0.51 * step / 65535) + 1e-6, atol=0
    )
    torch.testing.assert_close(
        after.class_probs[coarse], before.class_probs[coarse], rtol=np.expm1(0.51 * step / 255), atol=0
    )
    assert (after.class_probs[before.class_probs < 0.00099] < 0.00103).all()
    torch.testing.assert_close(after.colours, before.colours, rtol=0.02, atol=0.01)
    assert torch.equal(after.mask_logits > 0, before.mask_logits > 0)


def test_bytes_of_bytes_are_the_same() -> None:
    once = unpack_proposals(pack_proposals(random_proposals(30, seed=5)))
    twice = unpack_proposals(pack_proposals(once))
    assert torch.equal(once.class_probs, twice.class_probs)
    assert torch.equal(once.boxes, twice.boxes)


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\xff" * 40, b"\x10\x00\x00\x00" + b"nonsense", "cut"])
def test_damaged_rows_are_named(damage: bytes | str) -> None:
    content = pack_proposals(random_proposals(4, seed=1))
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content = bytes(damage)
    with pytest.raises(DataError, match="damaged row"):
        unpack_proposals(content)


def test_presence_is_never_too_small() -> None:
    stored = unpack_proposals(pack_proposals(random_proposals(50, seed=7))).class_probs.numpy()
    codes = presence_codes(stored)
    assert codes.shape == (len(CLASSES),)
    largest = stored.max(0)
    assert (presence_of(codes) >= largest * (1 - 1e-6)).all()
    assert (presence_of(codes)[largest > 0.002] <= largest[largest > 0.002] * 1.028).all(), "and not far above"


@pytest.fixture(scope="module")
def chooser() -> Chooser:
    return Chooser(ChooserConfig(), Lexicon()).eval()


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_no_answer_is_better_than_its_bound(chooser: Chooser, text: str) -> None:
    expression = parse(text)
    phrases = summarise(chooser, expression)
    exact, codes = [], []
    with torch.no_grad():
        for seed in range(12):
            stored = unpack_proposals(pack_proposals(random_proposals(1 + 5 * (seed % 4), seed)))
            exact.append(float(chooser(expression, candidates(stored)).no_target_logit))
            codes.append(presence_codes(stored.class_probs.numpy()))
    classes = Classes(np.stack(codes, 1), np.full((len(CLASSES), len(codes)), 150, np.uint8))
    least = classes.least_logits(chooser, phrases)
    assert (np.array(exact) >= least - 1e-4).all()
    logits = np.array(exact, np.float32)
    assert (classes.scores(chooser, phrases, logits) <= classes.score_bounds(chooser, phrases) + 1e-6).all()


def test_the_bound_of_a_bare_noun_is_near_the_answer(chooser: Chooser) -> None:
    expression = parse("the zebra")
    stored = unpack_proposals(pack_proposals(random_proposals(20, 2)))
    classes = Classes(presence_codes(stored.class_probs.numpy())[:, None], np.zeros((len(CLASSES), 1), np.uint8))
    with torch.no_grad():
        exact = float(chooser(expression, candidates(stored)).no_target_logit)
    # One step of the 8 bits of presence, times the weight of the fit.
    step = np.log(1000) / 255 * chooser.weights[chooser.names.index("none_fit")].item()
    assert exact - classes.least_logits(chooser, summarise(chooser, expression))[0] <= step + 1e-4


def test_scores_grow_with_likelihood_and_fall_with_what_speaks_against(chooser: Chooser) -> None:
    phrases = summarise(chooser, parse("the dog"))
    dog = CLASSES.index("dog")
    likelihood = np.zeros((len(CLASSES), 3), np.uint8)
    likelihood[dog] = likelihood_codes(np.array([-4.0, 0.0, 2.0], np.float32))
    classes = Classes(np.full((len(CLASSES), 3), 200, np.uint8), likelihood)
    least = classes.least_logits(chooser, phrases)
    plain = classes.scores(chooser, phrases, least)
    assert (np.diff(plain) > 0.05).all()
    odds = CALIBRATION.bias + CALIBRATION.slope * np.array([-4.0, 0.0, 2.0])
    # Half a step of the byte of a likelihood.
    np.testing.assert_allclose(np.log(plain / (1 - plain)), odds, atol=CALIBRATION.slope * 13 / 255 / 2 + 1e-3)
    assert (classes.scores(chooser, phrases, least + 2) < plain).all()


def test_what_something_stands_to_has_to_be_there(chooser: Chooser) -> None:
    phrases = summarise(chooser, parse("the man with a handbag"))
    likelihood = np.full((len(CLASSES), 2), 200, np.uint8)
    likelihood[CLASSES.index("handbag"), 1] = 10
    classes = Classes(np.full((len(CLASSES), 2), 200, np.uint8), likelihood)
    there, missing = classes.score_bounds(chooser, phrases)
    assert there > 0.5
    assert missing < 0.1


def test_what_no_class_is_meant_by_is_nowhere(chooser: Chooser) -> None:
    phrases = summarise(chooser, parse("the volcano"))
    classes = Classes(np.full((len(CLASSES), 1), 255, np.uint8), np.full((len(CLASSES), 1), 255, np.uint8))
    assert phrases[0].constant is not None
    assert classes.score_bounds(chooser, phrases)[0] < CALIBRATION.found
