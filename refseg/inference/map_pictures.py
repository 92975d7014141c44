"""Drawings of `Explanation`s: heat over the picture, shades behind words, bars, boxes. PIL and numpy only.

A map is drawn by its kind alone, whichever system it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from refseg.inference.shown_maps import Shown, ShownMap
from refseg.inference.visualize import BAND, contact_sheet, font_of, overlay, wrap

__all__ = ["captioned", "draw_map", "draw_sheet", "heat_colours"]

WIDTH = 1200
"""Pixels of a sheet."""
LETTERS = 20
"""Pixels of a letter."""
COLUMNS = 3
COARSE = 48
"""Maps of fewer cells a side are drawn with their cells' borders; finer ones are smoothed."""

_STOPS = (
    (0.0, (12, 8, 38)),
    (0.35, (108, 24, 110)),
    (0.65, (222, 82, 58)),
    (0.85, (250, 172, 30)),
    (1.0, (252, 255, 164)),
)
"""From dark violet to light yellow: brightness rises all the way, so that it can be read without colours."""


def draw_sheet(shown: Shown, pictures: Mapping[str, Image.Image]) -> Image.Image:
    """The answer, then each map's picture under its title."""
    parts = [_titled("answer", contact_sheet([overlay(shown.image, shown.answer)], columns=1, width=WIDTH // 2))]
    parts += [_titled(each.title, pictures[each.name]) for each in shown.maps]
    return _below(parts)


def draw_map(shown: Shown, one: ShownMap, most: int) -> Image.Image:
    """The picture of one map, `WIDTH` pixels wide, with at most `most` of its panels."""
    draw: dict[str, Callable[[Shown, ShownMap, list[int]], Image.Image]] = {
        "pixels": _pixels,
        "words": _words,
        "bars": _bars,
        "boxes": _boxes,
    }
    chosen = one.heaviest(most)
    if not chosen:
        return _text("nothing to show", WIDTH)
    return draw[one.kind](shown, one, chosen)


def heat_colours(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Colours (..., 3), 0 to 255, of values from 0 to 1."""
    places = [place for place, _ in _STOPS]
    channels = [np.interp(values, places, [colour[axis] for _, colour in _STOPS]) for axis in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def heat_over(shown: Shown, values: NDArray[np.float32], lowest: float, highest: float) -> Image.Image:
    """One panel (h, w) over the picture, at the picture's size; `lowest` is drawn darkest, `highest` brightest."""
    height, width = shown.geometry.model_size
    top, left, bottom, right = shown.geometry.content()
    scaled = np.clip((values - lowest) / max(highest - lowest, 1e-12), 0, 1).astype(np.float32)
    smooth = Image.Resampling.NEAREST if max(values.shape) < COARSE else Image.Resampling.BILINEAR
    whole = Image.fromarray(scaled).resize((width, height), smooth)
    placed = np.asarray(whole.crop((left, top, right, bottom)).resize(shown.image.size, smooth))
    grey = np.asarray(shown.image.convert("L").convert("RGB"), dtype=np.float32)
    share = (0.35 + 0.5 * placed)[..., None]
    return Image.fromarray((grey * (1 - share) + heat_colours(placed) * share).round().clip(0, 255).astype(np.uint8))


def _pixels(shown: Shown, one: ShownMap, chosen: list[int]) -> Image.Image:
    tiles = []
    for number in chosen:
        values = one.values[number]
        tile = heat_over(shown, values, *_range(one, values))
        peak = f"largest {values.max():.2f}" if one.scale == "probability" else ""
        tiles.append(captioned(tile, _label(one, number, peak)))
    return contact_sheet(tiles, columns=min(COLUMNS, max(2, len(tiles))), width=WIDTH)


def _words(shown: Shown, one: ShownMap, chosen: list[int]) -> Image.Image:
    """A row a panel: its words on a ground as light as their share."""
    words = shown.words or tuple(f"token {number + 1}" for number in range(one.values.shape[1]))
    return _below([_word_row(words, one.values[number], _label(one, number)) for number in chosen])


def _word_row(words: Sequence[str], values: NDArray[np.float32], label: str) -> Image.Image:
    font, gap = font_of(LETTERS), LETTERS // 2
    highest = max(float(values.max(initial=0.0)), 1e-12)
    cells = [(word, float(value), font.getlength(word) + 2 * gap) for word, value in zip(words, values, strict=False)]
    lines: list[list[tuple[str, float, float]]] = [[]]
    for cell in cells:
        if lines[-1] and sum(width for *_, width in lines[-1]) + cell[2] > WIDTH - 2 * gap:
            lines.append([])
        lines[-1].append(cell)
    line_height, label_height = 2 * LETTERS, round(1.4 * LETTERS) if label else 0
    row = Image.new("RGB", (WIDTH, label_height + gap + line_height * len(lines)), BAND)
    pen = ImageDraw.Draw(row)
    if label:
        pen.text((gap, gap // 2), label, fill=(176, 224, 255), font=font)
    for index, line in enumerate(lines):
        left, top = float(gap), label_height + gap // 2 + index * line_height
        for word, value, width in line:
            share = min(max(value / highest, 0.0), 1.0)
            ground = tuple(int(level) for level in heat_colours(np.array(share)))
            pen.rectangle((left, top, left + width - 3, top + line_height - 6), fill=ground)
            ink = (0, 0, 0) if share > 0.6 else (255, 255, 255)
            pen.text((left + gap, top + LETTERS // 3), word, fill=ink, font=font)
            left += width
    return row


def _bars(shown: Shown, one: ShownMap, chosen: list[int]) -> Image.Image:
    font, line = font_of(LETTERS), 2 * LETTERS
    picture = Image.new("RGB", (WIDTH, line * len(one.values)), BAND)
    pen, start, room = ImageDraw.Draw(picture), WIDTH // 3, WIDTH // 2
    for row, (name, value) in enumerate(zip(one.names, one.values.tolist(), strict=True)):
        top = row * line
        pen.text((LETTERS // 2, top + LETTERS // 3), name, fill=(255, 255, 255), font=font)
        end = start + room * min(max(value, 0.0), 1.0)
        pen.rectangle((start, top + 6, end, top + line - 6), fill=(250, 172, 30))
        pen.text((end + LETTERS // 2, top + LETTERS // 3), f"{value:.2f}", fill=(255, 255, 255), font=font)
    return picture


def _boxes(shown: Shown, one: ShownMap, chosen: list[int]) -> Image.Image:
    """The heaviest boxes over the picture, the heaviest last and so on top, and their names and values beside it."""
    assert one.boxes is not None
    side = WIDTH // 2
    scale = min(side / shown.image.width, side / shown.image.height)
    canvas = shown.image.convert("RGB").resize(
        (max(1, round(shown.image.width * scale)), max(1, round(shown.image.height * scale)))
    )
    pen, font = ImageDraw.Draw(canvas), font_of(LETTERS)
    low, high = _range(one, one.values)
    for place, number in reversed(list(enumerate(chosen))):
        value = float(one.values[number])
        share = (value - low) / max(high - low, 1e-12)
        colour = tuple(int(level) for level in heat_colours(np.array(0.35 + 0.65 * min(max(share, 0.0), 1.0))))
        box = [float(level) * scale for level in one.boxes[number]]
        pen.rectangle(box, outline=colour, width=3)
        pen.text(
            (box[0] + 5, box[1] + 3), str(place + 1), fill=colour, font=font, stroke_width=2, stroke_fill=(0, 0, 0)
        )
    lines = [f"{place + 1}  {_label(one, number, f'{one.values[number]:.2f}')}" for place, number in enumerate(chosen)]
    sheet = Image.new("RGB", (WIDTH, max(canvas.height, round(1.5 * LETTERS) * len(lines) + LETTERS)), BAND)
    sheet.paste(canvas, (0, 0))
    pen = ImageDraw.Draw(sheet)
    for index, text in enumerate(lines):
        pen.text((side + LETTERS, LETTERS // 2 + index * round(1.5 * LETTERS)), text, fill=(255, 255, 255), font=font)
    return sheet


def _range(one: ShownMap, values: NDArray[np.float32]) -> tuple[float, float]:
    """What is drawn darkest and brightest of some values of a map."""
    if one.scale == "probability":
        return 0.0, 1.0
    return float(values.min()) if one.scale == "logit" else 0.0, float(values.max())


def _label(one: ShownMap, number: int, more: str = "") -> str:
    name = one.names[number] if number < len(one.names) else ""
    weight = "" if one.weights is None or one.kind == "boxes" else f"counts {one.weights[number]:.2f}"
    return ", ".join(part for part in (name, weight, more) if part)


def captioned(tile: Image.Image, text: str) -> Image.Image:
    """The tile with its name below, in letters that fit a third of the sheet."""
    if not text:
        return tile
    factor = tile.width / (WIDTH / COLUMNS)
    font = font_of(max(8, round(LETTERS * factor)))
    lines = wrap(text, font, tile.width, most=2)
    step = math.ceil(1.3 * LETTERS * factor)
    sheet = Image.new("RGB", (tile.width, tile.height + step * len(lines)), (250, 250, 250))
    sheet.paste(tile, (0, 0))
    for index, line in enumerate(lines):
        ImageDraw.Draw(sheet).text((2, tile.height + index * step), line, fill=(20, 20, 20), font=font)
    return sheet


def _titled(title: str, picture: Image.Image) -> Image.Image:
    return _below([_text(title, WIDTH, ground=(250, 250, 250), ink=(20, 20, 20)), picture])


def _text(
    text: str, width: int, ground: tuple[int, int, int] = BAND, ink: tuple[int, int, int] = (255, 255, 255)
) -> Image.Image:
    font = font_of(LETTERS)
    lines = wrap(text, font, width - LETTERS)
    band = Image.new("RGB", (width, LETTERS + round(1.4 * LETTERS) * len(lines)), ground)
    for index, line in enumerate(lines):
        position = (LETTERS // 2, LETTERS // 2 + index * round(1.4 * LETTERS))
        ImageDraw.Draw(band).text(position, line, fill=ink, font=font)
    return band


def _below(parts: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other."""
    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), (250, 250, 250))
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet
