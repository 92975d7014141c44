"""gRefCOCO as published: `grefs(unc).json` (or `.p`), sentences that mean one object, several, or none.

Liu, Ding, Jiang, "GRES: Generalized Referring Expression Segmentation", CVPR 2023. A record is RefCOCO's
(`refseg.data.formats.refcoco`) except that `ann_id` lists all targets and is exactly [-1] where there is none. The
drawn scenes
are written in the same form, `grefs(scenes).json`, with a `kind` at each sentence. `file_name` is never used: in the
public file it may belong to another picture's record (gRefCOCO issue 1). No torch in this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refseg.data.formats.refcoco import Referent, SentenceForm, read_records
from refseg.data.sample import Problem


def read_grefs(path: Path, sentence: SentenceForm = "raw") -> tuple[list[Referent], list[Problem]]:
    """The referents of a gRefCOCO-style file, and the records that could not be used; raises as `read_refs` does."""
    return read_records(path, _all_objects, sentence)


def _all_objects(record: dict[str, Any]) -> tuple[int, ...]:
    value = record["ann_id"]
    numbers = [value] if isinstance(value, int) else value  # a bare integer is tolerated
    if not isinstance(numbers, (list, tuple)) or not numbers:
        raise ValueError(f"ann_id lists the targets, [-1] for none, not {value!r}")
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"ann_id holds integers, not {value!r}")
    if list(numbers) == [-1]:
        targets: tuple[int, ...] = ()
    elif min(numbers) < 0:
        raise ValueError(f"ann_id mixes objects and none: {value!r}")
    else:
        targets = tuple(dict.fromkeys(numbers))
    flag = record.get("no_target")
    if isinstance(flag, bool) and flag != (not targets):
        raise ValueError(f"no_target is {flag}, but ann_id is {value!r}")
    return targets
