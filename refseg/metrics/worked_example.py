"""Five expressions about pictures of 4 x 4 pixels, small enough to count every protocol by hand; see docs/protocols.md.

A  hit      target 4 px, prediction 3 of them and 1 beside: I 3, U 5
B  refused  target 4 px, prediction 2 of them and 1 beside, but "none" is predictions: I 2, U 5
C  silent   nothing is targets, "none" is predictions, the mask has 1 px all the same
D  fooled   nothing is targets, an object is predictions, the mask has 2 px
E  blank    nothing is targets, an object is predictions, the mask is empty
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refseg.metrics.protocols import PROTOCOLS
from refseg.metrics.scoring import Score, score

_TARGET = ("##..", "##..", "....", "....")
_EMPTY = ("....", "....", "....", "....")

# id: what happens, target, prediction, whether the prediction says none
DRAWN: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], bool]] = {
    "A": ("hit", _TARGET, ("###.", "#...", "....", "...."), False),
    "B": ("refused", _TARGET, ("##..", "....", "....", "...#"), True),
    "C": ("silent", _EMPTY, ("....", "....", "....", "...#"), True),
    "D": ("fooled", _EMPTY, ("....", "....", "..##", "...."), False),
    "E": ("blank", _EMPTY, _EMPTY, False),
}


def mask_of(rows: tuple[str, ...]) -> NDArray[np.bool_]:
    """A drawing as a (4, 4) mask; "#" is inside."""
    return np.array([[letter == "#" for letter in row] for row in rows])


def records() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The predictions and the targets, as `refseg.metrics.score` takes them."""
    predictions = [{"id": key, "mask": mask_of(drawn), "no_target": none} for key, (_, _, drawn, none) in DRAWN.items()]
    targets = [
        {"id": key, "mask": mask_of(drawn), "no_target": "#" not in "".join(drawn)}
        for key, (_, drawn, _, _) in DRAWN.items()
    ]
    return predictions, targets


def worked_scores() -> dict[str, Score]:
    """The score of the five expressions under every protocol of masks."""
    predictions, targets = records()
    return {name: score(predictions, targets, entry) for name, entry in PROTOCOLS.items() if entry.task == "masks"}


def drawing() -> str:
    """Targets above predictions, as text."""
    titles = [f"{key} {what}" for key, (what, *_) in DRAWN.items()]
    lines = ["            " + "".join(f"{title:<12}" for title in titles)]
    sides = {
        "target": [targets for _, targets, _, _ in DRAWN.values()],
        "prediction": [predictions for _, _, predictions, _ in DRAWN.values()],
    }
    for name, drawings in sides.items():
        for row in range(4):
            cells = "".join(f"{rows[row]:<12}" for rows in drawings)
            lines.append(f"{name if not row else '':<12}{cells}")
        lines.append("")
    says = "".join(f"{'none' if entry[3] else 'an object':<12}" for entry in DRAWN.values())
    return "\n".join(line.rstrip() for line in [*lines, f"{'says':<12}{says}"])
