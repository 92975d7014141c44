import random

from refseg.generation.language.logic import Evaluator
from refseg.generation.scenes import Thing, View, expressions_of


def photograph(*things):
    """A view as boxes of annotated photographs give it: no colour, no depth."""
    return View(
        (300, 400),
        tuple(
            Thing(name, (x, y, x + 40.0, y + 50.0), (x + 20.0, y + 25.0), 1500.0, families)
            for name, x, y, families in things
        ),
    )


def test_photographs_get_sentences_of_what_is_known():
    view = photograph(
        ("wine glass", 20.0, 100.0, ("kitchen",)),
        ("wine glass", 150.0, 100.0, ("kitchen",)),
        ("wine glass", 300.0, 100.0, ("kitchen",)),
        ("person", 220.0, 40.0, ("person",)),
        ("dog", 60.0, 200.0, ("animal",)),
    )
    dogs = [("dog", place, 0.0, ("animal",)) for place in (100.0, 300.0)]
    other = photograph(("person", 0.0, 0.0, ("person",)), *dogs)
    said = [item for seed in range(3) for item in expressions_of(view, random.Random(seed), 40, elsewhere=other)]
    evaluator = Evaluator(view)
    assert {"location", "ordinal", "relation", "counting", "group", "no_target"} <= {item.kind for item in said}
    assert any("wine glasses" in item.text for item in said)
    for item in said:
        assert evaluator.denote(item.form) == set(item.targets)
        assert "kitchen" not in item.text
        # Deceptions claim what is not there only where that is known: nobody recorded whether the person is a man.
        assert not {"man", "guy", "woman", "boy", "kid", "behind", "front", "sitting"} & set(item.text.split())


def test_a_mix_can_be_asked_for_and_sentences_turned_down():
    view = photograph(*(("dog", 90.0 * place, 100.0, ("animal",)) for place in range(4)))
    said = expressions_of(view, random.Random(0), 10, mix={"ordinal": 1.0}, allowed=lambda form, found: 0 not in found)
    assert said
    assert {item.kind for item in said} == {"ordinal"}
    assert all(item.targets != (0,) for item in said)


def test_an_empty_picture_has_nothing_to_say():
    assert expressions_of(View((100, 100), ()), random.Random(0), 5) == []
