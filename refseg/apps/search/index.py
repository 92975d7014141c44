"""An index of pictures, opened to be searched and brought up to date.

>>> index = Index.open("holiday.index")
>>> found = index.search("the man on the left with a red bag", top=20)
>>> [(hit.path, hit.score) for hit in found.hits], found.nothing, found.looked_at
"""

from __future__ import annotations

import hashlib
import heapq
import io
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt64
from PIL import Image

from refseg.apps.search.answers import Answer, Question, fingerprint
from refseg.apps.search.build import Report, add_pictures
from refseg.apps.search.elsewhere import Elsewhere
from refseg.apps.search.ranking import CALIBRATION, VIEWS, Classes
from refseg.apps.search.sources import Found, find, read_file, stands_below
from refseg.apps.search.table import Description, PictureTable, locked
from refseg.data.images import read_image
from refseg.errors import DataError, ImageError, RefsegError
from refseg.inference.locate import split_proposals
from refseg.inference.postprocess import check_probability
from refseg.inference.predictor import Segmenter, clean_text, load
from refseg.inference.segmentation import Segmentation
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.model import Instances

__all__ = ["INDEX_MODEL", "Hit", "Index", "SearchResult"]

INDEX_MODEL = "instances"
"""The model of an index unless another one is named: its rows hold all that an answer needs."""
BUDGET = 320
"""Pictures that are answered exactly for one search at most, unless it is exhaustive."""
CHUNK = 32
"""Rows that are read at once."""


@dataclass(frozen=True)
class Hit:
    """A picture in which the expression means something."""

    path: str
    score: float
    """Probability that something is meant, calibrated; hits are sorted by it."""
    no_target_score: float
    """The model's own probability that nothing is, as `Segmenter` gives it for the picture."""
    boxes: tuple[tuple[float, ...], ...]
    """Of what is meant, xyxy in pixels."""

    def to_dict(self) -> dict[str, object]:
        """As plain JSON values, rounded."""
        return {
            "path": self.path,
            "score": round(self.score, 6),
            "no_target_score": round(self.no_target_score, 6),
            "boxes": [[round(value, 2) for value in box] for box in self.boxes],
        }


@dataclass(frozen=True)
class SearchResult:
    """What a search found, best first."""

    text: str
    hits: tuple[Hit, ...]
    looked_at: int
    """Pictures that were searched: those of the index that could be read."""
    answered: int
    """How many of them were answered exactly."""
    complete: bool
    """Whether the classes of all others say that none of them can be among the hits."""

    @property
    def nothing(self) -> bool:
        """Whether nothing is meant in any picture."""
        return not self.hits

    def to_dict(self) -> dict[str, object]:
        """The document that `refseg search --json` writes."""
        return {"hits": [hit.to_dict() for hit in self.hits], "nothing": self.nothing, "looked_at": self.looked_at}


@dataclass(frozen=True)
class _Memory:
    """What the first stage keeps of one version of the table."""

    row_ids: UInt64[np.ndarray, " N"]
    classes: Classes


