"""Checks records against the JSON Schema files that the package ships, so that what is documented is what is enforced.

Understood are the words that those files use: type, required, properties, items, minItems, maxItems, minLength, minimum
(JSON Schema, draft 2020-12). `faults` finds everything that is wrong, not only the first.
"""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["faults", "load_schema"]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_NOTES = frozenset(("$schema", "title", "description"))
_RULES = frozenset(("type", "required", "properties", "items", "minItems", "maxItems", "minLength", "minimum"))


@cache
def load_schema(name: str) -> dict[str, Any]:
    """The schema in `refseg/data/<name>.schema.json`."""
    schema = json.loads(files("refseg.data").joinpath(f"{name}.schema.json").read_text(encoding="utf-8"))
    _check_words(schema)
    return schema


def faults(value: Any, schema: dict[str, Any], where: str = "") -> list[str]:
    """Everything about `value` that does not fit `schema`, in words, each with the field's path; empty if it fits."""
    wanted = schema.get("type")
    kinds = [wanted] if isinstance(wanted, str) else list(wanted or _TYPES)
    if not any(_is(value, kind) for kind in kinds):
        return [f"{where or 'the record'} is {_name(value)}, not {' or '.join(kinds)}"]
    found: list[str] = []
    if isinstance(value, float) and not math.isfinite(value):
        found.append(f"{where} is {value}, not a finite number")
    if isinstance(value, (int, float)) and "minimum" in schema and value < schema["minimum"]:
        found.append(f"{where} is {value}, below {schema['minimum']}")
    if isinstance(value, str) and len(value.strip()) < schema.get("minLength", 0):
        found.append(f"{where} is empty")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{where} has {len(value)} entries, not {schema.get('maxItems', schema.get('minItems'))}")
        if "items" in schema:
            for index, entry in enumerate(value):
                found += faults(entry, schema["items"], f"{where}[{index}]")
    if isinstance(value, dict):
        prefix = f"{where}." if where else ""
        found += [f"no {prefix}{name}" for name in schema.get("required", ()) if name not in value]
        for name, part in schema.get("properties", {}).items():
            if name in value:
                found += faults(value[name], part, f"{prefix}{name}")
    return found


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _name(value: Any) -> str:
    return next((kind for kind in _TYPES if _is(value, kind)), type(value).__name__)


def _check_words(schema: dict[str, Any]) -> None:
    """A word that `faults` would pass over must not slip into a shipped schema."""
    unknown = set(schema) - _NOTES - _RULES
    if unknown:
        raise NotImplementedError(f"the schema uses {sorted(unknown)}")
    for part in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])):
        _check_words(part)
