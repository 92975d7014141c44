"""An index on disk: a folder with `index.json` and one Lance table, a picture a row.

    path, hash, size, changed   the picture's file: SHA-256 of its bytes (empty where they could not be read)
    height, width               of the upright picture in pixels, 0 for a bad one
    error                       why a bad one could not be read, else null
    presence, likelihood        a byte a class: the largest probability of any proposal, and of the whole picture
    proposals, masks            see `refseg.apps.search.proposals`
    checks                      CRC-32 of the columns of each of `_GROUPS`

Classes, proposals and masks are of indexes that keep proposals. Every write is one commit of Lance: whole or not there.
Lance keeps no checksums of its data: what is read is compared with `checks`, which older indexes do not have.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import pyarrow as pa

from refseg import __version__
from refseg.errors import DataError, RefsegError
from refseg.files import write_text
from refseg.models.instances.classes import CLASSES

if TYPE_CHECKING:
    from lancedb.table import Table

__all__ = ["Description", "PictureTable", "Row", "locked"]

Row = dict[str, Any]
"""A row's values by column."""
R = TypeVar("R")

FORMAT = 1
DESCRIPTION, TABLE, LOCK = "index.json", "pictures", ".lock"
OLD_VERSIONS = timedelta(hours=1)
"""How long what an update replaced stays readable for whoever has the index open."""

