"""Streaming large JSON: the same records as json.load for any chunk size, and every damage named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.data import json_files
from refseg.data.json_files import stream_list, stream_table
from refseg.errors import DataError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(values, max_size=5), st.sampled_from([1, 3, 1000]), st.sampled_from([None, 1]))
def test_as_json_load(tmp_path_factory: pytest.TempPathFactory, content: list, chunk: int, indent: int | None) -> None:
    path = tmp_path_factory.mktemp("j") / "x.json"
    before, json_files._CHUNK = json_files._CHUNK, chunk
    try:
        path.write_text(json.dumps(content, indent=indent))
        assert list(stream_list(path)) == content
        table = {str(number): value for number, value in enumerate(content)}
        path.write_text(json.dumps(table, indent=indent))
        assert dict(stream_table(path)) == table
    finally:
        json_files._CHUNK = before


@pytest.mark.parametrize(
    "content",
    ["", "[", "[1", "[1,", "[1 2]", "[1]x", "[1,]", "{}", "5", '[{"a": 1}', '["a\nb"]', "[NotANumber]", "[" * 9000],
)
def test_damage_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json"):
        list(stream_list(tmp_path / "x.json"))


@pytest.mark.parametrize("content", ["[]", '{"a"}', '{"a": 1', "{1: 2}", '{"a": 1,}', '{"a": 1} {}'])
def test_damaged_tables_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json"):
        list(stream_table(tmp_path / "x.json"))


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(stream_list(tmp_path / "gone.json"))
    (tmp_path / "x.json").write_bytes(b'["\xff\xfe"]')
    with pytest.raises(DataError, match="not valid JSON"):
        list(stream_list(tmp_path / "x.json"))
