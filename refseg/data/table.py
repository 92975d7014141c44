"""Samples as columns of numbers: light in memory, quick to load, one `Sample` built when it is asked for.

A data set of 142,000 expressions takes about 60 MB as columns (most of it outlines) and loads in well under a second;
as Python objects it takes ten times as much. `TableBuilder` packs samples one by one, `SampleTable` reads them back
equal, and `save_table`, `load_table` keep them in a safetensors file.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refseg.data import rle
from refseg.data.formats.parquet import ParquetPicture
from refseg.data.masks import MaskFile, SegmentationSource
from refseg.data.sample import Instance, Phrase, Problem, Sample
from refseg.errors import DataError
from refseg.files import replacing

FORMAT = 2

# How an object's outline is kept: column `outline_kind`.
_NONE, _POLYGONS, _ENCODING, _FILE = range(4)

# column -> its array type; "q" 64-bit integers, "i" 32-bit integers, "d" double precision, "B" bytes
_COLUMNS = {
    "text_end": "q", "ref_id": "q", "sent_id": "q", "own_id": "i", "picture": "i", "split": "i", "kind": "i",
    "no_target": "B", "object_end": "q", "object": "i",
    "phrase_end": "q", "phrase_text": "i", "phrase_span": "i", "phrase_kinds": "i", "phrase_chain": "q",
    "phrase_object_end": "q", "phrase_object": "i",
    "picture_id": "q", "picture_size": "i", "picture_path": "i", "picture_row": "q", "picture_column": "i",
    "ann_id": "q", "box": "d", "category": "i", "crowd": "B", "outline_kind": "B", "outline": "q",
    "polygon_end": "q", "points": "d", "string_end": "q",
}  # fmt: skip
_TYPES = {"q": np.int64, "i": np.int32, "d": np.float64, "B": np.uint8}
_BLOBS = ("text", "encodings", "strings")


class TableBuilder:
    """Packs samples one after the other; `finish` gives the table.

    Objects of one picture with the same number and box are kept once. Samples with pictures or masks in memory are
    packed with their masks encoded; a picture in memory cannot be packed.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self._columns: dict[str, Any] = {name: array(code) for name, code in _COLUMNS.items()}
        self._blobs = {name: bytearray() for name in _BLOBS}
        self._strings: dict[str, int] = {}
        self._pictures: dict[tuple[Any, ...], int] = {}
        self._objects: dict[tuple[Any, ...], int] = {}

    def __len__(self) -> int:
        return len(self._columns["text_end"])

    def add(self, sample: Sample) -> None:
        """Pack one sample. Raises `DataError` for a picture in memory or a damaged encoding."""
        if sample.image is not None:
            raise DataError(f"sample {sample.id}: a picture in memory cannot be kept in a table; write it to a file")
        add = self._append
        self._blobs["text"] += sample.text.encode("utf-8", "surrogatepass")
        add("text_end", len(self._blobs["text"]))
        add("ref_id", sample.ref_id)
        add("sent_id", sample.sent_id)
        add("own_id", -1 if sample.id == f"{sample.ref_id}_{sample.sent_id}" else self._string(sample.id))
        picture = self._picture(sample)
        add("picture", picture)
        add("split", self._string(sample.split))
        add("kind", -1 if sample.kind is None else self._string(sample.kind))
        add("no_target", sample.no_target)
        for item in sample.objects:
            add("object", self._object(picture, item, sample.size))
        add("object_end", len(self._columns["object"]))
        for phrase in sample.phrases:
            add("phrase_text", self._string(phrase.text))
            add("phrase_span", phrase.start)
            add("phrase_span", phrase.stop)
            add("phrase_kinds", self._string("\0".join(phrase.kinds)))
            add("phrase_chain", phrase.chain)
            for item in phrase.objects:
                add("phrase_object", self._object(picture, item, sample.size))
            add("phrase_object_end", len(self._columns["phrase_object"]))
        add("phrase_end", len(self._columns["phrase_text"]))

    def finish(self) -> SampleTable:
        """The table of all samples so far."""
        arrays: dict[str, NDArray[Any]] = {
            name: np.frombuffer(column, dtype=_TYPES[_COLUMNS[name]])
            if len(column)
            else np.zeros(0, _TYPES[_COLUMNS[name]])
            for name, column in self._columns.items()
        }
        arrays |= {name: np.frombuffer(bytes(blob), dtype=np.uint8) for name, blob in self._blobs.items()}
        return SampleTable(self.dataset, arrays)

    def _append(self, column: str, value: Any) -> None:
        self._columns[column].append(value)

    def _string(self, text: str) -> int:
        if text not in self._strings:
            self._strings[text] = len(self._strings)
            self._blobs["strings"] += text.encode("utf-8", "surrogatepass")
            self._append("string_end", len(self._blobs["strings"]))
        return self._strings[text]

    def _picture(self, sample: Sample) -> int:
        key = (sample.image_id, sample.size, sample.image_path, sample.stored)
        if key not in self._pictures:
            self._pictures[key] = len(self._pictures)
            stored = sample.stored
            if stored is not None and not isinstance(stored, ParquetPicture):
                raise DataError(f"sample {sample.id}: a picture of {type(stored).__name__} cannot be kept in a table")
            path = stored.path if stored is not None else sample.image_path
            self._append("picture_id", sample.image_id)
            self._columns["picture_size"].extend(sample.size)
            self._append("picture_path", -1 if path is None else self._string(str(path)))
            self._append("picture_row", -1 if stored is None else stored.row)
            self._append("picture_column", -1 if stored is None else self._string(stored.column))
        return self._pictures[key]

    def _object(self, picture: int, item: Instance, size: tuple[int, int]) -> int:
        key = (picture, item.ann_id, item.bbox, type(item.segmentation))
        if key not in self._objects:
            self._objects[key] = len(self._objects)
            self._append("ann_id", item.ann_id)
            self._columns["box"].extend(item.bbox)
            self._append("category", self._string(item.category))
            self._append("crowd", item.crowd)
            kind, start, stop = self._outline(item.segmentation, size)
            self._append("outline_kind", kind)
            self._columns["outline"].extend((start, stop))
        return self._objects[key]

    def _outline(self, outline: SegmentationSource, size: tuple[int, int]) -> tuple[int, int, int]:
        if outline is None:
            return _NONE, 0, 0
        if isinstance(outline, MaskFile):
            return _FILE, self._string(str(outline.path)), -1 if outline.value is None else outline.value
        if isinstance(outline, list):
            start = len(self._columns["polygon_end"])
            for points in outline:
                self._columns["points"].frombytes(np.ascontiguousarray(points, dtype=np.float64).tobytes())
                self._append("polygon_end", len(self._columns["points"]))
            return _POLYGONS, start, len(self._columns["polygon_end"])
        if not isinstance(outline, dict):
            outline = rle.encode(outline)
        start = len(self._blobs["encodings"])
        self._blobs["encodings"] += rle.compressed(outline, size)["counts"]
        return _ENCODING, start, len(self._blobs["encodings"])


