"""Shards in processes: each is done, whoever dies; an error of the work ends it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from refseg.apps.batch import execute
from refseg.apps.batch.execute import Cluster, map_shards
from refseg.errors import RefsegError
from tests.support.shards import counting


def test_a_process_that_dies_costs_no_shard(tmp_path: Path) -> None:
    names = ["deadly", *(f"s{index}" for index in range(6))]
    results = list(map_shards(partial(counting, str(tmp_path)), [{"name": name} for name in names], workers=2))
    assert sorted(result["name"] for result in results) == sorted(names)
    assert len(list(tmp_path.glob("deadly-*"))) == 2


def test_a_shard_that_kills_every_process_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "DEATHS", 1)
    with pytest.raises(RefsegError, match="died 2 times in a row"):
        list(map_shards(partial(counting, str(tmp_path)), [{"name": "fatal"}, {"name": "fatal"}], workers=2))


def test_an_error_of_the_work_ends_it(tmp_path: Path) -> None:
    shards = [{"name": "wrong"}, {"name": "right"}]
    for workers in (1, 2):
        with pytest.raises(RefsegError, match="this shard is wrong"):
            list(map_shards(partial(counting, str(tmp_path)), shards, workers=workers))


def test_without_shards_nothing_is_started() -> None:
    make = partial(counting, "/nowhere")
    assert list(map_shards(make, [], workers=2)) == []
    assert list(map_shards(make, [], cluster=Cluster())) == []
