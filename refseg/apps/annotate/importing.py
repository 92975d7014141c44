"""Pictures, objects and sentences into the database, some pictures a transaction; what is there is passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.audit import record
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.outlines import rings_of
from refseg.apps.annotate.sentences import clean
from refseg.apps.annotate.sources import Found, read_source
from refseg.apps.annotate.store import digest_of, put, suffix_of
from refseg.apps.annotate.tables import Imported, Object, Picture
from refseg.data.sample import Problem
from refseg.errors import DataError, RefsegError

_AT_ONCE = 50
_FREE_FROM = 1_000_000_000  # numbers for pictures and objects whose own is taken
T = TypeVar("T")


@dataclass
class Brought:
    """What an import brought, and what it went around."""

    pictures: int = 0
    objects: int = 0
    sentences: int = 0
    problems: list[Problem] = field(default_factory=list)


def import_source(
    game: Game,
    source: Path,
    *,
    images: Path | None = None,
    split: str | None = None,
    dataset: str | None = None,
    actor: int | None = None,
) -> Brought:
    """Import a file or folder; see `refseg.apps.annotate.sources`. Raises `DataError` when nothing of it is usable."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    brought = Brought()
    import_found(game, read_source(source, images, split, dataset, brought.problems), brought, source.name, actor)
    if not brought.pictures and not any(problem.kind == "known_picture" for problem in brought.problems):
        first = f"; the first fault: {brought.problems[0]}" if brought.problems else ""
        raise DataError(f"{source}: no picture with objects could be imported{first}")
    return brought


def import_found(game: Game, pictures: Iterable[Found], brought: Brought, name: str, actor: int | None = None) -> None:
    """Store pictures. One that is there under the same split is passed over, under another split refused (a leak)."""
    for group in _groups(iter(pictures), _AT_ONCE):
        prepared = [entry for entry in (_prepare(found, brought.problems) for found in group) if entry is not None]
        before = (brought.pictures, brought.objects, brought.sentences, len(brought.problems))

        def work(session: Session, prepared: list[_Prepared] = prepared, before: tuple[int, ...] = before) -> None:
            # A repeated transaction counts anew.
            brought.pictures, brought.objects, brought.sentences = before[:3]
            del brought.problems[before[3] :]
            for entry in prepared:
                _store(session, game, entry, brought)

        game.database.write(work)
    counts = {"pictures": brought.pictures, "objects": brought.objects, "sentences": brought.sentences}
    game.database.write(
        lambda session: record(session, game, actor, "data", None, "import", details={"source": name[:200], **counts})
    )


@dataclass
class _Prepared:
    found: Found
    digest: str
    suffix: str
    as_is: bool
    objects: list[tuple[int, dict[str, Any]]]


def _prepare(found: Found, problems: list[Problem]) -> _Prepared | None:
    """Everything that takes time and no database: reading, tracing, hashing."""
    where = f"picture {found.number}"
    try:
        suffix, as_is = suffix_of(found.source, found.size)
        objects = []
        for item in found.objects:
            try:
                rings, kept, area = rings_of(item, found.size)
            except RefsegError as error:
                problems.append(Problem("bad_outline", f"{where} object {item.ann_id}", str(error)))
                continue
            if not area or not rings:
                problems.append(Problem("bad_outline", f"{where} object {item.ann_id}", "covers no pixel"))
                continue
            left, top, right, bottom = item.bbox
            values = {
                "category": clean(item.category)[:200] or "object", "left": left, "top": top, "right": right,
                "bottom": bottom, "area": area, "segmentation": kept, "rings": rings,
            }  # fmt: skip
            objects.append((item.ann_id, values))
        digest = digest_of(found.source)
    except (RefsegError, OSError) as error:
        problems.append(Problem("bad_picture", where, str(error)))
        return None
    if not objects:
        problems.append(Problem("no_objects", where, "no object with a mask"))
        return None
    return _Prepared(found, digest, suffix, as_is, objects)


def _store(session: Session, game: Game, entry: _Prepared, brought: Brought) -> None:
    found = entry.found
    there = session.scalar(select(Picture).where(Picture.digest == entry.digest))
    if there is not None:
        same = there.split == found.split
        what = (
            "is there already"
            if same
            else f"is there already, in split {there.split}: it would leak into {found.split}"
        )
        kind = "known_picture" if same else "two_splits"
        brought.problems.append(Problem(kind, f"picture {found.number} ({found.file_name})", what))
        return
    picture = Picture(
        number=_free_number(session, Picture, found.number), file_name=clean(found.file_name)[:300],
        suffix=entry.suffix, digest=entry.digest, width=found.size[1], height=found.size[0],
        split=clean(found.split)[:40] or "train", objects=len(entry.objects), samples=0, hard=0.0, helped=0,
        draw=game.rng.random(),
    )  # fmt: skip
    session.add(picture)
    session.flush()
    numbers: dict[int, int] = {}
    for ann_id, values in entry.objects:
        row = Object(number=_free_number(session, Object, ann_id), picture_id=picture.id, **values)
        session.add(row)
        session.flush()
        numbers[ann_id] = row.id
    for text, meant, said_kind in found.sentences:
        said = clean(text)
        if not said or any(number not in numbers for number in meant):
            continue
        session.add(
            Imported(
                picture_id=picture.id, split=picture.split, text=said, no_target=not meant,
                targets=sorted(numbers[number] for number in meant), kind=said_kind, draw=game.rng.random(),
            )
        )  # fmt: skip
        brought.sentences += 1
    # Last, so that a file without a row is all that a failure can leave; the next import finds it in place.
    put(game.settings, picture, found.source, entry.as_is)
    brought.pictures += 1
    brought.objects += len(entry.objects)


def _free_number(session: Session, table: type[Picture] | type[Object], wanted: int) -> int:
    if wanted >= 0 and session.scalar(select(table.id).where(table.number == wanted)) is None:
        return wanted
    return max(_FREE_FROM, (session.scalar(select(func.max(table.number))) or 0) + 1)


def _groups(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while group := list(islice(items, size)):
        yield group