class SampleTable(Sequence[Sample]):
    """A data set's samples as columns; an item is built when it is asked for."""

    def __init__(self, dataset: str, arrays: dict[str, NDArray[Any]]) -> None:
        self.dataset = dataset
        self.arrays = arrays
        missing = sorted({*_COLUMNS, *_BLOBS} - set(arrays))
        if missing:
            raise DataError(f"a table of samples lacks the columns {', '.join(missing)}")

    def __len__(self) -> int:
        return len(self.arrays["text_end"])

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        arrays = self.arrays
        picture = int(arrays["picture"][index])
        size = (int(arrays["picture_size"][2 * picture]), int(arrays["picture_size"][2 * picture + 1]))
        ref_id, sent_id = int(arrays["ref_id"][index]), int(arrays["sent_id"][index])
        own, kind = int(arrays["own_id"][index]), int(arrays["kind"][index])
        path = int(arrays["picture_path"][picture])
        row = int(arrays["picture_row"][picture])
        file = None if path < 0 else Path(self._string(path))
        stored = None
        if row >= 0 and file is not None:
            stored = ParquetPicture(file, row, self._string(int(arrays["picture_column"][picture])))
        return Sample(
            id=f"{ref_id}_{sent_id}" if own < 0 else self._string(own),
            text=self._slice("text", "text_end", index),
            image_id=int(arrays["picture_id"][picture]),
            size=size,
            objects=tuple(self._object(int(item), size) for item in self._span("object", "object_end", index)),
            no_target=bool(arrays["no_target"][index]),
            image_path=None if stored is not None else file,
            kind=None if kind < 0 else self._string(kind),
            split=self._string(int(arrays["split"][index])),
            dataset=self.dataset,
            ref_id=ref_id,
            sent_id=sent_id,
            phrases=tuple(self._phrase(row, size) for row in range(*_bounds(arrays["phrase_end"], index))),
            stored=stored,
        )

    def texts(self) -> list[str]:
        """All expressions in order."""
        blob, ends = self.arrays["text"].tobytes(), self.arrays["text_end"].tolist()
        starts = [0, *ends][:-1]
        return [blob[a:b].decode("utf-8", "surrogatepass") for a, b in zip(starts, ends, strict=True)]

    def image_ids(self) -> list[int]:
        """The picture's number of every sample in order."""
        return self.arrays["picture_id"][self.arrays["picture"]].tolist() if len(self) else []

    @property
    def nbytes(self) -> int:
        """Memory of all columns, in bytes."""
        return sum(column.nbytes for column in self.arrays.values())

    def _slice(self, blob: str, ends: str, index: int) -> str:
        start, stop = _bounds(self.arrays[ends], index)
        return self.arrays[blob][start:stop].tobytes().decode("utf-8", "surrogatepass")

    def _string(self, index: int) -> str:
        return self._slice("strings", "string_end", index)

    def _span(self, column: str, ends: str, index: int) -> NDArray[Any]:
        start, stop = _bounds(self.arrays[ends], index)
        return self.arrays[column][start:stop]

    def _object(self, row: int, size: tuple[int, int]) -> Instance:
        arrays = self.arrays
        left, top, right, bottom = (float(side) for side in arrays["box"][4 * row : 4 * row + 4])
        return Instance(
            int(arrays["ann_id"][row]),
            self._string(int(arrays["category"][row])),
            (left, top, right, bottom),
            self._outline(row, size),
            bool(arrays["crowd"][row]),
        )

    def _outline(self, row: int, size: tuple[int, int]) -> SegmentationSource:
        kind = int(self.arrays["outline_kind"][row])
        start, stop = (int(value) for value in self.arrays["outline"][2 * row : 2 * row + 2])
        if kind == _POLYGONS:
            return [self._span("points", "polygon_end", index) for index in range(start, stop)]
        if kind == _ENCODING:
            return {"size": list(size), "counts": self.arrays["encodings"][start:stop].tobytes().decode("ascii")}
        if kind == _FILE:
            return MaskFile(Path(self._string(start)), None if stop < 0 else stop)
        return None

    def _phrase(self, row: int, size: tuple[int, int]) -> Phrase:
        arrays = self.arrays
        kinds = self._string(int(arrays["phrase_kinds"][row]))
        return Phrase(
            self._string(int(arrays["phrase_text"][row])),
            int(arrays["phrase_span"][2 * row]),
            int(arrays["phrase_span"][2 * row + 1]),
            tuple(self._object(int(item), size) for item in self._span("phrase_object", "phrase_object_end", row)),
            tuple(kinds.split("\0")) if kinds else (),
            int(arrays["phrase_chain"][row]),
        )