class Index:
    """An open index; made by `Index.open` or `Index.create`. Searching is safe from several threads."""

    def __init__(self, table: PictureTable, segmenter: Segmenter) -> None:
        self._table, self.segmenter = table, segmenter
        self._kept: _Memory | None = None
        self._lock = threading.RLock()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: str = INDEX_MODEL,
        *,
        segmenter: Segmenter | None = None,
        device: str = "auto",
        views: int = len(VIEWS),
    ) -> Index:
        """An empty index in a new or empty folder.

        `model` is a name, folder or hub id as `refseg.load` takes it, which searching loads again; `segmenter` is that
        model where it is loaded already. `views`, 1 to 4: how often a picture is looked at for ranking. Raises
        `RefsegError` where the folder holds something.
        """
        if not 1 <= views <= len(VIEWS):
            raise RefsegError(f"views is from 1 to {len(VIEWS)}, not {views}")
        base, proposals = split_proposals(model)
        if proposals is not None:
            raise RefsegError(
                f"{model}: an index holds what its own model sees, and nothing of proposals from elsewhere; make it "
                f"with {base} or with the model that proposes"
            )
        segmenter = segmenter or load(model, device)
        keeps: Literal["proposals", "pictures"] = "proposals" if isinstance(segmenter.model, Instances) else "pictures"
        name = os.path.abspath(model) if os.path.isdir(model) else model
        with locked(path):
            table = PictureTable.create(path, Description(name, fingerprint(segmenter), keeps, views))
        return cls(table, segmenter)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str | None = None,
        segmenter: Segmenter | None = None,
        device: str = "auto",
    ) -> Index:
        """The index in a folder, with the model that it was made with, from where that was or from `model`.

        Raises `DataError` for a folder that is no index or a damaged one, and for another model than the index's.
        """
        table = PictureTable.open(path)
        segmenter = segmenter or load(model or table.description.model, device)
        if fingerprint(segmenter) != table.description.fingerprint:
            raise DataError(
                f"{path}: the index was made with other weights of {table.description.model} than these; give the "
                "model that it was made with, or make it again with --rebuild"
            )
        return cls(table, segmenter)

    def __len__(self) -> int:
        """Pictures, bad ones included."""
        return len(self._table)

    def __repr__(self) -> str:
        return f"Index({str(self._table.folder)!r}, {len(self)} pictures, model={self._table.description.model!r})"

    @property
    def keeps(self) -> str:
        """ "proposals" where rows hold what answers need, "pictures" where these are read for every search."""
        return self._table.description.keeps

    def bad(self) -> list[tuple[str, str]]:
        """Pictures that could not be read, with the reasons."""
        return [
            (row["path"], row["error"])
            for batch in self._table.scan(["path", "error"], "error IS NOT NULL")
            for row in batch.to_pylist()
        ]

    def paths(self) -> Iterator[str]:
        """The paths of all pictures, in no order."""
        for batch in self._table.scan(["path"]):
            yield from batch.column("path").to_pylist()

    def add(
        self,
        places: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        prune: bool = False,
        elsewhere: Elsewhere | None = None,
        advance: Callable[[int, str], None] = lambda done, path: None,
    ) -> Report:
        """Add new pictures of folders, files, patterns, lists or buckets, and bring changed ones up to date.

        With `prune`, pictures of the index that lie below `places` and are not there any more are removed. `advance`
        is called after each picture with how many are done, and its path. `elsewhere` are workers that encode the new
        ones. Raises `RefsegError` for places that are not there, while another process writes, and where workers are
        lost; what was made until then stays.
        """
        listed = [places] if isinstance(places, (str, os.PathLike)) else list(places)
        found: Iterable[Found] = find(listed)
        with self._lock, locked(self._table.folder):
            self._table.refresh()
            seen: set[str] = set()
            make = partial(elsewhere.rows, self._table.description) if elsewhere is not None else None
            report = add_pictures(self._table, self.segmenter, _noted(found, seen), advance, make)
            if prune:
                gone = [path for path in self.paths() if path not in seen and stands_below(path, listed)]
                self._table.delete(gone)
                report.removed = len(gone)
            self._forget()
        return report

    def remove(self, paths: Sequence[str | os.PathLike[str]]) -> int:
        """Remove pictures by their paths, folders with all below them; returns how many.

        Raises `RefsegError` for what the index does not hold.
        """
        with self._lock, locked(self._table.folder):
            self._table.refresh()
            held = list(self.paths())
            gone = [path for path in held if stands_below(path, paths)]
            for place in paths:
                if not any(stands_below(path, [place]) for path in gone):
                    raise RefsegError(f"{os.fspath(place)}: the index holds no such picture or folder")
            self._table.delete(gone)
            self._forget()
        return len(gone)

    def check(self) -> int:
        """Read every row, and compare it with its checksums; returns the number of rows.

        Raises `DataError` where one is not what was written, and for an older index, which has none.
        """
        if not self._table.checked:
            raise DataError(f"{self._table.folder}: made without checksums; make it again with --rebuild to have them")
        return self._table.check()

    def refresh(self) -> None:
        """See what other processes have written since the index was opened."""
        with self._lock:
            self._forget()

    def search(
        self,
        text: str,
        top: int = 20,
        *,
        reject: float | None = None,
        exhaustive: bool = False,
        budget: int = BUDGET,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> SearchResult:
        """The `top` pictures in which `text` most probably means something, of those whose score is at least `reject`.

        Without `reject`, pictures are listed down to a score of `Calibration.listed`, but nothing is meant unless the
        first one reaches `Calibration.found`: in a large collection something always looks a little like it.

        Where rows keep proposals, pictures are answered exactly from the highest bound of their score down, until no
        other one can be a hit, or `budget` are answered; `exhaustive` answers all. Where they do not, each picture is
        read and answered, and its score is one minus the no-target probability; those that cannot be read are not
        looked at. Raises `RefsegError` for an empty text and options out of range.
        """
        if top < 1:
            raise RefsegError(f"top is at least 1, not {top}")
        if budget < 1:
            raise RefsegError(f"budget is at least 1, not {budget}")
        if reject is not None:
            check_probability("reject", reject)
        text = clean_text(text)
        with self._lock:
            if self.keeps == "pictures":
                return self._search_pictures(text, top, 0.5 if reject is None else reject, advance)
            question = Question(self.segmenter, text)
            least = CALIBRATION.listed if reject is None else reject
            most = len(self) if exhaustive else budget
            try:
                found = self._search_rows(question, top, least, most)
            except DataError:
                # What was read may have been replaced by another process since.
                self._forget()
                found = self._search_rows(question, top, least, most)
        if reject is None and found.hits and found.hits[0].score < CALIBRATION.found:
            return replace(found, hits=())
        return found

    def answer(self, path: str, text: str, *, fine: bool = True) -> tuple[Image.Image | None, Segmentation]:
        """A picture of the index, and the whole answer about it with masks.

        With `fine`, masks are made from the picture; where it cannot be read or is another one by now, and without
        `fine`, masks are the coarse ones of the row, and the picture is None. Raises `RefsegError` for a path that the
        index does not hold, and `ImageError` where rows keep no proposals and the picture cannot be read.
        """
        with self._lock:
            proposals = self.keeps == "proposals"
            columns = ["hash", "error", "height", "width", *(["proposals", "masks"] if proposals else [])]
            row = next(iter(self._table.rows_of([path], columns)), None)
        if row is None:
            raise RefsegError(f"{path}: the index holds no such picture")
        if row["error"] is not None:
            raise ImageError(row["error"])
        if not proposals:
            whole = read_image(_named(read_file(path), path))
            return whole, self.segmenter(whole, text)
        picture = _unchanged(path, row["hash"]) if fine else None
        with self._lock:
            size = (row["height"], row["width"])
            return picture, Question(self.segmenter, text).segment(row["proposals"], row["masks"], size, picture)

    def _search_rows(self, question: Question, top: int, least: float, budget: int) -> SearchResult:
        memory = self._memory()
        classes, total = memory.classes, len(memory.row_ids)
        if not question.understood or not total:
            return SearchResult(question.text, (), total, 0, True)
        bounds = classes.score_bounds(question.model.chooser, question.phrases)
        order = _best_first(bounds, budget + 1)
        best: list[_Entry] = []  # a heap, the worst first
        answered = 0
        while answered < len(order):
            worst = best[0][0] if len(best) == top else least
            part = order[answered : min(answered + CHUNK, budget)]
            if not len(part) or bounds[order[answered]] < worst:
                break
            rows = self._table.take(memory.row_ids[part].tolist(), ["proposals", "height", "width"])
            answers = [question.answer(row["proposals"], (row["height"], row["width"])) for row in rows]
            logits = np.array([each.no_target_logit for each in answers], np.float32)
            scores = classes.select(part).scores(question.model.chooser, question.phrases, logits)
            answered += len(part)
            for number, score, answer in zip(part.tolist(), scores.tolist(), answers, strict=True):
                if score >= least:
                    heapq.heappush(best, (score, -number, answer))
                if len(best) > top:
                    heapq.heappop(best)
        worst = best[0][0] if len(best) == top else least
        complete = answered == len(order) or bool(bounds[order[answered]] < worst)
        chosen = sorted(best, key=lambda entry: entry[:2], reverse=True)
        paths = self._table.take([int(memory.row_ids[-entry[1]]) for entry in chosen], ["path"])
        hits = tuple(
            Hit(row["path"], score, _probability(answer.no_target_logit), _plain(answer.boxes))
            for row, (score, _, answer) in zip(paths, chosen, strict=True)
        )
        return SearchResult(question.text, hits, total, answered, complete)

    def _search_pictures(self, text: str, top: int, least: float, advance: Callable[[int, int], None]) -> SearchResult:
        """For models whose encoded pictures are too large to keep: every picture is read and answered."""
        paths = [
            path for batch in self._table.scan(["path"], "error IS NULL") for path in batch.column("path").to_pylist()
        ]
        hits: list[Hit] = []
        looked_at = 0
        for number, path in enumerate(paths, 1):
            try:
                answer = self.segmenter(read_image(_named(read_file(path), path)), text)
            except ImageError:
                continue
            finally:
                advance(number, len(paths))
            looked_at += 1
            score = 1 - answer.no_target_score
            if score >= least:
                hits.append(Hit(path, score, answer.no_target_score, _plain(answer.boxes)))
        hits.sort(key=lambda hit: -hit.score)
        return SearchResult(text, tuple(hits[:top]), looked_at, looked_at, True)

    def _memory(self) -> _Memory:
        if self._kept is None:
            self._table.refresh()
            count = self._table.count("error IS NULL")
            row_ids = np.empty(count, np.uint64)
            classes = Classes(*(np.empty((len(CLASSES), count), np.uint8) for _ in range(2)))
            at = 0
            for batch in self._table.scan(["presence", "likelihood"], "error IS NULL"):
                part = slice(at, at + len(batch))
                row_ids[part] = batch.column("_rowid").to_numpy()
                for name in ("presence", "likelihood"):
                    values = batch.column(name).flatten().to_numpy().reshape(-1, len(CLASSES))
                    getattr(classes, name)[:, part] = values.T
                at = part.stop
            self._kept = _Memory(row_ids, classes)
        return self._kept

    def _forget(self) -> None:
        self._kept = None
        self._table.refresh()


_Entry = tuple[float, int, Answer]
"""Score, minus the picture's number in memory (of equal scores the first is better), and the answer."""


def _best_first(bounds: Float[np.ndarray, " N"], count: int) -> Int[np.ndarray, " M"]:
    """The numbers of the `count` highest bounds, highest first; of equal ones the first."""
    if count < len(bounds):
        chosen = np.sort(np.argpartition(-bounds, count - 1)[:count])
    else:
        chosen = np.arange(len(bounds))
    return chosen[np.argsort(-bounds[chosen], kind="stable")]


def _noted(found: Iterable[Found], seen: set[str]) -> Iterator[Found]:
    for each in found:
        seen.add(each.path)
        yield each


def _named(data: bytes, path: str) -> io.BytesIO:
    """Bytes that error messages call by the path."""
    stream = io.BytesIO(data)
    stream.name = path  # type: ignore[attr-defined]
    return stream


def _unchanged(path: str, digest: str) -> Image.Image | None:
    """The picture, if its file is there and the one that was indexed."""
    try:
        data = read_file(path)
        return read_image(_named(data, path)) if hashlib.sha256(data).hexdigest() == digest else None
    except RefsegError:
        return None


def _plain(boxes: Float[np.ndarray, "K 4"]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(box) for box in boxes.tolist())


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
