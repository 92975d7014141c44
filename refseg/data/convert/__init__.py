"""Conversion between the generic format and those of other tools: one table of readers and one of writers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from refseg.data import open_dataset
from refseg.data.catalog import find_datasets
from refseg.data.convert.coco import read_coco, write_coco
from refseg.data.convert.common import Placer
from refseg.data.convert.cvat import read_cvat, write_cvat
from refseg.data.convert.grefcoco import write_grefcoco
from refseg.data.convert.labelstudio import read_label_studio, write_label_studio
from refseg.data.convert.yolo import read_yolo, write_yolo
from refseg.data.formats.jsonl import WRITTEN, is_jsonl, read_jsonl, record_of, write_jsonl
from refseg.data.json_files import read_json, read_table
from refseg.data.sample import ReferringDataset, Sample
from refseg.errors import DataError

__all__ = ["READERS", "WRITERS", "detect", "read_any"]


def write_generic(samples: Iterable[Sample], target: Path) -> int:
    """Write a .jsonl file and, beside it, `images/`; `target` is the file, or a folder for `data.jsonl`."""
    path = target if is_jsonl(target) else target / WRITTEN
    placer = Placer(path.parent / "images")

    def records() -> Iterator[dict[str, Any]]:
        for sample in samples:
            yield record_of(sample, f"images/{placer.place(sample)}")

    return write_jsonl(path, records())


# name -> writes samples under a folder, returns the number of expressions
WRITERS: dict[str, Callable[[Iterable[Sample], Path], int]] = {
    "jsonl": write_generic,
    "grefcoco": write_grefcoco,
    "coco": write_coco,
    "yolo": write_yolo,
    "labelstudio": write_label_studio,
    "cvat": write_cvat,
}

# name -> reads a file or folder; the second argument is the folder of the pictures, None to look beside it
READERS: dict[str, Callable[[Path, Path | None], ReferringDataset]] = {
    "jsonl": lambda path, images: read_jsonl(path),
    "published": lambda path, images: open_dataset(path),
    "coco": read_coco,
    "yolo": lambda path, images: read_yolo(path if path.is_dir() else path.parent),
    "labelstudio": read_label_studio,
    "cvat": read_cvat,
}


def detect(source: Path) -> str:
    """Which of `READERS` a file or folder is for, by what is in it; raises `DataError` when it is none."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_dir():
        return _written(source)[0]
    if is_jsonl(source):
        return "jsonl"
    if source.suffix.lower() in (".yaml", ".yml"):
        return "yolo"
    if source.suffix.lower() != ".json":
        raise DataError(f"{source}: neither .jsonl, .json, data.yaml nor a folder; say what it is with --from")
    content = read_json(source)
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, dict) and "shapes" in first:
        return "cvat"
    if isinstance(content, list) and isinstance(first, dict) and "data" in first:
        return "labelstudio"
    if isinstance(content, dict) and "images" in content and "annotations" in content:
        return "coco"
    raise DataError(f"{source}: JSON of none of the known formats ({', '.join(READERS)}); say which with --from")


def _written(folder: Path) -> tuple[str, Path]:
    """Which of `READERS` a folder is for, and what of it that takes."""
    if (folder / WRITTEN).is_file():
        return "jsonl", folder / WRITTEN
    if (folder / "annotations.json").is_file() and (folder / "data").is_dir():
        return "cvat", folder
    if any((folder / name).is_file() for name in ("data.yaml", "data.yml", "dataset.yaml")):
        return "yolo", folder
    if (folder / "tasks.json").is_file():
        return "labelstudio", folder / "tasks.json"
    path = folder / "instances.json"
    # Objects beside a published data set's expressions are read with them; alone they have none, unless they say so.
    if path.is_file() and not find_datasets(folder) and "expressions" in read_table(path):
        return "coco", path
    return "published", folder


def read_any(
    source: Path,
    source_format: str | None = None,
    *,
    images: Path | None = None,
    dataset: str | None = None,
    split: str | None = None,
) -> ReferringDataset:
    """The samples of a file or folder of any known format; `problems` names everything that was left out.

    `source_format` is one of `READERS`, detected where None; `dataset` and `split` choose as in `open_dataset`.
    """
    if source.is_dir() and source_format in (None, _written(source)[0]):
        source_format, source = _written(source)
    source_format = source_format or detect(source)
    if source_format == "published":
        return open_dataset(source, dataset, split)
    every = READERS[source_format](source, images)
    if split is None:
        return every
    chosen = [index for index, sample in enumerate(every) if sample.split == split]
    if not chosen:
        raise DataError(f"{source}: no split {split!r}")
    return every.subset(chosen)
