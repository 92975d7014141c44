"""The chooser's weights from cached sentences: expansion against chooser, losses against loops, what is kept."""

from __future__ import annotations

import io
import random
import time
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from refseg.errors import DataError
from refseg.generation.language.forms import View
from refseg.generation.photos.attributes import PhotoView
from refseg.models.instances.chooser import Chooser
from refseg.models.instances.config import ChooserConfig
from refseg.models.instances.expression import parse
from refseg.models.instances.losses import choice_loss
from refseg.models.instances.words import Lexicon
from refseg.training.instances.expanded import Expanded, ExpandedCache, expand, matches
from refseg.training.instances.expressions import absent_and_present
from refseg.training.instances.referring import ReferringTraining, is_right, learn, losses_of, stack
from tests.models.instances.test_chooser import thing
from tests.support.instance_layouts import puzzles

QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def expanded():
    """(expression, candidates, numbers, expanded) of 60 drawn layouts."""
    chooser, rows = Chooser(ChooserConfig(), Lexicon()), []
    for puzzle in puzzles(60, seed=5):
        numbers = torch.zeros(len(puzzle.candidates), dtype=torch.long)
        for number, target in enumerate(puzzle.expression.targets, 1):
            numbers[target] = number
        read = parse(puzzle.expression.text)
        item = expand(chooser, read, puzzle.candidates, numbers, len(puzzle.expression.targets))
        rows.append((read, puzzle.candidates, numbers, item))
    return rows


def test_the_expansion_is_the_chooser_near_the_rules(expanded) -> None:
    """A hundredth of the rules away, evidence and no-target logit differ by what is quadratic in that alone."""
    chooser = Chooser(ChooserConfig(), Lexicon())
    drift = 0.01 * torch.randn(len(chooser.rules), generator=torch.Generator().manual_seed(1)) * chooser.rules.abs()
    compared = 0
    for read, candidates, numbers, item in expanded:
        if item.several:
            continue
        with torch.no_grad():
            chooser.weights.copy_(chooser.rules + drift)
            choice = chooser(read, candidates)
        there = item.values + item.slopes @ drift
        wanted = choice.evidence[0]
        order = torch.tensor([int((chooser_row == wanted).nonzero()[0, 0]) for chooser_row in wanted])
        assert torch.allclose(there.sort().values, wanted[order].sort().values[-len(there) :], atol=0.02)
        assert float(item.none + item.none_slopes @ drift) == pytest.approx(float(choice.no_target_logit), abs=0.05)
        compared += 1
        del numbers
    assert compared > 20


def test_expanded_answers_are_the_chooser_s(expanded) -> None:
    """At the rules themselves every decision is the same."""
    chooser = Chooser(ChooserConfig(), Lexicon())
    items = [item for *_, item in expanded]
    right = is_right(stack(items), torch.zeros(len(chooser.rules)))
    for decision, (read, candidates, numbers, item) in zip(right.tolist(), expanded, strict=True):
        with torch.inference_mode():
            choice = chooser(read, candidates)
        chosen = set() if float(choice.no_target_logit) > 0 else set((choice.logits > 0).nonzero()[:, 0].tolist())
        wanted = set((numbers > 0).nonzero()[:, 0].tolist())
        if item.targets and not chosen:
            assert not decision
        else:
            assert decision == (chosen == wanted), read.text


def test_losses_are_those_of_the_model(expanded) -> None:
    """In a picture of which everything is known, a batch's loss is the mean of `choice_loss`."""
    chooser = Chooser(ChooserConfig(), Lexicon())
    rows = [row for row in expanded if row[3].targets and len(row[1]) <= 24]
    batch = stack([item for *_, item in rows])
    choice, none = losses_of(batch, torch.zeros(len(chooser.rules)))
    single = [(read, c, n, item) for read, c, n, item in rows if not item.several]
    with torch.no_grad():
        wanted = [choice_loss(chooser(read, c), n > 0) for read, c, n, _ in single]
    ours, _ = losses_of(stack([item for *_, item in single]), torch.zeros(len(chooser.rules)))
    assert float(ours) == pytest.approx(float(torch.stack(wanted).mean()), abs=1e-4)
    assert float(choice) >= 0
    assert float(none) >= 0


def test_what_is_unknown_counts_for_nothing(expanded) -> None:
    item = next(item for *_, item in expanded if item.targets and not item.several and (item.numbers == 0).any())
    drift = torch.zeros(item.slopes.shape[1])
    unknown = replace(item, numbers=torch.where(item.numbers == 0, -1, item.numbers))
    without = replace(
        item,
        values=item.values[item.numbers > 0],
        slopes=item.slopes[item.numbers > 0],
        numbers=item.numbers[item.numbers > 0],
    )
    losses = [float(losses_of(stack([each]), drift)[0]) for each in (item, unknown, without)]
    assert losses[1] == pytest.approx(losses[2], abs=1e-6)
    assert losses[0] > losses[1]


