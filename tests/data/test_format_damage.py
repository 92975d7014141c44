"""Every format with its files cut short, with flipped bits, with odd values: read, or a clear error; never a crash or a
hang."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from refseg.data import open_dataset
from refseg.data.check import check
from refseg.data.convert import WRITERS, read_any
from refseg.data.sample import ReferringDataset
from refseg.data.stats import describe
from refseg.errors import RefsegError
from tests.support.damage import damaged, is_own
from tests.support.format_files import FORMATS

# More of each: REFSEG_FUZZ=20 python -m pytest tests/data/test_format_damage.py
TIMES = int(os.environ.get("REFSEG_FUZZ", "1"))


def read_all(dataset: ReferringDataset) -> int:
    """Read everything that training would; gives the number of problems. The only errors are the package's own."""
    for sample in dataset:
        sample.boxes()
        if all(item.segmentation is not None for item in sample.objects):
            sample.mask()
    dataset.by_picture()
    return len(dataset.problems)


def read_published(root: Path, names: dict[str, str]) -> int:
    problems = read_all(open_dataset(root, **names))
    describe(open_dataset(root, **names, need_pictures=False))
    check(root, deep=True)
    return problems


def fuzz(files: list[Path], read: Callable[[], int], swaps: int = 12) -> None:
    assert files
    usual = read()
    random = np.random.default_rng(0)
    named = 0
    for path in files:
        whole = path.read_bytes()
        for content in damaged(path, random, 3 * TIMES, 4 * TIMES, swaps * TIMES):
            path.write_bytes(content)
            try:
                named += read() > usual
            except (RefsegError, jaxtyping.TypeCheckError) as error:
                named += 1
                if not is_own(error):
                    raise
        path.write_bytes(whole)
    assert read() == usual
    assert named


@pytest.mark.timeout(120 * TIMES)
@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_read_or_named(name: str, tmp_path: Path) -> None:
    write, names, patterns = FORMATS[name]
    root = write(tmp_path / "whole")
    files = sorted({path for pattern in patterns for path in (tmp_path / "whole").rglob(pattern)})
    fuzz(files, lambda: read_published(root, names), swaps=6)


@pytest.mark.timeout(120 * TIMES)
@pytest.mark.parametrize("family", ["refcoco", "grefcoco"])
def test_damage_of_refcoco_and_grefcoco(family: str, request: pytest.FixtureRequest) -> None:
    root: Path = request.getfixturevalue(family)
    files = sorted(path for path in (root / family).iterdir() if path.suffix in (".p", ".json"))
    fuzz(files, lambda: read_published(root, {}))


@pytest.mark.timeout(120 * TIMES)
@pytest.mark.parametrize("name", ["jsonl", "coco", "yolo", "labelstudio", "cvat", "grefcoco"])
def test_damage_of_other_tools_files(name: str, grefcoco: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    WRITERS[name](open_dataset(grefcoco), out)
    names = {"jsonl": "data.jsonl", "coco": "instances.json", "labelstudio": "tasks.json"}
    source = out / names.get(name, "")
    kinds = (".json", ".jsonl", ".yaml", ".txt")
    files = sorted(path for path in out.rglob("*") if path.suffix in kinds and path.stat().st_size)
    fuzz(files, lambda: read_all(read_any(source, "coco" if name == "coco" else None)))


@pytest.mark.parametrize("name", ["coco", "labelstudio", "cvat"])
def test_files_of_the_tools_themselves(name: str, grefcoco: Path, tmp_path: Path) -> None:
    """The same without this package's own fields: then other parts of the readers run."""
    out = tmp_path / "out"
    WRITERS[name](open_dataset(grefcoco), out)
    path = out / {"coco": "instances.json", "labelstudio": "tasks.json", "cvat": "annotations.json"}[name]
    content = json.loads(path.read_text())
    if name == "coco":
        del content["expressions"]
    elif name == "cvat":
        content[0]["tags"] = []
    else:
        for task in content:
            task["data"] = {"image": task["data"]["image"]}
    path.write_text(json.dumps(content))
    fuzz([path], lambda: read_all(read_any(path, name)), swaps=40)


@pytest.mark.parametrize("name", FORMATS)
def test_check_counts_every_format(name: str, tmp_path: Path) -> None:
    write, names, _ = FORMATS[name]
    root = write(tmp_path)
    dataset = open_dataset(root, **names)
    report = check(root, deep=True)
    (found,) = [entry for entry in report.datasets if entry.name == dataset.name]
    assert found.error == ""
    assert found.usable
    assert found.pictures_missing == 0
    if name not in ("youtube", "mevis", "davis"):
        assert found.usable == len(dataset)
    # the same without pictures: nothing can be used, and every sentence's loss is told
    for path in [*tmp_path.rglob("*.jpg")]:
        path.unlink()
    if name not in ("parquet", "simrec"):
        bare = check(root)
        assert not next(entry for entry in bare.datasets if entry.name == dataset.name).usable
    shutil.rmtree(root)
