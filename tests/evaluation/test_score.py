"""refseg score: files in, numbers out; every malformed line named with file, line and id."""

import json

import numpy as np
import pytest

from refseg.cli.main import main
from refseg.data.rle import encode
from refseg.errors import DataError
from refseg.evaluation.score import protocol_table, score_files, score_rows
from refseg.metrics import PROTOCOLS, RecordsError, rescore, score

SQUARE = np.zeros((6, 8), dtype=bool)
SQUARE[1:4, 2:6] = True
EMPTY = np.zeros_like(SQUARE)

TARGETS = [
    {
        "id": "1",
        "mask": encode(SQUARE),
        "no_target": False,
        "text": "the left square",
        "image_id": 4,
        "kind": "location",
    },
    {"id": "2", "mask": encode(EMPTY), "no_target": True, "text": "a dog", "image_id": 4, "kind": "no target"},
    {"id": "3", "mask": encode(~SQUARE), "no_target": False, "text": "all but the square", "image_id": 5},
]
PREDICTIONS = [
    {"id": "3", "mask": encode(~SQUARE), "no_target": False, "no_target_score": 0.1},
    {"id": "1", "mask": encode(np.roll(SQUARE, 1, axis=1)), "no_target": False, "no_target_score": 0.3},
    {"id": "2", "mask": encode(EMPTY), "no_target": True, "no_target_score": 0.8},
]


@pytest.fixture
def files(tmp_path):
    def write(predictions=PREDICTIONS, targets=TARGETS):
        paths = tmp_path / "P.jsonl", tmp_path / "T.jsonl"
        for path, lines in zip(paths, (predictions, targets), strict=True):
            text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
            path.write_text("\n".join(text) + "\n", encoding="utf-8")
        return paths

    return write


def run(*words):
    return main(["score", *map(str, words)])


def test_the_command_writes_metrics_protocol_counts_and_breakdowns(files, tmp_path, capsys):
    predictions, targets = files()
    out = tmp_path / "out" / "score.json"
    assert run("--predictions", predictions, "--targets", targets, "--protocol", "rela", "-o", out) == 0
    written = json.loads(out.read_text())
    wanted = score(PREDICTIONS, TARGETS, "rela")
    assert written["metrics"] == dict(wanted)
    assert written["metrics"]["cIoU"] == (9 + 36) / (15 + 36)
    assert {"cIoU", "gIoU", "mIoU", "N_acc", "T_acc", *(f"Pr@0.{n}" for n in range(5, 10))} <= set(written["metrics"])
    assert written["protocol"] == PROTOCOLS["rela"].to_dict()
    assert written["counts"]["sentences"] == 3
    assert set(written["breakdowns"]) >= {"kind", "targets", "length"}
    printed = capsys.readouterr().out
    assert "henghuiding/ReLA" in printed
    assert "88.24" in printed  # 45 / 51


@pytest.mark.parametrize("protocol", [name for name, entry in PROTOCOLS.items() if entry.task == "masks"])
def test_files_score_as_records_do(files, protocol):
    assert dict(score_files(*files(), protocol)) == dict(score(PREDICTIONS, TARGETS, protocol))


def test_boxes_and_clips_through_the_command(files, tmp_path):
    out = tmp_path / "o.json"
    boxes = [{"id": "1", "boxes": [[0, 0, 2, 2]], "scores": [0.9]}], [{"id": "1", "boxes": [[0, 0, 2, 2]]}]
    clips = [[{"id": "1", "masks": [encode(SQUARE)] * 4}]] * 2
    for protocol, lines, metric in (("grec", boxes, "F1"), ("davis", clips, "J&F")):
        predictions, targets = files(*lines)
        assert run("--predictions", predictions, "--targets", targets, "--protocol", protocol, "-o", out) == 0
        assert json.loads(out.read_text())["metrics"][metric] == 1.0


def test_every_bad_line_is_named_and_nothing_is_written(files, tmp_path, capsys):
    predictions, targets = files(
        [
            PREDICTIONS[0],
            {**PREDICTIONS[1], "mask": encode(np.ones((3, 3), dtype=bool))},
            '{"id": "2", "mask": ',
            {**PREDICTIONS[0], "no_target_score": float("nan")},
            '["not", "an", "object"]',
            {"id": "9", "mask": encode(SQUARE), "no_target": False},
        ]
    )
    out = tmp_path / "out.json"
    assert run("--predictions", predictions, "--targets", targets, "-o", out) == 2
    assert not out.exists()
    shown = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0].rpartition("/")[2] for line in shown[:-1]] == [
        "P.jsonl:3",
        "P.jsonl:5",
        "P.jsonl:4",
        "T.jsonl:2",
        "P.jsonl:6",
        "P.jsonl:2",
    ]
    assert "id 1: the mask is 3 x 3, but the target is 6 x 8" in shown[5]
    assert "6 problems" in shown[-1]


def test_lines_that_are_not_text_are_named(files):
    predictions, targets = files()
    predictions.write_bytes(b'{"id": "1"}\n\xff\xfe\n')
    with pytest.raises(RecordsError, match=r"P\.jsonl:2: not a line of JSON"):
        score_files(predictions, targets)


def test_files_that_cannot_be_read_are_told(files, tmp_path):
    predictions, targets = files()
    with pytest.raises(DataError, match="cannot be read"):
        score_files(tmp_path / "gone.jsonl", targets)
    with pytest.raises(DataError, match="cannot be read"):
        score_files(tmp_path, targets)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no records"):
        score_files(predictions, tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --predictions with --targets"),
        (["--predictions", "P"], "give --predictions with --targets"),
        (["--rows", "R", "--predictions", "P", "--targets", "T"], "give --predictions with --targets"),
        (["--predictions", "P", "--targets", "T", "--protocol", "rla"], "did you mean"),
        (["--rows", "R", "--all-protocols"], "wants --predictions"),
        (["--predictions", "P", "--targets", "T", "-o", "/"], "is a folder"),
    ],
)
def test_wrong_requests_get_one_line(words, message, capsys):
    assert run(*words) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert message in shown[0]


def test_rows_are_counted_again(tmp_path, capsys):
    rows = score(PREDICTIONS, TARGETS, "native").rows
    parts = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for path, lines in zip(parts, (rows[:1], rows[1:]), strict=True):
        path.write_text("".join(json.dumps({**row, "protocol": "native"}) + "\n" for row in lines))
    assert (
        dict(score_rows(parts, "lisa")) == rescore(rows, "lisa").compute() == dict(score(PREDICTIONS, TARGETS, "lisa"))
    )
    assert run("--rows", *parts, "--protocol", "restr") == 0
    capsys.readouterr()
    assert run("--rows", *parts, parts[0], "--protocol", "vlt") == 2
    shown = capsys.readouterr().err
    assert "made for protocol 'native', whose masks are not those of 'vlt'" in shown
    with pytest.raises(RecordsError, match="stands at"):
        score_rows([*parts, parts[0]], "native")
    parts[0].write_text('{"id": "1"}\n5\n')
    with pytest.raises(RecordsError, match="2 malformed records"):
        score_rows(parts[:1], "native")


def test_all_protocols_in_one_table(files, capsys):
    predictions, targets = files()
    assert run("--predictions", predictions, "--targets", targets, "--all-protocols") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + sum(entry.task == "masks" for entry in PROTOCOLS.values())
    assert "| rela | 88.24 | **86.67** |" in "\n".join(lines)
    only_targets = score([PREDICTIONS[0]], [TARGETS[2]], "native")
    assert protocol_table([only_targets]).splitlines()[-1].split(" | ")[-2] == "-"
