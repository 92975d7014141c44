"""Reading fields of records from files that nobody checked: each function returns a usable value or raises ValueError.

The message says what is wrong in words; the reader adds file, index and id. No torch in this file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from refseg.data.formats.coco import read_json
from refseg.data.sample import Problem
from refseg.errors import DataError

Box = tuple[float, float, float, float]
Result = TypeVar("Result")


def integer(value: Any, name: str) -> int:
    """An integer, also written as text ("12"), as video data sets do."""
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 2**62:
        raise ValueError(f"{name} is an integer, not {_shown(value)}")
    return value


def sentence(value: Any, name: str) -> str:
    """Text with at least one word, white space made single."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is text with at least one word, not {_shown(value)}")
    return " ".join(value.split())


def file_part(value: Any, name: str) -> str:
    """A name that is one part of a path: a data set file must not reach out of its folder."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not text.strip() or text in (".", "..") or any(letter in text for letter in "/\\\0:"):
        raise ValueError(f"{name} is the name of one file or folder, not {_shown(value)}")
    return text


def items(value: Any, name: str) -> list[Any]:
    """A list."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} is a list, not {_shown(value)}")
    return list(value)


def table(value: Any, name: str) -> dict[str, Any]:
    """A table of fields."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is a table of fields, not {_shown(value)}")
    return value


def read_table(path: Path) -> dict[str, Any]:
    """A JSON file that is one table; raises `DataError` that names it."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: a table is wanted, not {type(content).__name__}")
    return content


def size(height: Any, width: Any) -> tuple[int, int]:
    """(height, width) in pixels, both positive."""
    sides = (integer(height, "height"), integer(width, "width"))
    if min(sides) < 1 or sides[0] * sides[1] > 100_000_000:
        raise ValueError(f"a picture of {sides[0]} x {sides[1]} pixels is not usable")
    return sides


def box_xywh(value: Any, name: str = "bbox") -> Box:
    """x, y, width, height as xyxy; width and height may not be negative."""
    left, top, width, height = numbers(value, name)
    if width < 0 or height < 0:
        raise ValueError(f"{name} has a negative width or height: {_shown(value)}")
    return left, top, left + width, top + height


def box_xyxy(value: Any, name: str = "bbox") -> Box:
    """x1, y1, x2, y2 with x1 <= x2 and y1 <= y2."""
    left, top, right, bottom = numbers(value, name)
    if right < left or bottom < top:
        raise ValueError(f"{name} is x1, y1, x2, y2 in order, not {_shown(value)}")
    return left, top, right, bottom


def numbers(value: Any, name: str) -> Box:
    """Four finite numbers."""
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != 4:
        raise ValueError(f"{name} is four numbers, not {_shown(value)}")
    if not all(
        isinstance(v, (int, float, np.number)) and not isinstance(v, bool) and abs(float(v)) < 1e7 for v in value
    ):
        raise ValueError(f"{name} is four finite numbers, not {_shown(value)}")
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])


def attempt(
    where: str, problems: list[Problem], function: Callable[..., Result], *arguments: Any, lost: int = 1
) -> Result | None:
    """What the function gives for the arguments; None, and one more problem, when it raises ValueError or KeyError."""
    try:
        return function(*arguments)
    except KeyError as error:
        problems.append(Problem("bad_record", where, f"no field {error}", lost))
    except (ValueError, TypeError) as error:
        problems.append(Problem("bad_record", where, str(error), lost))
    return None


class Missing:
    """Counts sentences by picture that is not there, to be told once a picture and not once a sentence."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, picture: str, lost: int = 1) -> None:
        """One more group of sentences that is lost for want of `picture`."""
        self.counts[picture] += lost

    def tell(self, problems: list[Problem]) -> None:
        """One problem a picture."""
        for picture, lost in self.counts.items():
            problems.append(Problem("missing_picture", f"picture {picture}", "was not found", lost))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
