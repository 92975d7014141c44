"""What each expression says of its picture's proposals, to first order in the chooser's weights, computed once.

Nearly everything that the chooser adds up is linear in its weights. At the rules w0, the evidence of proposal i is
E_i(w) = E_i(w0) + (w - w0) . dE_i/dw, and so is the no-target logit; what is not linear (shares of a relation's
anchors, thresholds of sets) is followed to first order. Values and slopes are kept, so that training reads and
multiplies: no picture, no parser, no language model. What training ends with is judged by the chooser itself.

    table made_by    fingerprint of proposals, language, rules and configuration; another one is refused
    table expanded   key of picture and expression -> counts, 16-bit arrays
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from refseg.errors import DataError
from refseg.models.instances.chooser import Candidates, Chooser
from refseg.models.instances.expression import Expression

__all__ = ["MOST", "Expanded", "ExpandedCache", "expand", "matches"]

MOST = 24
"""Proposals of an expression that are kept: those of a target, then those of most evidence."""
NEAR = 0.3
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS made_by (fingerprint TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS expanded (
        key TEXT PRIMARY KEY, count INTEGER, targets INTEGER, several INTEGER, numbers BLOB, arrays BLOB
    ) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Expanded:
    """An expression over K proposals; W weights.

    values, slopes: evidence of one thing, or logits of a set (`several`), at the rules, and their change with each
        weight. none, none_slopes: the same of the no-target logit.
    numbers: the target (from 1) whose box each proposal has, 0 for none, -1 where that is not known: an unannotated
        thing of a picture that is not exhaustively annotated, or a box that is partly a target's.
    targets: how many things are meant.
    """

    values: Float[Tensor, " K"]
    slopes: Float[Tensor, "K W"]
    none: Float[Tensor, ""]
    none_slopes: Float[Tensor, " W"]
    numbers: Int[Tensor, " K"]
    targets: int
    several: bool


def matches(iou: Float[Tensor, "K T"], annotated: Float[Tensor, "K A"], exhaustive: bool) -> Int[Tensor, " K"]:
    """`Expanded.numbers` of K proposals.

    Args:
        iou: of their boxes with those of the T targets.
        annotated: with those of all A annotated objects of the picture.
        exhaustive: whether there is nothing else in the picture that could be meant.
    """
    best = iou.amax(1) if iou.shape[1] else iou.new_zeros(len(iou))
    numbers = (iou.argmax(1) + 1) * (best >= 0.5) if iou.shape[1] else torch.zeros(len(iou), dtype=torch.long)
    numbers = torch.where((best >= NEAR) & (best < 0.5), -1, numbers)
    if not exhaustive:
        known = annotated.amax(1) >= 0.5 if annotated.shape[1] else torch.zeros(len(iou), dtype=torch.bool)
        numbers = torch.where((numbers == 0) & ~known, -1, numbers)
    return numbers


def expand(
    chooser: Chooser, expression: Expression, candidates: Candidates, numbers: Int[Tensor, " K"], targets: int
) -> Expanded:
    """Expand the chooser's answer at its weights, which must be trainable."""
    choice = chooser(expression, candidates)
    several = choice.several or len(choice.evidence) > 1
    values = choice.logits.clamp(-8, 8) if several else choice.evidence[0]
    order = (values.detach() + 1e3 * (numbers > 0)).argsort(descending=True)[:MOST]
    outputs = torch.cat([values[order], choice.no_target_logit[None]])
    (slopes,) = torch.autograd.grad(outputs, chooser.weights, torch.eye(len(outputs)), is_grads_batched=True)
    kept = outputs.detach()
    return Expanded(kept[:-1], slopes[:-1], kept[-1], slopes[-1], numbers[order], targets, several)


class ExpandedCache:
    """The file, resumable; raises `DataError` for one that is no cache or that another model made."""

    def __init__(self, path: Path, made_by: str) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = sqlite3.connect(path)
            self._file.executescript(_SCHEMA)
            row = self._file.execute("SELECT fingerprint FROM made_by").fetchone()
        except sqlite3.Error as error:
            raise DataError(f"{path}: no cache of expressions ({error})") from error
        if row is None:
            with self._file:
                self._file.execute("INSERT INTO made_by VALUES (?)", (made_by,))
        elif row[0] != made_by:
            self._file.close()
            raise DataError(f"{path}: made by other weights or another configuration; delete it or name another file")

    def __enter__(self) -> ExpandedCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @staticmethod
    def key(picture: str, text: str, numbers: Sequence[object]) -> str:
        """Of an expression about a picture that means things with these boxes."""
        return hashlib.sha256(f"{picture}\n{text}\n{list(numbers)}".encode()).hexdigest()[:32]

    def keys(self) -> set[str]:
        """All expressions that are there."""
        return {row[0] for row in self._file.execute("SELECT key FROM expanded")}

    def put(self, items: Sequence[tuple[str, Expanded]]) -> None:
        """Store some expressions, all or none of them."""
        rows = []
        for key, item in items:
            slopes = torch.cat([item.slopes, item.none_slopes[None]])
            arrays = torch.cat([torch.cat([item.values, item.none[None]])[:, None], slopes], dim=1)
            numbers = item.numbers.to(torch.int16).numpy().tobytes()
            blob = arrays.float().clamp(-6e4, 6e4).half().numpy().tobytes()
            rows.append((key, len(item.values), item.targets, int(item.several), numbers, blob))
        with self._file:
            self._file.executemany("INSERT OR REPLACE INTO expanded VALUES (?, ?, ?, ?, ?, ?)", rows)

    def get(self, key: str) -> Expanded:
        """An expression, in 32 bits. Raises `DataError` for one that is not there."""
        row = self._file.execute("SELECT * FROM expanded WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise DataError(f"{self.path}: holds no expression {key}; fill the cache first")
        _, count, targets, several, numbers, blob = row
        arrays = torch.from_numpy(np.frombuffer(blob, np.float16).reshape(count + 1, -1).astype(np.float32))
        known = torch.from_numpy(np.frombuffer(numbers, np.int16).astype(np.int64))
        return Expanded(arrays[:-1, 0], arrays[:-1, 1:], arrays[-1, 0], arrays[-1, 1:], known, targets, bool(several))
