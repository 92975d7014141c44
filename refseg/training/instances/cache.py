"""Proposals of many pictures, computed once: one SQLite file, resumable, tied to the weights that made it.

    table made_by   fingerprint of detector weights and configuration; another one is refused
    table proposals key of a picture -> (height, width), drawn, K, 16-bit arrays, 8-bit coarse masks

A picture's rows are committed together, so a run that was stopped goes on where it was. About 110 KB a picture.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from refseg.errors import DataError
from refseg.models.instances.proposals import Proposer
from refseg.models.instances.types import COLOURS, MASK_SIZE, Proposals

__all__ = ["ProposalCache", "Viewable", "fill", "fingerprint"]

_MASK_STEP = 1 / 12
"""Coarse mask logits are kept in steps of this, -127 to 127 of them."""
_FORMAT = 2
"""Of the tables: files of another one count as made by other weights."""
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS made_by (fingerprint TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS proposals (
        key TEXT PRIMARY KEY, height INTEGER, width INTEGER, drawn REAL, count INTEGER, classes INTEGER,
        channels INTEGER, boxes BLOB, arrays BLOB, masks BLOB
    ) WITHOUT ROWID;
"""


@runtime_checkable
class Viewable(Protocol):
    """A picture with a key of its own."""

    @property
    def key(self) -> str:
        """Unique among all pictures of the cache."""
        ...

    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """RGB."""
        ...


def fingerprint(proposer: Proposer) -> str:
    """SHA-256 of the detector's tensors and of everything in the configuration that proposals depend on."""
    digest = hashlib.sha256(repr((asdict(proposer.config.detector), asdict(proposer.config.proposals))).encode())
    for name, value in sorted(proposer.detector.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


class ProposalCache:
    """The file. Several processes may read while one writes.

    Raises `DataError` for a file that is no cache or that other weights made.
    """

    def __init__(self, path: Path, made_by: str | None = None) -> None:
        """Open `path`, or begin it where `made_by`, a fingerprint, is given; None reads whatever is there."""
        self.path = path
        made_by = None if made_by is None else f"{_FORMAT} {made_by}"
        if made_by is None and not path.exists():
            raise DataError(f"{path}: there is no cache of proposals")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = sqlite3.connect(path)
            self._file.executescript(_SCHEMA)
            row = self._file.execute("SELECT fingerprint FROM made_by").fetchone()
        except sqlite3.Error as error:
            raise DataError(f"{path}: no cache of proposals ({error})") from error
        if row is None and made_by is not None:
            with self._file:
                self._file.execute("INSERT INTO made_by VALUES (?)", (made_by,))
        elif row is not None and made_by is not None and row[0] != made_by:
            self._file.close()
            raise DataError(f"{path}: made by other weights or another configuration; delete it or name another file")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ProposalCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._file.execute("SELECT COUNT(*) FROM proposals").fetchone()[0])

    def __contains__(self, key: str) -> bool:
        return self._file.execute("SELECT 1 FROM proposals WHERE key = ?", (key,)).fetchone() is not None

    def keys(self) -> set[str]:
        """All pictures that are there."""
        return {row[0] for row in self._file.execute("SELECT key FROM proposals")}

    def put(self, items: Sequence[tuple[str, Proposals]]) -> None:
        """Store the proposals of some pictures, all or none of them."""
        rows = []
        for key, item in items:
            arrays = torch.cat([item.scores[:, None], item.class_probs, item.colours, item.features], dim=1)
            masks = (item.mask_logits / _MASK_STEP).round().clamp(-127, 127).to(torch.int8)
            rows.append(
                (
                    key,
                    *item.size,
                    item.drawn,
                    len(item),
                    item.class_probs.shape[1],
                    item.features.shape[1],
                    item.boxes.float().numpy().tobytes(),
                    arrays.half().numpy().tobytes(),
                    masks.numpy().tobytes(),
                )
            )
        with self._file:
            self._file.executemany("INSERT OR REPLACE INTO proposals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def get(self, key: str, *, masks: bool = True) -> Proposals:
        """The proposals of a picture, in 32 bits; without `masks` their logits are K x 0 x 0 (half the reading).

        Raises `DataError` for a picture that is not there.
        """
        columns = "height, width, drawn, count, classes, channels, boxes, arrays" + (", masks" if masks else "")
        row = self._file.execute(f"SELECT {columns} FROM proposals WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise DataError(f"{self.path}: holds no proposals of picture {key!r}; fill the cache first")
        height, width, drawn, count, classes, channels, boxes, arrays = row[:8]
        widths = (1, classes, len(COLOURS), channels)
        table = np.frombuffer(arrays, np.float16).reshape(count, sum(widths)).astype(np.float32)
        scores, class_probs, colours, features = torch.from_numpy(table).split(widths, dim=1)
        logits = torch.zeros(count, 0, 0)
        if masks:
            kept = np.frombuffer(row[8], np.int8).reshape(count, MASK_SIZE, MASK_SIZE)
            logits = torch.from_numpy(kept.astype(np.float32) * _MASK_STEP)
        return Proposals(
            torch.from_numpy(np.frombuffer(boxes, np.float32).reshape(count, 4).copy()),
            scores[:, 0].contiguous(),
            class_probs.contiguous(),
            features.contiguous(),
            colours.contiguous(),
            logits,
            (height, width),
            drawn,
        )


def fill(
    cache: ProposalCache,
    proposer: Proposer,
    pictures: Sequence[Viewable],
    batch_size: int = 4,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Compute what the cache lacks of these pictures; returns how many that were.

    `progress` is called with the number of pictures just finished, those that were there already first.
    """
    there = cache.keys()
    todo = [picture for picture in pictures if picture.key not in there]
    if progress is not None:
        progress(len(pictures) - len(todo))
    for part in _batches(todo, batch_size):
        found = proposer.propose_many([picture.image() for picture in part])
        cache.put([(picture.key, item) for picture, item in zip(part, found, strict=True)])
        if progress is not None:
            progress(len(part))
    return len(todo)


def _batches(items: Sequence[Viewable], size: int) -> Iterator[Sequence[Viewable]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
