"""What exists: the data sets of the field by name, and the counts that their authors published. No torch in this file.

`recounted` names the splits whose numbers were counted again over lists of all their sentences; the others are as
printed. For gRefCOCO's public file the split sizes are those commonly quoted, which nobody has printed in a paper.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SplitCounts:
    """Published numbers of one split; None where they were not published."""

    expressions: int
    referents: int | None = None
    pictures: int | None = None


@dataclass(frozen=True)
class Published:
    """One data set with one split: numbers, source, and what one should know before comparing with them."""

    dataset: str
    split_by: str
    splits: dict[str, SplitCounts]
    pictures: int
    objects: int
    expressions: int
    source: str
    recounted: tuple[str, ...] = ()
    note: str = ""


PUBLISHED: tuple[Published, ...] = (
    Published(
        "refcoco",
        "unc",
        {
            "train": SplitCounts(120_624, 42_404),
            "val": SplitCounts(10_834, 3_811, 1_500),
            "testA": SplitCounts(5_657, 1_975, 750),
            "testB": SplitCounts(5_095, 1_810, 750),
        },
        pictures=19_994,
        objects=50_000,
        expressions=142_210,
        source="Yu et al., Modeling Context in Referring Expressions, ECCV 2016, and its repository",
        recounted=("val", "testA", "testB"),
        note="testA: people, testB: everything else; the splits add up to 142,210, papers also print 142,209",
    ),
    Published(
        "refcoco+",
        "unc",
        {
            "train": SplitCounts(120_191, 42_278),
            "val": SplitCounts(10_758, 3_805, 1_500),
            "testA": SplitCounts(5_726, 1_975, 750),
            "testB": SplitCounts(4_889, 1_798, 750),
        },
        pictures=19_992,
        objects=49_856,
        expressions=141_564,
        source="Yu et al., Modeling Context in Referring Expressions, ECCV 2016, and its repository",
        recounted=("val", "testA", "testB"),
        note="sentences without words of location",
    ),
    Published(
        "refcocog",
        "umd",
        {
            "train": SplitCounts(80_512, 42_226),
            "val": SplitCounts(4_896, 2_573, 1_300),
            "test": SplitCounts(9_602, 5_023, 2_600),
        },
        pictures=26_711,
        objects=54_822,
        expressions=104_560,
        source="Mao et al., CVPR 2016; split by Nagaraja et al., ECCV 2016",
        recounted=("val", "test"),
        note="totals count the whole set, 95,010 of its sentences are in the splits; LTS calls this the UNC partition",
    ),
    Published(
        "refcocog",
        "google",
        {"train": SplitCounts(85_474), "val": SplitCounts(9_536, 5_000, 4_650)},
        pictures=26_711,
        objects=54_822,
        expressions=104_560,
        source="Mao et al., Generation and Comprehension of Unambiguous Object Descriptions, CVPR 2016",
        recounted=("val",),
        note="split by objects: train and val share pictures; the test part was never published",
    ),
    Published(
        "grefcoco",
        "unc",
        {
            "train": SplitCounts(209_344),
            "val": SplitCounts(16_870),
            "testA": SplitCounts(18_712),
            "testB": SplitCounts(14_933),
        },
        pictures=19_994,
        objects=60_287,
        expressions=259_859,
        source="Liu, Ding, Jiang, GRES, CVPR 2023, and the public file of 2023-08-29",
        note="the paper counts 278,232 sentences (80,022 several targets, 32,202 none); the public file holds fewer",
    ),
)


def published(dataset: str, split_by: str) -> Published | None:
    """The published numbers of a data set and split, or None where there are none (drawn scenes, one's own data)."""
    for entry in PUBLISHED:
        if (entry.dataset, entry.split_by) == (dataset, split_by):
            return entry
    return None
