"""Pictures of where two runs differ most: target, first answer and second answer side by side. PIL and numpy only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from refseg.data import ReferringDataset, Sample, rle
from refseg.evaluation.compare import Difference, Report, Run
from refseg.files import write_bytes
from refseg.inference.connected_components import target_boxes
from refseg.inference.segmentation import Segmentation
from refseg.inference.visualize import BAND, contact_sheet, overlay

TILE = 640


def write_pictures(
    report: Report, runs: tuple[Run, Run], data: ReferringDataset, folder: str | Path, top: int = 12
) -> list[Path]:
    """Write one picture for each of the `top` expressions that differ most, and `differences.png` with all of them.

    Expressions whose masks are not of the picture's size (protocols that compare at the network's size), or that are
    not in `data`, are passed over.
    """
    samples = {sample.id: sample for sample in data}
    folder = Path(folder)
    files: list[Path] = []
    sheets: list[Image.Image] = []
    for rank, entry in enumerate((d for d in report.differences if d.change), 1):
        if len(sheets) == top:
            break
        sheet = draw_difference(entry, runs, samples.get(entry.id))
        if sheet is not None:
            sheets.append(sheet)
            name = re.sub(r"[^A-Za-z0-9_.-]+", "-", entry.id)[:80]
            files.append(_write(folder / f"{rank:03d}-{name}.png", sheet))
    if sheets:
        files.append(_write(folder / "differences.png", contact_sheet(sheets, columns=1 if len(sheets) < 4 else 2)))
    return files


def draw_difference(entry: Difference, runs: tuple[Run, Run], sample: Sample | None) -> Image.Image | None:
    """Target, first and second answer in a row, each named below; None where the masks do not fit the picture."""
    if sample is None:
        return None
    masks = [_mask(run.predictions.get(entry.id), sample.size) for run in runs]
    if any(mask is None for mask in masks):
        return None
    says_none = (entry.first_says_none, entry.second_says_none)
    captions = [f"“{sample.text}”" + (" means nothing here" if sample.no_target else "")] + [
        f"{run.name}: IoU {value:.3f}" + (", says none" if none else "")
        for run, value, none in zip(runs, (entry.first, entry.second), says_none, strict=True)
    ]
    picture = sample.read_image()
    tiles = []
    for mask, caption in zip([sample.mask(), *masks], captions, strict=True):
        assert mask is not None
        # Only the mask is drawn: what a run says of none stands in the caption, so that an ignored mask can be seen.
        answer = Segmentation(mask, target_boxes(mask), False, 0.0, 1.0, "")
        tiles.append(_captioned(overlay(picture, answer, caption=False, largest=TILE), caption))
    return contact_sheet(tiles, columns=len(tiles), width=TILE * len(tiles))


def _mask(record: Mapping[str, Any] | None, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The predicted mask, all False where null is predicted; None where there is none of the picture's size."""
    if record is None:
        return None
    stored = record.get("mask")
    if stored is None:
        return np.zeros(size, dtype=bool)
    mask = rle.decode(dict(stored)) if isinstance(stored, Mapping) else np.asarray(stored, dtype=bool)
    return mask if mask.shape == size else None


def _captioned(tile: Image.Image, text: str) -> Image.Image:
    """The tile with a line of text below, cut to its width."""
    letters = max(12, tile.width // 28)
    font = ImageFont.load_default(letters)
    while len(text) > 4 and font.getlength(text) > tile.width - letters:
        text = text[: -max(2, len(text) // 20)].rstrip("… ") + "…"
    result = Image.new("RGB", (tile.width, tile.height + 2 * letters), BAND)
    result.paste(tile, (0, 0))
    ImageDraw.Draw(result).text((letters // 2, tile.height + letters // 3), text, fill=(255, 255, 255), font=font)
    return result


def _write(path: Path, picture: Image.Image) -> Path:
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return write_bytes(path, buffer.getvalue())
