"""What runs of the side-by-side study leave behind, small enough for a repository: a long study goes on elsewhere.

    settings.json   vocabulary.txt
    encoder/        encoder.json, encoder.safetensors.gz
    runs/NAME/      result.json, rows.jsonl.gz

A study's folder has these among its trainings, scenes and kept maps, which are gigabytes and can be made again.
`carry` copies them from one folder to another, either way: out of a study into a folder that is kept, and from there
into a new study on another machine, where what is finished is not trained again. The encoder's numbers are such as 16
bits hold (`refseg.studies.shared_encoder`), so that its packed form is the same encoder at half the size.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from refseg.files import locked, write_bytes
from refseg.metrics.counts import Row
from refseg.state_dicts import read_tensors, write_tensors

__all__ = ["ENCODER", "RESULT", "ROWS", "RUNS", "SETTINGS", "VOCABULARY", "carry", "read_rows", "write_rows"]

SETTINGS, VOCABULARY, ENCODER, RUNS = "settings.json", "vocabulary.txt", "encoder", "runs"
RESULT, ROWS = "result.json", "rows.jsonl.gz"
ENCODER_FILE, ABOUT = "encoder.safetensors", "encoder.json"
PACKED = f"{ENCODER_FILE}.gz"


def carry(source: Path, target: Path) -> list[str]:
    """Copy what is finished in the study `source` and not yet in the study `target`; the names of the runs copied.

    The settings come along where the target has none; whether both are of the same ones is for the study to check.
    """
    target.mkdir(parents=True, exist_ok=True)
    with locked(target / ".carry.lock", "process {} copies results to it"):
        _copy(source, target, (SETTINGS, VOCABULARY))
        if (source / ENCODER / ABOUT).exists() and not (target / ENCODER / ABOUT).exists():
            _carry_encoder(source / ENCODER, target / ENCODER)
            _copy(source / ENCODER, target / ENCODER, (ABOUT,))
        results = sorted((source / RUNS).glob(f"*/{RESULT}"))
        copied = []
        for result in results:
            if _copy(result.parent, target / RUNS / result.parent.name, (ROWS, RESULT)):
                copied.append(result.parent.name)
    (target / ".carry.lock").unlink(missing_ok=True)
    return copied


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> bool:
    """Copy these files where the last of them, which says that the others are whole, is there and not here yet."""
    if not (source / names[-1]).exists() or (target / names[-1]).exists():
        return False
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).exists():
            write_bytes(target / name, (source / name).read_bytes())
    return True


def _carry_encoder(source: Path, target: Path) -> None:
    """Packed out of a study, unpacked into one."""
    target.mkdir(parents=True, exist_ok=True)
    if (source / PACKED).exists():
        tensors = load(gzip.decompress((source / PACKED).read_bytes()))
        write_tensors(target / ENCODER_FILE, {name: _cast(value, torch.float32) for name, value in tensors.items()})
    else:
        tensors = {name: _cast(value, torch.float16) for name, value in read_tensors(source / ENCODER_FILE).items()}
        write_bytes(target / PACKED, gzip.compress(save(tensors), mtime=0))


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


_KEPT = (
    "id", "intersection", "union", "prediction_area", "target_area", "size", "no_target", "predicted_no_target",
    "no_target_score", "box_iou", "picture", "kind", "targets",
)  # fmt: skip
"""Of a row: what metrics and claims are counted from. Texts are the test set's."""


def write_rows(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """What a run answered, expression by expression; the same rows give the same bytes."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0) as packed:
        for row in rows:
            kept = {name: row[name] for name in _KEPT if name in row}
            numbers = {name: round(value, 6) for name, value in kept.items() if isinstance(value, float)}
            packed.write(f"{json.dumps(kept | numbers)}\n".encode())
    write_bytes(folder / ROWS, content.getvalue())


def read_rows(folder: Path) -> list[Row]:
    """The rows of a finished run; none where they were not kept."""
    path = folder / ROWS
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [Row.from_dict(json.loads(line)) for line in lines]