def test_matches() -> None:
    iou = torch.tensor([[0.8, 0.0], [0.0, 0.6], [0.4, 0.0], [0.1, 0.0], [0.0, 0.0]])
    annotated = torch.tensor([[0.8], [0.0], [0.4], [0.9], [0.0]])
    assert matches(iou, annotated, exhaustive=True).tolist() == [1, 2, -1, 0, 0]
    assert matches(iou, annotated, exhaustive=False).tolist() == [1, 2, -1, 0, -1]
    assert matches(torch.zeros(2, 0), torch.zeros(2, 0), exhaustive=False).tolist() == [-1, -1]


def test_the_cache_gives_back_and_refuses_others(expanded, tmp_path) -> None:
    items = [(f"{number}", item) for number, (*_, item) in enumerate(expanded)]
    with ExpandedCache(tmp_path / "sentences.sqlite", "one") as cache:
        cache.put(items[:30])
    with ExpandedCache(tmp_path / "sentences.sqlite", "one") as cache:
        assert len(cache.keys()) == 30
        cache.put(items[30:])
        for key, item in items:
            read = cache.get(key)
            assert (read.targets, read.several) == (item.targets, item.several)
            assert torch.equal(read.numbers, item.numbers)
            assert torch.allclose(read.values, item.values, rtol=2**-10, atol=1e-4)
            assert torch.allclose(read.slopes, item.slopes, rtol=2**-10, atol=1e-4)
        with pytest.raises(DataError, match="holds no expression"):
            cache.get("none such")
    with pytest.raises(DataError, match="other weights"):
        ExpandedCache(tmp_path / "sentences.sqlite", "two")


def made_up(count: int, seed: int) -> list[Expanded]:
    """Sentences over two weights whose rules choose the wrong one of two proposals where the second should weigh."""
    rng, items = random.Random(seed), []
    for _ in range(count):
        slopes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        numbers = torch.tensor([0, 1]) if rng.random() < 0.9 else torch.tensor([1, 0])
        items.append(
            Expanded(torch.tensor([0.3, 0.0]), slopes, torch.tensor(-1.0), torch.zeros(2), numbers, 1, several=False)
        )
    return items


def test_learning_is_kept_where_it_helps_and_the_rules_are_where_not() -> None:
    config = ReferringTraining(steps=60, look_every=20, lr=0.02, batch_size=32)
    rules = torch.tensor([1.0, 1.0])
    train = stack(made_up(200, 0))
    drift = learn(train, [stack(made_up(100, 1))], rules, config, QUIET)
    assert float(drift[1] - drift[0]) > 0.3
    opposite = [replace(item, numbers=2 * (item.numbers == 0).long() // 2) for item in made_up(100, 2)]
    assert not learn(train, [stack(opposite)], rules, config, QUIET).any()


def test_thousands_of_sentences_a_second() -> None:
    """From the cache, with 31 weights and 24 proposals; of the process's own time, whatever else the machine does."""
    item = Expanded(
        torch.randn(24), torch.randn(24, 31), torch.tensor(0.0), torch.randn(31), torch.eye(24)[0].long(), 1, False
    )
    batch, drift = stack([item] * 256), torch.zeros(31, requires_grad=True)
    sum(losses_of(batch, drift)).backward()
    start = time.process_time()
    for _ in range(5):
        sum(losses_of(batch, drift)).backward()
    assert 5 * 256 / (time.process_time() - start) > 1000


def test_as_much_is_absent_as_present() -> None:
    """Bare names one for one, colours of what is there and is not, and only names that the source annotates."""
    things = (thing("dog", 20, 100, 80, "black"), thing("car", 180, 100, 80, "red"))
    photo = PhotoView(1, View((320, 320), things), (1, 2), frozenset({0, 1}), True, "0")
    names = ["bus", "car", "chair", "cup", "dog", "umbrella"]
    said = absent_and_present(photo, names, random.Random(3))
    kinds = [kind for *_, kind in said]
    assert kinds.count("name") == kinds.count("absent name") == 2
    assert kinds.count("colour") == kinds.count("absent colour") == kinds.count("absent name with colour") == 2
    assert kinds.count("absent name with place") == 1
    for text, targets, kind in said:
        assert bool(targets) == (not kind.startswith("absent"))
        named = [name for name in names if name in text]
        assert named
        if kind.startswith("absent name"):
            assert not {"dog", "car"} & set(named)
        if kind == "absent colour":
            assert "black dog" not in text
            assert "red car" not in text
    assert not absent_and_present(replace(photo, exhaustive=False), names, random.Random(3))
