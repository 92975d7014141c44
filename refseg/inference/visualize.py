"""Pictures of answers: overlays, cut-outs, contact sheets. PIL and numpy only.

Lines and letters grow with the picture, small pictures are enlarged before they are drawn on and huge ones reduced, so
that an overlay can be read whatever the size of the picture it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from refseg.errors import RefsegError
from refseg.inference.connected_components import find_components
from refseg.inference.segmentation import Segmentation

# Told apart by people with any colour vision, also on grass, skin and sky (after Okabe and Ito, made brighter).
COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 82, 82),
    (64, 196, 255),
    (255, 214, 0),
    (105, 240, 174),
    (224, 130, 255),
    (255, 145, 0),
    (144, 164, 255),
    (240, 240, 240),
)
BAND = (24, 26, 30)
BAND_NONE = (96, 36, 36)
SMALLEST_SIDE, LARGEST_SIDE = 384, 2560


def overlay(
    image: Image.Image,
    answer: Segmentation,
    *,
    caption: bool = True,
    opacity: float = 0.35,
    smallest: int = SMALLEST_SIDE,
    largest: int = LARGEST_SIDE,
) -> Image.Image:
    """The picture with its targets coloured, outlined and boxed, the rest a little darker, and a caption below.

    `image` is the picture that was asked about, of the size of `answer.mask`. Each instance has a colour. The longest
    side of the drawing lies between `smallest` and `largest` pixels; the caption adds to the height. Raises
    `RefsegError` when the sizes differ.
    """
    _check_size(image, answer)
    factor = _factor(image.size, smallest, largest)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    # Enlarged pixels stay visible as such: a 12-pixel picture should look like one.
    canvas = image.convert("RGB").resize(size, Image.Resampling.NEAREST if factor > 4 else Image.Resampling.LANCZOS)
    if answer.mask.any():
        canvas = _paint(canvas, answer, opacity)
    if not caption:
        return canvas
    band = _caption(answer, canvas.size)
    sheet = Image.new("RGB", (canvas.width, canvas.height + band.height))
    sheet.paste(canvas, (0, 0))
    sheet.paste(band, (0, canvas.height))
    return sheet


def cutout(image: Image.Image, answer: Segmentation, *, crop: bool = False) -> Image.Image:
    """The picture as RGBA with everything but the targets transparent; with `crop`, only the part that holds them.

    An answer of none gives a wholly transparent picture of the original size. Raises `RefsegError` when the sizes
    differ.
    """
    _check_size(image, answer)
    result = image.convert("RGBA")
    result.putalpha(Image.fromarray(answer.mask.astype(np.uint8) * 255))
    box = result.getchannel("A").getbbox() if crop else None
    return result.crop(box) if box else result


def contact_sheet(tiles: Sequence[Image.Image], *, columns: int | None = None, width: int = 1600) -> Image.Image:
    """Pictures side by side, row by row, each scaled to its column and at most half as high again as that is wide.

    `columns` is chosen near a square when left out. Raises `RefsegError` without pictures.
    """
    if not tiles:
        raise RefsegError("a contact sheet needs at least one picture")
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    gap = max(2, width // 200)
    column_width = max(1, (width - gap * (columns + 1)) // columns)
    scaled = [_fit(tile, column_width, 3 * column_width // 2) for tile in tiles]
    rows = [scaled[start : start + columns] for start in range(0, len(scaled), columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    sheet = Image.new(
        "RGB", (columns * (column_width + gap) + gap, sum(heights) + gap * (len(rows) + 1)), (250, 250, 250)
    )
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (gap + column * (column_width + gap), top))
        top += height + gap
    return sheet


def summary(answer: Segmentation) -> str:
    """The answer in a few words: "2 targets", "none", or "unclear" when there is a target but no pixel passes."""
    if answer.no_target:
        return "none"
    count = len(answer.instances)
    if not answer.mask.any() and not count:
        return "unclear"
    return "1 target" if count == 1 else f"{count} targets"


def _check_size(image: Image.Image, answer: Segmentation) -> None:
    if (image.height, image.width) != answer.mask.shape:
        raise RefsegError(
            f"the answer is for a picture of {answer.mask.shape[1]} x {answer.mask.shape[0]} pixels, "
            f"this one is {image.width} x {image.height}"
        )


def _factor(size: tuple[int, int], smallest: int, largest: int) -> float:
    longest = max(size)
    if longest < smallest:
        return smallest / longest
    return largest / longest if longest > largest else 1.0


def _fit(tile: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / tile.width, height / tile.height)
    size = (max(1, round(tile.width * scale)), max(1, round(tile.height * scale)))
    return tile.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _paint(canvas: Image.Image, answer: Segmentation, opacity: float) -> Image.Image:
    width, height = canvas.size
    scale = np.array([width / answer.mask.shape[1], height / answer.mask.shape[0]] * 2)
    boxes = answer.boxes * scale
    line = max(2, round(math.sqrt(width * height) / 220))
    mask = Image.fromarray(answer.mask.astype(np.uint8) * 255).resize(canvas.size, Image.Resampling.BILINEAR)
    chosen = np.asarray(mask) >= 128
    if not chosen.any():  # a target thinner than a pixel of the drawing
        chosen = np.asarray(mask) > 0
    colours = _colour_map(chosen, answer, boxes)
    pixels = np.asarray(canvas, dtype=np.float32)
    pixels = np.where(chosen[..., None], pixels * (1 - opacity) + colours * opacity, pixels * 0.62)
    edge = chosen & ~_shrink(chosen, line)
    halo = _grow(chosen, max(1, line // 2)) & ~chosen
    pixels[halo] *= 0.35
    pixels[edge] = colours[edge]
    painted = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(painted)
    font = font_of(letter_height(canvas.size))
    for index, box in enumerate(boxes):
        _draw_box(draw, box, COLOURS[index % len(COLOURS)], line, painted.size)
        if len(boxes) > 1:
            _draw_number(draw, box, str(index + 1), COLOURS[index % len(COLOURS)], font)
    return painted


def _colour_map(chosen: NDArray[np.bool_], answer: Segmentation, boxes: NDArray[np.float64]) -> NDArray[np.float32]:
    """(H, W, 3): the colour of each foreground pixel of the drawing, which is that of its instance; a part of the
    foreground that is of no instance takes that of the nearest box."""
    owner = np.full(answer.mask.shape, -1, dtype=np.int32)
    for number, instance in reversed(list(enumerate(answer.instances))):
        owner[instance.rows_and_columns][instance.region] = number
    drawn = Image.fromarray(owner).resize((chosen.shape[1], chosen.shape[0]), Image.Resampling.NEAREST)
    owner = np.where(chosen, np.asarray(drawn), -1)
    parts = find_components(chosen)
    missing = chosen & (owner < 0)
    if missing.any() and len(boxes):
        # Pixels that the enlarged edge adds belong to the instance that has most of their part.
        votes = np.zeros((len(parts), len(boxes)))
        np.add.at(votes, (parts.labels[owner >= 0], owner[owner >= 0]), 1)
        spans = parts.boxes.astype(float)
        distance = np.linalg.norm(
            (spans[:, None, :2] + spans[:, None, 2:] - boxes[None, :, :2] - boxes[None, :, 2:]) / 2, axis=2
        )
        part_owner = np.where(votes.any(axis=1), votes.argmax(axis=1), distance.argmin(axis=1))
        owner[missing] = part_owner[parts.labels[missing]]
    palette = np.array([*COLOURS, (0, 0, 0)], dtype=np.float32)
    return palette[np.where(chosen, np.maximum(owner, 0) % len(COLOURS), -1)]


def _shrink(mask: NDArray[np.bool_], pixels: int, outside: bool = False) -> NDArray[np.bool_]:
    """The mask without a rim of `pixels`; `outside` says what lies beyond the picture's border."""
    shrunk = np.pad(mask, pixels, constant_values=outside)
    wanted = 2 * pixels + 1
    for axis in (0, 1):
        reach = 1  # how many neighbours along the axis each value stands for; doubled until it is enough
        while reach < wanted:
            step = min(reach, wanted - reach)
            near, far = (slice(None, -step), slice(step, None))
            shrunk = shrunk[near] & shrunk[far] if axis == 0 else shrunk[:, near] & shrunk[:, far]
            reach += step
    return shrunk