def save_table(table: SampleTable, problems: Sequence[Problem], path: Path) -> None:
    """Write table and problems to a safetensors file with a checksum, whole or not at all."""
    from safetensors.numpy import save_file

    metadata = {
        "format": str(FORMAT),
        "dataset": table.dataset,
        "problems": json.dumps([asdict(problem) for problem in problems]),
    }
    metadata["crc32"] = str(_checksum(table.arrays, metadata))
    with replacing(path) as temporary:
        save_file(table.arrays, temporary, metadata=metadata)


def load_table(path: Path) -> tuple[SampleTable, list[Problem]]:
    """What `save_table` wrote. Raises `DataError` when the file is damaged or of another format."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != str(FORMAT):
                raise DataError(f"{path}: not a table of samples of format {FORMAT}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if metadata.get("crc32") != str(_checksum(arrays, metadata)):
            raise DataError(f"{path}: damaged, its checksum is another one")
        problems = [Problem(**record) for record in json.loads(metadata["problems"])]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: not a readable table of samples ({type(error).__name__}: {error})") from error
    return SampleTable(metadata.get("dataset", ""), arrays), problems


def _checksum(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> int:
    """CRC-32 of what the table is and of all its columns: against bytes that changed by themselves, not by intent."""
    found = zlib.crc32(json.dumps([metadata["dataset"], metadata["problems"]]).encode())
    for name in sorted(arrays):
        column = np.ascontiguousarray(arrays[name])
        found = zlib.crc32(f"{name} {column.dtype} {column.shape}".encode(), found)
        found = zlib.crc32(column.view(np.uint8).data, found)
    return found


def _bounds(ends: NDArray[Any], index: int) -> tuple[int, int]:
    return (int(ends[index - 1]) if index else 0), int(ends[index])
