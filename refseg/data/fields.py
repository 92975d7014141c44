"""Reading fields of records from files that nobody checked: each function returns a usable value or raises ValueError.

The message says what is wrong in words; the reader adds file, index and id.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from refseg.data.masks import SegmentationSource, clean_segmentation
from refseg.data.sample import Problem

NOT_UNICODE = "half of a surrogate pair stands alone, which is no text"
Box = tuple[float, float, float, float]
Result = TypeVar("Result")


def is_integer(value: Any) -> bool:
    """Whether it is an int and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def integer(value: Any, name: str) -> int:
    """An integer, also written as text ("12"), as video data sets do."""
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        value = int(value)
    if not is_integer(value) or abs(value) > 2**62:
        raise ValueError(f"{name} is an integer, not {_shown(value)}")
    return value


def is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair alone, which JSON can hold and no file of text can."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def sentence(value: Any, name: str) -> str:
    """Text with at least one word, white space made single."""
    if not isinstance(value, str) or not value.strip() or not is_unicode(value):
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


def size(height: Any, width: Any) -> tuple[int, int]:
    """(height, width) in pixels, both positive."""
    sides = (integer(height, "height"), integer(width, "width"))
    if min(sides) < 1 or sides[0] * sides[1] > 100_000_000:
        raise ValueError(f"a picture of {sides[0]} x {sides[1]} pixels is not usable")
    return sides


def finite_numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers (below 1e7), or None."""
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != count:
        return None
    if not all(  # NaN fails the comparison too
        isinstance(v, (int, float, np.number)) and not isinstance(v, bool) and -1e7 < v < 1e7 for v in value
    ):
        return None
    return tuple(float(v) for v in value)


def optional_box(value: Any) -> Box | None:
    """Four finite numbers as they are, or None."""
    known = finite_numbers(value, 4)
    return None if known is None else (known[0], known[1], known[2], known[3])


def numbers(value: Any, name: str) -> Box:
    """Four finite numbers."""
    known = optional_box(value)
    if known is None:
        raise ValueError(f"{name} is four finite numbers, not {_shown(value)}")
    return known


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


def outline(value: Any, sides: tuple[int, int], where: str, problems: list[Problem]) -> SegmentationSource:
    """A segmentation that must be usable; polygons of it that are not are left out and become problems."""
    segmentation, faults = clean_segmentation(value, sides)
    if segmentation is None:
        raise ValueError(f"no usable outline ({faults[0]})")
    problems.extend(Problem("bad_polygon", where, fault) for fault in faults)
    return segmentation


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


def category_names(records: Any) -> dict[int, str]:
    """COCO's `categories` as number -> name; whatever is not one is passed over."""
    return {
        record["id"]: record["name"]
        for record in (records if isinstance(records, Sequence) else ())
        if isinstance(record, dict) and is_integer(record.get("id")) and isinstance(record.get("name"), str)
    }


class Missing:
    """Counts the expressions lost by picture that is not there: one problem a picture, not one an expression."""

    def __init__(self, needed: bool) -> None:
        self.needed = needed
        self.counts: Counter[str] = Counter()

    def skips(self, there: object, picture: object, lost: int = 1) -> bool:
        """Whether `lost` expressions are to be left out: `there` is None and pictures are needed."""
        if there is None:
            self.counts[str(picture)] += lost
        return there is None and self.needed

    def report(self, problems: list[Problem]) -> None:
        """One problem a picture."""
        for picture, lost in self.counts.items():
            problems.append(Problem("missing_picture", f"picture {picture}", "was not found", lost))


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def _shown(value: Any) -> str:
    text = _SHORT.repr(value)  # never all of it: a pickle can hold its own parts over and over
    return text if len(text) <= 60 else text[:57] + "..."
