"""Looking at every picture, in several processes; what was seen is kept in a file, so that a stopped run goes on.

A line a picture, its CRC-32 and JSON, written as soon as it was looked at. A line counts only for the same annotations,
the same file of the picture and the same version of this package; a line that was cut off or damaged is looked at
again. Floats are written in full, so that a run in two parts writes the same bytes as one in a piece.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from refseg import __version__
from refseg.data.sample import Problem
from refseg.errors import DataError
from refseg.generation.language.forms import Thing, View
from refseg.generation.photos.attributes import PhotoView, Record, read_photo

FORMAT = 2

Seen = tuple[PhotoView | None, list[Problem]]


class PhotoCache:
    """The views of an earlier run by the digest of their record, and the open file that new ones are added to."""

    def __init__(self, known: dict[str, Seen], handle: TextIO) -> None:
        self.known = known
        self._handle = handle

    def add(self, key: str, seen: Seen) -> None:
        """Keep what was seen; it is on the disk when this returns, as far as Python can tell."""
        photo, problems = seen
        line = {
            "key": key,
            "photo": None if photo is None else _plain(photo),
            "problems": [asdict(p) for p in problems],
        }
        text = json.dumps(line)
        self._handle.write(f"{zlib.crc32(text.encode()):08x} {text}\n")
        self._handle.flush()


@contextmanager
def open_cache(path: Path) -> Iterator[PhotoCache]:
    """The views kept at `path`, to be read and added to. Raises `DataError` when it cannot be written."""
    known = _read(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    with handle:
        if known or path.stat().st_size:
            handle.write("\n")  # ends a line that was cut off
        yield PhotoCache(known, handle)


def read_photos(records: Sequence[Record], workers: int, kept: PhotoCache | None) -> Iterator[Seen]:
    """What is seen in each picture, in order; pictures of `kept` are not looked at again."""
    if kept is None:
        yield from _look_at(records, workers)
        return
    keys = [record_digest(record) for record in records]
    known = {key: kept.known.get(key) for key in keys}
    fresh = _look_at([record for record, key in zip(records, keys, strict=True) if known[key] is None], workers)
    for key in keys:
        seen = known[key]
        if seen is None:
            seen = next(fresh)
            kept.add(key, seen)
        yield seen


def _look_at(records: Sequence[Record], workers: int) -> Iterator[Seen]:
    if workers <= 1 or len(records) < 32:
        yield from map(read_photo, records)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin_work) as pool:
        yield from pool.map(read_photo, records, chunksize=16)


def _begin_work() -> None:
    """In each process: Ctrl-C is the parent's business, and a parent that is gone, even killed, ends this one too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def record_digest(record: Record) -> str:
    """What a view depends on as one word: annotations, the picture's file, this package's version."""
    digest = hashlib.sha256(f"{FORMAT} {__version__}".encode())
    facts = record.path.stat() if record.path.is_file() else None
    about = [record.image_id, record.path.name, record.size, record.exhaustive, sorted(record.open_names)]
    about += [facts.st_size, facts.st_mtime_ns] if facts is not None else []
    about += [asdict(attributes) for attributes in record.attributes]
    digest.update(json.dumps([about, record.families], default=str).encode())
    for item in record.instances:
        digest.update(json.dumps([item.ann_id, item.category, item.bbox, item.crowd]).encode())
        outlines = item.segmentation if isinstance(item.segmentation, list) else [item.segmentation]
        for outline in outlines:
            if isinstance(outline, np.ndarray):
                digest.update(np.ascontiguousarray(outline).tobytes())
            else:
                digest.update(json.dumps(outline, default=str).encode())
    return digest.hexdigest()[:32]


def _read(path: Path) -> dict[str, Seen]:
    known: dict[str, Seen] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as handle:
            for line in handle:
                checksum, _, text = line.rstrip("\n").partition(" ")
                try:
                    if int(checksum, 16) != zlib.crc32(text.encode()):
                        continue
                    entry = json.loads(text)
                    photo = None if entry["photo"] is None else _photo(entry["photo"])
                    known[str(entry["key"])] = photo, [Problem(**problem) for problem in entry["problems"]]
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    continue  # cut off or damaged: the picture is looked at again
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return known


def _plain(photo: PhotoView) -> dict[str, Any]:
    return {
        "image_id": photo.image_id,
        "size": photo.view.size,
        "things": [asdict(thing) for thing in photo.view.things],
        "open": sorted(photo.view.open),
        "ann_ids": photo.ann_ids,
        "eligible": sorted(photo.eligible),
        "exhaustive": photo.exhaustive,
        "look": photo.look,
    }


def _photo(entry: dict[str, Any]) -> PhotoView:
    things = tuple(Thing(**{name: _tuples(value) for name, value in thing.items()}) for thing in entry["things"])
    view = View((entry["size"][0], entry["size"][1]), things, frozenset(entry["open"]))
    numbers, eligible = tuple(entry["ann_ids"]), frozenset(entry["eligible"])
    return PhotoView(entry["image_id"], view, numbers, eligible, bool(entry["exhaustive"]), str(entry["look"]))


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
