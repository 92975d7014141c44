"""The shipped schema's words are enforced, one by one."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refseg.data.schema import faults, load_schema


def test_the_shipped_schema_is_json_with_the_documented_fields() -> None:
    schema = json.loads(files("refseg.data").joinpath("jsonl.schema.json").read_text())
    assert {"image", "text", "masks", "boxes", "no_target", "split", "id"} <= set(schema["properties"])
    assert load_schema("jsonl") == schema


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ("x", {"type": "integer"}, "the record is string, not integer"),
        (True, {"type": "integer"}, "the record is boolean, not integer"),
        (None, {"type": ["string", "null"]}, None),
        (3, {"type": "integer", "minimum": 4}, "below 4"),
        (float("nan"), {"type": "number"}, "not a finite number"),
        ("  ", {"type": "string", "minLength": 1}, "is empty"),
        ([1], {"type": "array", "minItems": 2, "maxItems": 2}, "has 1 entries"),
        ([1, "a"], {"type": "array", "items": {"type": "integer"}}, "[1] is string"),
        ({}, {"type": "object", "required": ["a"]}, "no a"),
        ({"a": {"b": 1}}, {"type": "object", "properties": {"a": {"properties": {"b": {"type": "string"}}}}}, "a.b is"),
    ],
)
def test_each_word_of_a_schema(value: object, schema: dict, expected: str | None) -> None:
    found = faults(value, schema)
    assert (not found) if expected is None else any(expected in fault for fault in found)


def test_all_faults_are_found_at_once() -> None:
    record = {"id": "", "image": 3, "text": " ", "masks": [{"size": [0, 5]}], "boxes": [[1, 2, -3, 4]]}
    found = faults(record, load_schema("jsonl"))
    assert len(found) == 6, found


RECORD: dict[str, Any] = {
    "id": "a",
    "image": "a.png",
    "text": "the red car",
    "masks": [{"size": [4, 6], "counts": [3, 5, 16]}, {"size": [4, 6], "counts": "03"}],
    "boxes": [[0, 1, 2.5, 3], [1, 1, 2, 2]],
    "no_target": False,
    "split": "val",
    "kind": None,
    "size": [4, 6],
    "image_id": 3,
    "ref_id": 0,
    "categories": ["car", "car"],
    "ann_ids": [1, 2],
}
# No blank texts and no 2.0: there ours is stricter than JSON Schema, where blanks have a length and 2.0 is an integer.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.sampled_from([0.5, -1.5]),
    st.sampled_from(["", "x"]),
    st.just([]),
    st.lists(st.integers(-1, 3), max_size=5),
    st.just({}),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside a record."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in parts for found in ((*path, key), *_places(part, (*path, key)))]


@given(place=st.sampled_from(_places(RECORD)), value=VALUES, leave_out=st.booleans())
def test_a_record_has_faults_where_jsonschema_finds_some(place: tuple[Any, ...], value: Any, leave_out: bool) -> None:
    record = copy.deepcopy(RECORD)
    holder: Any = record
    for key in place[:-1]:
        holder = holder[key]
    if leave_out:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    schema = load_schema("jsonl")
    assert (not faults(record, schema)) == jsonschema.Draft202012Validator(schema).is_valid(record), record
