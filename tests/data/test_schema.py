"""The shipped schema's words are enforced, one by one."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

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
