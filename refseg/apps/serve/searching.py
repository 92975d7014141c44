"""Search in an index (`--index`): expressions find pictures, and the page shows the pictures that were found.

An index is anything with `search(text, top=...)` that returns `hits` (each with `path`, `score`, `no_target_score` and
`boxes`), `nothing` and `looked_at`: what `Index.open` of the search application gives.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Protocol, runtime_checkable

from refseg.data.images import read_image
from refseg.errors import RefsegError

SHOWN = 5000
"""Pictures of earlier answers that can still be fetched."""


@runtime_checkable
class Hit(Protocol):
    """A picture that was found."""

    @property
    def path(self) -> str:
        """Where it lies."""

    @property
    def score(self) -> float:
        """Probability that something in it is meant."""

    @property
    def no_target_score(self) -> float:
        """Probability that nothing in it is meant."""

    @property
    def boxes(self) -> Iterable[Iterable[float]]:
        """xyxy in pixels."""


@runtime_checkable
class Found(Protocol):
    """What an expression found."""

    @property
    def hits(self) -> Sequence[Hit]:
        """Best first."""

    @property
    def nothing(self) -> bool:
        """Whether nothing was found."""

    @property
    def looked_at(self) -> int:
        """Pictures that were asked."""


@runtime_checkable
class SearchIndex(Protocol):
    """An index that is open."""

    def search(self, text: str, top: int = 20) -> Found:
        """The best pictures for an expression."""


class Searcher:
    """An index, asked by one thread at a time, and the pictures of recent answers by names that cannot be guessed:
    a browser gets what was found, and no other file."""

    def __init__(self, index: str | SearchIndex) -> None:
        """A path, or an index that is open. Raises `RefsegError` where it cannot be opened."""
        self.index: SearchIndex = open_index(index) if isinstance(index, str) else index
        self._lock = threading.Lock()
        self._pictures: OrderedDict[str, str] = OrderedDict()
        self._names: dict[str, str] = {}

    def search(self, text: str, top: int) -> tuple[Found, list[str]]:
        """What is found, and a name of each hit's picture for `read`."""
        with self._lock:
            found = self.index.search(text, top=top)
            return found, [self._name(str(hit.path)) for hit in found.hits]

    def read(self, name: str, longest: int | None) -> tuple[bytes, tuple[int, int]] | None:
        """The picture of that name as JPEG, at most so many pixels long, and its own (width, height); None where the
        name is not known.

        Raises `ImageError` where the file is gone or damaged.
        """
        with self._lock:
            path = self._pictures.get(name)
        if path is None:
            return None
        picture = read_image(_bytes_of(path) if "://" in path else path)
        size = picture.size
        if longest is not None:
            picture.thumbnail((longest, longest))
        buffer = BytesIO()
        picture.save(buffer, format="JPEG", quality=88)
        return buffer.getvalue(), size

    def _name(self, path: str) -> str:
        name = self._names.get(path)
        if name is None:
            name = self._names[path] = secrets.token_urlsafe(16)
        self._pictures[name] = path
        self._pictures.move_to_end(name)
        while len(self._pictures) > SHOWN:
            _, old = self._pictures.popitem(last=False)
            del self._names[old]
        return name


def open_index(path: str) -> SearchIndex:
    """The index at that path. Raises `RefsegError` where search is not installed, or there is no index."""
    if not Path(path).exists():
        raise RefsegError(f"{path}: no such index; refseg index makes one")
    try:
        from refseg.apps.search import Index
    except ImportError as error:
        raise RefsegError(f"--index needs {error.name}: pip install 'refseg[search]'") from error
    return Index.open(path)


def _bytes_of(address: str) -> bytes:
    """A picture of a bucket, which the index names and nobody else."""
    from refseg.apps.search.sources import read_file

    return read_file(address)
