"""The published numbers: complete, as printed, and in agreement with what the papers' own prose says of them."""

from collections import Counter

import pytest

from refseg.evaluation.leaderboard import disagreements, documents, load_published
from refseg.evaluation.leaderboard.published import BASES, as_fraction
from refseg.metrics import PROTOCOLS

NUMBERS = load_published()

# How many numbers each table holds, counted on the paper.
TABLES = {
    "gres": {"Table 2": 20, "Table 3": 20, "Table 4": 20, "Table 5": 48, "Table 6": 30, "Table 7": 59},
    "lts": {"Table 1": 87, "Table 2": 126, "Table 3": 6, "Table 4": 6, "Table 5": 12, "Table 6": 18, "Table 7": 6},
    "restr": {"Table 1": 103, "Table 2": 64, "Table 3a": 8, "Table 3b": 12, "Table 4": 41, "Table 5": 18},
    "reftr": {"Table 1": 124},
    "thesis": {
        **{"Table 3.1": 24, "Table 3.2a": 6, "Table 3.2b": 6, "Table 3.3": 76, "Table 4.1": 14, "Table 4.2": 18},
        **{"Table 4.3": 42, "Table 4.4": 18, "Table 4.5a": 12, "Table 4.5b": 24, "Table 4.6": 24, "Table 4.7": 178},
        **{"Table 4.8": 30, "Table 5.1": 24, "Table 5.2": 10, "Table 5.3": 9, "Table 5.4": 180, "Table 5.5": 26},
        **{"Table 6.2": 20, "Table 6.3": 20, "Table 6.4": 20, "Table 6.5": 48, "Table 6.6": 30, "Table 6.7": 59},
    },
}


def one(document, table, metric, split=None, **fields):
    """The only number of a table that fits."""
    found = [
        number
        for number in NUMBERS
        if (number.document, number.table, number.printed_metric) == (document, table, metric)
        and (split is None or number.split == split)
        and all(getattr(number, key) == value for key, value in fields.items())
    ]
    assert len(found) == 1, (document, table, metric, split, fields, len(found))
    return found[0].value


@pytest.mark.parametrize("document", TABLES)
def test_every_table_has_all_of_its_numbers(document):
    counts = Counter(number.table for number in NUMBERS if number.document == document)
    assert {table: count for table, count in counts.items() if table.startswith("Table")} == TABLES[document]


def test_chapter_6_of_the_thesis_repeats_the_paper():
    def content(document, prefix):
        return Counter(
            (n.table.removeprefix(prefix), n.system, n.configuration, n.question(), n.printed_value)
            for n in NUMBERS
            if n.document == document and n.table.startswith(prefix)
        )

    assert content("gres", "Table ") == content("thesis", "Table 6.")


