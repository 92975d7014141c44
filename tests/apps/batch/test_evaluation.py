"""Evaluation in parts: the rows of workers are counted to the score of one process, and lines come in one order."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refseg.apps.batch import evaluation
from refseg.apps.batch.evaluation import LINES, Job, evaluate_elsewhere, lines_of
from refseg.cli.main import main
from refseg.data import open_dataset
from refseg.errors import DataError, RefsegError
from refseg.evaluation.evaluate import Writers, evaluate_protocols, native_protocol
from refseg.inference.predictor import load
from refseg.metrics import get_protocol
from tests.support.small_runs import write_data
from tests.support.tiny_model import write_model_folder


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("evaluation")
    model = write_model_folder(root / "model")
    protocols = (native_protocol({}), get_protocol("rela"))
    place = (write_data(root / "data"), "grefcoco", "train", None, None, (0, 1))
    return Job(*place, str(model), "cpu", "float32", protocols, lines=LINES)


def writers() -> tuple[Writers, dict[str, list[dict[str, Any]]]]:
    lines: dict[str, list[dict[str, Any]]] = {name: [] for name in LINES}
    return Writers(**{name: kept.append for name, kept in lines.items()}), lines


def test_parts_are_counted_to_the_whole(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "PICTURES", 1)
    samples = open_dataset(job.data, job.dataset, job.split)
    pictures = len(samples.by_picture())
    assert pictures > 1
    segmenter = load(job.model, "cpu")
    whole_writers, whole = writers()
    expected = evaluate_protocols(segmenter.model, segmenter.tokenizer, samples, job.protocols, writers=whole_writers)
    part_writers, parts = writers()
    seen: list[tuple[int, int]] = []
    found = evaluate_elsewhere(
        job, pictures, writers=part_writers, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(number + 1, pictures) for number in range(pictures)]
    for one, other in zip(expected, found, strict=True):
        assert dict(one) == pytest.approx(dict(other), nan_ok=True)
        assert one.counts == other.counts
        assert sorted(row["id"] for row in one.rows) == sorted(row["id"] for row in other.rows)
    for name in LINES:
        assert len(whole[name]) == len(parts[name])
        ordered = [sorted(lines[name], key=lambda line: line["id"]) for lines in (whole, parts)]
        for one, other in zip(*ordered, strict=True):
            # Probabilities hang on what else is in a batch, by rounding.
            assert one.pop("no_target_score", 0) == pytest.approx(other.pop("no_target_score", 0), abs=1e-4)
            assert one == other


def test_a_shard_of_the_shards(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of --shard are parts of that shard."""
    monkeypatch.setattr(evaluation, "PICTURES", 1)
    pictures = len(open_dataset(job.data, job.dataset, job.split).by_picture())
    halves = [evaluate_elsewhere(replace(job, shard=(number, 2)), pictures)[0] for number in range(2)]
    whole = evaluate_elsewhere(job, pictures)[0]
    assert sorted(row["id"] for half in halves for row in half.rows) == sorted(row["id"] for row in whole.rows)


def test_what_cannot_be_counted_is_told(job: Job, tmp_path: Path) -> None:
    with pytest.raises(RefsegError, match="masks"):
        evaluate_elsewhere(replace(job, protocols=(get_protocol("grec"),)), 1)
    assert lines_of(Writers()) == ()
    copy = tmp_path / "data"
    shutil.copytree(job.data, copy)
    for path in copy.rglob("*.jpg"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="no expression could be evaluated"):
        evaluate_elsewhere(replace(job, data=copy), 4)


def test_options_that_do_not_go_together(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--data", str(job.data), "--dataset", "grefcoco", "--split", "train", "--model", job.model]
    assert main([*words, "--gpus", "1"]) == 2
    assert main([*words, "--ray", "local", "--erase-words", "random"]) == 2
    assert "--ray" in capsys.readouterr().err
