"""Pictures that are kept for further expressions: the least recently used goes first, bounded in memory and time.

With several workers the uploaded bytes also go into a folder that all share: a worker that is asked about a picture
which another one received reads and encodes it from there.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from refseg.apps.serve.metrics import Metrics
from refseg.errors import RefsegError
from refseg.files import write_bytes

if TYPE_CHECKING:
    from refseg.inference.predictor import EncodedImage

LOGGER = logging.getLogger("refseg.serve")

ID = re.compile(r"[A-Za-z0-9_-]{22}")
"""What `secrets.token_urlsafe(16)` makes: nobody can guess another's picture, and no path can hide in it."""


@dataclass(eq=False)
class Kept:
    """A picture, and what each model has made of it."""

    id: str
    picture: Image.Image
    encoded: dict[str, EncodedImage] = field(default_factory=dict)
    used: float = 0.0
    size: int = 0
    """Bytes of memory."""


class Store:
    """The pictures of one process."""

    def __init__(
        self,
        most: int,
        seconds: float,
        metrics: Metrics,
        spool: Path | None = None,
        spool_most: int = 1 << 31,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """At most `most` bytes, each picture for `seconds` after its last use; `spool` is the shared folder."""
        self.most, self.seconds, self.metrics, self.clock = most, seconds, metrics, clock
        self.spool, self.spool_most = spool, spool_most
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, picture: Image.Image, data: bytes | None = None, id: str | None = None) -> Kept:
        """Keep a picture; `data` are its encoded bytes, for the shared folder."""
        kept = Kept(id or secrets.token_urlsafe(16), picture, used=self.clock())
        if self.spool is not None and data is not None:
            try:
                self._make_room(len(data))
                write_bytes(self.spool / kept.id, data)
            except (OSError, RefsegError) as error:  # a full disk: this process has the picture, others will ask for it
                LOGGER.warning("a picture cannot be shared with the other workers: %s", error)
        with self._lock:
            self._kept[kept.id] = kept
        self.measure(kept)
        return kept

    def get(self, id: str) -> Kept | None:
        """The picture of that id, used now; None where it is not there, or no longer."""
        with self._lock:
            self._forget_old()
            kept = self._kept.get(id)
            if kept is not None:
                kept.used = self.clock()
                self._kept.move_to_end(id)
        if kept is not None and self.spool is not None:
            with suppress(OSError):
                os.utime(self.spool / id)  # touch would make an empty one where there is none
        return kept

    def spooled(self, id: str) -> bytes | None:
        """The encoded bytes of a picture that another worker received."""
        if self.spool is None or not ID.fullmatch(id):
            return None
        path = self.spool / id
        try:
            if self.clock() - path.stat().st_mtime > self.seconds:
                path.unlink()
                return None
            os.utime(path)
            return path.read_bytes()
        except OSError:
            return None

    def remove(self, id: str) -> bool:
        """Forget a picture; whether it was there."""
        with self._lock:
            found = self._kept.pop(id, None) is not None
            self._report()
        if self.spool is not None and ID.fullmatch(id):
            with suppress(OSError):
                (self.spool / id).unlink()
                found = True
        return found

    def measure(self, kept: Kept) -> None:
        """Note the memory of a picture anew (models keep more and more of it), and forget others to make room."""
        size = size_of((kept.picture, list(kept.encoded.values())))
        with self._lock:
            kept.size = size
            self._forget_old()
            while self.bytes > self.most and len(self._kept) > 1:
                first = next(iter(self._kept))
                if first == kept.id:  # the one that is in use stays
                    self._kept.move_to_end(first)
                    continue
                del self._kept[first]
            self._report()

    @property
    def bytes(self) -> int:
        """Memory of all pictures."""
        return sum(kept.size for kept in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def _forget_old(self) -> None:
        oldest = self.clock() - self.seconds
        for id in [id for id, kept in self._kept.items() if kept.used < oldest]:
            del self._kept[id]
        self._report()

    def _report(self) -> None:
        self.metrics.kept.set(len(self._kept))
        self.metrics.kept_bytes.set(self.bytes)

    def _make_room(self, count: int) -> None:
        """Delete what is too old in the shared folder, then the least recently used until `count` bytes fit."""
        assert self.spool is not None
        files = []
        for path in self.spool.iterdir():
            with suppress(OSError):
                if ID.fullmatch(path.name):
                    files.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in files)
        for used, size, path in sorted(files):
            if self.clock() - used <= self.seconds and total + count <= self.spool_most:
                break
            with suppress(OSError):
                path.unlink()
            total -= size


def size_of(value: object) -> int:
    """Bytes of the tensors, arrays and pictures in an object, each counted once."""
    seen: set[int] = set()
    waiting, total = [value], 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, (str, bytes, int, float, type(None), torch.nn.Module)):
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            total += item.element_size() * item.nelement()
        elif isinstance(item, np.ndarray):
            total += item.nbytes
        elif isinstance(item, Image.Image):
            total += item.width * item.height * len(item.getbands())
        elif isinstance(item, dict):
            waiting += list(item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting += list(item)
        elif is_dataclass(item) and not isinstance(item, type):
            waiting += [getattr(item, part.name) for part in fields(item) if part.name != "segmenter"]
    return total
