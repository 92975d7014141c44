"""Records as they come in: where each stands, what is wrong with it, and masks in either of their two notations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refseg.data import rle
from refseg.errors import DataError


@dataclass(frozen=True)
class RecordProblem:
    """A malformed record: where it stands (file and line, or place in a list), its id, and what is wrong."""

    where: str
    id: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {f'id {self.id}: ' if self.id else ''}{self.message}"


class RecordsError(DataError):
    """Every malformed record of a scoring, in `problems`; the message is the list of them."""

    def __init__(self, problems: Sequence[RecordProblem]) -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} malformed record{'s' if len(problems) != 1 else ''}"
        super().__init__(f"{count}:\n" + "\n".join(map(str, problems)))


@dataclass(frozen=True)
class Located:
    """A record with the place it comes from."""

    where: str
    value: Any


def located(records: Iterable[Any], name: str) -> list[Located]:
    """Records of a list, called "prediction 1", "prediction 2", ..."""
    return [
        entry if isinstance(entry, Located) else Located(f"{name} {i}", entry) for i, entry in enumerate(records, 1)
    ]


def as_mask(value: Any) -> np.ndarray:
    """A (H, W) bool array from run-length encoding or an array of bool or of 0 and 1. Raises `DataError`."""
    if isinstance(value, Mapping):
        return rle.decode(dict(value))
    array = np.asarray(value)
    if array.ndim != 2 or not array.size:
        raise DataError(f"a mask is (H, W) or run-length encoded, not of shape {array.shape}")
    if array.dtype != np.bool_ and not (array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all()):
        raise DataError(f"a mask holds true and false, or 0 and 1, not other {array.dtype} values")
    return array.astype(bool)
