"""`Any` stands in no public signature but in those that `public_any.txt` lists, which only gets shorter."""

from __future__ import annotations

from pathlib import Path

from tests.support.public_any import found

LISTED = Path(__file__).parent / "support" / "public_any.txt"


def listed() -> dict[str, list[str]]:
    lines = [line for line in LISTED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {name: parts.split() for name, _, parts in (line.partition(" ") for line in lines)}


def test_no_public_signature_but_those_listed_has_any() -> None:
    new = {name: parts for name, parts in found().items() if not set(parts) <= set(listed().get(name, []))}
    assert not new, f"type these; tests/support/public_any.txt takes no new entries: {new}"


def test_what_is_typed_meanwhile_is_no_longer_listed() -> None:
    now = found()
    gone = {name: parts for name, parts in listed().items() if not set(parts) <= set(now.get(name, []))}
    assert not gone, f"take these out of tests/support/public_any.txt: {gone}"


def test_the_search_knows_any_from_what_holds_anything(tmp_path: Path, monkeypatch) -> None:
    source = """
from typing import Any
field: list[Any]
document: dict[str, Any]
def public(one: Any, two: "dict[str, Any]", *more: "Any | None") -> tuple[int, Any]: ...
def _private(one: Any) -> Any: ...
class Thing:
    def __init__(self, value: Any) -> None: ...
    def method(self, shape: "N 3 H W") -> None: ...
"""
    (tmp_path / "refseg").mkdir()
    (tmp_path / "refseg" / "some.py").write_text(source)
    monkeypatch.setattr("tests.support.public_any.ROOT", tmp_path)
    assert found() == {
        "refseg.some.field": ["field"],
        "refseg.some.public": ["one", "more", "return"],
        "refseg.some.Thing.__init__": ["value"],
    }
