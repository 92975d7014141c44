"""Drawn scenes kept on disk: each is drawn when it is first read, and only read afterwards.

One sparse file holds a record of fixed capacity a scene, so that several processes fill it without asking each other: a
scene is a function of seed and number, and whoever draws it writes the same bytes. A checksum beside the record tells
whether it is whole; one that is not is drawn again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

import refseg
from refseg.data.sample import Instance, Sample
from refseg.errors import ConfigError
from refseg.files import cache_folder, write_text
from refseg.training.recipe import DataRecipe

_LOG = logging.getLogger(__name__)
DRAWING = (
    "palette.py",
    *(f"generation/scenes/{name}.py" for name in ("backdrop", "draw", "figures", "objects", "pen", "scene", "world")),
    *(f"generation/language/{name}.py" for name in ("expressions", "forms", "grammar", "lexicon", "logic", "propose")),
    "generation/language/lexicon.toml",
)
"""Files of the package that decide what scene n of a seed looks like and what is said of it."""
RECORDS, INDEX, META = "scenes.bin", "index.bin", "pool.json"
_ENTRY = 16
"""Bytes of an entry of the index: length and checksum of a record, 64 bits each."""
_TEXT_CAPACITY = 64 * 1024
_MOST_OBJECTS = 32


class ScenePool:
    """The samples of `count` scenes of `size` x `size` in `folder`; `draw(index)` gives those not there yet.

    `key` says what the scenes are drawn from. Raises `ConfigError` when the folder holds a pool of another key.
    """

    def __init__(
        self, folder: Path, count: int, size: int, key: dict[str, Any], draw: Callable[[int], list[Sample]]
    ) -> None:
        self._open: tuple[int, FileIO, FileIO] | None = None
        self._told = False
        self.folder, self.count, self.size, self.draw = folder, count, size, draw
        self.capacity = size * size * 3 + _MOST_OBJECTS * ((size * size + 7) // 8) + _TEXT_CAPACITY
        self._prepare({"format": 2, "count": count, **key})

    @classmethod
    def of(cls, recipe: DataRecipe) -> ScenePool:
        """The pool that `[data]` describes; without `data.pool_folder` it lies in the user's cache, shared by runs."""
        key = {name: getattr(recipe, name) for name in ("seed", "size", "sentences", "split", "plus")} | {
            "drawing": drawing_version()
        }
        if recipe.close_up:  # left out otherwise, so that pools of before are still good
            key["close_up"] = True
        if recipe.pool_folder is not None:
            folder = Path(recipe.pool_folder)
        else:
            digest = hashlib.sha256(json.dumps([recipe.pool, key], sort_keys=True).encode()).hexdigest()[:16]
            folder = (cache_folder() or Path.home() / ".cache" / "refseg") / "pools" / digest
        return cls(folder, recipe.pool, recipe.size, key, DrawSamples(recipe))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[Sample]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        records, table = self._files()
        entry = _read(table, _ENTRY, index * _ENTRY)
        if len(entry) == _ENTRY:
            length, checksum = (int(value) for value in np.frombuffer(entry, np.int64))
            record = _read(records, length, index * self.capacity) if 0 < length <= self.capacity else b""
            if record and zlib.crc32(record) == checksum:
                return _unpack(record)
        record = _pack(self.draw(index), self.size)
        if len(record) > self.capacity:
            raise ConfigError(
                f"data.pool: scene {index} needs {len(record)} bytes, more than the {self.capacity} of a record"
            )
        try:
            _write(records, record, index * self.capacity)
            _write(table, np.array([len(record), zlib.crc32(record)], np.int64).tobytes(), index * _ENTRY)
        except OSError as error:
            # A full disk costs the time of drawing scenes again, not the run.
            if not self._told:
                _LOG.warning("scenes are not kept in %s any more: %s", self.folder, error.strerror)
            self._told = True
        return _unpack(record)

    def __getstate__(self) -> dict[str, Any]:
        # Files are opened again in every process.
        return {**self.__dict__, "_open": None}

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._open is not None:
            for handle in self._open[1:]:
                handle.close()
        self._open = None

    def drawn(self) -> int:
        """How many scenes are there already."""
        table = np.frombuffer(_read(self._files()[1], self.count * _ENTRY, 0), np.int64)
        return int((table[::2] > 0).sum())

    def _prepare(self, meta: dict[str, Any]) -> None:
        stored = self.folder / META
        if stored.exists():
            try:
                found = dict(json.loads(stored.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise ConfigError(f"{stored}: not a pool's description ({error}); delete its folder") from error
            # Scenes of another version of the drawing code are good scenes; a folder that a person named may keep them.
            names = (meta.keys() | found.keys()) - {"drawing"}
            other = sorted(name for name in names if found.get(name) != meta.get(name))
            if other:
                raise ConfigError(
                    f"data.pool_folder: {self.folder} holds scenes drawn otherwise ({', '.join(other)}); "
                    "delete it or choose another folder"
                )
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Opening for appending and truncating upwards never takes away what another process has just written.
            for name, bytes_wanted in ((RECORDS, self.count * self.capacity), (INDEX, self.count * _ENTRY)):
                with (self.folder / name).open("ab") as handle:
                    handle.truncate(bytes_wanted)
        except OSError as error:
            raise ConfigError(f"data.pool: scenes cannot be kept in {self.folder} ({error.strerror})") from error
        write_text(stored, json.dumps(meta, indent=1) + "\n")

    def _files(self) -> tuple[FileIO, FileIO]:
        """The two files, open. Not memory maps: where the disk is full, or a file was cut short meanwhile, those end
        the process with SIGBUS."""
        if self._open is None or self._open[0] != os.getpid():
            try:
                records, table = (FileIO(self.folder / name, "r+b") for name in (RECORDS, INDEX))
            except OSError as error:
                raise ConfigError(
                    f"data.pool_folder: {self.folder} is not whole ({error.strerror}: {error.filename}); delete it"
                ) from error
            self._close()
            self._open = (os.getpid(), records, table)
        return self._open[1], self._open[2]


def _read(handle: FileIO, length: int, offset: int) -> bytes:
    """The bytes that are there, which may be fewer."""
    handle.seek(offset)
    return handle.read(length) or b""


def _write(handle: FileIO, content: bytes, offset: int) -> None:
    """Raises `OSError` also where only a part could be written."""
    handle.seek(offset)
    while content:
        content = content[handle.write(content) or 0 :]


@dataclass(frozen=True)
class DrawSamples:
    """Draws scene `index` of a recipe; a class, not a closure, so that it travels to worker processes."""

    recipe: DataRecipe

    def __call__(self, index: int) -> list[Sample]:
        from refseg.generation.scenes import generate, scene_samples

        recipe = self.recipe
        scene = generate(
            recipe.seed, index, recipe.size, recipe.sentences, recipe.split or "train", recipe.plus, recipe.close_up
        )
        return scene_samples(scene, image_id=index)


def drawing_version() -> str:
    """A digest of the code and words that scenes are made of: with others they would be other scenes."""
    package = Path(refseg.__file__).parent
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in DRAWING)).hexdigest()[:16]


