"""Changed pictures keep their sentences true, and sentences keep what they mean."""

from __future__ import annotations

import colorsys
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.config import from_dict
from refseg.data.sample import Instance, Phrase, Sample
from refseg.errors import ConfigError
from refseg.generation.augment import AugmentConfig, Augmenter
from refseg.generation.language.lexicon import RARE
from refseg.generation.language.paraphrase import mirror_words, mistype, paraphrase
from refseg.generation.moves import Affine, Crop, Flip, scale_colours

SIZE = (60, 100)
BOXES = {1: (8, 10, 28, 40), 2: (60, 20, 90, 50)}
COLOURS = {1: (250, 10, 10), 2: (10, 10, 250)}


def samples() -> list[Sample]:
    """A red cat at the left, a blue dog at the right."""
    picture = np.full((*SIZE, 3), 120, dtype=np.uint8)
    objects = {}
    for key, (left, top, right, bottom) in BOXES.items():
        mask = np.zeros(SIZE, dtype=bool)
        mask[top:bottom, left:right] = True
        picture[mask] = COLOURS[key]
        box = (float(left), float(top), float(right), float(bottom))
        objects[key] = Instance(key, {1: "cat", 2: "dog"}[key], box, mask)
    around = tuple(objects.values())
    said = [("the cat on the left", (1,)), ("right dog", (2,)), ("the cat and the dog", (1, 2)), ("the bus", ())]
    return [
        Sample(
            f"0_{number}",
            text,
            1,
            SIZE,
            tuple(objects[key] for key in keys),
            no_target=not keys,
            image=picture,
            kind="location",
            surroundings=around,
        )
        for number, (text, keys) in enumerate(said)
    ]


def colour_under(sample: Sample, item: Instance) -> np.ndarray:
    return np.asarray(sample.read_image())[item.mask(sample.size)].mean(axis=0)


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_masks_follow_their_objects_and_sides_stay_true(seed: int) -> None:
    config = AugmentConfig(hflip=0.5, random_crop=0.8)
    before = samples()
    changed = Augmenter(config)(before, before, random.Random(seed))
    assert len(changed) == len(before)
    for sample in changed:
        height, width = sample.size
        assert sample.read_image().size == (width, height)
        for item in sample.objects:
            np.testing.assert_allclose(colour_under(sample, item), COLOURS[item.ann_id], atol=1)
            left, _, right, _ = item.bbox
            side = "left" if (left + right) / 2 < width / 2 else "right"
            if len(sample.objects) == 1:
                assert side in sample.text
        assert {item.ann_id for item in sample.surroundings} == {1, 2}
    areas = [int(item.mask(changed[0].size).sum()) for item in changed[2].objects]
    assert areas == [600, 900]  # nothing of an object is ever cut off


def test_a_mirrored_picture_is_the_mirror_image_with_left_and_right_exchanged() -> None:
    before = samples()
    changed = Augmenter(AugmentConfig(hflip=1.0))(before[:2], before, random.Random(0))
    np.testing.assert_array_equal(np.asarray(changed[0].read_image()), np.asarray(before[0].read_image())[:, ::-1])
    assert [sample.text for sample in changed] == ["the cat on the right", "left dog"]
    assert changed[0].objects[0].bbox == (72.0, 10.0, 92.0, 40.0)


def test_colours_stay_where_a_sentence_names_one() -> None:
    before = samples()
    named = [replace(before[0], text="the red cat")]
    for seed in range(8):
        picture = Augmenter(AugmentConfig(color_jitter=1.0))(named, before, random.Random(seed))[0].read_image()
        red, green, blue = np.asarray(picture)[20, 15].astype(int)
        assert red > 1.5 * green
        assert red > 1.5 * blue
    plain = [
        Augmenter(AugmentConfig(color_jitter=1.0))(before[:1], before, random.Random(seed))[0] for seed in range(8)
    ]
    spread = [np.asarray(sample.read_image())[20, 15].astype(int) for sample in plain]
    assert min(red - green for red, green, _ in spread) < 170  # saturation changes too