_FILE_COLUMNS = [
    pa.field("path", pa.string(), nullable=False),
    pa.field("hash", pa.string(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("changed", pa.int64(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("error", pa.string()),
]
_PROPOSAL_COLUMNS = [
    pa.field("presence", pa.list_(pa.uint8(), len(CLASSES))),
    pa.field("likelihood", pa.list_(pa.uint8(), len(CLASSES))),
    pa.field("proposals", pa.binary()),
    pa.field("masks", pa.binary()),
]
_GROUPS: dict[str, tuple[str, ...]] = {
    "file": ("path", "hash", "size", "changed", "height", "width", "error"),
    "classes": ("presence", "likelihood"),
    "proposals": ("proposals",),
    "masks": ("masks",),
}
"""Columns that are read together, and have a checksum together."""
_CHECKS = pa.field("checks", pa.list_(pa.uint32(), len(_GROUPS)))


@dataclass(frozen=True)
class Description:
    """`index.json`: what the rows were made with."""

    model: str
    """Name, folder or hub id."""
    fingerprint: str
    """SHA-256 of what made the rows: the detector of a model with proposals, else the model."""
    keeps: Literal["proposals", "pictures"]
    """What an answer is made from: the rows' proposals, or the picture file itself."""
    views: int = 1
    """Views of a picture that its likelihoods are averaged over."""
    format: int = FORMAT
    refseg: str = __version__

    @property
    def schema(self) -> pa.Schema:
        """The columns that every index has."""
        return pa.schema(_FILE_COLUMNS + (_PROPOSAL_COLUMNS if self.keeps == "proposals" else []))


class PictureTable:
    """The Lance table of an index and its description. Reading holds on to the version that was current at the last
    `refresh`; writing goes on from the newest."""

    def __init__(self, folder: Path, description: Description, table: Table) -> None:
        self.folder, self.description = folder, description
        self._table = table
        self.checked = _CHECKS.name in table.schema.names
        """Whether the rows have checksums."""

    @classmethod
    def create(cls, folder: str | os.PathLike[str], description: Description) -> PictureTable:
        """An empty index. Raises `RefsegError` where `folder` holds something else, or cannot be written."""
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(each.name != LOCK for each in folder.iterdir())):
            raise RefsegError(f"{folder} is there and no index; choose another one for -o")
        with _readable_errors(folder):
            schema = description.schema.append(_CHECKS)
            table = _connect(folder).create_table(TABLE, schema=schema, mode="overwrite")
        # The description comes last: a folder without one is no index.
        write_text(folder / DESCRIPTION, json.dumps(asdict(description), indent=1) + "\n")
        return cls(folder, description, table)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> PictureTable:
        """The index in a folder. Raises `DataError` for a folder that is none, of another format, or without one of its
        columns."""
        folder = Path(folder)
        description = _read_description(folder)
        with _readable_errors(folder):
            table = _connect(folder).open_table(TABLE)
            present = table.schema
        for field in description.schema:
            if field.name not in present.names:
                raise DataError(f"{folder}: the column {field.name!r} is missing; make the index again with --rebuild")
            if present.field(field.name).type != field.type:
                raise DataError(
                    f"{folder}: the column {field.name!r} is {present.field(field.name).type}, not {field.type}; make "
                    "the index again with --rebuild"
                )
        return cls(folder, description, table)

    def __len__(self) -> int:
        return self._read(lambda table: table.count_rows())

    def count(self, where: str) -> int:
        """How many rows fulfil a condition."""
        return self._read(lambda table: table.count_rows(where))

    def refresh(self) -> None:
        """Read the newest version from now on."""
        with _readable_errors(self.folder):
            self._table = _connect(self.folder).open_table(TABLE)

    def scan(self, columns: Sequence[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, in batches, with these columns and others; `_rowid` says where each lies in this version.

        Raises `DataError` where a row is not what was written."""
        groups, wanted = self._with_checks(columns)

        def query(table: Table) -> Iterator[pa.RecordBatch]:
            search = table.search().select(wanted).with_row_id(True)
            return iter((search.where(where) if where else search).to_batches(8192))

        batches = self._read(query)
        while (batch := self._read(lambda _: next(batches, None))) is not None:
            if groups == ["classes"] and not batch.column("presence").null_count:
                self._compare(_class_sums(batch), batch.column(_CHECKS.name).to_pylist(), groups)
            elif groups:
                self._check_rows(batch.to_pylist(), groups)
            yield batch

    def take(self, row_ids: Sequence[int], columns: Sequence[str]) -> list[Row]:
        """Rows by `_rowid`, in that order. Raises `DataError` where one is not what was written."""
        if not row_ids:
            return []
        groups, wanted = self._with_checks(columns)
        found = self._read(lambda table: table.take_row_ids(list(row_ids)).select(wanted).with_row_id().to_arrow())
        rows = {row["_rowid"]: row for row in found.to_pylist()}
        self._check_rows(rows.values(), groups)
        return [rows[number] for number in row_ids]

    def check(self) -> int:
        """Read and compare everything; returns the number of rows, or raises `DataError`."""
        return sum(len(batch) for batch in self.scan(self.description.schema.names))

    def _with_checks(self, columns: Sequence[str]) -> tuple[list[str], list[str]]:
        """The groups that columns are of, and the columns to read so that their checksums can be made."""
        if not self.checked:
            return [], list(columns)
        groups = [name for name, members in _GROUPS.items() if set(members) & set(columns)]
        held = self.description.schema.names
        return groups, [*(each for name in groups for each in _GROUPS[name] if each in held), _CHECKS.name]

    def _check_rows(self, rows: Iterable[Row], groups: Sequence[str]) -> None:
        if groups:
            rows = list(rows)
            self._compare([_sums(row, groups) for row in rows], [row[_CHECKS.name] for row in rows], groups)

    def _compare(self, found: Sequence[Sequence[int]], kept: Sequence[Any], groups: Sequence[str]) -> None:
        places = [list(_GROUPS).index(name) for name in groups]
        for sums, checks in zip(found, kept, strict=True):
            for name, place, value in zip(groups, places, sums, strict=True):
                if checks is None or checks[place] != value:
                    raise DataError(
                        f"{self.folder / f'{TABLE}.lance'}: damaged: a row's {name} differ from their checksum; make "
                        "the index again with --rebuild"
                    )

    def rows_of(self, paths: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """The rows of paths that are there."""
        rows: list[Row] = []
        for part in _parts(paths):
            for batch in self.scan(columns, f"path IN ({', '.join(map(_quoted, part))})"):
                rows += batch.to_pylist()
        return rows

    def write(self, rows: Sequence[Row], new: bool) -> None:
        """Add rows, in one commit; unless all of them are `new`, those of the same paths are replaced."""
        if not rows:
            return
        schema = self.description.schema
        if self.checked:
            schema, rows = schema.append(_CHECKS), [{**row, _CHECKS.name: _sums(row, [*_GROUPS])} for row in rows]
        values = pa.Table.from_pylist(list(rows), schema=schema)

        def commit(table: Table) -> None:
            if new:
                table.add(values)
            else:
                table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(values)

        self._read(commit)

    def delete(self, paths: Sequence[str]) -> None:
        """Remove the rows of paths."""
        for part in _parts(paths):
            condition = f"path IN ({', '.join(map(_quoted, part))})"
            with _readable_errors(self.folder):
                self._table.delete(condition)

    def compact(self) -> None:
        """Put small fragments together, and drop what older versions alone need and are `OLD_VERSIONS` old."""
        self._read(lambda table: table.optimize(cleanup_older_than=OLD_VERSIONS))

    def _read(self, action: Callable[[Table], R]) -> R:
        with _readable_errors(self.folder):
            return action(self._table)


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Nobody else writes into the index meanwhile. Raises `RefsegError` where somebody does; a process that dies lets
    go."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks: there nobody checks
        yield
        return
    folder = Path(folder)
    try:
        if (
            folder.is_dir()
            and not any((folder / name).exists() for name in (LOCK, DESCRIPTION))
            and any(folder.iterdir())
        ):
            # Somebody's folder: no lock is left in it.
            raise RefsegError(f"{folder} is there and no index; choose another one for -o")
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK).open("w")
    except OSError as error:
        raise RefsegError(f"{folder}: cannot write there ({error.strerror})") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RefsegError(f"{folder}: another process is writing this index; wait for it, or end it") from error
        yield


def _sums(row: Row, groups: Sequence[str]) -> list[int]:
    """CRC-32 of the values of a row, a number a group."""
    contents = {
        "file": lambda: json.dumps([row[name] for name in _GROUPS["file"]]).encode(),
        "classes": lambda: bytes(row.get("presence") or ()) + bytes(row.get("likelihood") or ()),
        "proposals": lambda: row.get("proposals") or b"",
        "masks": lambda: row.get("masks") or b"",
    }
    return [zlib.crc32(contents[name]()) for name in groups]


def _class_sums(batch: pa.RecordBatch) -> list[list[int]]:
    """The same for the classes of many rows."""
    values = [batch.column(name).flatten().to_numpy().reshape(len(batch), -1) for name in _GROUPS["classes"]]
    return [[zlib.crc32(row.data)] for row in np.concatenate(values, axis=1)]


def _read_description(folder: Path) -> Description:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise DataError(f"{folder} is no index (it has no {DESCRIPTION}); make one: refseg index photos/ -o {folder}")
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("not an object")
        if values.get("format") != FORMAT:
            raise DataError(f"{path}: format {values.get('format')!r}; this version of refseg reads format {FORMAT}")
        description = Description(**values)
        if description.keeps not in ("proposals", "pictures") or not isinstance(description.model, str):
            raise ValueError("keeps or model")
        return description
    except (OSError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not the description of an index ({error}); make it again with --rebuild") from error


def _connect(folder: Path) -> Any:
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns of each table that is new
    try:
        import lancedb
    except ImportError as error:
        raise RefsegError("searching needs lancedb: pip install 'refseg[search]'") from error
    return lancedb.connect(folder)


@contextmanager
def _readable_errors(folder: Path) -> Iterator[None]:
    """Lance's errors, which are of several kinds and of many lines, as one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RefsegError:
        raise
    except (OSError, RuntimeError, ValueError, pa.ArrowException) as error:
        text = " ".join(str(error).split())
        if "No space left" in text or "os error 28" in text:
            raise RefsegError(f"{folder}: the disk is full; what was written before stays, start again to go on") from (
                error
            )
        raise DataError(f"{folder}: Lance cannot do that ({text[:200]})") from error
    except BaseException as error:
        # A damaged file ends in what Rust calls a panic, on the calling thread or another: no Exception, and one of a
        # module that cannot be imported.
        if type(error).__name__ not in ("PanicException", "RustPanic"):
            raise
        text = " ".join(str(error).split())
        raise DataError(f"{folder}: Lance cannot read that ({text[:200]}); make it again with --rebuild") from error


def _parts(paths: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
