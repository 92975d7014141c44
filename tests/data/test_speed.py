"""RefCOCO at its full size, made up: opening it again takes under 5 s and 500 MB, a worker gives 60 samples a second.

python -m pytest -m slow tests/data/test_speed.py -s        prints what it measures; so does refseg data speed
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refseg.cli.main import main
from refseg.data import open_dataset
from refseg.data.speed import FULL, MadeUp, measure_opening, measure_rate, noise_samples, write_refcoco
from refseg.errors import DataError

SMALL = MadeUp(pictures=5, objects=12, referents=8, sentences=19)


def test_the_made_up_set_has_the_numbers_asked_for(tmp_path: Path) -> None:
    write_refcoco(tmp_path, SMALL)
    dataset = open_dataset(tmp_path)
    assert len(dataset) == SMALL.sentences
    assert len({sample.ref_id for sample in dataset}) == SMALL.referents
    assert all(sample.mask().any() for sample in dataset)
    for wrong in ({"pictures": 13}, {"referents": 13}, {"sentences": 25}, {"sentences": 15}):
        with pytest.raises(DataError, match="made-up"):
            MadeUp(**{**vars(SMALL), **wrong})


def test_opening_is_measured_apart(tmp_path: Path) -> None:
    write_refcoco(tmp_path, SMALL)
    first, again = measure_opening(tmp_path, dataset="refcoco")
    assert first.sentences == again.sentences == SMALL.sentences
    assert not first.torch
    assert 0 < again.processor < 20
    assert 10e6 < again.peak < 500e6
    with pytest.raises(DataError, match="no data set 'refcoc' here"):
        measure_opening(tmp_path, dataset="refcoc")


def test_the_command_measures_a_folder(refcoco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    assert main(["data", "speed", str(refcoco), "--samples", "3", "--size", "64", "--json", str(out)]) == 0
    assert "worker: " in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert [entry["sentences"] for entry in found["openings"]] == [4, 4]
    assert (found["rate"]["samples"], found["rate"]["size"]) == (3, 64)
    assert found["rate"]["processor"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_opening_refcoco_again(tmp_path: Path) -> None:
    write_refcoco(tmp_path)
    first, again = measure_opening(tmp_path)
    print(f"\n{first}\n{again}")
    assert first.sentences == again.sentences == FULL.sentences
    assert again.processor < 5
    assert again.peak < 500e6


@pytest.mark.slow
def test_a_worker_is_fast_enough(tmp_path: Path) -> None:
    """One thread, pictures as large as COCO's and as detailed, a sentence each; then three sentences a picture."""
    samples = noise_samples(tmp_path)
    for each in (1, 3):
        rate = measure_rate([sample for sample in samples for _ in range(each)])
        print(f"\n{each} sentences a picture: {rate}")
        assert rate.a_second > 60
