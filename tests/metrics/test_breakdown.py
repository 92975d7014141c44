"""Groups of sentences, and how each is counted."""

import pytest

from refseg.errors import ConfigError
from refseg.metrics import Row, breakdown, breakdowns, score
from refseg.metrics.breakdown import length_group, word_list


def row(identity, intersection, **about):
    return Row(identity, intersection, 4, intersection, 4, (4, 4), False, **about)


ROWS = [
    row("1", 4, text="the left dog", kind="location", targets=1, category="dog", split="val"),
    row("2", 2, text="two dogs on the left", kind="counting", targets=2, category="dog", split="val"),
    row("3", 0, text="Everyone, except the kid!", kind="exclusion", targets=5, category="person", split="val"),
    Row("4", 0, 0, 0, 0, (4, 4), True, True, text="the purple dog", kind="location", targets=0, split="val"),
]


def test_groups_are_counted_like_the_whole():
    kinds = breakdown(ROWS, "kind")
    assert {name: group["gIoU"] for name, group in kinds.items()} == {
        "counting": 0.5,
        "exclusion": 0.0,
        "location": 1.0,
    }
    assert kinds["location"]["sentences"] == 2
    assert kinds["location"]["N_acc"] == 1.0
    assert {name: group["sentences"] for name, group in breakdown(ROWS, "targets").items()} == {
        "0": 1,
        "1": 1,
        "2": 1,
        "4+": 1,
    }
    assert list(breakdown(ROWS, "category")) == ["dog", "person"]
    assert list(breakdown(ROWS, "area")) == ["small (under 32 x 32)"]
    again = breakdown([entry.to_dict() for entry in ROWS], "kind")
    assert again["location"] == pytest.approx(kinds["location"], nan_ok=True)


def test_a_group_without_no_target_sentences_keeps_its_own_accuracy():
    """Under rela a whole split without such sentences prints 0 for both; one group of a split does not."""
    mask = [[1, 1], [0, 0]]
    said = [{"id": key, "mask": mask, "no_target": key == "b"} for key in "abc"]
    meant = [{"id": key, "mask": mask, "no_target": False, "kind": "x"} for key in "abc"]
    result = score(said, meant, "rela")
    assert (result["N_acc"], result["T_acc"]) == (0.0, 0.0)
    group = result.breakdowns["kind"]["x"]
    assert group["T_acc"] == 2 / 3
    assert group["N_acc"] != group["N_acc"]  # undefined


def test_groups_by_words_overlap():
    groups = breakdown(ROWS, "words")
    assert {name: group["sentences"] for name, group in groups.items()} == {
        "except / not": 1,
        "left / right": 2,
        "number": 2,
    }


@pytest.mark.parametrize(
    ("dataset", "words", "group"),
    [
        ("refcoco", 2, "1-2 words"),
        ("refcoco", 3, "3 words"),
        ("refcoco+", 5, "4-5 words"),
        ("refcoco", 20, "6+ words"),
        ("refcocog", 7, "6-7 words"),
        ("refclef", 1, "1 words"),
        ("scenes", 11, "11-20 words"),
        (None, 30, "21+ words"),
    ],
)
def test_lengths_are_grouped_as_in_restr(dataset, words, group):
    assert length_group(row("1", 0, text="word " * words, dataset=dataset)) == group


def test_lengths_come_in_order():
    entries = [row(str(n), 0, text="word " * n) for n in (30, 2, 7, 12, 4)]
    assert list(breakdown(entries, "length")) == ["1-2 words", "3-5 words", "6-10 words", "11-20 words", "21+ words"]


def test_words_are_lower_case_without_punctuation():
    assert word_list("The dog's owner, left!") == ["the", "dog's", "owner", "left"]


def test_only_breakdowns_that_say_something_are_kept():
    assert set(breakdowns(ROWS)) == {"kind", "targets", "length", "category", "words"}
    assert breakdowns([row("1", 4)]) == {}
    with pytest.raises(ConfigError, match="did you mean 'kind'"):
        breakdown(ROWS, "kinds")
