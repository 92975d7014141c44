"""The format that docs/data.md adds as an example: its code is run as it stands there."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import pytest

from refseg.data import catalog, open_dataset
from refseg.data.check import check
from refseg.data.source import Format
from tests.support.format_files import block, picture
from tests.support.published_files import square

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.fixture
def harbour(monkeypatch: pytest.MonkeyPatch) -> Format:
    (code,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "FORMAT = " in text)
    module = types.ModuleType("refseg.data.formats.harbour")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setattr(catalog, "FORMATS", (*catalog.FORMATS, module.FORMAT))
    monkeypatch.setattr(catalog, "PUBLISHED", (*catalog.PUBLISHED, *module.FORMAT.counts))
    return module.FORMAT


def test_the_documented_format_works(harbour: Format, tmp_path: Path) -> None:
    good = {"photo": 7, "height": 40, "width": 60, "polygons": [square(4, 4, 10)], "box": [4, 4, 10, 10]}
    records = [
        {**good, "id": 1, "text": "the left boat"},
        {**good, "id": 2, "text": " "},
        {**good, "id": 3, "text": "no outline", "polygons": []},
        {**good, "id": 4, "text": "no picture", "photo": 8},
    ]
    (tmp_path / "harbour_val.json").write_text(json.dumps(records))
    picture(tmp_path / "photos" / "7.jpg", 1)
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.split_by, len(dataset)) == ("harbour", "doe", 1)
    assert (dataset[0].mask() == block(4, 4)).all()
    assert [(problem.kind, problem.where) for problem in dataset.problems] == [
        ("bad_record", "harbour_val.json[1]"),
        ("bad_record", "harbour_val.json[2]"),
        ("missing_picture", "picture 8"),
    ]
    (report,) = check(tmp_path, deep=True).datasets
    assert (report.splits["val"].usable, report.splits["val"].completeness) == (1, "2 %")
    assert report.splits["train"].completeness == "absent"
    assert harbour.name not in {known.name for known in catalog.FORMATS[:-1]}


def test_formats_are_told_apart_by_name_and_data_sets_by_format() -> None:
    names = [known.name for known in catalog.FORMATS]
    assert len(set(names)) == len(names)
    released = [entry.name for known in catalog.FORMATS for entry in known.releases]
    assert sorted(released) == sorted(catalog.RELEASES)
    assert {entry.dataset for entry in catalog.PUBLISHED} == set(released)
