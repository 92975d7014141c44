"""A pen for one object: primitives on a canvas of ink numbers, turned into an anti-aliased patch with alpha.

Coordinates are in object heights: (0, 0) is the top left corner, (aspect, 1) the bottom right one. The canvas holds one
byte a pixel: the low six bits say which ink, bit 6 that the pixel lies on the outline and bit 7 that the pattern's
second colour shows, so that colours come from one table look-up however many parts an object has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int | float, int | float, int | float]
Points = Sequence[tuple[float, float]]

BODY, DARK, LIGHT = 1, 2, 3  # the object's own colour, in its shade, in the light: these three carry the pattern
_OUTLINE, _SECOND = 64, 128


class Pen:
    """Draws one object `height` pixels tall, `scale` times larger than it will be, mirrored if `flip`."""

    def __init__(self, height: int, aspect: float, scale: int, flip: bool, body: Colour, second: Colour) -> None:
        self.height, self.width, self.scale, self.flip = height, max(1, math.ceil(height * aspect)), scale, flip
        self.unit = height * scale
        self.aspect = aspect
        self.margin = scale  # one finished pixel on every side for the outline
        size = (self.width * scale + 2 * scale, self.unit + 2 * scale)
        self.image = Image.new("L", size, 0)
        self.canvas = ImageDraw.Draw(self.image)
        self.inks: list[tuple[Colour, Colour]] = [((0, 0, 0), (0, 0, 0))]
        for light in (1.0, 0.78, 1.16):
            self.inks.append((_scaled(body, light), _scaled(second, light)))

    def ink(self, colour: Colour) -> int:
        """A number for a colour without pattern."""
        self.inks.append((colour, colour))
        return len(self.inks) - 1

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Canvas pixel of a point."""
        if self.flip:
            x = self.aspect - x
        return x * self.unit + self.margin, y * self.unit + self.margin

    def polygon(self, points: Points, ink: int) -> None:
        self.canvas.polygon([self.at(*point) for point in points], fill=ink)

    def ellipse(self, x: float, y: float, across: float, down: float, ink: int) -> None:
        """Middle and half axes."""
        x, y = self.at(x, y)
        across, down = across * self.unit, down * self.unit
        self.canvas.ellipse((x - across, y - down, x + across, y + down), fill=ink)

    def slice(self, x: float, y: float, across: float, down: float, start: int, stop: int, ink: int) -> None:
        """The part of an ellipse between two angles, in degrees clockwise from the right."""
        if self.flip:
            start, stop = 180 - stop, 180 - start
        x, y = self.at(x, y)
        across, down = across * self.unit, down * self.unit
        self.canvas.pieslice((x - across, y - down, x + across, y + down), start, stop, fill=ink)

    def box(self, left: float, top: float, right: float, bottom: float, ink: int, round_: float = 0.0) -> None:
        """A rectangle, with corners of radius `round_`."""
        (x0, y0), (x1, y1) = self.at(left, top), self.at(right, bottom)
        corners = (min(x0, x1), y0, max(x0, x1), y1)
        if round_ > 0:
            radius = min(round_ * self.unit, (corners[2] - corners[0]) / 2, (y1 - y0) / 2)
            self.canvas.rounded_rectangle(corners, radius, fill=ink)
        else:
            self.canvas.rectangle(corners, fill=ink)

    def line(self, points: Points, width: float, ink: int) -> None:
        """A stroke with round ends and joints."""
        pixels = [self.at(*point) for point in points]
        thick = max(1.0, width * self.unit)
        self.canvas.line(pixels, fill=ink, width=round(thick), joint="curve")
        if thick > 2:
            for x, y in (pixels[0], pixels[-1]):
                self.canvas.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=ink)

    def ring(self, x: float, y: float, radius: float, width: float, ink: int) -> None:
        """A circle line."""
        x, y = self.at(x, y)
        radius, thick = radius * self.unit, max(1, round(width * self.unit))
        self.canvas.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=thick)

    def curve(self, points: Points, ink: int) -> None:
        """A smooth closed shape through points (Catmull-Rom)."""
        self.polygon(_smooth(points), ink)

    def finish(self, pattern: str | None, period: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The patch: (h, w, 3) colours times coverage, 0 to 255, and (h, w) coverage, 0 to 1."""
        codes = np.array(self.image, dtype=np.uint8)
        solid = codes > 0
        inner = solid.copy()
        reach = self.scale // 2
        inner[reach:] &= solid[:-reach]
        inner[:-reach] &= solid[reach:]
        inner[:, reach:] &= solid[:, :-reach]
        inner[:, :-reach] &= solid[:, reach:]
        if pattern is not None:
            paint = (codes <= LIGHT) & solid & self._second(pattern, period, codes.shape)
            codes[paint] |= _SECOND
        codes[solid & ~inner] |= _OUTLINE
        table = np.zeros((256, 4), dtype=np.uint8)
        for number, colours in enumerate(self.inks[1:], 1):
            for code, colour in ((number, colours[0]), (number | _SECOND, colours[1])):
                table[code] = (*(min(255, round(value)) for value in colour), 255)
                table[code | _OUTLINE] = (*(min(255, round(value * 0.45)) for value in colour), 255)
        pixels = table.view(np.uint32)[:, 0][codes]
        height, width = codes.shape
        small = Image.frombuffer("RGBX", (width, height), pixels.tobytes(), "raw", "RGBX", 0, 1).reduce(self.scale)
        patch = np.asarray(small, dtype=np.float32)
        return patch[:, :, :3].copy(), patch[:, :, 3] / np.float32(255)

    def _second(self, pattern: str, period: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Where the second colour of a pattern shows; `period` in object heights, at least five finished pixels."""
        step = max(period * self.unit, 5.0 * self.scale)
        down = (np.arange(shape[0]) / step)[:, None]
        across = (np.arange(shape[1]) / step)[None, :]
        if pattern == "striped":
            return np.broadcast_to(down % 1 < 0.45, shape)
        if pattern == "checked":
            return (down % 1 < 0.5) ^ (across % 1 < 0.5)
        shifted = across + 0.5 * (np.floor(down) % 2)
        return (down % 1 - 0.5) ** 2 + (shifted % 1 - 0.5) ** 2 < 0.31**2


def _scaled(colour: Colour, light: float) -> Colour:
    return colour[0] * light, colour[1] * light, colour[2] * light


def _smooth(points: Points, steps: int = 6) -> list[tuple[float, float]]:
    smooth = []
    count = len(points)
    for index in range(count):
        before, here, there, after = (points[(index + offset) % count] for offset in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            smooth.append(
                tuple(
                    0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)
                    for a, b, c, d in zip(before, here, there, after, strict=True)
                )
            )
    return smooth  # type: ignore[return-value]
