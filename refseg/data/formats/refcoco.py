"""RefCOCO, RefCOCO+ and RefCOCOg as published: `refs(unc).p`, `refs(umd).p`, `refs(google).p` with instances.json.

A list of referents, each one object of one picture with a few sentences (Yu et al., "Modeling Context in Referring
Expressions", ECCV 2016; Mao et al., "Generation and Comprehension of Unambiguous Object Descriptions", CVPR 2016):
{ref_id, image_id, ann_id: int, category_id, file_name, split, sent_ids, sentences: [{sent_id, raw, sent, tokens}]}.
The generalised form of gRefCOCO differs in `ann_id` alone: `refseg.data.formats.grefcoco`. No torch in this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refseg.data.formats.coco import read_json
from refseg.data.sample import Problem
from refseg.data.unpickle import load_pickle
from refseg.errors import DataError

# Which of a sentence's two forms is read: as people typed it, or cleaned by the data set's makers (lower case).
SentenceForm = Literal["raw", "sent"]


@dataclass(frozen=True)
class Sentence:
    """One sentence of a referent; `kind` is recorded by some data sets only."""

    sent_id: int
    text: str
    kind: str | None = None


@dataclass(frozen=True)
class Referent:
    """What a few sentences mean: objects of one picture by number, none for sentences without target."""

    ref_id: int
    image_id: int
    ann_ids: tuple[int, ...]
    split: str
    sentences: tuple[Sentence, ...]


def read_refs(path: Path, sentence: SentenceForm = "raw") -> tuple[list[Referent], list[Problem]]:
    """The referents of a RefCOCO-style file (.p or .json), and the records that could not be used.

    Raises `DataError` when the file is unreadable, holds something else, or no record is usable.
    """
    return read_records(path, _one_object, sentence)


def read_records(
    path: Path, targets: Callable[[dict[str, Any]], tuple[int, ...]], sentence: SentenceForm
) -> tuple[list[Referent], list[Problem]]:
    """As `read_refs`; `targets` reads a record's object numbers and raises ValueError in words when it cannot."""
    content = load_pickle(path) if path.suffix == ".p" else read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: a list of referents is wanted, not {type(content).__name__}")
    referents: list[Referent] = []
    problems: list[Problem] = []
    seen: set[int] = set()
    for index, record in enumerate(content):
        where = f"{path.name}[{index}]"
        try:
            referent, faults = _referent(record, targets, sentence, where)
        except (ValueError, KeyError, TypeError) as error:
            fault = f"no field {error}" if isinstance(error, KeyError) else str(error)
            lost = len(record["sentences"]) if isinstance(record, dict) and _is_list(record.get("sentences")) else 0
            problems.append(Problem("bad_record", where, fault, lost))
            continue
        problems += faults
        if referent.ref_id in seen:
            problems.append(
                Problem("duplicate_referent", where, f"ref_id {referent.ref_id} was used before; both are kept")
            )
        seen.add(referent.ref_id)
        referents.append(referent)
    if content and not referents:
        raise DataError(f"{path}: none of the {len(content)} records is usable; the first: {problems[0].message}")
    return referents, problems


def _one_object(record: dict[str, Any]) -> tuple[int, ...]:
    value = record["ann_id"]
    if not _is_int(value) or value < 0:
        raise ValueError(f"ann_id is the number of one object, not {value!r}")
    return (value,)


def _referent(
    record: Any, targets: Callable[[dict[str, Any]], tuple[int, ...]], form: SentenceForm, where: str
) -> tuple[Referent, list[Problem]]:
    if not isinstance(record, dict):
        raise ValueError(f"a referent is a table of fields, not {type(record).__name__}")
    for field in ("ref_id", "image_id"):
        if not _is_int(record[field]):
            raise ValueError(f"{field} is an integer, not {record[field]!r}")
    split = record["split"]
    if not isinstance(split, str) or not split:
        raise ValueError(f"split is text, not {split!r}")
    if not _is_list(record["sentences"]):
        raise ValueError("sentences is a list")
    sentences: list[Sentence] = []
    problems: list[Problem] = []
    listed = record.get("sent_ids")
    known: list[Any] = list(listed) if isinstance(listed, (list, tuple)) else []
    for position, entry in enumerate(record["sentences"]):
        text = _text(entry, form)
        if text is None:
            problems.append(Problem("blank_sentence", f"{where} sentences[{position}]", "there are no words", 1))
            continue
        number = entry.get("sent_id")
        if not _is_int(number):
            number = known[position] if position < len(known) and _is_int(known[position]) else position
        kind = entry.get("kind", record.get("kind"))
        sentences.append(Sentence(number, text, kind if isinstance(kind, str) else None))
    if not record["sentences"]:
        problems.append(Problem("no_sentences", where, f"referent {record['ref_id']} has no sentences"))
    return Referent(record["ref_id"], record["image_id"], targets(record), split, tuple(sentences)), problems


def _text(entry: Any, form: SentenceForm) -> str | None:
    """The sentence in the form asked for, else in the other; None where neither holds a word."""
    if not isinstance(entry, dict):
        return None
    for key in (form, "sent" if form == "raw" else "raw"):
        value = entry.get(key)
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