def _pack(samples: list[Sample], size: int) -> bytes:
    image = samples[0].image
    if image is None or image.shape != (size, size, 3):
        raise ConfigError(f"data.size: a scene is not {size} x {size}")
    objects = {item.ann_id: item for item in samples[0].surroundings}
    places = {number: place for place, number in enumerate(objects)}
    about = {
        "image_id": samples[0].image_id,
        "split": samples[0].split,
        "dataset": samples[0].dataset,
        "objects": [
            [item.ann_id, item.category, [float(v) for v in item.bbox], item.tags] for item in objects.values()
        ],
        "sentences": [
            [s.id, s.text, [places[item.ann_id] for item in s.objects], s.kind, s.ref_id, s.sent_id] for s in samples
        ],
    }
    text = json.dumps(about).encode()
    masks = np.zeros((len(objects), size * size), dtype=bool)
    for place, item in enumerate(objects.values()):
        masks[place] = item.mask((size, size)).ravel()
    header = np.array([size, len(objects), len(text)], dtype=np.int32).tobytes()
    return b"".join([header, np.ascontiguousarray(image).tobytes(), np.packbits(masks, axis=1).tobytes(), text])


def _unpack(record: bytes) -> list[Sample]:
    size, count, text_length = (int(value) for value in np.frombuffer(record, np.int32, 3))
    image_end = 12 + size * size * 3
    row = (size * size + 7) // 8
    image = np.frombuffer(record, np.uint8, size * size * 3, 12).reshape(size, size, 3)
    packed = np.frombuffer(record, np.uint8, count * row, image_end).reshape(count, row)
    masks = np.unpackbits(packed, axis=1, count=size * size).astype(bool).reshape(count, size, size)
    start = image_end + count * row
    about = json.loads(record[start : start + text_length])
    objects = [
        Instance(number, category, tuple(box), masks[place], tags=tuple(tags))
        for place, (number, category, box, tags) in enumerate(about["objects"])
    ]
    return [
        Sample(
            id=identity,
            text=said,
            image_id=about["image_id"],
            size=(size, size),
            objects=tuple(objects[place] for place in places),
            no_target=not places,
            image=image,
            kind=kind,
            split=about["split"],
            dataset=about["dataset"],
            ref_id=ref_id,
            sent_id=sent_id,
            surroundings=tuple(objects),
        )
        for identity, said, places, kind, ref_id, sent_id in about["sentences"]
    ]
