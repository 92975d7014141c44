"""Configurations: frozen dataclasses to and from TOML. An unknown key is an error; overrides are dotted: `a.b=3`."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from refseg.errors import ConfigError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain nested values; None fields are left out, since TOML has no null."""
    result: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if value is None:
            continue
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, tuple):
            value = [to_dict(entry) if dataclasses.is_dataclass(entry) else entry for entry in value]
        result[item.name] = value
    return result


def from_dict(cls: type[T], values: dict[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from nested plain values, checking names and types.

    Raises `ConfigError` that names the dotted field. Fields that are left out take their defaults.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where or cls.__name__}: a table of fields is wanted, not {values!r}")
    hints = typing.get_type_hints(cls)
    names = [item.name for item in dataclasses.fields(cls) if item.init]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else key
        if key not in names:
            raise ConfigError(f"{path}: no such field of {cls.__name__}; {did_you_mean(key, names)}")
        arguments[key] = _convert(hints[key], value, path)
    try:
        return cls(**arguments)
    except ConfigError:
        raise
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


def to_toml(config: Any) -> str:
    """A config as TOML text."""
    import tomli_w

    return tomli_w.dumps(config if isinstance(config, dict) else to_dict(config))


def override(values: dict[str, Any], assignments: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """A copy of nested `values` with assignments such as `optimizer.rate=1e-4` or `data.root=DIR` put in.

    A value is read as TOML where it can be (numbers, true, lists) and is text otherwise.
    """
    result = _copy(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{assignment!r}: an override is written key=value, such as optimizer.rate=1e-4")
        *parents, last = key.strip().split(".")
        table = result
        for name in parents:
            entry = table.setdefault(name, {})
            if not isinstance(entry, dict):
                raise ConfigError(f"{key}: {name} is a value, not a table of fields")
            table = entry
        table[last] = _literal(text.strip())
    return result


def _known_keys(hint: Any, value: Any) -> int:
    """How many keys of a table are fields of the dataclass `hint`; 0 for everything else."""
    if not (dataclasses.is_dataclass(hint) and isinstance(value, dict)):
        return 0
    return len({item.name for item in dataclasses.fields(hint)} & value.keys())


def _literal(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _copy(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _copy(value) for key, value in values.items()}
    return list(values) if isinstance(values, list) else values


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        errors = []
        options = [option for option in arguments if option is not type(None)]
        # The dataclass that knows most of the keys comes first: its error is the one that helps.
        for option in sorted(options, key=lambda option: -_known_keys(option, value)):
            try:
                return _convert(option, value, path)
            except ConfigError as error:
                errors.append(error)
        raise errors[0]
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(
                f"{path}: {value!r} is not possible; {did_you_mean(str(value), [str(a) for a in arguments])}"
            )
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path}: a list is wanted, not {value!r}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], entry, f"{path}[{i}]") for i, entry in enumerate(value))
        if len(arguments) != len(value):
            raise ConfigError(f"{path}: a list of {len(arguments)} values is wanted, not {len(value)}")
        return tuple(_convert(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: a table is wanted, not {value!r}")
        return {key: _convert(arguments[1], entry, f"{path}.{key}") for key, entry in value.items()}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, path)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type):
        if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
            raise ConfigError(f"{path}: a value of type {hint.__name__} is wanted, not {value!r}")
        return value
    raise ConfigError(f"{path}: fields of type {hint} cannot be read from a file")
