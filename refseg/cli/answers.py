"""The folder that answers are written into: names that never collide, its table, and what a second start may skip.

`results.csv` has a line for each answer of the folder, whichever run wrote it. Lines are added as answers come, so that
a run that is killed loses at most the one that it was at, and the file is put in order when a run ends.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from refseg.errors import RefsegError
from refseg.files import write_text

RESULTS, ERRORS = "results.csv", "errors.jsonl"
ENDS = {
    "overlay": "overlay.png",
    "mask": "mask.png",
    "cutout": "cutout.png",
    "matte": "matte.png",
    "probabilities": "probabilities.png",
    "json": "json",
}
"""How the file of each format ends."""
SETTINGS = ("model", "threshold", "no_target_threshold")
"""Columns that say how an answer was made; the thresholds are empty where the model's own were taken."""
COLUMNS = (
    *("picture", "expression", "no_target", "no_target_score", "score"),
    *("instances", "area", "width", "height", "name", "formats", *SETTINGS),
)
STEM_BYTES = 100  # with an expression's name, an ending and a temporary file's mark a name stays below 255 bytes

Row = dict[str, str]
Key = tuple[str, str]

ORDERS: dict[str, Callable[[Row], tuple[object, ...]]] = {
    "found": lambda row: (float(row["no_target_score"]), -float(row["score"])),
    "score": lambda row: (row["no_target"] == "true", -float(row["score"])),
    "area": lambda row: (-int(row["area"]),),
    "picture": lambda row: (row["picture"],),
}
"""What --sort orders the answers to an expression by."""


class Folder:
    """A folder of answers and its `results.csv`. Nothing is written before the first `add`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        self.failed = 0
        for row in _read(path / RESULTS):
            if all(file.is_file() for file in self.files(row)):
                self.rows[row["picture"], row["expression"]] = row
        self._stems = {row["picture"]: row["name"].rpartition(".")[0] for row in self.rows.values()}
        self._owners = {stem.casefold(): picture for picture, stem in self._stems.items()}
        self._table: TextIO | None = None
        self._errors: list[str] = []
        self._earlier_errors = True

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._table is not None:
            self._table.close()

    def names(self, paths: Sequence[Path]) -> list[str]:
        """What the files of each picture begin with: the name that it has here; else its own without suffix, with its
        folder's where several of `paths` are called so; and a checksum of its path where that is another picture's."""
        shared = Counter(path.stem.casefold() for path in paths)
        names = []
        for path in paths:
            picture, stem = identity(path), _short(path.stem)
            wider = _short(f"{path.resolve().parent.name}-{path.stem}")
            plain = [stem, wider] if shared[path.stem.casefold()] == 1 else [wider]
            known = [self._stems[picture]] if picture in self._stems else []
            last = f"{stem}-{_checksum(picture)}"
            name = next((each for each in [*known, *plain] if self._owner(each) in (None, picture)), last)
            self._owners[name.casefold()], self._stems[picture] = picture, name
            names.append(name)
        return names

    def _owner(self, name: str) -> str | None:
        return self._owners.get(name.casefold())

    def files(self, row: Mapping[str, str]) -> list[Path]:
        """The files of an answer."""
        return [self.path / f"{row['name']}.{ENDS[each]}" for each in row["formats"].split(",") if each in ENDS]

    def has(self, path: Path, expression: str, formats: Sequence[str], settings: Mapping[str, str]) -> bool:
        """Whether the answer is there as it would be made: with these settings and formats, and files that are not
        older than the picture."""
        row = self.rows.get((identity(path), expression))
        if row is None or any(row[name] != settings[name] for name in SETTINGS):
            return False
        if not set(formats) <= set(row["formats"].split(",")):
            return False
        try:
            changed = path.stat().st_mtime
            return all(file.stat().st_mtime >= changed for file in self.files(row))
        except OSError:  # gone meanwhile
            return False

    def add(self, path: Path, row: Row) -> None:
        """A line for an answer whose files are written."""
        row = {**row, "picture": identity(path)}
        with writing_in(self.path):
            if self._table is None:
                self._start()
            assert self._table is not None
            self._table.write(_lines([row]))
            self._table.flush()
        self.rows[row["picture"], row["expression"]] = row

    def fail(self, path: Path, error: Exception) -> None:
        """A line in `errors.jsonl`, which is written with the first answer."""
        line = json.dumps({"image": printable(path), "error": printable(str(error))}, ensure_ascii=False)
        self._errors.append(line + "\n")
        self.failed += 1
        if self._table is not None:
            self._flush_errors()

    def finish(self, keys: Iterable[Key], order: str | None) -> list[Row]:
        """Put the table in order; returns the rows of `keys`, in that order.

        Rows of earlier runs come first, then those of `keys`, as given; with `order` (of `ORDERS`) all are sorted,
        expression by expression.
        """
        wanted = dict.fromkeys(key for key in keys if key in self.rows)
        rows = [row for key, row in self.rows.items() if key not in wanted] + [self.rows[key] for key in wanted]
        if order is not None:
            place = {
                text: number for number, text in enumerate(dict.fromkeys(text for _, text in [*wanted, *self.rows]))
            }
            rows.sort(key=lambda row: (place[row["expression"]], *ORDERS[order](row)))
        if self._table is not None:
            self._table.close()
            self._table = None
        if self.rows:
            write_text(self.path / RESULTS, _lines(rows, head=True))
            self._flush_errors()
        return [row for row in rows if (row["picture"], row["expression"]) in wanted]

    def _start(self) -> None:
        write_text(self.path / RESULTS, _lines(self.rows.values(), head=True))
        self._table = (self.path / RESULTS).open("a", encoding="utf-8", newline="")
        self._flush_errors()

    def _flush_errors(self) -> None:
        with writing_in(self.path):
            if self._earlier_errors:
                (self.path / ERRORS).unlink(missing_ok=True)
                self._earlier_errors = False
            if self._errors:
                with (self.path / ERRORS).open("a", encoding="utf-8") as handle:
                    handle.writelines(self._errors)
                self._errors.clear()


class writing_in:
    """A full disk, or a folder that may not be written into, is an error of one line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise RefsegError(f"{self.folder}: cannot write there ({error.strerror})") from error


