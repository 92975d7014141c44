"""The chooser on perfect boxes: exact; on uncertain ones: soft, differentiable, and never worse for a duplicate."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refseg.generation.language.forms import Thing, View
from refseg.models.instances.chooser import Candidates, Choice, Chooser
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.config import ChooserConfig
from refseg.models.instances.evidence import (
    RULES,
    lay_out,
)
from refseg.models.instances.expression import parse
from refseg.models.instances.words import Lexicon
from tests.support.instance_layouts import candidates_of, puzzles


def thing(name: str, x: float, y: float, side: float = 40.0, colour: str = "white", high: float | None = None) -> Thing:
    x, y, side = float(x), float(y), float(side)
    high = side if high is None else float(high)
    families = ("person",) if name in ("man", "woman", "boy", "girl") else ()
    return Thing(name, (x, y, x + side, y + high), (x + side / 2, y + high / 2), side * high, families, colour)


def answer(text: str, *things: Thing, config: ChooserConfig | None = None) -> set[int]:
    chooser = Chooser(config or ChooserConfig(), Lexicon())
    with torch.inference_mode():
        choice = chooser(parse(text), candidates_of(View((320, 320), things)))
    return chosen(choice)


def chosen(choice: Choice) -> set[int]:
    return set() if float(choice.no_target_logit) > 0 else set((choice.logits > 0).nonzero()[:, 0].tolist())


ROW = [thing("zebra", 20 + 60 * place, 140) for place in range(5)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("left zebra", {0}),
        ("zebra on the far right", {4}),
        ("middle zebra", {2}),
        ("second zebra from the left", {1}),
        ("2nd zebra from right", {3}),
        ("the two leftmost zebras", {0, 1}),
        ("zebras", {0, 1, 2, 3, 4}),
        ("all the zebras except the middle one", {0, 1, 3, 4}),
        ("all zebras but the leftmost", {1, 2, 3, 4}),
        ("three zebras on the right", {2, 3, 4}),
        ("sixth zebra from the left", set()),
        ("dog", set()),
        ("the dog on the left", set()),
        ("all five zebras", {0, 1, 2, 3, 4}),
        ("all seven zebras", set()),
    ],
)
def test_order_number_and_absence(text: str, wanted: set[int]) -> None:
    assert answer(text, *ROW) == wanted


def test_colours_choose_and_miss() -> None:
    cars = thing("car", 40, 100, colour="red"), thing("car", 200, 100, colour="blue")
    assert answer("the red car", *cars) == {0}
    assert answer("blue car", *cars) == {1}
    assert answer("green car", *cars) == set()


def test_negations_of_what_can_be_seen_are_exact() -> None:
    cars = thing("car", 20, 100, colour="red"), thing("car", 120, 100, colour="blue"), thing("car", 220, 100, 60, "red")
    assert answer("the car that is not red", *cars) == {1}
    assert answer("the cars that are not blue", *cars) == {0, 2}
    assert answer("the car that isn't red", cars[0], cars[2]) == set()
    people = thing("man", 20, 100, 60, "red", 120), thing("man", 200, 100, 50, "blue", 110)
    assert answer("the man not in red", *people) == {1}
    umbrella = thing("umbrella", 30, 110, 30, "green")
    assert answer("the man without an umbrella", *people, umbrella) == {1}
    assert answer("the man with an umbrella", *people, umbrella) == {0}
    assert answer("the man without an umbrella", people[0]) == {0}  # nobody sees one
    dogs = thing("dog", 20, 200), thing("dog", 240, 200), thing("chair", 70, 200)
    assert answer("the dog not next to the chair", *dogs) == {1}
    assert answer("the animal that is not a dog", *dogs, thing("cat", 150, 200)) == {3}
    assert answer("the cat, not the dog on the right", *dogs, thing("cat", 150, 200)) == {3}


def test_a_plain_colour_never_turns_a_plain_thing_into_none() -> None:
    """A quarter of the pixels in the colour is plain, whatever else shows."""
    view = View((320, 320), (thing("bus", 60, 80, 160, "yellow"),))
    candidates = candidates_of(view)
    candidates.colours[0] = torch.full((11,), 0.75 / 10)
    candidates.colours[0, 5] = 0.25
    with torch.inference_mode():
        found = Chooser(ChooserConfig(), Lexicon())(parse("the yellow bus"), candidates)
    assert float(found.no_target_logit) < 0


def test_relations() -> None:
    scene = thing("dog", 20, 200), thing("dog", 240, 200), thing("chair", 190, 200)
    assert answer("dog next to the chair", *scene) == {1}
    assert answer("dog to the left of the chair", *scene) == {0}
    assert answer("chair between the dogs", *scene) == {2}
    assert answer("dog next to the elephant", *scene) != set()  # what nobody sees says nothing


def test_people() -> None:
    scene = (
        thing("man", 20, 100, colour="red"),
        thing("woman", 120, 100, colour="red"),
        thing("man", 220, 100, colour="blue"),
    )
    assert answer("woman", *scene) == {1}
    assert answer("man in red", *scene) == {0}
    assert answer("everyone in red", *scene) == {0, 1}
    assert answer("the lady and the man in blue", *scene) == {1, 2}


def test_size() -> None:
    scene = thing("cup", 20, 200, 30), thing("cup", 120, 180, 80)
    assert answer("bigger cup", *scene) == {1}
    assert answer("the smallest cup", *scene) == {0}
    assert answer("taller person", thing("man", 20, 100, 40, high=60), thing("man", 120, 60, 40, high=120)) == {1}


def test_a_proposal_twice_is_one_instance() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.3, 0.4], [0.11, 0.1, 0.3, 0.41], [0.6, 0.1, 0.8, 0.4]])
    probabilities = torch.full((3, len(CLASSES)), 0.01)
    probabilities[:, CLASSES.index("dog")] = torch.tensor([0.9, 0.7, 0.85])
    candidates = Candidates(probabilities, torch.full((3, 11), 1 / 11), lay_out(boxes, (100, 100)))
    chooser = Chooser(ChooserConfig(), Lexicon())
    with torch.inference_mode():
        assert chosen(chooser(parse("all dogs"), candidates)) == {0, 2}
        assert chosen(chooser(parse("both dogs"), candidates)) == {0, 2}
        assert chosen(chooser(parse("second dog from the left"), candidates)) == {2}
        assert chosen(chooser(parse("three dogs"), candidates)) == set()


def test_nothing_detected_is_none() -> None:
    empty = Candidates(torch.zeros(0, len(CLASSES)), torch.zeros(0, 11), lay_out(torch.zeros(0, 4), (10, 10)))
    found = Chooser(ChooserConfig(), Lexicon())(parse("the dog"), empty)
    assert float(found.no_target_logit) > 0
    assert not len(found.logits)
    assert found.reasons


@pytest.mark.parametrize("layouts", [300, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_layouts_of_perfect_boxes(layouts: int) -> None:
    """Expressions that certainly mean some of perfect boxes, or certainly nothing: right in 97 of 100 at least."""
    chooser = Chooser(ChooserConfig(), Lexicon())
    right = 0
    with torch.inference_mode():
        for puzzle in puzzles(layouts, seed=11):
            right += chosen(chooser(parse(puzzle.expression.text), puzzle.candidates)) == set(puzzle.expression.targets)
    assert right >= 0.97 * layouts


def test_each_weight_is_learnt_from_something() -> None:
    """Over expressions of all kinds the gradient of the evidence and the no-target logit reaches every weight."""
    chooser = Chooser(ChooserConfig(), Lexicon())
    total = torch.zeros(())
    texts = [
        "bigger dog in the middle",
        "closest dog",
        "back dog",
        "top dog left",
        "5 o clock dog",
        "dogs",
        "dog on the left",
    ]
    texts += [
        "2nd dog from the left",
        "red dog next to the cat",
        "man in blue",
        "third cat from left",
        "dog behind the white cat",
    ]
    texts += [
        "left dog",
        "cat horse",
        "man in white",
        "man in pink",
        "man in green",
        "green dog",
        "pink dog",
        "cat on the right",
        "animals",
        "four dogs",
        "partial dog",
    ]
    view = View(
        (320, 320),
        (thing("dog", 20, 40), thing("dog", 150, 200, 60, "red"), thing("cat", 80, 90), thing("man", 200, 30)),
    )
    for number, text in enumerate(texts):
        candidates = replace(candidates_of(view, certain=0.6, noise=0.05), drawn=float(number % 2))
        choice = chooser(parse(text), candidates)
        total = (
            total
            + (choice.evidence * torch.linspace(1, 2, 4)).sum()
            + choice.no_target_logit
            + (choice.logits * torch.linspace(1, 3, 4)).sum()
        )
    (gradient,) = torch.autograd.grad(total, chooser.weights)
    silent = [name for name, value in zip(RULES, gradient.tolist(), strict=True) if value == 0]
    assert not silent


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("places", "left zebra"),
        ("relations", "zebra next to the cat"),
        ("colours", "red zebra"),
        ("relative", "zebra on top"),
    ],
)
def test_each_switch_has_an_effect(field: str, text: str) -> None:
    things = (*ROW[:3], thing("cat", 260, 140, colour="black"), thing("zebra", 250, 20, 60, "red"))
    with torch.inference_mode():
        evidence = [
            Chooser(ChooserConfig(**{field: value}), Lexicon())(
                parse(text), candidates_of(View((320, 320), things))
            ).evidence
            for value in (True, False)
        ]
    assert float((evidence[0] - evidence[1]).abs().max()) > 0.05


def test_untrained_weights_stay_the_rules() -> None:
    assert not Chooser(ChooserConfig(trained=False), Lexicon()).weights.requires_grad
