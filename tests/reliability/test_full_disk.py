"""A disk that is full at any write of any verb: a line, exit code 1 or 2, and what was there before is there still.

Each verb runs twice over the same place, which counts its operations on files; then the n-th finds the disk full, for
every n with REFSEG_RELIABILITY_WRITES=all, and for a few otherwise. The second test limits the size of every file,
which also reaches writes of libraries that are not Python's.
"""

from __future__ import annotations

import os
import random
import resource
import shlex
import shutil
from pathlib import Path

import pytest

from tests.reliability.conftest import Call, Ended
from tests.reliability.faults import watching

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(3600)]
EVERY = os.environ.get("REFSEG_RELIABILITY_WRITES") == "all"
FEW = 3

WRITERS = {
    "segment": 'segment {w}/good.png "red ball" --model {w}/model -o {out}',
    "segment-jsonl": 'segment {w}/good.png "red ball" --model {w}/model -o {out} --jsonl',
    "edit": 'edit {w}/good.png "red ball" --model {w}/model --threshold 0 --no-target-threshold 1 '
    "-o {out}/edited.png --background white",
    "label": "label {w}/good.png --phrases {w}/phrases.txt --model {w}/model -o {out}",
    "explain": 'explain {w}/good.png "red ball" --model {w}/model -o {out}',
    "video": 'video {w}/data/images/train2014 "red ball" --model {w}/model -o {out} --format json',
    "batch": "batch {w}/good.png {w}/whole.jpg -t ball --model {w}/model -o {out}",
    "evaluate": "evaluate --data {w}/data --split val --model {w}/model --json {out}/a.json --rows {out}/r.jsonl "
    "--predictions {out}/p.jsonl --targets {out}/t.jsonl",
    "calibrate": "calibrate {w}/model --data {w}/data -o {out} --force",
    "score": "score --predictions {w}/predictions.jsonl --targets {w}/targets.jsonl -o {out}/a.json "
    "--plots {out}/plots",
    "results": "results --dataset gRefCOCO --csv {out}/a.csv",
    "tables": "tables -o {out}/a.md",
    "convert-jsonl": "data convert {w}/data {out} --to jsonl",
    "convert-grefcoco": "data convert {w}/data {out} --to grefcoco",
    "convert-coco": "data convert {w}/data {out} --to coco",
    "convert-yolo": "data convert {w}/data {out} --to yolo --split val",
    "convert-labelstudio": "data convert {w}/data {out} --to labelstudio",
    "convert-cvat": "data convert {w}/data {out} --to cvat",
    "scenes": "data scenes {out} --train 1 --val 1 --test 0 --size 64",
    "annotate-import": "annotate import {w}/data --data {out}",
    "annotate-demo": "annotate demo --data {out} --scenes 1 --prepare-only",
}


def words_of(name: str, world: Path, out: Path) -> list[str]:
    return shlex.split(WRITERS[name].replace("{w}", str(world)).replace("{out}", str(out)))


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_line(ended: Ended) -> None:
    assert ended.code in (1, 2), ended
    assert "Traceback" not in ended.err
    assert "refseg" in ended.err.strip().splitlines()[-1], ended.err


def check_left(out: Path) -> None:
    assert not [path for path in out.parent.rglob("*") if path.name.endswith(".part")]


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_at_any_operation(
    name: str, call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "place" / "out"
    out.mkdir(parents=True)
    words = words_of(name, world, out)
    with watching(tmp_path / "place") as first:
        ended = call(words)
    assert ended.code == 0, ended
    whole = content_of(out)
    assert whole
    assert first.count > 0
    places = list(range(1, first.count + 1))
    if not EVERY:
        dice = random.Random(f"{request.config.getoption('--seed')} {name}")
        places = sorted({1, first.count, *dice.sample(places, min(FEW, len(places)))})
    for at in places:
        shutil.rmtree(out)
        out.mkdir()
        with watching(tmp_path / "place", at) as watched:
            ended = call(words)
        assert watched.count >= at
        if ended.code == 0:  # a file that can be done without, such as a lock's or a cache's
            continue
        check_line(ended)
        check_left(out)


@pytest.mark.parametrize("name", [name for name in WRITERS if not name.startswith(("annotate", "convert", "scenes"))])
def test_what_was_there_stays(
    name: str, call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer into the same place meets files that cannot grow beyond some bytes."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "place" / "out"
    out.mkdir(parents=True)
    words = words_of(name, world, out)
    assert call(words).code == 0
    before = content_of(out)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            ended = call(words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        if ended.code != 0:
            check_line(ended)
        after = content_of(out)
        for path, content in before.items():
            assert path in after, f"{path} is gone"
            assert len(after[path]) > 0 or not content, f"{path} is empty"
            if not path.endswith((".json", ".jsonl", ".md")):  # which may hold times
                assert after[path] == content, path
            elif path.endswith(".json"):
                assert after[path].rstrip().endswith((b"}", b"]")), f"{path} is half"
        check_left(out)
