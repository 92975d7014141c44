"""What other packages add: systems, formats, protocols and metrics, found by entry points when they are installed.

    [project.entry-points."refseg.systems"]
    filter = "my_package.filter:SYSTEM"          # a refseg.models.System
    [project.entry-points."refseg.formats"]
    harbour = "my_package.harbour:FORMAT"        # a refseg.data.source.Format
    [project.entry-points."refseg.protocols"]
    strict = "my_package.scoring:STRICT"         # a refseg.metrics.Protocol
    [project.entry-points."refseg.metrics"]
    small_IoU = "my_package.scoring:small_iou"   # a function of rows and their protocol, see refseg.metrics.OWN_METRICS

A package that cannot be loaded, or whose name is taken, costs a line in the log and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from importlib.metadata import entry_points
from typing import Any, TypeVar, overload

__all__ = ["Table", "found"]

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
D = TypeVar("D")


def found(group: str, accepts: Callable[[object], bool]) -> dict[str, Any]:
    """The objects that installed packages name in an entry point group, by the entry's name; `accepts` says what is
    one."""
    objects: dict[str, Any] = {}
    for entry in entry_points(group=group):
        package = entry.dist.name if entry.dist is not None else entry.value
        try:
            thing = entry.load()
        except Exception as error:  # whatever the package's own code raises
            reason = f"{type(error).__name__}: {error}"
            _LOG.warning("%s of %s (%s) cannot be loaded: %s", entry.name, package, group, reason)
            continue
        if not accepts(thing):
            _LOG.warning("%s of %s (%s) is a %s, which is not one", entry.name, package, group, type(thing).__name__)
        elif entry.name in objects:
            _LOG.warning("%s of %s (%s) is left out: another package has that name", entry.name, package, group)
        else:
            objects[entry.name] = thing
    return objects


class Table(dict[str, T]):
    """A table by name, to which an entry point group adds when the table is first asked for what it lacks, or for all.

    Importing it loads nothing; its own entries stand before those of other packages, and cannot be replaced by them.
    """

    def __init__(self, own: Mapping[str, T], group: str, accepts: Callable[[object], bool]) -> None:
        super().__init__(own)
        self._group, self._accepts, self._whole = group, accepts, False

    def _fill(self) -> None:
        if self._whole:
            return
        self._whole = True
        for entry, thing in found(self._group, self._accepts).items():
            name = getattr(thing, "name", entry)
            if dict.__contains__(self, name):
                _LOG.warning("%s (%s) is left out: refseg has that name itself", name, self._group)
            else:
                self[name] = thing

    def __missing__(self, name: str) -> T:
        self._fill()
        if dict.__contains__(self, name):
            return dict.__getitem__(self, name)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        if not dict.__contains__(self, name):
            self._fill()
        return dict.__contains__(self, name)

    @overload
    def get(self, name: str, default: None = None, /) -> T | None: ...
    @overload
    def get(self, name: str, default: T | D, /) -> T | D: ...
    def get(self, name: str, default: D | None = None, /) -> T | D | None:
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return super().__iter__()

    def __len__(self) -> int:
        self._fill()
        return super().__len__()

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        self._fill()
        return super().keys()

    def values(self) -> ValuesView[T]:  # type: ignore[override]
        self._fill()
        return super().values()

    def items(self) -> ItemsView[str, T]:  # type: ignore[override]
        self._fill()
        return super().items()