@pytest.mark.parametrize("seed", range(20))
def test_a_negative_noun_means_nothing_and_is_not_in_the_picture(seed: int) -> None:
    before = samples()
    changed = Augmenter(AugmentConfig(negative_noun=1.0))(before, before, random.Random(seed))
    for old, new in zip(before, changed, strict=True):
        assert new.no_target or old.text == new.text
        assert new.no_target or not old.objects
        if old.objects:
            assert new.objects == ()
            assert "cat" not in new.text.split() or "dog" not in new.text.split()
            assert any(word in new.text for word in RARE) or new.text


def test_nonsense_means_nothing() -> None:
    before = samples()
    changed = Augmenter(AugmentConfig(negative_nonsense=1.0), words=["stone", "river"])(
        before, before, random.Random(3)
    )
    assert all(sample.no_target and not sample.objects and sample.text for sample in changed)


def test_superlatives_become_plain_only_where_nothing_else_is_said() -> None:
    before = [
        replace(sample, text=f"the biggest {name}") for sample, name in zip(samples(), ("cat", "dog"), strict=False)
    ]
    config, rng = AugmentConfig(plain=1.0), random.Random(0)
    alone = [replace(sample, kind="comparison") for sample in before]
    assert Augmenter(config)(alone, alone, rng)[0].text == "the cat"
    assert Augmenter(config)(before, before, rng)[0].text == "the biggest cat"


def test_the_same_random_numbers_give_the_same_samples() -> None:
    config = AugmentConfig(0.5, 0.5, 0.5, 0.5, 0.5, 0.3, 0.1)
    one, other = (Augmenter(config)(samples(), samples(), random.Random(7)) for _ in range(2))
    assert [sample.text for sample in one] == [sample.text for sample in other]
    np.testing.assert_array_equal(np.asarray(one[0].read_image()), np.asarray(other[0].read_image()))


def test_shares_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"data\.augment\.hflip"):
        from_dict(AugmentConfig, {"hflip": 1.5}, "data.augment")
    assert not AugmentConfig()
    assert AugmentConfig(color_jitter=0.1)


@given(text=st.text("abcdefg LRleftrightmost", max_size=40))
def test_mirroring_words_twice_changes_nothing(text: str) -> None:
    assert mirror_words(mirror_words(text.lower())) == text.lower()


def test_mirroring_takes_whole_words() -> None:
    assert mirror_words("leftmost cat, left of the right-hand one") == "rightmost cat, right of the left-hand one"
    assert mirror_words("a bright leftover") == "a bright leftover"


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60)
def test_a_slip_is_one_slip(seed: int) -> None:
    slipped = mistype("the elephant", random.Random(seed))
    assert slipped.startswith("the ")
    assert abs(len(slipped) - len("the elephant")) <= 1
    assert len(set(slipped) - set("the elephant")) == 0


@given(
    seed=st.integers(0, 10_000),
    side=st.sampled_from(("left", "right")),
    form=st.sampled_from(("the cat on the {}", "{} cat", "{}most cat", "the cat on the far {}")),
)
@settings(max_examples=120)
def test_rewording_keeps_the_side_and_never_names_the_other(seed: int, side: str, form: str) -> None:
    said = paraphrase(form.format(side), random.Random(seed), slips=0.0)
    other = {"left": "right", "right": "left"}[side]
    assert side in said
    assert other not in said.replace("bright", "")


def test_people_are_called_by_other_names_only_where_that_is_allowed() -> None:
    said = {paraphrase("the person on the left", random.Random(seed), slips=0.0) for seed in range(200)}
    assert any("guy" in text for text in said)
    assert any("lady" in text for text in said)
    kept = {
        paraphrase("the person on the left", random.Random(seed), photograph=False, slips=0.0) for seed in range(200)
    }
    assert all("person" in text for text in kept)


