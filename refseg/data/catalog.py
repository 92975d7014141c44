"""What exists: the data sets of the field by name, and the counts that their authors published. No torch in this file.

Where the files are and under which licence: `refseg.data.releases`. `counted` is the number of sentences that was
counted for this package over a list of all sentences of that split; None where nobody has counted here, not even where
a number is printed everywhere. For gRefCOCO's public file the split sizes are those commonly quoted, which nobody has
printed in a paper.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SplitCounts:
    """Published numbers of one split and what was counted here; None where unknown. A video counts as a picture."""

    expressions: int | None
    referents: int | None = None
    pictures: int | None = None
    objects: int | None = None
    counted: int | None = None


@dataclass(frozen=True)
class Published:
    """One data set with one split: numbers, source, and what one should know before comparing with them."""

    dataset: str
    split_by: str
    splits: dict[str, SplitCounts]
    pictures: int | None
    objects: int | None
    expressions: int | None
    source: str
    note: str = ""


PUBLISHED: tuple[Published, ...] = (
    Published(
        "refcoco",
        "unc",
        {
            "train": SplitCounts(120_624, 42_404, 16_994),
            "val": SplitCounts(10_834, 3_811, 1_500, counted=10_834),
            "testA": SplitCounts(5_657, 1_975, 750, counted=5_657),
            "testB": SplitCounts(5_095, 1_810, 750, counted=5_095),
        },
        pictures=19_994,
        objects=50_000,
        expressions=142_210,
        source="Yu et al., Modeling Context in Referring Expressions, ECCV 2016, and its repository",
        note="testA: people, testB: everything else; the splits add up to 142,210, papers also print 142,209",
    ),
    Published(
        "refcoco+",
        "unc",
        {
            "train": SplitCounts(120_191, 42_278, 16_992),
            "val": SplitCounts(10_758, 3_805, 1_500, counted=10_758),
            "testA": SplitCounts(5_726, 1_975, 750, counted=5_726),
            "testB": SplitCounts(4_889, 1_798, 750, counted=4_889),
        },
        pictures=19_992,
        objects=49_856,
        expressions=141_564,
        source="Yu et al., Modeling Context in Referring Expressions, ECCV 2016, and its repository",
        note="sentences without words of location",
    ),
    Published(
        "refcocog",
        "umd",
        {
            "train": SplitCounts(80_512, 42_226, 21_899),
            "val": SplitCounts(4_896, 2_573, 1_300, counted=4_896),
            "test": SplitCounts(9_602, 5_023, 2_600, counted=9_602),
        },
        pictures=26_711,
        objects=54_822,
        expressions=104_560,
        source="Mao et al., CVPR 2016; split by Nagaraja et al., ECCV 2016",
        note="totals count the whole set, 95,010 of its sentences are in the splits; LTS calls this the UNC partition",
    ),
    Published(
        "refcocog",
        "google",
        {"train": SplitCounts(85_474, 44_822, 24_698), "val": SplitCounts(9_536, 5_000, 4_650, counted=9_536)},
        pictures=26_711,
        objects=54_822,
        expressions=104_560,
        source="Mao et al., Generation and Comprehension of Unambiguous Object Descriptions, CVPR 2016",
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
    Published(
        "refcoco",
        "google",
        {
            "train": SplitCounts(None, 40_000, 19_213),
            "val": SplitCounts(None, 5_000, 4_559),
            "test": SplitCounts(None, 5_000, 4_527),
        },
        pictures=19_994,
        objects=50_000,
        expressions=142_210,
        source="TensorFlow Datasets, ref_coco; Yu et al., ECCV 2016",
        note="split by objects: the parts share pictures; hardly used",
    ),
    Published(
        "refclef",
        "berkeley",
        {"train": SplitCounts(54_127), "val": SplitCounts(5_842), "test": SplitCounts(60_103)},
        pictures=19_894,
        objects=96_654,
        expressions=130_525,
        source="Kazemzadeh et al., EMNLP 2014; split by Hu et al., CVPR 2016",
        note="totals count the whole game; two pictures of training and one of the test are missing from UNC's copy",
    ),
    Published(
        "refclef",
        "referit",
        {"train": SplitCounts(54_127), "val": SplitCounts(5_842), "test": SplitCounts(60_103)},
        pictures=19_894,
        objects=96_654,
        expressions=130_525,
        source="Kazemzadeh et al., EMNLP 2014; split by Hu et al., CVPR 2016",
        note="the same split as berkeley, with one MATLAB mask a region",
    ),
    Published(
        "refclef",
        "unc",
        {},
        pictures=None,
        objects=None,
        expressions=None,
        source="Yu et al., ECCV 2016, and its repository",
        note="train, val, testA (people), testB (animals), testC (other things); records may belong to two test parts",
    ),
    Published(
        "flickr30k",
        "plummer",
        {
            "train": SplitCounts(148_915, pictures=29_783),
            "val": SplitCounts(5_000, pictures=1_000),
            "test": SplitCounts(5_000, pictures=1_000),
        },
        pictures=31_783,
        objects=None,
        expressions=158_915,
        source="Plummer et al., IJCV 2017, and its repository",
        note="five captions a picture; 276,000 boxes, 244,000 coreference chains, about 427,000 phrases",
    ),
    Published(
        "visual-genome",
        "regions",
        {"all": SplitCounts(None, pictures=108_077)},
        pictures=108_077,
        objects=None,
        expressions=None,
        source="Krishna et al., IJCV 2017",
        note="5.4 million regions; about half of the pictures are COCO's: leave out those of the evaluation splits",
    ),
    Published(
        "phrasecut",
        "wu",
        {
            "train": SplitCounts(310_816, pictures=71_746),
            "val": SplitCounts(20_316, pictures=2_971),
            "test": SplitCounts(14_354, pictures=2_545),
            "miniv": SplitCounts(821, pictures=100),
        },
        pictures=77_262,
        objects=None,
        expressions=345_486,
        source="Wu et al., PhraseCut, CVPR 2020, and its repository",
        note="by its total, the printed val counts miniv too, which refer_val.json does not hold; a first version of "
        "the files held 348,233 phrases",
    ),
    Published(
        "ref-davis17",
        "khoreva",
        {"train": SplitCounts(None, pictures=60), "val": SplitCounts(None, pictures=30)},
        pictures=90,
        objects=205,
        expressions=1_544,
        source="Khoreva et al., ACCV 2018",
        note="pictures are videos; two annotators, each from the first frame and from the whole video",
    ),
    Published(
        "ref-youtube-vos",
        "meta",
        {
            "train": SplitCounts(12_913, pictures=3_471, objects=6_388),
            "valid": SplitCounts(None, pictures=202),
            "test": SplitCounts(None, pictures=305),
        },
        pictures=3_978,
        objects=7_451,
        expressions=15_009,
        source="Seo et al., URVOS, ECCV 2020; the challenge's split of the validation part",
        note="pictures are videos; the masks of valid and test are not public",
    ),
    Published(
        "mevis",
        "meta",
        {
            "train": SplitCounts(27_502, pictures=1_662),
            "valid_u": SplitCounts(907, pictures=50),
            "valid": SplitCounts(2_523, pictures=140),
        },
        pictures=2_006,
        objects=8_171,
        expressions=33_072,
        source="Ding et al., MeViS, TPAMI 2025 (version 2), and its repository",
        note="pictures are videos; version 1 (ICCV 2023) holds 28,570 sentences; valid's masks are not public",
    ),
)


def published(dataset: str, split_by: str) -> Published | None:
    """The published numbers of a data set and split, or None where there are none (drawn scenes, one's own data)."""
    for entry in PUBLISHED:
        if (entry.dataset, entry.split_by) == (dataset, split_by):
            return entry
    return None
