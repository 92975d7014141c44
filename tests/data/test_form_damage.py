"""Every form with its files cut short or with flipped bits: read, or a clear error; never a crash, never a hang."""

from __future__ import annotations

import shutil
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from form_files import FORMS

from refseg.data import open_dataset
from refseg.data.check import check
from refseg.errors import RefsegError


def read_all(root: Path, names: dict[str, str]) -> None:
    """Everything that training would read; the only errors are the package's own."""
    dataset = open_dataset(root, **names)
    for sample in dataset:
        sample.boxes()
        if all(item.segmentation is not None for item in sample.objects):
            sample.mask()
        for phrase in sample.phrases:
            phrase.merged_box()
    dataset.by_picture()


def is_own(error: BaseException | None) -> bool:
    """Whether an error is the package's. The type checker of the tests looks at an item of what it is handed, and hides
    the error that building the item raises behind its own."""
    while error is not None and not isinstance(error, RefsegError):
        error = error.__cause__ or error.__context__
    return error is not None


@pytest.mark.timeout(120)
@pytest.mark.parametrize("form", FORMS)
def test_damage_is_read_or_named(form: str, tmp_path: Path) -> None:
    write, names, patterns = FORMS[form]
    root = write(tmp_path / "whole")
    top = tmp_path / "whole"
    files = sorted({path for pattern in patterns for path in top.rglob(pattern)})
    assert files
    random = np.random.default_rng(0)
    named = 0
    for path in files:
        whole = path.read_bytes()
        cuts = [whole[: int(size)] for size in random.integers(0, len(whole), 3)]
        for _ in range(4):
            flipped = bytearray(whole)
            for place in random.integers(0, len(whole), 2):
                flipped[place] ^= 1 << int(random.integers(8))
            cuts.append(bytes(flipped))
        for content in cuts:
            path.write_bytes(content)
            try:
                read_all(root, names)
            except (RefsegError, jaxtyping.TypeCheckError) as error:
                named += 1
                if not is_own(error):
                    raise
        path.write_bytes(whole)
    read_all(root, names)
    assert named


@pytest.mark.parametrize("form", FORMS)
def test_check_counts_every_form(form: str, tmp_path: Path) -> None:
    write, names, _ = FORMS[form]
    root = write(tmp_path)
    dataset = open_dataset(root, **names)
    report = check(root, deep=True)
    (found,) = [entry for entry in report.datasets if entry.name == dataset.name]
    assert found.error == ""
    assert found.usable
    assert found.pictures_missing == 0
    if form not in ("youtube", "mevis", "davis"):
        assert found.usable == len(dataset)
    # the same without pictures: nothing can be used, and every sentence's loss is told
    for path in [*tmp_path.rglob("*.jpg")]:
        path.unlink()
    if form not in ("parquet", "simrec"):
        bare = check(root)
        assert not next(entry for entry in bare.datasets if entry.name == dataset.name).usable
    shutil.rmtree(root)
