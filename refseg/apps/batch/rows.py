"""Answers as rows of a table: one a picture and expression, and how they are read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from refseg.data.rle import decode
from refseg.errors import DataError, RefsegError
from refseg.inference.segmentation import Instance, Segmentation

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Row", "answer_of", "need_pyarrow", "read_answers", "rows_of", "schema", "table_of"]

Row = dict[str, Any]


@lru_cache(maxsize=1)
def schema() -> pyarrow.Schema:
    """The columns. Masks are the counts of COCO's compressed run-length encoding, for a mask of `height` x `width`;
    boxes are xyxy in pixels. `error` is null for an answer, and all but the first three columns are for an error."""
    pa = need_pyarrow()
    instance = pa.struct(
        [
            pa.field("label", pa.string()),
            pa.field("score", pa.float64()),
            pa.field("box", pa.list_(pa.float64(), 4)),
            pa.field("mask", pa.string()),
        ]
    )
    return pa.schema(
        [
            pa.field("image", pa.string()),
            pa.field("expression", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("no_target", pa.bool_()),
            pa.field("no_target_score", pa.float64()),
            pa.field("score", pa.float64()),
            pa.field("height", pa.int32()),
            pa.field("width", pa.int32()),
            pa.field("area", pa.int64()),
            pa.field("mask", pa.string()),
            pa.field("instances", pa.list_(instance)),
            pa.field("remarks", pa.list_(pa.string())),
        ]
    )


def need_pyarrow() -> ModuleType:
    """The module pyarrow. Raises `RefsegError` where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise RefsegError("Parquet needs the package pyarrow: pip install 'refseg[data]'") from error
    return pyarrow


def rows_of(image: str | None, texts: Sequence[str], answers: Sequence[Segmentation] | Exception) -> list[Row]:
    """The rows of one picture: its answers, or its error beside every expression."""
    if isinstance(answers, Exception):
        return [{"image": image, "expression": text, "error": str(answers) or repr(answers)} for text in texts]
    return [
        {
            "image": image,
            "expression": answer.text,
            "error": None,
            "no_target": answer.no_target,
            "no_target_score": answer.no_target_score,
            "score": answer.score,
            "height": answer.mask.shape[0],
            "width": answer.mask.shape[1],
            "area": int(answer.mask.sum()),
            "mask": answer.to_rle()["counts"],
            "instances": [
                {**{key: values[key] for key in ("label", "score", "box")}, "mask": values["mask"]["counts"]}
                for values in (each.to_dict() for each in answer.instances)
            ],
            "remarks": list(answer.extra.get("remarks", [])),
        }
        for answer in answers
    ]


def table_of(rows: Sequence[Row]) -> pyarrow.Table:
    """The rows as a table of `schema`."""
    return need_pyarrow().Table.from_pylist(list(rows), schema=schema())


def answer_of(row: Mapping[str, Any]) -> Segmentation | RefsegError:
    """The answer of a row, equal to the one that it was made of; the error of a row that tells one."""
    if row["error"] is not None:
        return RefsegError(row["error"])
    size = [row["height"], row["width"]]
    instances = [
        Instance.from_mask(decode({"size": size, "counts": each["mask"]}), each["score"], each["label"], each["box"])
        for each in row["instances"]
    ]
    return Segmentation(
        decode({"size": size, "counts": row["mask"]}),
        None,
        row["no_target"],
        row["no_target_score"],
        row["score"],
        row["expression"],
        {"remarks": row["remarks"]} if row["remarks"] else None,
        instances=instances,
    )


def read_answers(folder: str | Path) -> Iterator[tuple[str, str, Segmentation | RefsegError]]:
    """(picture, expression, answer or error) for each row that `refseg batch` wrote into `folder`, part by part.

    Raises `DataError` where there is no part.
    """
    parts = sorted(Path(folder).glob("part-*.parquet"))
    if not parts:
        raise DataError(f"{folder}: no part-*.parquet there; -o of refseg batch is wanted")
    need_pyarrow()
    from pyarrow.parquet import ParquetFile

    for part in parts:
        with ParquetFile(part) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield row["image"], row["expression"], answer_of(row)