def test_the_noun_is_left_out_only_where_all_are_of_one_kind() -> None:
    bare = {"left", "left one", "far left", "very left"}
    alone = {paraphrase("left cat", random.Random(seed), alone=True, slips=0.0) for seed in range(300)}
    others = {paraphrase("left cat", random.Random(seed), slips=0.0) for seed in range(300)}
    assert alone & bare
    assert not others & bare


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("the second cat from the left", "2nd cat from the left"),
        ("cat number two from left", "2nd cat from left"),
        ("closest bus", "bus closest to us"),
        ("the person who is wearing a dress", "woman in dress"),
        ("person in red", "red shirt guy"),
    ],
)
def test_what_people_write_comes_up(text: str, short: str) -> None:
    assert any(paraphrase(text, random.Random(seed), slips=0.0) == short for seed in range(6000))


def boxes_alone(sample: Sample) -> Sample:
    """The same with boxes in the place of outlines."""
    strip = [
        tuple(replace(item, segmentation=None) for item in items) for items in (sample.objects, sample.surroundings)
    ]
    return replace(sample, objects=strip[0], surroundings=strip[1])


def captions() -> list[Sample]:
    """One caption with two phrases, of which the second names a side."""
    both = samples()[2]
    text = "the cat and the dog right of it"
    cat, dog = both.objects
    phrases = (Phrase("the cat", 0, 7, (cat,)), Phrase("the dog right", 12, 25, (dog,)))
    return [replace(both, text=text, phrases=phrases)]


@given(seed=st.integers(0, 10_000), outlines=st.booleans())
@settings(deadline=None, max_examples=25)
def test_boxes_masks_and_phrases_move_together(seed: int, outlines: bool) -> None:
    """With all that moves: a box holds the colour that it held, a phrase's objects are its sentence's, and its
    characters are its words."""
    config = AugmentConfig(hflip=0.5, random_crop=0.5, affine=1.0, color_jitter=0.0)
    before = captions() if outlines else [boxes_alone(sample) for sample in captions()]
    if not outlines:
        before = [
            replace(
                sample,
                phrases=tuple(
                    replace(phrase, objects=sample.objects[n : n + 1]) for n, phrase in enumerate(sample.phrases)
                ),
            )
            for sample in before
        ]
    (changed,) = Augmenter(config)(before, before, random.Random(seed))
    picture = np.asarray(changed.read_image()).astype(float)
    for item, phrase in zip(changed.objects, changed.phrases, strict=True):
        assert phrase.objects == (item,)
        assert changed.text[phrase.start : phrase.stop] == phrase.text
        coloured = np.abs(picture - COLOURS[item.ann_id]).sum(axis=2) < 60
        rows, columns = np.nonzero(coloured)
        around = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        # Corners are rounded by resampling; a box without outline is the one around a turned box.
        np.testing.assert_allclose(item.bbox, around, atol=2.5 if outlines else 6)
        assert (np.array(item.bbox)[:2] <= around[:2] + 2.5).all()
        assert (np.array(item.bbox)[2:] >= around[2:] - 2.5).all()
    mirrored = "left" in changed.text
    assert changed.phrases[1].text == ("the dog left" if mirrored else "the dog right")


def test_a_mirrored_phrase_is_found_at_its_new_characters() -> None:
    first = captions()[0]
    text = "the right cat and the dog right of it"
    phrases = (replace(first.phrases[0], text="the right cat", stop=13), replace(first.phrases[1], start=18, stop=31))
    (changed,) = Augmenter(AugmentConfig(hflip=1.0))(
        [replace(first, text=text, phrases=phrases)], [first], random.Random(0)
    )
    assert changed.text == "the left cat and the dog left of it"
    assert [changed.text[phrase.start : phrase.stop] for phrase in changed.phrases] == ["the left cat", "the dog left"]


