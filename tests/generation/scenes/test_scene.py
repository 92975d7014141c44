import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

from refseg.errors import RefsegError
from refseg.generation.language.forms import selects
from refseg.generation.language.lexicon import PEOPLE_NOUNS
from refseg.generation.language.logic import Evaluator
from refseg.generation.scenes import KINDS, SPLITS, View, generate
from refseg.generation.scenes.draw import MIN_PIXELS, paint, render, visible_masks
from refseg.generation.scenes.world import CATEGORIES, held_out, random_for, sample_layout
from refseg.palette import PAINTS

SIZE = 128


@pytest.fixture(scope="module")
def scenes():
    """A few scenes of every split."""
    return {split: [generate(3, index, SIZE, split=split) for index in range(9)] for split in SPLITS}


def digest(scene):
    told = repr([(item.text, item.targets, item.kind) for item in scene.expressions])
    return hashlib.sha256(scene.image.tobytes() + scene.masks.tobytes() + told.encode()).hexdigest()


def test_same_seed_same_bytes_in_another_process():
    code = (
        "import sys, hashlib; from refseg.generation.scenes import generate; s = generate(5, 2, 96)\n"
        "told = repr([(item.text, item.targets, item.kind) for item in s.expressions])\n"
        "print(hashlib.sha256(s.image.tobytes() + s.masks.tobytes() + told.encode()).hexdigest())"
    )
    again = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"}
    )
    assert again.stdout.strip() == digest(generate(5, 2, 96))


def test_seeds_splits_and_numbers_differ():
    variants = [generate(5, 2, 96), generate(6, 2, 96), generate(5, 3, 96), generate(5, 2, 96, split="val")]
    assert len({digest(scene) for scene in variants}) == 4


def test_close_ups_show_fewer_and_larger_things():
    near, far = ([generate(5, index, 96, close_up=close_up) for index in range(12)] for close_up in (True, False))
    assert digest(near[3]) == digest(generate(5, 3, 96, close_up=True)) != digest(far[3])
    assert all(2 <= len(scene.things) <= 6 for scene in near)
    areas = [[mask.mean() for scene in scenes for mask in scene.masks] for scenes in (near, far)]
    assert np.median(areas[0]) > 2 * np.median(areas[1])


def test_every_kind_comes(scenes):
    kinds = {item.kind for own in scenes.values() for scene in own for item in scene.expressions}
    assert kinds == set(KINDS)


def test_targets_are_what_the_evaluator_says(scenes):
    for own in scenes.values():
        for scene in own:
            evaluator = Evaluator(View((SIZE, SIZE), scene.things))
            assert len({item.text for item in scene.expressions}) == len(scene.expressions) <= 16
            for item in scene.expressions:
                assert evaluator.denote(item.form) == set(item.targets)
                single = item.kind in ("attribute", "location", "ordinal", "comparison")
                several = item.kind in ("counting", "group", "compound", "exclusion")
                assert not single or len(item.targets) == 1
                assert not several or len(item.targets) >= 2
                assert (item.kind == "no_target") == (not item.targets)


def test_deceptions_speak_of_what_is_there(scenes):
    for own in scenes.values():
        for scene in own:
            present = {name for thing in scene.things for name in (thing.category, *thing.families)}
            for item in scene.expressions:
                if item.kind == "no_target":
                    assert not scene.mask(item).any()
                    for part in selects(item.form):
                        assert part.noun in present or ("person" in present and part.noun in PEOPLE_NOUNS)


