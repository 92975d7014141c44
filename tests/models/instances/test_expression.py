"""The parser: what people write, abbreviated, misspelt and out of order, becomes the structure that is meant."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.models.instances.classes import COCO
from refseg.models.instances.expression import MAX_WORDS, Phrase, Place, Rank, parse
from refseg.models.instances.nouns import table
from refseg.models.instances.spelling import spelled


def only(text: str) -> Phrase:
    phrases = parse(text).phrases
    assert len(phrases) == 1
    return phrases[0]


@pytest.mark.parametrize(
    "text", ["left guy", "guy on left", "guy left", "the guy on the left side", "lft guy", "guy lft", "left side guy"]
)
def test_a_side_is_found_wherever_it_stands(text: str) -> None:
    phrase = only(text)
    assert phrase.head == "guy"
    assert [place.side for place in phrase.places] == ["left"]


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("rt dog", "right"),
        ("btm dog", "bottom"),
        ("middle dog", "middle"),
        ("dog in center", "middle"),
        ("dog closest to us", "near"),
        ("dog in front", "near"),
        ("dog in back", "far"),
        ("dog in the background", "far"),
        ("upper dog", "top"),
    ],
)
def test_words_of_sides(text: str, side: str) -> None:
    assert [place.side for place in only(text).places] == [side]


def test_far_left_is_no_depth() -> None:
    for text in (
        "far left dog",
        "dog on the far left",
        "leftmost dog",
        "dog furthest to the left",
        "dog all the way to the left",
    ):
        assert only(text).places == (Place("left", strong=True),)


def test_corners_are_two_sides() -> None:
    assert {place.side for place in only("bowl in the bottom right corner").places} == {"bottom", "right"}


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("second dog from the left", Rank(2, "left")),
        ("3rd zebra from right", Rank(3, "right")),
        ("2nd from left", Rank(2, "left")),
    ],
)
def test_order(text: str, rank: Rank) -> None:
    assert only(text).rank == rank


def test_colours_belong_to_what_they_stand_with() -> None:
    assert only("red car").colours == ("red",)
    assert only("guy in the red shirt").colours == ("red",)
    beside = only("guy next to the red car")
    assert beside.colours == ()
    assert beside.relations[0].anchors[0].colours == ("red",)
    behind = only("dog behind the man in blue")
    assert behind.colours == ()
    assert behind.relations[0].anchors[0].colours == ("blue",)
    assert only("orange on the left").head == "orange"
    assert only("orange car").colours == ("orange",)


@pytest.mark.parametrize("article", ["", "the ", "a small ", "the red "])
@pytest.mark.parametrize("name", COCO)
def test_every_category_is_read_as_one_name(article: str, name: str) -> None:
    """Of two words too, one of which may be a colour by itself: a traffic light is no light traffic."""
    if article == "the red " and name == "orange":
        return  # two colours
    (phrase,) = parse(article + name).phrases
    assert phrase.head == name
    assert phrase.colours == (("red",) if "red" in article else ())


def test_garments_are_traits_of_persons() -> None:
    phrase = only("man curly hair black shirt")
    assert phrase.head == "man"
    assert phrase.traits == ("hair", "shirt")
    assert phrase.colours == ("black",)
    assert only("the man's shirt").head == "man"
    assert parse("the man's shirt").ignored == ("shirt",)  # the whole man is answered, and no word "s" is missed


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("dog behind the car", "behind"),
        ("dog in front of the car", "in_front_of"),
        ("dog to the left of the car", "left_of"),
        ("dog on the couch", "on"),
        ("cup next to the dog", "next_to"),
        ("dog under the table", "under"),
    ],
)
def test_relations(text: str, kind: str) -> None:
    relation = only(text).relations[0]
    assert relation.kind == kind
    assert relation.anchors[0].head in ("car", "couch", "dog", "table")


def test_between_has_two_anchors_or_a_plural() -> None:
    assert [anchor.head for anchor in only("cup between the dog and the cat").relations[0].anchors] == ["dog", "cat"]
    assert only("girl between the two men").relations[0].anchors[0].count == 2


def test_the_picture_is_no_anchor() -> None:
    for text in ("dog on the left of the picture", "dog to the left of the photo"):
        assert [place.side for place in only(text).places] == ["left"]
        assert not only(text).relations


def test_conjunctions_and_what_only_looks_like_one() -> None:
    assert [phrase.head for phrase in parse("the man and the dog").phrases] == ["man", "dog"]
    assert len(parse("dog, cat and the red car").phrases) == 3
    for text in ("man in black shirt and jeans", "black and white cow", "man with glasses and beard"):
        assert len(parse(text).phrases) == 1


def test_exclusion() -> None:
    phrase = only("all people except the woman in red")
    assert phrase.many
    assert phrase.excluded is not None
    assert phrase.excluded.head == "woman"
    assert phrase.excluded.colours == ("red",)
    other = only("all the dogs but the one on the left").excluded
    assert other is not None
    assert other.head == "dogs"
    assert other.places[0].side == "left"


def test_numbers() -> None:
    assert only("both cats").count == 2
    assert only("all three people").count == 3
    assert only("zebras").many
    assert not only("cat").many
    assert not only("bus").many
    assert not only("pair of scissors").many


def test_of() -> None:
    assert only("slice of pizza").head == "pizza"
    assert only("bowl of rice on the right").head == "bowl"
    assert only("piece of cake").head == "cake"


def test_slips() -> None:
    assert only("teh cta").head == "cat"
    assert only("dgo on the lfet").head == "dog"
    assert only("dgo on the lfet").places[0].side == "left"
    assert parse("teh dgo").slips == (("teh", "the"), ("dgo", "dog"))
    assert parse("red tent", lambda word: word == "tent").slips == ()


def test_spelling_is_bounded_in_time() -> None:
    table(), spelled("girafffe", table())
    start = time.perf_counter()
    spelled("q" * 24, table())
    assert spelled("a" * 10_000, table()) is None
    assert time.perf_counter() - start < 1.0  # a few thousand look-ups; a search over pairs of slips takes minutes


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read(text: str) -> None:
    assert len(parse(text).phrases) >= 1


@given(
    st.lists(
        st.sampled_from(
            [
                "left",
                "right",
                "the",
                "dog",
                "and",
                "of",
                "in",
                "on",
                "with",
                "red",
                "second",
                "from",
                "all",
                "except",
                "to",
                "but",
                ",",
                "car",
                "not",
                "no",
                "front",
                "back",
            ]
        ),
        max_size=25,
    )
)
@settings(max_examples=300, deadline=None)
def test_any_heap_of_its_own_words_is_read(words: list[str]) -> None:
    assert len(parse(" ".join(words)).phrases) >= 1


def test_long_texts_are_cut_and_say_so() -> None:
    rng = random.Random(0)
    text = " ".join(rng.choice(("dog", "left", "and", "the", "red")) for _ in range(5000))
    start = time.perf_counter()
    assert parse(text).cut
    assert time.perf_counter() - start < 5
    assert not parse(" ".join(["dog"] * MAX_WORDS)).cut


@pytest.mark.parametrize("text", ["partial umbrella", "umbrella almost out of the picture", "umbrella cut off on left"])
def test_what_the_edge_cuts_off(text: str) -> None:
    (phrase,) = parse(text).phrases
    assert phrase.head == "umbrella"
    assert "edge" in [place.side for place in phrase.places]


def test_all_is_not_always_a_number() -> None:
    assert parse("all the dogs").phrases[0].many
    assert not parse("man all in black").phrases[0].many
    assert not parse("left elephant all you see is a bit of it").phrases[0].many


def test_names_with_sides_are_names() -> None:
    first, second = parse("the front left door and a back left door").phrases
    assert (first.head, second.head) == ("front left door", "back left door")
    assert not first.places


def test_garments_one_by_one() -> None:
    assert [phrase.head for phrase in parse("the biggest blouse and the biggest skirt").phrases] == ["blouse", "skirt"]
    assert len(parse("blue shirt and jeans").phrases) == 1
    (phrase,) = parse("the lady with the orange top").phrases
    assert (phrase.colours, phrase.traits, phrase.places) == (("orange",), ("top",), ())
    man, bottle = parse("man wearing a checked purple top and closest bottle").phrases
    assert (man.colours, bottle.head) == (("purple",), "bottle")