GRES, LTS, THESIS = "gres", "lts", "thesis"
PROSE = [
    # (larger, smaller, difference that the text states)
    ((GRES, "Table 2", "gIoU", {"printed": "Hard split, decoder"}), {"printed": "Hard split, input"}, 5.59),
    ((GRES, "Table 2", "gIoU", {"configuration": ""}), {"printed": "Hard split, decoder"}, 2.67),
    ((GRES, "Table 2", "gIoU", {"configuration": ""}), {"printed": "w/o minimap"}, 1.54),
    ((GRES, "Table 3", "gIoU", {"printed": "+ region att."}), {"printed": "Baseline"}, 3.85),
    ((GRES, "Table 3", "gIoU", {"configuration": ""}), {"printed": "Baseline"}, 5.07),
    ((LTS, "Table 5", "IoU", {"configuration": "2 filters", "split": "val"}), {"configuration": ""}, 0.61),
    ((LTS, "Table 2", "IoU", {"configuration": "fusion + filter", "split": "val"}), {"configuration": "filter"}, 2.41),
    (("restr", "Table 4", "IoU", {"configuration": ""}), {"configuration": "fusion encoder: CME, no decoder"}, 1.67),
    (("restr", "Table 2", "IoU", {"system": "ReSTR", "subset": "1-5 words"}), {"subset": "11-20 words"}, 6.81),
    (("restr", "Table 2", "IoU", {"printed": "ACM", "subset": "1-5 words"}), {"subset": "11-20 words"}, 13.71),
    ((THESIS, "Table 3.1", "IoU", {"printed": "Baseline+IEM+RAM+RM"}), {"printed": "Baseline"}, 13.79),
    ((THESIS, "Table 3.1", "Pr@0.5", {"printed": "Baseline+IEM+RAM+RM"}), {"printed": "Baseline"}, 17.30),
    ((THESIS, "Table 3.2a", "IoU", {"printed": "GT Location", "split": "val"}), {"printed": "Predicted"}, 10.13),
    ((THESIS, "Table 3.2a", "IoU", {"printed": "GT Location", "split": "testB"}), {"printed": "Predicted"}, 10.62),
    ((THESIS, "Table 3.2b", "IoU", {"printed": "GT Mask", "split": "val"}), {"printed": "Predicted"}, 14.22),
    ((THESIS, "Table 3.2b", "IoU", {"printed": "GT Mask", "split": "testA"}), {"printed": "Predicted"}, 14.03),
    ((THESIS, "Table 4.3", "IoU", {"configuration": ""}), {"configuration": "no query balance"}, 1.44),
    ((THESIS, "Table 4.4", "IoU", {"printed": "SDF"}), {"printed": "Tile"}, 0.84),
    ((THESIS, "Table 4.4", "Pr@0.5", {"printed": "SDF"}), {"printed": "Tile"}, 1.23),
    ((THESIS, "Table 4.5a", "IoU", {"printed": "w/ CL", "subset": ""}), {"printed": "w/o CL"}, 1.27),
    ((THESIS, "Table 4.5a", "Pr@0.5", {"printed": "w/ MCL", "subset": ""}), {"printed": "w/ CL"}, 0.51),
    ((THESIS, "Table 4.5b", "IoU", {"printed": "w/ MCL"}), {"printed": "w/o CL"}, 3.19),
    ((THESIS, "Table 4.5b", "Pr@0.5", {"printed": "w/ MCL"}), {"printed": "w/o CL"}, 4.35),
    ((THESIS, "Table 5.2", "IoU", {"printed": "#2 Baseline + IMI"}), {"printed": "#1 Baseline (M ³ Att)"}, 1.14),
    ((THESIS, "Table 5.2", "IoU", {"printed": "#4 Ours"}), {"printed": "#2 Baseline + IMI"}, 1.18),
    ((THESIS, "Table 5.3", "Pr@0.9", {"printed": "Ours"}), {"printed": "VLT"}, 3.89),
    ((THESIS, "Table 5.3", "Pr@0.9", {"printed": "Ours"}), {"printed": "Concat"}, 2.15),
    ((THESIS, "Table 5.5", "Pr@0.5", {"system": "M3Att"}), {"system": "MCN"}, 2.41),
]


@pytest.mark.parametrize(("larger", "smaller", "difference"), PROSE)
def test_differences_are_those_that_the_prose_states(larger, smaller, difference):
    document, table, metric, fields = larger
    below = {key: value for key, value in fields.items() if key not in ("printed", "configuration")}
    if {"split", "subset"} & smaller.keys() or "system" in smaller:
        below = {key: value for key, value in fields.items() if key not in smaller}
    if table == "Table 2" and document == "restr":
        fields, below = {**fields, "dataset": "RefCOCOg"}, {**below, "dataset": "RefCOCOg"}
    if table == "Table 5" and document == LTS:
        below = {**below, "printed": "LTS"}
    found = one(document, table, metric, **fields) - one(document, table, metric, **below, **smaller)
    assert found == pytest.approx(difference, abs=1e-9)


