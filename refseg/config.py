"""Configurations: frozen dataclasses, validated by their field types, to and from TOML.

    @dataclass(frozen=True)
    class DecoderConfig(Config):
        layers: PositiveInt = 3
        "Layers of the decoder."
        dropout: DropRate = 0.0

A field's type says what it may hold, with bounds as `Annotated[int, Ge(1)]`; the text under it is its help
(`describe`). `check` holds the rules between fields. An unknown key is an error; overrides are dotted: `a.b=3`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt, MultipleOf, Predicate

from refseg.errors import ConfigError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib

__all__ = [
    "Config", "DropRate", "FieldDescription", "NonEmptyStr", "NonNegativeFloat", "NonNegativeInt", "PositiveFloat",
    "PositiveInt", "PowerOfTwo", "Probability", "WordCount", "describe", "from_dict", "override", "read_toml",
    "to_dict", "to_toml",
]  # fmt: skip

T = TypeVar("T")
DEEPEST = 50
"""Tables in tables of a configuration."""
NONE = "none"
"""How a field that is nothing, and is something by default, stands in a file."""


def power_of_2(value: int) -> bool:
    """Whether `value` is 1, 2, 4, 8, ..."""
    return value >= 1 and not value & (value - 1)


def not_empty(value: str) -> bool:
    """Whether a text has a letter that is no white space."""
    return bool(value.strip())


PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
DropRate = Annotated[float, Ge(0), Lt(1)]
"""A probability below 1, of dropout and drop path."""
PowerOfTwo = Annotated[int, Predicate(power_of_2)]
WordCount = Annotated[int, Ge(1), Le(1024)]
"""Words of an expression that a text encoder reads; a caption has some twenty."""
NonEmptyStr = Annotated[str, Predicate(not_empty)]

_LARGEST = 1e300


class Config:
    """Base of configuration dataclasses: fields are validated by their types when an object is made.

    Lists become tuples and whole numbers floats where the type says so. Raises `ConfigError` with the field's name.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            given = getattr(self, name)
            value = _convert(hint, given, name)
            if value is not given:
                object.__setattr__(self, name, value)
        self.check()

    def check(self) -> None:
        """Rules between fields; the message of the `ConfigError` raised begins with the field to mend."""


@dataclasses.dataclass(frozen=True)
class FieldDescription:
    """A field as a person sets it: dotted name, type as it is written, default (None where it must be given), text."""

    name: str
    type: str
    default: Any
    text: str


def describe(cls: type) -> list[FieldDescription]:
    """The fields of a configuration class, those of a nested configuration with dotted names behind it.

    The text is the string under the field in the class's source, "" where there is none. Of a field that holds one of
    several configurations, the fields of its default follow.
    """
    return list(_describe(cls, None, ""))


