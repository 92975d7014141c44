"""Configurations: what their types let through, how mistakes are named, and what people read about a field."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Le

from refseg.config import (
    Config,
    DropRate,
    NonNegativeFloat,
    PositiveInt,
    PowerOfTwo,
    describe,
    from_dict,
    override,
    to_dict,
)
from refseg.errors import ConfigError


@dataclass(frozen=True)
class Inner(Config):
    heads: PositiveInt = 4
    """Attention heads,
    as many as divide the width."""
    width: PositiveInt = 8
    kind: Literal["a", "b"] = "a"

    def check(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"heads={self.heads} does not divide width={self.width}")


@dataclass(frozen=True)
class Other(Config):
    reach: Annotated[float, Ge(-1), Le(1)] = 0.5
    "How far."


@dataclass(frozen=True)
class Outer(Config):
    """Not a field's text."""

    part: Inner | Other = field(default_factory=lambda: Inner(heads=2))
    "The part."
    dropout: DropRate = 0.1
    stride: PowerOfTwo = 4
    weights: tuple[NonNegativeFloat, ...] = (1.0,)
    name: str | None = None


def test_values_are_converted_when_an_object_is_made() -> None:
    made = Outer(dropout=0, weights=[1, 2.5])  # type: ignore[arg-type]
    assert (made.dropout, type(made.dropout)) == (0.0, float)
    assert made.weights == (1.0, 2.5)
    assert from_dict(Outer, to_dict(made)) == made
    assert replace(made, stride=8).stride == 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": 1.0}, "dropout=1.0: 0 or more and less than 1 is wanted"),
        ({"stride": 6}, "stride=6: power of 2 is wanted"),
        ({"stride": "x"}, "stride: a value of type int is wanted, not 'x'"),
        ({"weights": [1.0, -2]}, r"weights\[1\]=-2.0: 0 or more is wanted"),
        ({"part": {"reach": 2}}, "part.reach=2.0: -1 or more and 1 or less is wanted"),
        ({"part": {"heads": 3}}, "part.heads=3 does not divide width=8"),
        ({"part": {"kind": "c"}}, "part.kind: 'c' is not possible; choose from 'a', 'b'"),
        ({"part": {"head": 3}}, "part.head: no such field of Inner; did you mean 'heads'"),
        ({"strid": 2}, "strid: no such field of Outer; did you mean 'stride'"),
        ({"part": 3}, "part: a table of fields is wanted"),
    ],
)
def test_mistakes_name_the_dotted_field(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        from_dict(Outer, values)
    with pytest.raises(ConfigError, match=f"^model.vision.{message}"):
        from_dict(Outer, values, "model.vision")


def test_objects_made_in_code_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"^heads=3 does not divide"):
        Inner(heads=3)
    with pytest.raises(ConfigError, match=r"^dropout=-0.5: 0 or more"):
        replace(Outer(), dropout=-0.5)


def test_fields_are_described_with_the_defaults_they_have_here() -> None:
    fields = {entry.name: entry for entry in describe(Outer)}
    assert list(fields) == ["part", "part.heads", "part.width", "part.kind", "dropout", "stride", "weights", "name"]
    assert (fields["part"].text, fields["part"].default) == ("The part.", None)
    assert fields["part.heads"].default == 2
    assert fields["part.heads"].text == "Attention heads, as many as divide the width."
    assert fields["part.width"].text == ""
    assert (fields["dropout"].type, fields["dropout"].default) == ("DropRate", 0.1)


def test_overrides_are_read_as_toml_where_they_can_be() -> None:
    assert override({"a": {"b": 1}}, ["a.b=2", "a.c=x y", "d=[1, 2]"]) == {"a": {"b": 2, "c": "x y"}, "d": [1, 2]}
    for assignment in ("a", "=3", "a.b.c=3"):
        with pytest.raises(ConfigError):
            override({"a": {"b": 1}}, [assignment])


@dataclass(frozen=True)
class Emptied(Config):
    part: Inner | None = field(default_factory=Inner)
    number: int | None = 3
    other: int | None = None


def test_nothing_in_the_place_of_something_survives_a_file() -> None:
    nothing = Emptied(part=None, number=None)
    assert to_dict(nothing) == {"part": "none", "number": "none"}
    assert from_dict(Emptied, to_dict(nothing)) == nothing
    assert from_dict(Emptied, to_dict(Emptied())) == Emptied()
    assert from_dict(Emptied, override({}, ["part=none"])).part is None