def _grow(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    return ~_shrink(~mask, pixels, outside=True)


def _draw_box(
    draw: ImageDraw.ImageDraw, box: NDArray[np.float64], colour: tuple[int, int, int], line: int, size: tuple[int, int]
) -> None:
    left, top = (max(0.0, float(value)) for value in box[:2])
    right, bottom = min(size[0] - 1.0, float(box[2]) - 1), min(size[1] - 1.0, float(box[3]) - 1)
    right, bottom = max(left, right), max(top, bottom)
    draw.rectangle((left, top, right, bottom), outline=(0, 0, 0), width=line + max(1, line // 2))
    draw.rectangle((left, top, right, bottom), outline=colour, width=line)


def _draw_number(
    draw: ImageDraw.ImageDraw,
    box: NDArray[np.float64],
    number: str,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """A filled tag with the target's number in the box's upper left corner."""
    left, top = max(0.0, float(box[0])), max(0.0, float(box[1]))
    extent = draw.textbbox((0, 0), number, font=font)
    pad = max(2, (extent[3] - extent[1]) // 3)
    width, height = extent[2] - extent[0] + 2 * pad, extent[3] - extent[1] + 2 * pad
    draw.rectangle((left, top, left + width, top + height), fill=colour)
    draw.text((left + pad - extent[0], top + pad - extent[1]), number, fill=(0, 0, 0), font=font)


def letter_height(size: tuple[int, int]) -> int:
    """Pixels of a letter for a drawing of (width, height): about thirty letters of caption in a line, and never a
    height that would cover a flat picture."""
    return max(14, round(min(size[0] / 28, size[1] / 9)))


def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _caption(answer: Segmentation, size: tuple[int, int]) -> Image.Image:
    """A band as wide as the drawing: the expression in quotation marks, then the summary with its numbers."""
    width, letters = size[0], letter_height(size)
    font = font_of(letters)
    pad = max(6, letters // 2)
    summary_line = (
        f"none: nothing in the picture matches (p = {answer.no_target_score:.2f})"
        if answer.no_target
        else f"{summary(answer)}, score {answer.score:.2f}, p(none) = {answer.no_target_score:.2f}"
    )
    # More letters than this never fit, and measuring them would take its time.
    lines = wrap(f"“{answer.text[:2000]}”", font, width - 2 * pad)
    summary_lines = wrap(summary_line, font, width - 2 * pad)
    spacing = round(letters * 1.35)
    band = Image.new(
        "RGB", (width, 2 * pad + spacing * (len(lines) + len(summary_lines))), BAND_NONE if answer.no_target else BAND
    )
    draw = ImageDraw.Draw(band)
    for index, line in enumerate(lines + summary_lines):
        colour = (255, 255, 255) if index < len(lines) else (255, 196, 196) if answer.no_target else (176, 224, 255)
        draw.text((pad, pad + index * spacing), line, fill=colour, font=font)
    return band


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int = 4) -> list[str]:
    """The text in lines no wider than `width` pixels, at most `most` of them; what is left out ends in an ellipsis."""
    lines: list[str] = []
    current = ""
    for word in text.split():
        for piece in _pieces(word, font, width):
            longer = f"{current} {piece}".strip()
            if current and font.getlength(longer) > width:
                lines.append(current)
                current = piece
            else:
                current = longer
    lines.append(current)
    if len(lines) > most:
        last = lines[most - 1]
        while last and font.getlength(last + " …") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last + " …"]
    return lines


def _pieces(word: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """A word cut so that each piece fits into the line; words that fit stay whole."""
    if font.getlength(word) <= width:
        return [word]
    pieces, current = [], ""
    for letter in word:
        if current and font.getlength(current + letter) > width:
            pieces.append(current)
            current = ""
        current += letter
    return [*pieces, current]
