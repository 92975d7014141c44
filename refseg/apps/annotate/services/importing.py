"""Pictures, objects and sentences into the database, some pictures a transaction; what is there is passed over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import Imported, Object, Picture
from refseg.apps.annotate.game import Game, clean
from refseg.apps.annotate.services.disk import check_room
from refseg.apps.annotate.services.outlines import rings_of
from refseg.apps.annotate.services.pictures import digest_of, put, suffix_of
from refseg.apps.annotate.services.projects import project_named
from refseg.apps.annotate.services.sources import SourcePicture, read_source
from refseg.data.sample import Problem
from refseg.errors import DataError, RefsegError

_AT_ONCE = 50
_FREE_FROM = 1_000_000_000  # numbers for pictures and objects whose own is taken


@dataclass
class ImportResult:
    """Numbers of what an import added, and the problems that it went around."""

    pictures: int = 0
    objects: int = 0
    sentences: int = 0
    problems: list[Problem] = field(default_factory=list)
    plain: int = 0
    """Pictures without masks among them."""
    project_id: int | None = None
    """The project that they go into."""


def import_source(
    game: Game,
    source: Path,
    *,
    images: Path | None = None,
    split: str | None = None,
    dataset: str | None = None,
    actor: int | None = None,
    project: str | None = None,
    keep_metadata: bool = False,
) -> ImportResult:
    """Import a file or folder that `read_source` reads, the pictures without what their files say beside them unless
    `keep_metadata`. Raises `DataError` when nothing of it is usable, `GameError` "disk_full".
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    result = ImportResult()
    if project:
        result.project_id = game.database.write(lambda session: project_named(session, game, project, actor).id)
    pictures = read_source(source, images, split, dataset, result.problems)
    import_pictures(game, pictures, result, source.name, actor, keep_metadata)
    if not result.pictures and not any(problem.kind == "known_picture" for problem in result.problems):
        first = f"; the first fault: {result.problems[0]}" if result.problems else ""
        raise DataError(f"{source}: no picture with objects could be imported{first}")
    return result


def import_pictures(
    game: Game, pictures: Iterable[SourcePicture], result: ImportResult, name: str, actor: int | None = None,
    keep_metadata: bool = False,
) -> None:  # fmt: skip
    """Store pictures. One that is there under the same split is passed over, under another split refused (a leak)."""
    pictures = iter(pictures)
    while group := list(islice(pictures, _AT_ONCE)):
        check_room(game.settings)
        looked_at = (_prepare(picture, result.problems, keep_metadata) for picture in group)
        prepared = [entry for entry in looked_at if entry is not None]
        before = (result.pictures, result.plain, result.objects, result.sentences, len(result.problems))

        def work(session: Session, prepared: list[_Prepared] = prepared, before: tuple[int, ...] = before) -> None:
            # A repeated transaction counts anew.
            result.pictures, result.plain, result.objects, result.sentences = before[:4]
            del result.problems[before[4] :]
            for entry in prepared:
                _store(session, game, entry, result, keep_metadata)

        game.database.write(work)
    counts = {"pictures": result.pictures, "objects": result.objects, "sentences": result.sentences}
    game.database.write(
        lambda session: record(session, game, actor, "data", None, "import", details={"source": name[:200], **counts})
    )


@dataclass
class _Prepared:
    picture: SourcePicture
    digest: str
    suffix: str
    as_is: bool
    objects: list[tuple[int, dict[str, Any]]]


def _prepare(source: SourcePicture, problems: list[Problem], keep_metadata: bool) -> _Prepared | None:
    """Everything that takes time and no database: reading, tracing, hashing."""
    where = f"picture {source.number}"
    try:
        suffix, as_is = suffix_of(source.source, source.size, keep_metadata)
        objects = []
        for item in source.objects:
            try:
                rings, kept, area = rings_of(item, source.size)
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
        digest = digest_of(source.source)
    except (RefsegError, OSError) as error:
        problems.append(Problem("bad_picture", where, str(error)))
        return None
    if not objects and not source.plain:
        problems.append(Problem("no_objects", where, "no object with a mask"))
        return None
    return _Prepared(source, digest, suffix, as_is, objects)


def _store(session: Session, game: Game, entry: _Prepared, result: ImportResult, keep_metadata: bool) -> None:
    source = entry.picture
    # An exported picture comes back with the bytes that were stored, not those that were imported.
    same_bytes = or_(Picture.digest == entry.digest, Picture.stored_digest == entry.digest)
    there = session.scalar(select(Picture).where(same_bytes).limit(1))
    if there is not None:
        same = there.split == source.split
        what = "is there already" + ("" if same else f", in split {there.split}: it would leak into {source.split}")
        kind = "known_picture" if same else "two_splits"
        result.problems.append(Problem(kind, f"picture {source.number} ({source.file_name})", what))
        return
    picture = Picture(
        number=free_number(session, Picture, source.number), file_name=clean(source.file_name)[:300],
        suffix=entry.suffix, digest=entry.digest, width=source.size[1], height=source.size[0],
        split=clean(source.split)[:40] or "train", objects=len(entry.objects), samples=0, hard=0.0, helped=0,
        draw=game.rng.random(), masks="open" if source.plain else "ready", project_id=result.project_id,
        license=clean(source.license)[:500], source_url=clean(source.source_url)[:2000],
    )  # fmt: skip
    session.add(picture)
    session.flush()
    numbers: dict[int, int] = {}
    for ann_id, values in entry.objects:
        row = Object(number=free_number(session, Object, ann_id), picture_id=picture.id, **values)
        session.add(row)
        session.flush()
        numbers[ann_id] = row.id
    for sentence, targets, kind_of_sentence in source.sentences:
        text = clean(sentence)
        if not text or any(number not in numbers for number in targets):
            continue
        session.add(
            Imported(
                picture_id=picture.id, split=picture.split, text=text, no_target=not targets,
                targets=sorted(numbers[number] for number in targets), kind=kind_of_sentence, draw=game.rng.random(),
            )
        )  # fmt: skip
        result.sentences += 1
    # Last, so that a file without a row is all that a failure can leave; the next import finds it in place.
    picture.stored_digest = put(game.settings, picture, source.source, entry.as_is, keep_metadata)
    result.pictures += 1
    result.plain += source.plain
    result.objects += len(entry.objects)


def free_number(session: Session, table: type[Picture] | type[Object], wanted: int = -1) -> int:
    """The number that is wanted, or where it is taken one above all others."""
    if wanted >= 0 and session.scalar(select(table.id).where(table.number == wanted)) is None:
        return wanted
    return max(_FREE_FROM, (session.scalar(select(func.max(table.number))) or 0) + 1)
