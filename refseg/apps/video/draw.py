"""Frames of an overlay: every frame of a clip in one size, and a thing in one colour for as long as it is tracked."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from refseg.inference.segmentation import Segmentation
from refseg.inference.visualize import BAND, BAND_NONE, COLOURS

__all__ = ["draw_frame", "track_colour"]


def track_colour(number: int) -> tuple[int, int, int]:
    """The colour of a track (numbers from 1)."""
    return COLOURS[(number - 1) % len(COLOURS)]


def draw_frame(
    image: Image.Image, answer: Segmentation, numbers: tuple[int, ...], caption: str | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with its targets coloured, outlined and numbered, the rest darker.

    `numbers[k]` is shown beside instance k and decides its colour. With a `caption` a band of a fixed height is added
    below. Height and width are even, as video formats want it: an odd side repeats its last line.
    """
    pixels = np.asarray(image, dtype=np.float32)
    height, width = pixels.shape[:2]
    line = max(1, round((height * width) ** 0.5 / 300))
    result = pixels * (0.62 if answer.mask.any() else 1.0)
    for instance, number in zip(reversed(answer.instances), reversed(numbers), strict=True):
        colour = np.array(track_colour(number), dtype=np.float32)
        where, region = instance.rows_and_columns, instance.region
        inner = ndimage.binary_erosion(np.pad(region, 1), iterations=line)[1:-1, 1:-1] if region.size else region
        tinted = pixels[where] * 0.65 + colour * 0.35
        filled = np.where(region[..., None], tinted, result[where])
        result[where] = np.where((region & ~inner)[..., None], colour, filled)
    canvas = Image.fromarray(result.round().clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(11, round(height / 28)))
    for instance, number in zip(answer.instances, numbers, strict=True):
        if len(numbers) > 1 and instance.region.size:
            (top, left), text = instance.corner, str(number)
            box = draw.textbbox((left + line, top + line), text, font=font)
            draw.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), fill=track_colour(number))
            draw.text((left + line, top + line), text, fill=(0, 0, 0), font=font)
    if caption is not None:
        canvas = _with_band(canvas, caption, answer, font)
    drawn = np.asarray(canvas)
    return np.pad(drawn, ((0, drawn.shape[0] % 2), (0, drawn.shape[1] % 2), (0, 0)), mode="edge")


def _with_band(
    canvas: Image.Image, caption: str, answer: Segmentation, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> Image.Image:
    pad = max(3, canvas.height // 100)
    ascent = int(font.getbbox("Ag")[3])
    sheet = Image.new("RGB", (canvas.width, canvas.height + ascent + 2 * pad), BAND_NONE if answer.no_target else BAND)
    sheet.paste(canvas, (0, 0))
    draw = ImageDraw.Draw(sheet)
    count = len(answer.instances)
    said = "none" if answer.no_target else "1 target" if count == 1 else f"{count} targets"
    width = font.getlength(said)
    text = caption
    while len(text) > 1 and font.getlength(text) > canvas.width - width - 4 * pad:
        text = text.removesuffix("…")[:-1] + "…"
    draw.text((pad, canvas.height + pad), text, fill=(255, 255, 255), font=font)
    colour = (255, 196, 196) if answer.no_target else (176, 224, 255)
    draw.text((canvas.width - width - pad, canvas.height + pad), said, fill=colour, font=font)
    return sheet
