"""RefCOCO and its kin as Hugging Face parquet files, in the column layouts that people publish.

    data/val-00000-of-00001.parquet

- one object a row (lmms-lab): question_id, image, answer (the expressions), segmentation (one flat polygon), bbox
  (xywh), file_name;
- one referent a row without pictures (jxu124): ref_id, ann_id, image_id, sentences, raw_anns / anns, raw_image_info /
  image_info (JSON as text), image_path;
- one picture a row (moondream): image, image_id, samples: [{id, category, sentences, bbox (xywh), mask (RLE)}];
- one picture a row (jxu124's benchmark): image, image_info, ref_list: [{ann_info, ref_info}].

Pictures stay in their files: a sample knows its row (`ParquetPicture`). pyarrow is needed (extra `data`).
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from refseg.data.fields import Missing, attempt, box_xywh, integer, items, outline, sentence, size, table
from refseg.data.images import quiet
from refseg.data.sample import Instance, Problem, Sample
from refseg.data.source import DatasetFiles, Format, PictureFinder, ReadOptions, picture_folders, split_matches
from refseg.errors import DataError, ImageError

_FILE = re.compile(r"^(.+?)(?:-\d{5}-of-\d{5}(?:-[0-9a-f]+)?)?\.parquet$")
_COCO = re.compile(r"(\d{12})")
_SPLITS = ("train", "validation", "val", "test", "testA", "testB", "testC")
_PICTURES = ("images/train2014", "train2014", "coco/train2014", "images", "")


@dataclass(frozen=True)
class ParquetPicture:
    """The encoded picture in row `row` of a parquet file, read when it is asked for."""

    path: Path
    row: int
    column: str = "image"

    def read(self) -> bytes:
        """The encoded picture; raises `ImageError` when the file or the row is damaged."""
        try:
            starts = _starts(str(self.path), os.getpid())
            group = next(number for number, stop in enumerate(starts[1:]) if self.row < stop)
            value = _pictures(str(self.path), os.getpid(), group, self.column)[self.row - starts[group]]
            content = value.get("bytes") if isinstance(value, dict) else value
        except Exception as error:
            raise ImageError(f"{self.path} row {self.row}: cannot be read ({type(error).__name__}: {error})") from error
        if not isinstance(content, bytes) or not content:
            raise ImageError(f"{self.path} row {self.row}: there is no picture in {self.column}")
        return content


def find(folder: Path) -> list[DatasetFiles]:
    """The parquet files in `folder` or `folder`/data as one data set, or one for each name before the split's."""
    by_name: dict[tuple[str, str], list[tuple[str, Path]]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        match = _FILE.match(path.name)
        prefix, _, split = (match.group(1) if match else path.stem).rpartition("_")
        name, maker = _name(prefix, folder)
        by_name.setdefault((name, maker), []).append((split, path))
    pictures = picture_folders(folder, _PICTURES)
    return [
        DatasetFiles(
            FORMAT, name, f"parquet-{maker}" if maker else "parquet", parts[0][1], pictures, parts=tuple(parts)
        )
        for (name, maker), parts in by_name.items()
    ]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterator[Sample]:
    """One sample per expression. Raises `DataError` when pyarrow is missing or the columns are of no known layout."""
    finder = PictureFinder(files.picture_folders)
    missing = Missing(options.need_pictures)
    for split, path in files.parts:
        file = _open(path)
        columns = set(file.schema_arrow.names)
        if not split_matches(split, options.split) and "split" not in columns:
            continue
        layout = _layout(columns, path)
        start = 0
        # Pictures are only read where nothing else tells their size.
        wanted = [name for name in file.schema_arrow.names if name != "image" or layout in ("rows", "pictures")]
        for rows in _rows(file, path, wanted):
            for place, row in enumerate(rows):
                number = start + place
                where = f"{path.name} row {number}"
                picture = ParquetPicture(path, number) if "image" in columns else None
                made = attempt(where, problems, _listed, row, number, layout)
                for fields in made or ():
                    if picture is None:
                        fields["image_path"] = finder.find(fields["image_id"], fields.pop("file_name"))
                        if missing.skips(fields["image_path"], fields["image_id"]):
                            continue
                    else:
                        fields.pop("file_name")
                        fields["stored"] = picture
                    own = str(fields.pop("split") or split)
                    yield Sample(split=own if own in _SPLITS else split, dataset=files.name, **fields)
            start += len(rows)
    missing.report(problems)


def _name(prefix: str, folder: Path) -> tuple[str, str]:
    """(data set, split's maker) from what stands before the split: "refcoco_plus_unc", or nothing."""
    if not prefix:
        home = folder.resolve().name
        return (folder.resolve().parent.name if home == "data" else home).lower(), ""
    name, _, maker = prefix.rpartition("_")
    return (name or prefix).replace("refcoco_plus", "refcoco+"), maker


def _layout(columns: set[str], path: Path) -> str:
    for name, needed in (
        ("rows", {"image", "answer", "bbox"}),
        ("pictures", {"image", "samples"}),
        ("benchmark", {"image", "ref_list", "image_info"}),
        ("referents", {"sentences", "ann_id", "ref_id", "image_id"}),
    ):
        if needed <= columns:
            return name
    raise DataError(f"{path}: the columns {', '.join(sorted(columns))} are of no known layout; see docs/data.md")


def _rows(file: Any, path: Path, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows in groups of 32; damage that only shows when pages are decoded is a `DataError` too."""
    try:
        for batch in file.iter_batches(batch_size=32, columns=columns):
            yield batch.to_pylist()
    except Exception as error:  # ArrowInvalid, OSError, UnicodeDecodeError, OverflowError, ...
        words = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: the file is damaged ({type(error).__name__}: {words}); get it again") from error


def _listed(row: dict[str, Any], number: int, layout: str) -> list[dict[str, Any]]:
    return list(_samples(row, number, layout))


def _samples(row: dict[str, Any], number: int, layout: str) -> Iterator[dict[str, Any]]:
    if layout == "rows":
        name = str(row.get("file_name") or "")
        match = _COCO.search(name)
        flat = row.get("segmentation")
        polygons = [flat] if isinstance(flat, list) and len(flat) else None
        sides = _size_of(row["image"])
        item = _object(number, "", row["bbox"], polygons, sides)
        yield from _each(row["answer"], number, int(match.group(1)) if match else number, sides, item, "", name)
    elif layout == "pictures":
        sides, key = _size_of(row["image"]), integer(row["image_id"], "image_id")
        for entry in items(row["samples"], "samples"):
            about = table(entry, "a sample")
            item = _object(
                integer(about["id"], "id"), about.get("category") or "", about["bbox"], about.get("mask"), sides
            )
            yield from _each(about["sentences"], item.ann_id, key, sides, item, "", "")
    elif layout == "benchmark":
        info = table(row["image_info"], "image_info")
        sides = size(info["height"], info["width"])
        for entry in items(row["ref_list"], "ref_list"):
            yield from _referent(table(entry["ref_info"], "ref_info"), table(entry["ann_info"], "ann_info"), sides, "")
    else:
        info = _literal(row.get("raw_image_info") or row.get("image_info"), "image_info")
        about = _literal(row.get("raw_anns") or row.get("anns"), "anns")
        about = about[0] if isinstance(about, list) and about else about
        sides = size(info["height"], info["width"])
        row = {**row, "sentences": _literal(row.get("raw_sentences") or row["sentences"], "sentences")}
        yield from _referent(row, table(about, "anns"), sides, os.path.basename(str(row.get("image_path") or "")))


def _referent(
    ref: dict[str, Any], about: dict[str, Any], sides: tuple[int, int], file_name: str
) -> Iterator[dict[str, Any]]:
    item = _object(integer(ref["ann_id"], "ann_id"), "", about["bbox"], about.get("segmentation"), sides)
    texts = [entry.get("raw") or entry.get("sent") if isinstance(entry, dict) else entry for entry in ref["sentences"]]
    numbers = [entry.get("sent_id") if isinstance(entry, dict) else None for entry in ref["sentences"]]
    key, picture = integer(ref["ref_id"], "ref_id"), integer(ref["image_id"], "image_id")
    yield from _each(texts, key, picture, sides, item, str(ref.get("split") or ""), file_name, numbers)


def _each(
    texts: Any,
    ref_id: int,
    image_id: int,
    sides: tuple[int, int],
    item: Instance,
    split: str,
    file_name: str,
    numbers: list[Any] | None = None,
) -> Iterator[dict[str, Any]]:
    for place, words in enumerate(items(texts, "sentences")):
        known = numbers[place] if numbers is not None else None
        sent_id = known if isinstance(known, int) else place
        yield {
            "id": f"{ref_id}_{sent_id}", "text": sentence(words, "the expression"), "image_id": image_id, "size": sides,
            "objects": (item,), "split": split, "ref_id": ref_id, "sent_id": sent_id, "file_name": file_name,
        }  # fmt: skip


def _object(key: int, category: str, box: Any, segmentation: Any, sides: tuple[int, int]) -> Instance:
    # Rows have no place to name single polygons by: what is left out of an outline is not a problem of its own.
    return Instance(key, category, box_xywh(box), outline(segmentation, sides, "", []) if segmentation else None)


def _size_of(picture: Any) -> tuple[int, int]:
    content = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(content, bytes) or not content:
        raise ValueError("there is no picture in image")
    try:
        with quiet(), Image.open(io.BytesIO(content)) as image:
            return size(image.height, image.width)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"the picture is not readable ({type(error).__name__})") from error


def _literal(value: Any, name: str) -> Any:
    """A value that may be written as text: JSON, or Python's own notation."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(f"{name} is neither JSON nor a Python literal") from error


def _open(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: reading parquet needs pyarrow: pip install 'refseg[data]'") from error
    try:
        return parquet.ParquetFile(path)
    except Exception as error:
        raise DataError(f"{path}: not a readable parquet file ({type(error).__name__}: {error})") from error


# By process: a file that a worker inherits shares its position with the parent.
@lru_cache(maxsize=64)
def _starts(path: str, _process: int) -> list[int]:
    data = _open(Path(path)).metadata
    starts = [0]
    for group in range(data.num_row_groups):
        starts.append(starts[-1] + data.row_group(group).num_rows)
    return starts


@lru_cache(maxsize=2)
def _pictures(path: str, _process: int, group: int, column: str) -> list[Any]:
    return _open(Path(path)).read_row_group(group, columns=[column]).column(column).to_pylist()


FORMAT = Format("parquet", find, read, rows_have_splits=True)
