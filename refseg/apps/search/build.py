"""Pictures into an index: what is new or changed is read and encoded, the rest is left as it is.

A picture whose size and time of change are the row's is not read; one that is read and has a row's SHA-256 is not
encoded (it was copied, moved or touched). Rows are committed by the dozen, so that whatever ends a run, the next one
goes on where it was. A picture that cannot be read becomes a row with the reason, and is tried again when its file
changes.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from refseg.apps.search.proposals import pack_masks, pack_proposals, presence_codes, unpack_proposals
from refseg.apps.search.ranking import likelihood_codes, likelihoods
from refseg.apps.search.sources import Found
from refseg.apps.search.table import Description, PictureTable, Row
from refseg.data.images import read_image
from refseg.data.transforms import place_image
from refseg.errors import ImageError
from refseg.inference.predictor import Segmenter
from refseg.models.instances.model import Instances

__all__ = ["Report", "add_pictures", "encode_picture", "read_row"]

COMMIT_ROWS, COMMIT_SECONDS = 64, 30.0
"""A commit is made after so many rows, or so many seconds."""
COMPACT_COMMITS = 256
"""Fragments are put together after so many commits, and at the end."""
ENCODED = ("height", "width", "error", "presence", "likelihood", "proposals", "masks")


@dataclass
class Report:
    """What became of the pictures that were given."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    copied: int = 0
    """Of the added and updated ones those with the content of another row."""
    removed: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    """Paths and reasons of those that could not be read, among the added and updated ones."""


@dataclass(frozen=True)
class _Known:
    hash: str
    size: int
    changed: int


def add_pictures(
    table: PictureTable,
    segmenter: Segmenter,
    pictures: Iterable[Found],
    advance: Callable[[int, str], None] = lambda done, path: None,
    elsewhere: Callable[[Sequence[Found]], Iterator[Row]] | None = None,
) -> Report:
    """Bring the rows of `pictures` up to date. `advance` is called after each with how many are done, and its path.

    `elsewhere` makes the rows of pictures whose path is new, in any order; they are encoded even where another row has
    their content.
    """
    known = {
        path: _Known(digest, size, changed)
        for batch in table.scan(["path", "hash", "size", "changed"])
        for path, digest, size, changed in zip(
            *(batch.column(name).to_pylist() for name in ("path", "hash", "size", "changed")), strict=True
        )
    }
    owner = {each.hash: path for path, each in known.items() if each.hash}
    report = Report()
    writer = _Writer(table)
    new: list[Found] = []
    done = 0

    def put(row: Row, added: bool) -> None:
        writer.put(row, new=added)
        report.added += added
        report.updated += not added
        if row["error"] is not None:
            report.bad.append((row["path"], row["error"]))

    try:
        for found in pictures:
            before = known.get(found.path)
            if before is None and elsewhere is not None:
                new.append(found)
                continue
            if before is not None and found.size >= 0 and (before.size, before.changed) == (found.size, found.changed):
                report.unchanged += 1
            else:
                row = _row_of(found, owner, writer, table, segmenter, report)
                owner.setdefault(row["hash"], found.path)
                put(row, before is None)
            done += 1
            advance(done, found.path)
        for row in elsewhere(new) if elsewhere is not None else ():
            put(row, True)
            done += 1
            advance(done, row["path"])
    finally:
        # An interruption loses what is being encoded, and no more.
        writer.flush()
    if writer.commits:
        table.compact()
    table.refresh()
    return report


def read_row(found: Found, segmenter: Segmenter, description: Description) -> Row:
    """The row of a picture file; of one that cannot be read, with the reason."""
    try:
        return _encoded(found, found.read(), segmenter, description)
    except ImageError as error:
        return _bad(found, "", error, description)


def encode_picture(segmenter: Segmenter, picture: Image.Image, views: int) -> Row:
    """The values of a row that the picture alone decides, all but those of its file."""
    row: Row = {"height": picture.height, "width": picture.width, "error": None}
    if isinstance(segmenter.model, Instances):
        image, pixel_mask, _ = place_image(picture, segmenter.model.config.input)
        with torch.inference_mode():
            encoded = segmenter.model.encode_image(image[None].to(segmenter.device), pixel_mask[None])
        state = encoded[0]
        proposals = pack_proposals(state.proposals)
        # What is stored is what answers are made from, so that bounds hold for it.
        rounded = unpack_proposals(proposals)
        row["presence"] = presence_codes(rounded.class_probs.numpy())
        odds = likelihoods(segmenter.model.proposer, state.image, views)
        row |= {"likelihood": likelihood_codes(odds.numpy()), "proposals": proposals}
        row["masks"] = pack_masks(state.proposals)
    return row


def _row_of(
    found: Found, owner: dict[str, str], writer: _Writer, table: PictureTable, segmenter: Segmenter, report: Report
) -> Row:
    """As `read_row`; a picture whose content is another row's is not encoded."""
    try:
        data = found.read()
    except ImageError as error:
        return _bad(found, "", error, table.description)
    digest = hashlib.sha256(data).hexdigest()
    twin = owner.get(digest)
    if twin is not None:
        encoded = [name for name in table.description.schema.names if name in ENCODED]
        row = writer.pending(twin) or next(iter(table.rows_of([twin], [*encoded, "hash"])), None)
        if row is not None and row["hash"] == digest and row["error"] is None:
            report.copied += 1
            return {**{name: row[name] for name in encoded}, **_file(found, digest)}
    return _encoded(found, data, segmenter, table.description)


def _encoded(found: Found, data: bytes, segmenter: Segmenter, description: Description) -> Row:
    digest = hashlib.sha256(data).hexdigest()
    stream = io.BytesIO(data)
    stream.name = found.path  # type: ignore[attr-defined]
    try:
        return {**_file(found, digest), **encode_picture(segmenter, read_image(stream), description.views)}
    except ImageError as error:
        return _bad(found, digest, error, description)


def _bad(found: Found, digest: str, error: ImageError, description: Description) -> Row:
    empty = {name: None for name in description.schema.names if name in ENCODED}
    reason = " ".join(str(error).split())
    return {**empty, **_file(found, digest), "height": 0, "width": 0, "error": reason}


def _file(found: Found, digest: str) -> Row:
    return {"path": found.path, "hash": digest, "size": found.size, "changed": found.changed}


class _Writer:
    """Rows on their way into the table."""

    def __init__(self, table: PictureTable) -> None:
        self.table = table
        self.commits = 0
        self._rows: dict[str, Row] = {}
        self._new = True
        self._since = time.monotonic()

    def pending(self, path: str) -> Row | None:
        """The row of a path that is not yet committed."""
        return self._rows.get(path)

    def put(self, row: Row, new: bool) -> None:
        """Take a row; `new` where the table holds none of its path."""
        self._rows[row["path"]] = {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()
        }
        self._new &= new
        if len(self._rows) >= COMMIT_ROWS or time.monotonic() - self._since > COMMIT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Commit what is there."""
        if self._rows:
            rows, self._rows = list(self._rows.values()), {}
            self.table.write(rows, self._new)
            self.commits += 1
            if self.commits % COMPACT_COMMITS == 0:
                self.table.compact()
        self._new, self._since = True, time.monotonic()