def _describe(cls: type, owner: Any, prefix: str) -> Iterator[FieldDescription]:
    """The fields of `cls`, with the defaults that they have in the object `owner`, where there is one."""
    texts = _field_texts(cls)
    for item in dataclasses.fields(cls):
        default: Any = None
        if owner is not None:
            default = getattr(owner, item.name)
        elif item.default is not dataclasses.MISSING:
            default = item.default
        elif dataclasses.is_dataclass(item.default_factory):
            default = item.default_factory  # described without an object, whose checks may import what is slow
        elif item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        nested = dataclasses.is_dataclass(default)
        name = f"{prefix}{item.name}"
        yield FieldDescription(name, str(item.type), None if nested else default, texts.get(item.name, ""))
        if isinstance(default, type):
            yield from _describe(default, None, f"{name}.")
        elif nested:
            yield from _describe(type(default), default, f"{name}.")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain nested values; TOML has no null: None is left out where it is the default, else "none"."""
    result: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if value is None:
            if item.default is not None and not _takes_text(typing.get_args(_hints(type(config)).get(item.name))):
                result[item.name] = NONE
            continue
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, tuple):
            value = [to_dict(entry) if dataclasses.is_dataclass(entry) else entry for entry in value]
        result[item.name] = value
    return result


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """The dataclass `cls` from nested plain values; fields that are left out take their defaults.

    Raises `ConfigError` that names the dotted field (below `where`): unknown, of the wrong type or out of bounds.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or cls.__name__}: a table of fields is wanted, not {values!r}")
    hints = _hints(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else key
        if key not in hints:
            raise ConfigError(f"{path}: no such field of {cls.__name__}; {did_you_mean(key, list(hints))}")
        arguments[key] = _convert(hints[key], value, path)
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise (error.below(where) if issubclass(cls, Config) else error) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where or cls.__name__}: {error}") from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """A TOML file as nested values; the error names the file and the line."""
    path = Path(path)
    try:
        with path.open("rb") as handle:
            return tomllib.load(handle)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: tables or lists inside each other a thousand times are not read") from error


def to_toml(config: Any) -> str:
    """A config as TOML text."""
    import tomli_w

    return tomli_w.dumps(config if isinstance(config, dict) else to_dict(config))


def override(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of nested `values` with assignments such as `optimizer.lr=1e-4` or `data.root=DIR` put in.

    A value is read as TOML where it can be (numbers, true, lists) and is text otherwise.
    """
    result = _copy(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{assignment!r}: an override is written key=value, such as optimizer.lr=1e-4")
        *parents, last = key.strip().split(".")
        table = result
        for name in parents:
            entry = table.setdefault(name, {})
            if not isinstance(entry, dict):
                raise ConfigError(f"{key}: {name} is a value, not a table of fields")
            table = entry
        table[last] = _literal(text.strip())
    return result


def _hints(cls: type) -> dict[str, Any]:
    """The types of the fields that `cls` is made of, bounds included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {item.name: hints[item.name] for item in dataclasses.fields(cls) if item.init}


def _field_texts(cls: type) -> dict[str, str]:
    """The strings under the fields of a class and of those it is derived from, on one line each."""
    texts: dict[str, str] = {}
    for each in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                texts[field.target.id] = " ".join(below.value.value.split())
    return texts


def _literal(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _copy(values: Any, depth: int = 0) -> Any:
    if isinstance(values, Mapping):
        if depth > DEEPEST:
            raise ConfigError(f"tables in tables, more than {DEEPEST} deep; no configuration has so many")
        return {key: _copy(value, depth + 1) for key, value in values.items()}
    return list(values) if isinstance(values, list) else values


def _convert(hint: Any, value: Any, path: str) -> Any:
    """`value` as the type `hint` wants it. Raises `ConfigError` that begins with `path`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        value = _convert(arguments[0], value, path)
        _check_bounds(arguments[1:], value, path)
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(
                f"{path}: {value!r} is not possible; {did_you_mean(str(value), [str(a) for a in arguments])}"
            )
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, path)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: a table is wanted, not {value!r}")
        converted = {key: _convert(arguments[1], entry, f"{path}.{key}") for key, entry in value.items()}
        return value if converted == value else converted
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}: a table of fields is wanted, not {value!r}")
        return from_dict(hint, value, path)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > _LARGEST:
            raise ConfigError(f"{path}: a number of up to {_LARGEST:.0e} is wanted")
        return float(value)
    if isinstance(hint, type):
        if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
            raise ConfigError(f"{path}: a value of type {hint.__name__} is wanted, not {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{path}: a finite number is wanted, not {value!r}")
        return value
    raise ConfigError(f"{path}: fields of type {hint} cannot be read from a file")


def _convert_tuple(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{path}: a list is wanted, not {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise ConfigError(f"{path}={value!r}: a list of {len(arguments)} values is wanted, not of {len(value)}")
    converted = tuple(_convert(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
    return value if isinstance(value, tuple) and converted == value else converted


def _convert_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if type(None) in options and (value is None or (value == NONE and not _takes_text(options))):
        return None

    def known_keys(option: Any) -> int:
        """The number of keys that are fields of the dataclass `option`; 0 where it is none."""
        if not (dataclasses.is_dataclass(option) and isinstance(value, dict)):
            return 0
        return len({item.name for item in dataclasses.fields(option)} & value.keys())

    errors: list[ConfigError] = []
    # The dataclass that knows most of the keys comes first: its error is the one that helps.
    for option in sorted((each for each in options if each is not type(None)), key=known_keys, reverse=True):
        try:
            return _convert(option, value, path)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _takes_text(options: tuple[Any, ...]) -> bool:
    """Whether one of the types is text, with bounds or without."""
    return any(str in (each, *typing.get_args(each)[:1]) for each in options)


def _check_bounds(bounds: tuple[Any, ...], value: Any, path: str) -> None:
    tests: dict[type, tuple[Any, str]] = {
        Ge: (lambda bound: value >= bound.ge, "{0.ge} or more"),
        Gt: (lambda bound: value > bound.gt, "more than {0.gt}"),
        Le: (lambda bound: value <= bound.le, "{0.le} or less"),
        Lt: (lambda bound: value < bound.lt, "less than {0.lt}"),
        MultipleOf: (lambda bound: value % bound.multiple_of == 0, "a multiple of {0.multiple_of}"),
        Predicate: (lambda bound: bound.func(value), "{0.func.__name__}"),
    }
    if not all(tests[type(bound)][0](bound) for bound in bounds):
        wanted = " and ".join(tests[type(bound)][1].format(bound).replace("_", " ") for bound in bounds)
        raise ConfigError(f"{path}={value!r}: {wanted} is wanted")
