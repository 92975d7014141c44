"""Filters, the refusal to mix measures, and tables."""

import csv
import io
from dataclasses import replace

import pytest

from refseg.errors import RefsegError
from refseg.evaluation.leaderboard import Board, MixedMeasuresError, Result, load_published, select
from refseg.evaluation.leaderboard.board import column_name, to_csv

CUMULATIVE = Result("One", "cIoU", 60.0, "RefCOCO", "val", partition="unc", printed_metric="IoU", printed_value="60.00")
MEAN = replace(CUMULATIVE, system="Two", metric="mIoU", value=62.0, printed_value="62.0", basis="lineage")
UNKNOWN = replace(CUMULATIVE, system="Three", metric="IoU?", value=64.0, printed_value="64", basis="unknown")


def test_names_are_matched_loosely_and_unknown_ones_refused():
    found = select(load_published(), system="rela", dataset="g-refcoco", split="VAL", metric="giou")
    assert {(r.system, r.dataset, r.split, r.metric) for r in found} == {("ReLA", "gRefCOCO", "val", "gIoU")}
    assert {r.dataset for r in select(load_published(), dataset="referit")} == {"ReferIt"}
    assert {r.dataset for r in select(load_published(), dataset="refclef")} == {"ReferIt"}
    with pytest.raises(RefsegError, match="did you mean 'LAVT'"):
        select(load_published(), system="LAVTT")


def test_ablations_subsets_and_second_hand_numbers_are_left_out_unless_asked_for():
    plain = select(load_published())
    assert not any(r.subset or r.document == "recalled" for r in plain)
    assert {r.configuration for r in plain} == {
        "", "ICCV 2021", "pre-trained on Visual Genome", "released weights"
    }  # fmt: skip
    assert len(select(load_published(), ablations=True, subsets=True, second_hand=True)) == len(load_published())


def test_measures_of_iou_have_columns_of_their_own():
    board = Board([CUMULATIVE, MEAN, UNKNOWN])
    assert [column[-1] for column in board.columns] == ["cIoU", "mIoU", "IoU?"]
    lines = board.table()
    assert lines[0][3:] == ["RefCOCO val: cIoU", "RefCOCO val: mIoU", "RefCOCO val: IoU?"]
    assert lines[1][3:] == ["60.00", "", ""]
    assert lines[2][3:] == ["", "62.0~", ""]
    assert lines[3][3:] == ["", "", "64?"]
    assert any(remark.startswith("~") and "Two" in remark for remark in board.remarks())
    assert any(remark.startswith("?") and "Three" in remark for remark in board.remarks())


def test_comparing_mean_with_cumulative_is_refused_until_told():
    with pytest.raises(MixedMeasuresError, match=r"cIoU: One; mIoU: Two.*--mix-iou"):
        Board([CUMULATIVE, MEAN]).check()
    Board([CUMULATIVE, replace(CUMULATIVE, system="Two")]).check()
    mixed = Board([CUMULATIVE, MEAN], mix_iou=True)
    mixed.check()
    assert [line[-1] for line in mixed.table()] == ["RefCOCO val: IoU", "60.00 cIoU", "62.0~ mIoU"]
    with pytest.raises(MixedMeasuresError, match="no common order"):
        mixed.ranked(mixed.columns[0])


def test_ranking_is_best_first_and_small_is_good_for_size():
    better = replace(CUMULATIVE, system="Two", value=61.0, printed_value="61.00")
    board = Board([CUMULATIVE, better])
    assert [row[0] for row in board.ranked(board.columns[0])] == ["Two", "One"]
    small = Result("One", "parameters", 10.0, unit="M")
    board = Board([replace(small, system="Two", value=20.0), small])
    assert [row[0] for row in board.ranked(board.columns[0])] == ["One", "Two"]


def test_values_that_differ_between_sources_stand_side_by_side():
    other = replace(CUMULATIVE, value=59.5, printed_value="59.50", document="lts")
    same = replace(CUMULATIVE, document="thesis")
    assert Board([CUMULATIVE, other, same]).table()[1][3:] == ["60.00 / 59.50"]


def test_measured_rows_stand_last_and_another_protocol_is_told():
    measured = replace(CUMULATIVE, system="mini", value=5.0, printed_value="5.00", origin="measured", protocol="native")
    board = Board([measured, replace(CUMULATIVE, protocol="lavt")])
    assert [line[0] for line in board.table()[1:]] == ["One", "mini"]
    assert board.table()[2][1] == "measured here, native"
    assert any("measured under native, published under lavt" in remark for remark in board.remarks())
    board = Board([replace(measured, protocol="lavt"), replace(CUMULATIVE, protocol="lavt")])
    assert not board.remarks()


def test_a_misleading_heading_is_told():
    board = Board(select(load_published(), dataset="RefCOCO", split="val"))
    assert any("Table 7 heads these cIoU" in remark and "VLT" in remark for remark in board.remarks())


def test_csv_has_every_field_and_the_source():
    lines = list(csv.DictReader(io.StringIO(to_csv(select(load_published(), system="ISFP")))))
    assert len(lines) == 6 + 3 + 3 + 9  # tables 3.1, 3.2a, 3.2b, 3.3
    assert lines[0]["source"].startswith("Liu, thesis 2024, Table 3.")


def test_markdown_is_a_table():
    text = Board([CUMULATIVE]).markdown()
    assert text.splitlines()[0] == "| system | form | encoder | RefCOCO val: cIoU |"
    assert text.splitlines()[2] == "| One |  |  | 60.00 |"
    assert column_name(("RefCOCOg", "umd", "val", "6-7 words", "cIoU")) == "RefCOCOg umd val, 6-7 words: cIoU"