def test_colours_change_where_only_boxes_are_known() -> None:
    before = [boxes_alone(sample) for sample in samples()]
    for config in (AugmentConfig(color_jitter=1.0), AugmentConfig(intensity=0.5), AugmentConfig(saturation=0.5)):
        changed = Augmenter(config)(before, before, random.Random(1))
        assert [sample.objects for sample in changed] == [sample.objects for sample in before]
        assert not np.array_equal(changed[0].read_image(), before[0].read_image())


def test_what_does_not_move_keeps_its_outline_as_it_was_annotated() -> None:
    polygon = [np.array([8.0, 10, 28, 10, 28, 40, 8, 40])]
    one = replace(samples()[0], objects=(replace(samples()[0].objects[0], segmentation=polygon),), surroundings=())
    (changed,) = Augmenter(AugmentConfig(intensity=0.5))([one], [one], random.Random(0))
    assert changed.objects[0].segmentation is polygon


@given(
    pixels=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=8),
    saturation=st.floats(0, 2),
    value=st.floats(0, 2),
)
@settings(deadline=None, max_examples=40)
def test_colours_are_scaled_as_hue_saturation_and_value_are(pixels, saturation, value) -> None:
    """Against the standard library, pixel by pixel."""
    scaled = scale_colours(np.array([pixels], dtype=np.uint8), saturation, value)[0]
    for pixel, found in zip(pixels, scaled, strict=True):
        hue, own, light = colorsys.rgb_to_hsv(*(level / 255 for level in pixel))
        wanted = colorsys.hsv_to_rgb(hue, min(1.0, own * saturation), min(1.0, light * value))
        np.testing.assert_allclose(found / 255, wanted, atol=0.51 / 255 + 1e-4)


@given(
    box=st.tuples(st.floats(0, 50), st.floats(0, 30), st.floats(1, 40), st.floats(1, 25)),
    turn=st.floats(-0.3, 0.3),
    scale=st.floats(0.7, 1.4),
    shift=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
)
@settings(deadline=None, max_examples=40)
def test_a_moved_box_holds_the_moved_mask(box, turn, scale, shift) -> None:
    left, top = int(box[0]), int(box[1])
    right, bottom = min(100, left + max(2, int(box[2]))), min(60, top + max(2, int(box[3])))
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    for move in (
        Flip(SIZE),
        Crop(SIZE, (-5, 4, 90, 70)),
        Affine.about_the_middle(SIZE, turn, scale, (0.02, 0.0), shift),
    ):
        moved, around = move.mask(mask), move.box((float(left), float(top), float(right), float(bottom)))
        assert moved.shape == move.size
        rows, columns = np.nonzero(moved)
        if len(rows):
            assert around[0] <= columns.min() + 0.51
            assert columns.max() + 0.49 <= around[2]
            assert around[1] <= rows.min() + 0.51
            assert rows.max() + 0.49 <= around[3]


def test_an_affine_map_goes_where_it_says() -> None:
    affine = Affine.about_the_middle((60, 100), 0.0, 1.0, (0.0, 0.0), (7.0, -4.0))
    mask = np.zeros(SIZE, dtype=bool)
    mask[20:30, 40:60] = True
    np.testing.assert_array_equal(affine.mask(mask), np.roll(mask, (-4, 7), axis=(0, 1)))
    assert affine.box((40.0, 20.0, 60.0, 30.0)) == (47.0, 16.0, 67.0, 26.0)
    turned = Affine.about_the_middle((100, 100), np.pi / 2, 1.0, (0.0, 0.0), (0.0, 0.0))
    np.testing.assert_allclose(turned.box((0.0, 0.0, 20.0, 10.0)), (90, 0, 100, 20), atol=1e-9)
    assert not Affine.about_the_middle((100, 100), 0.0, 1.0, (0.0, 0.0), (90.0, 0.0)).keeps((20.0, 0.0, 40.0, 9.0))