def test_precision_falls_with_its_level_but_for_the_misprint():
    rows = {}
    for number in NUMBERS:
        if number.metric.startswith("Pr@"):
            key = (number.document, number.table, number.printed, number.question()[:-1])
            rows.setdefault(key, {})[float(number.metric[3:])] = number.value
    broken = []
    for key, levels in rows.items():
        values = [levels[level] for level in sorted(levels)]
        if values != sorted(values, reverse=True):
            broken.append((key[0], key[1], values))
    assert len(rows) > 60
    assert broken == [("restr", "Table 4", [52.86, 36.61, 38.93, 26.37, 7.90])]


def test_values_keep_their_printed_digits():
    for number in NUMBERS:
        assert number.value == float(number.printed_value)
        if number.unit == "%":
            assert 0.0 < number.value < 100.0
            assert as_fraction(number) == number.value / 100
        assert number.document in documents()
        assert number.basis in BASES
        assert number.protocol in (*PROTOCOLS, "")
    assert one("gres", "Table 5", "gIoU", "val", system="ReLA") == 63.60
    assert any(number.printed_value == "63.60" for number in NUMBERS)


def test_every_iou_says_which_measure_it_is():
    # LAVT's README has both measures.
    printed = [number for number in NUMBERS if number.document != "lavt-code" and number.dataset == "RefCOCO"]
    measures = {number.system: number for number in printed if number.is_iou}
    told = {
        "ReSTR": ("cIoU", "stated"),
        "ReLA": ("cIoU", "stated"),
        "LAVT": ("cIoU", "code"),
        "MCN": ("mIoU", "code"),
        "LTS": ("mIoU", "lineage"),
        "ISFP": ("mIoU", "lineage"),
        "M3Att": ("mIoU", "lineage"),
        "RefTR": ("mIoU", "stated"),
        "MaIL": ("IoU?", "unknown"),
    }
    assert {system: (measures[system].metric, measures[system].basis) for system in told} == told
    assert not [number for number in NUMBERS if number.metric == "IoU"]


def test_a_heading_does_not_change_what_was_computed():
    """GRES's table 7 is headed cIoU, also over numbers that MCN's and VLT's own code averaged."""
    rows = [n for n in NUMBERS if (n.document, n.table) == ("gres", "Table 7")]
    assert {n.printed_metric for n in rows} == {"cIoU"}
    assert {n.system for n in rows if n.metric == "mIoU"} == {"MCN", "VLT", "CRIS"}
    run_anew = [n for n in NUMBERS if (n.document, n.table, n.system) == ("gres", "Table 5", "VLT")]
    assert {n.metric for n in run_anew} == {"cIoU", "gIoU"}
    assert {n.protocol for n in run_anew} == {"rela-50px"}


def test_disagreements_hold_both_values_with_their_sources():
    found = {(group[0].system, group[0].place()): group for group in disagreements()}
    rrn = found["RRN", ("RefCOCO", "unc", "testB", "")]
    assert {number.printed_value for number in rrn} == {"53.95", "53.93"}
    assert {number.document for number in rrn if number.printed_value == "53.95"} == {"lts", "restr"}
    learnt = found["VLT", ("RefCOCO", "unc", "testB", "")]
    assert {number.source for number in learnt} == {"Liu, thesis 2024, Table 4.2", "Liu, thesis 2024, section 4.3.2"}
    assert {system for system, _ in found} == {"RRN", "BRINet", "CMPC", "VLT"}


def test_what_authors_say_of_their_released_models_agrees_with_what_others_quote():
    """READMEs of CRIS and LAVT beside table 7 of GRES, which quotes CRIS's with the deeper encoder."""
    told = {
        (n.system, n.place()): n.printed_value
        for n in NUMBERS
        if n.document in ("cris-code", "lavt-code") and n.is_iou and n.visual_encoder != "CLIP ResNet-50"
        if (n.system, n.metric) in (("CRIS", "mIoU"), ("LAVT", "cIoU"))
    }
    quoted = {
        (n.system, n.place()): n.printed_value
        for n in NUMBERS
        if (n.document, n.table) == ("gres", "Table 7") and n.system in ("CRIS", "LAVT")
    }
    assert told == quoted
    assert len(told) == 8 + 9
