"""Accepted samples as a data set: gRefCOCO's format, RefCOCO's for single targets, JSON lines; with a data card and
where each picture comes from.

The same game gives the same bytes. Sentences of a picture with the same targets are one referent, whose number is
its first sample's; a sentence's number is its sample's, so that later exports only add.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager, selectinload

from refseg.apps.annotate.database.tables import GameSample, Object, Picture, Verdict
from refseg.apps.annotate.game import Game, iso
from refseg.apps.annotate.services.agreement import pairwise
from refseg.apps.annotate.services.card import card_markdown, make_card
from refseg.apps.annotate.services.outlines import outline_of
from refseg.apps.annotate.services.pictures import picture_path
from refseg.apps.annotate.states import REASONS
from refseg.data import rle
from refseg.data.convert import WRITERS
from refseg.data.convert.common import Placer, by_picture
from refseg.data.json_files import read_json, write_json
from refseg.data.sample import Instance, Sample
from refseg.errors import DataError
from refseg.files import replacing, write_text

FORMATS = ("grefcoco", "refcoco", "jsonl")
CLOSED = ("accepted", "rejected", "discarded", "returned")
"""States of the samples that are exported with their verdicts: nobody is asked about them any more."""
_AT_ONCE = 500
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the time of every file in an archive: the first that the format can hold


def accepted_samples(session: Session, game: Game, split: str | None = None, single: bool = False) -> list[Sample]:
    """The accepted samples in order; `single` only those with exactly one target."""
    wanted = (
        select(GameSample)
        .join(Picture, Picture.id == GameSample.picture_id)
        .where(GameSample.state == "accepted")
        .order_by(Picture.number, GameSample.id)
        .options(contains_eager(GameSample.picture).selectinload(Picture.outlines), selectinload(GameSample.targets))
        .execution_options(yield_per=_AT_ONCE)
    )
    if split is not None:
        wanted = wanted.where(GameSample.split == split)
    if single:
        wanted = wanted.where(GameSample.target_count == 1)
    samples: list[Sample] = []
    objects: dict[int, dict[int, Instance]] = {}
    first_of: dict[Any, int] = {}
    for row in session.scalars(wanted):
        picture = row.picture
        if picture.id not in objects:
            objects = {picture.id: {outline.id: _instance(outline) for outline in picture.outlines}}
        targets = tuple(sorted((objects[picture.id][target] for target in row.target_ids), key=lambda o: o.ann_id))
        ref_id = first_of.setdefault((picture.id, tuple(item.ann_id for item in targets) or row.id), row.id)
        samples.append(
            Sample(
                id=f"{ref_id}_{row.id}", text=row.text, image_id=picture.number, size=(picture.height, picture.width),
                objects=targets, no_target=not targets, image_path=picture_path(game.settings, picture),
                kind=row.kind, split=picture.split, dataset="game", ref_id=ref_id, sent_id=row.id,
            )
        )  # fmt: skip
    return samples


def export(game: Game, target: Path, format: str, split: str | None = None, verdicts: bool = False) -> int:
    """Write the data set, its card (card.json, README.md) and pictures.json into `target`; returns the number of
    sentences. With `verdicts` also all that was decided, see `write_verdicts`.

    Raises `DataError` for an unknown format, or when nothing is accepted yet.
    """
    if format not in FORMATS:
        raise DataError(f"--format {format!r} is unknown; choose from {', '.join(FORMATS)}")
    with game.database.read() as session:
        samples = accepted_samples(session, game, split, single=format == "refcoco")
        card = make_card(session, game, split, single=format == "refcoco")
    if not samples:
        what = " with exactly one target" if format == "refcoco" else ""
        raise DataError(f"no sample{what} is accepted yet{'' if split is None else f' in split {split}'}")
    count = write_refcoco(samples, target) if format == "refcoco" else WRITERS[format](samples, target)
    if format != "jsonl":
        home = target / ("refcoco" if format == "refcoco" else "converted")
        with game.database.read() as session:
            complete_instances(session, home / "instances.json")
    with game.database.read() as session:
        write_json(target / "pictures.json", picture_records(session, {sample.image_id for sample in samples}))
        if verdicts:
            write_verdicts(session, game, target / "game", split)
    card = {**card, "format": format, "sentences": count}
    write_json(target / "card.json", card)
    write_text(target / "README.md", card_markdown(card))
    return count


def export_archive(game: Game, target: Path, format: str, split: str | None = None, verdicts: bool = False) -> int:
    """The same as one .zip file, written whole or not at all."""
    with tempfile.TemporaryDirectory(dir=game.settings.data) as folder:
        home = Path(folder)
        count = export(game, home, format, split, verdicts)
        with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
            for path in sorted(path for path in home.rglob("*") if path.is_file()):
                entry = zipfile.ZipInfo(path.relative_to(home).as_posix(), _OLDEST)
                packed = path.suffix in (".json", ".jsonl", ".md", ".p")
                entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
                entry.external_attr = 0o644 << 16
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as place:
                    shutil.copyfileobj(source, place, 1 << 20)
    return count


def picture_records(session: Session, numbers: Collection[int]) -> list[dict[str, Any]]:
    """Where the pictures with these numbers come from, in order: original name, licence, address."""
    wanted = select(Picture).order_by(Picture.number).execution_options(yield_per=_AT_ONCE)
    return [
        {"image_id": row.number, "file_name": f"{row.number:012d}{row.suffix}", "split": row.split, **_origin(row)}
        for row in session.scalars(wanted)
        if row.number in numbers
    ]


def _origin(row: Picture) -> dict[str, str]:
    return {"original_name": row.file_name, "license": row.license, "source_url": row.source_url}


def complete_instances(session: Session, path: Path) -> int:
    """Add to an instances.json the objects of its pictures that no sentence means, and where each picture comes from;
    returns how many objects there were.

    Whoever trains or draws from the file has all objects of a picture, as in the published data sets. Licences and
    addresses stand where COCO has them.
    """
    content = read_json(path)
    sizes = {record["id"]: (record["height"], record["width"]) for record in content["images"]}
    there = {record["id"] for record in content["annotations"]}
    categories = {record["name"]: record["id"] for record in content["categories"]}
    wanted = select(Picture).order_by(Picture.number).options(selectinload(Picture.outlines))
    added = 0
    images = {record["id"]: record for record in content["images"]}
    licenses: dict[str, int] = {}
    for picture in session.scalars(wanted.execution_options(yield_per=_AT_ONCE)):
        if picture.number in images:
            record = images[picture.number]
            record["original_name"] = picture.file_name
            if picture.license:
                record["license"] = licenses.setdefault(picture.license, len(licenses) + 1)
            if picture.source_url:
                record["coco_url"] = picture.source_url
        for row in sorted(picture.outlines if picture.number in sizes else (), key=lambda row: row.number):
            if row.number not in there:
                category = categories.setdefault(row.category or "object", len(categories) + 1)
                annotation = _annotation(_instance(row), picture.number, sizes[picture.number], category)
                content["annotations"].append(annotation)
                added += 1
    content["categories"] = [{"id": number, "name": name} for name, number in categories.items()]
    content["licenses"] = [_license(number, text) for text, number in licenses.items()]
    write_json(path, content)
    return added


def _license(number: int, text: str) -> dict[str, Any]:
    name, _, address = text.rpartition(" ")
    if "://" not in address:
        name, address = text, ""
    return {"id": number, "name": name, "url": address}


def write_verdicts(session: Session, game: Game, folder: Path, split: str | None = None) -> int:
    """Write `samples.jsonl` (every sample that is closed, the rejected and discarded ones too, with all verdicts) and
    `agreement.json` (of each person and pair); returns the number of samples.

    People are named by pseudonyms, the same in every export of a game. Notes are left out: people write names there.
    """
    key = game.settings.secret()

    def alias(person_id: int) -> str:
        return "p" + hmac.new(key, f"annotator {person_id}".encode(), hashlib.sha256).hexdigest()[:10]

    wanted = (
        select(GameSample)
        .where(GameSample.state.in_(CLOSED))
        .order_by(GameSample.id)
        .options(
            selectinload(GameSample.picture), selectinload(GameSample.targets),
            selectinload(GameSample.verdicts).selectinload(Verdict.targets),
        )
        .execution_options(yield_per=_AT_ONCE)
    )  # fmt: skip
    if split is not None:
        wanted = wanted.where(GameSample.split == split)
    numbers: dict[int, int] = {row[0]: row[1] for row in session.execute(select(Object.id, Object.number))}
    lines = []
    for row in session.scalars(wanted):
        record = {
            "sample": row.id, "image_id": row.picture.number, "split": row.split, "text": row.text, "kind": row.kind,
            "state": row.state, "reason": row.reason if row.reason in REASONS else "", "no_target": row.no_target,
            "targets": [numbers[item] for item in row.target_ids], "flags": row.flags,
            "annotator": alias(row.author_id), "written_at": iso(row.created_at),
        }  # fmt: skip
        record["verdicts"] = [
            {
                "validator": alias(verdict.validator_id), "round": verdict.round, "result": verdict.result,
                "no_target": verdict.no_target, "targets": [numbers[item] for item in verdict.target_ids],
                "reason": verdict.reason, "at": iso(verdict.created_at),
            }
            for verdict in row.verdicts
        ]  # fmt: skip
        lines.append(json.dumps(record, ensure_ascii=False))
    write_text(folder / "samples.jsonl", "".join(f"{line}\n" for line in lines))
    rows = [
        {**row, "person": alias(row["person"].id), "other": row["other"] and alias(row["other"].id)}
        for row in pairwise(session, split)
    ]
    write_json(folder / "agreement.json", sorted(rows, key=lambda row: (row["other"] or "", row["person"])))
    return len(lines)


def write_refcoco(samples: Iterable[Sample], folder: Path) -> int:
    """RefCOCO's format, `refcoco/refs(game).p` with `instances.json`: one object a referent; returns the sentences."""
    placer = Placer(folder / "images" / "train2014")
    images: list[dict[str, Any]] = []
    annotations: dict[int, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    refs: dict[int, dict[str, Any]] = {}
    count = 0
    for image_id, group in by_picture(samples).items():
        name = placer.place(group[0])
        height, width = group[0].size
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for sample in group:
            (item,) = sample.objects
            category = categories.setdefault(item.category, len(categories) + 1)
            if item.ann_id not in annotations:
                annotations[item.ann_id] = _annotation(item, image_id, sample.size, category)
            record = refs.setdefault(
                sample.ref_id,
                {
                    "ref_id": sample.ref_id, "image_id": image_id, "ann_id": item.ann_id, "category_id": category,
                    "file_name": name, "split": sample.split, "sent_ids": [], "sentences": [],
                },
            )  # fmt: skip
            words = " ".join(_words(sample.text))
            record["sent_ids"].append(sample.sent_id)
            record["sentences"].append(
                {"sent_id": sample.sent_id, "raw": sample.text, "sent": words, "tokens": words.split()}
            )
            count += 1
    home = folder / "refcoco"
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    write_json(
        home / "instances.json", {"images": images, "annotations": list(annotations.values()), "categories": listed}
    )
    home.mkdir(parents=True, exist_ok=True)
    with replacing(home / "refs(game).p") as temporary, temporary.open("wb") as handle:
        # Protocol 2: what Python 2's published loader reads too. Without memo the bytes do not hang on shared objects.
        pickler = pickle.Pickler(handle, protocol=2)
        pickler.fast = True
        pickler.dump(list(refs.values()))
    return count


def _words(text: str) -> Iterator[str]:
    for word in text.lower().split():
        kept = "".join(sign for sign in word if sign.isalnum() or sign in "'-")
        if kept:
            yield kept


def _annotation(item: Instance, image_id: int, size: tuple[int, int], category: int) -> dict[str, Any]:
    left, top, right, bottom = item.bbox
    mask = item.mask(size)
    return {
        "id": item.ann_id, "image_id": image_id, "category_id": category, "iscrowd": 0,
        "bbox": [left, top, right - left, bottom - top], "area": float(mask.sum()), "segmentation": rle.encode(mask),
    }  # fmt: skip


def _instance(row: Object) -> Instance:
    return Instance(row.number, row.category, row.box, outline_of(row))