def test_masks_are_disjoint_visible_and_boxed(scenes):
    for scene in scenes["train"]:
        assert scene.image.shape == (SIZE, SIZE, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.shape == (len(scene.things), SIZE, SIZE)
        assert 2 <= len(scene.things) <= 10
        assert scene.masks.sum(0).max() == 1
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert thing.area == mask.sum() >= MIN_PIXELS * SIZE * SIZE
        depths = [thing.depth for thing in scene.things]
        assert depths == sorted(depths)


def test_masks_follow_the_drawing():
    """Taking an object away changes the picture where its mask is, and nowhere far from its patch and shadow."""
    size = 160
    layout = sample_layout(random_for("masks", 4))
    patches = [patch for item in layout.objects if (patch := render(item, size, layout.light)) is not None]
    assert len(patches) == len(layout.objects) >= 3
    masks, _ = visible_masks(patches, size)
    whole = paint(layout, patches, size, random_for("paint"))
    for index, patch in enumerate(patches):
        gone = patch.cover.copy()
        patch.cover[:], colour = 0, patch.colour.copy()
        patch.colour[:] = 0
        without = paint(layout, patches, size, random_for("paint"))
        patch.cover[:], patch.colour[:] = gone, colour
        changed = (whole.astype(int) != without).any(-1)
        assert changed[masks[index]].mean() > 0.9
        rows, columns = patch.window
        assert not np.delete(np.delete(changed, rows, 0), columns, 1).any()


@pytest.mark.parametrize("category", list(CATEGORIES))
def test_every_category_shows_its_colour(category):
    """Most body pixels are nearer to the named colour than to any other; the shape fills a good part of its box."""
    names = list(PAINTS)
    table = np.array([PAINTS[name] for name in names], dtype=float)
    for colour in CATEGORIES[category].colours:
        for number in range(300):
            layout = sample_layout(random_for("colour", category, number))
            item = next((item for item in layout.objects if item.category == category), None)
            if item is not None:
                break
        assert item is not None
        plain = type(item)(**{**item.__dict__, "colour": colour, "pattern": None, "x": 0.5, "foot": 0.9, "height": 0.4})
        plain = type(item)(**{**plain.__dict__, "width": 0.4 * item.width / item.height, "support": None})
        patch = render(plain, 200, 0.0)
        assert patch is not None
        assert (patch.cover >= 0.5).mean() > 0.2
        solid = patch.colour[patch.cover > 0.99]
        nearest = np.argmin(((solid[:, None] - table) ** 2).sum(-1), 1)
        assert (nearest == names.index(colour)).mean() > 0.12, colour


def test_test_splits_hold_what_they_promise(scenes):
    for scene in scenes["testA"]:
        for item in scene.expressions:
            assert all("person" in scene.things[target].families for target in item.targets)
    for scene in scenes["testB"]:
        for item in scene.expressions:
            assert not any("person" in scene.things[target].families for target in item.targets)
    for scene in scenes["testC"]:
        pairs = [(thing.colour, thing.category) for thing in scene.things]
        assert set(pairs) & held_out()
        for item in scene.expressions:
            assert not item.targets or {pairs[target] for target in item.targets} & held_out()


def test_held_out_combinations_are_in_no_other_split(scenes):
    for split in ("train", "val", "testA", "testB"):
        for scene in scenes[split]:
            assert not {(thing.colour, thing.category) for thing in scene.things} & held_out()
            for item in scene.expressions:
                assert not {(part.colour, part.noun) for part in selects(item.form)} & held_out()
    per_category = {name: sum(pair[1] == name for pair in held_out()) for name in CATEGORIES}
    assert all(1 <= count < len(CATEGORIES[name].colours) for name, count in per_category.items())


def test_plus_mode_has_no_absolute_places():
    banned = re.compile(
        r"\b(left|leftmost|left-hand|right|rightmost|right-hand|closest to us|nearest to us|far|farthest"
        r"|furthest|back|middle|center|first|second|third|in the front|at the top|at the bottom)\b"
    )
    for index in range(8):
        scene = generate(4, index, SIZE, plus=True)
        assert scene.expressions
        for item in scene.expressions:
            assert item.kind not in ("location", "ordinal")
            assert not banned.search(item.text.replace("right by", "").replace("in back of", "")), item.text


def test_bad_arguments():
    with pytest.raises(RefsegError, match="no split 'testD'"):
        generate(0, 0, split="testD")
    with pytest.raises(RefsegError, match="at least 64"):
        generate(0, 0, size=10)