def identity(path: Path) -> str:
    """How a picture stands in the table: its whole path, so that it is found from everywhere."""
    return printable(os.path.abspath(path))


def printable(path: str | os.PathLike[str]) -> str:
    """The path as text that every encoding of letters takes: bytes that are no UTF-8 as escapes."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def slugs(expressions: Sequence[str]) -> list[str]:
    """A short name for each expression, of a-z, 0-9 and hyphens: no two alike, and always the same for the same."""
    names: list[str] = []
    for expression in expressions:
        plain = unicodedata.normalize("NFKD", expression).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
        exact = slug.replace("-", " ") == expression and len(slug) <= 48
        # Where the name does not tell the whole expression, a checksum keeps expressions apart.
        names.append(slug if exact else "-".join(filter(None, [slug[:40].strip("-"), _checksum(expression)])))
    return names


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _short(stem: str) -> str:
    """The name, or its beginning and a checksum where it is too long for what is added to it."""
    raw = os.fsencode(stem)
    if len(raw) <= STEM_BYTES:
        return stem
    return f"{raw[: STEM_BYTES - 9].decode('utf-8', 'ignore')}-{zlib.crc32(raw):08x}"


def _lines(rows: Iterable[Row], head: bool = False) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    if head:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _read(path: Path) -> Iterable[Row]:
    """The whole lines of a table; a last one that was cut is left out. Raises `RefsegError` for another table."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise RefsegError(f"{path}: cannot be read ({error}); choose another folder for -o") from error
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""), restval="")
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise RefsegError(f"{path}: not a table of refseg segment; choose another folder for -o")
    for row in reader:
        try:
            for order in ORDERS.values():
                order(row)
        except (TypeError, ValueError):  # the lines after one that was cut in the middle
            continue
        if None not in row:
            yield row
