"""What stands behind the objects: floor, wall or sky, and clutter that no expression names.

Everything is muted, so that a colour word never means the backdrop, and drawn in perspective: a floor pixel at height y
lies 1 / (y - horizon) away.
"""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from refseg.generation.scenes.world import Layout

_FLOORS = ((172, 142, 108), (146, 116, 88), (190, 178, 160), (156, 158, 160), (132, 126, 120), (182, 164, 146))
_WALLS = ((214, 206, 190), (196, 206, 208), (206, 196, 202), (200, 208, 190), (222, 216, 206), (186, 190, 200))
_GROUNDS = ((122, 140, 92), (134, 146, 104), (150, 142, 122), (142, 142, 142), (168, 156, 128), (112, 132, 96))
_SKIES = ((176, 200, 222), (196, 208, 218), (206, 198, 196), (184, 206, 214))
_SUPERSAMPLE = 2


def draw_backdrop(layout: Layout, size: int, rng: random.Random) -> NDArray[np.float32]:
    """The empty set as (size, size, 3) float32, 0 to 255."""
    noise = np.random.default_rng(rng.getrandbits(63))
    picture = np.empty((size, size, 3), dtype=np.float32)
    edge = round(layout.edge * size)
    picture[edge:] = _floor(layout, size, edge, rng, noise)
    picture[:edge] = _wall(size, edge, rng, noise) if layout.indoors else _sky(size, edge, rng, noise)
    behind = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    behind = _clutter(behind, layout, size, rng)
    picture = np.asarray(behind, dtype=np.float32).copy()
    picture += noise.normal(0, 2.2, (size, size, 1)).astype(np.float32)
    return picture


def _clouds(noise: np.random.Generator, height: int, width: int, cells: int) -> NDArray[np.float32]:
    """Smooth noise between -1 and 1 with about `cells` bumps across."""
    rows = max(2, round(cells * height / max(width, 1)) + 1)
    coarse = noise.uniform(-1, 1, (rows, cells + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _floor(layout: Layout, size: int, edge: int, rng: random.Random, noise: np.random.Generator) -> NDArray[np.float32]:
    base = np.array(rng.choice(_FLOORS if layout.indoors else _GROUNDS), dtype=np.float32)
    below = (np.arange(edge, size, dtype=np.float32) + 0.5) / size - layout.horizon
    below = np.maximum(below, 0.004)[:, None]
    away = 0.6 / below  # distance along the floor
    side = ((np.arange(size, dtype=np.float32) + 0.5) / size - rng.uniform(0.35, 0.65))[None, :] / below
    blur = np.clip(below * 14, 0, 1)  # far detail fades before it would alias
    rows = size - edge
    kind = rng.choice(("planks", "tiles", "carpet")) if layout.indoors else rng.choice(("grass", "road", "paving"))
    if kind == "planks":
        lane = side * 3.2
        tone = np.sin(np.floor(lane) * 12.9898 + np.floor(away * 0.7 + np.floor(lane) * 0.37) * 78.233) * 0.06
        seam = np.abs(lane - np.round(lane)) < 0.035
        grain = np.sin(lane * 37 + _clouds(noise, rows, size, 9) * 5) * 0.025
        value = 1 + (tone + grain - 0.22 * seam) * blur
    elif kind in ("tiles", "paving"):
        across, along = side * 2.1, away * 1.6
        odd = (np.floor(across) + np.floor(along)) % 2
        joint = (np.abs(across - np.round(across)) < 0.03) | (np.abs(along - np.round(along)) < 0.04)
        value = 1 + ((odd - 0.5) * (0.12 if kind == "tiles" else 0.05) - 0.16 * joint) * blur
    elif kind == "grass":
        tufts = noise.normal(0, 1, (rows, size)).astype(np.float32)
        tufts[1:] += 0.8 * tufts[:-1]
        value = 1 + tufts * 0.055 * (0.4 + 0.6 * blur) + _clouds(noise, rows, size, 5) * 0.06
    else:
        value = 1 + noise.normal(0, 0.03, (rows, size)).astype(np.float32) + _clouds(noise, rows, size, 4) * 0.05
    haze = np.clip(0.35 - below * 0.9, 0, 0.35)
    floor = base[None, None] * (value + _clouds(noise, rows, size, 3) * 0.04)[:, :, None]
    return (floor * (1 - haze)[:, :, None] + 205 * haze[:, :, None]).astype(np.float32)


def _wall(size: int, edge: int, rng: random.Random, noise: np.random.Generator) -> NDArray[np.float32]:
    base = np.array(rng.choice(_WALLS), dtype=np.float32)
    down = (np.arange(edge, dtype=np.float32) / size)[:, None]
    across = (np.arange(size, dtype=np.float32) / size)[None, :]
    kind = rng.choice(("plain", "stripes", "bricks", "panels"))
    value = 0.94 + 0.1 * down + _clouds(noise, edge, size, 3) * 0.03
    if kind == "stripes":
        value = value + 0.035 * ((across * rng.randint(9, 15)) % 1 < 0.5)
    elif kind == "bricks":
        row = down * 22
        shifted = across * 11 + 0.5 * (np.floor(row) % 2)
        value = value - 0.08 * ((row % 1 < 0.14) | (shifted % 1 < 0.07))
    elif kind == "panels":
        value = value - 0.07 * ((across * 8) % 1 < 0.04)
    return (base[None, None] * value[:, :, None]).astype(np.float32)


def _sky(size: int, edge: int, rng: random.Random, noise: np.random.Generator) -> NDArray[np.float32]:
    base = np.array(rng.choice(_SKIES), dtype=np.float32)
    down = np.linspace(0, 1, edge, dtype=np.float32)[:, None]
    cloud = np.clip(_clouds(noise, edge, size, 6) + 0.6 * _clouds(noise, edge, size, 13), 0, 1) * (1 - 0.5 * down)
    sky = base[None, None] * (0.92 + 0.1 * down)[:, :, None]
    return (sky * (1 - 0.55 * cloud)[:, :, None] + 236 * 0.55 * cloud[:, :, None]).astype(np.float32)


def _clutter(picture: Image.Image, layout: Layout, size: int, rng: random.Random) -> Image.Image:
    """Things of no category, drawn on the upper part and on the floor, anti-aliased by drawing twice as large."""
    scale = size * _SUPERSAMPLE
    large = picture.resize((scale, scale), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(large)
    if layout.indoors:
        _room(pen, layout, scale, rng)
    else:
        _land(pen, layout, scale, rng)
    return large.reduce(_SUPERSAMPLE)


def _room(pen: ImageDraw.ImageDraw, layout: Layout, scale: int, rng: random.Random) -> None:
    edge = layout.edge * scale
    skirting = rng.choice(((232, 228, 220), (150, 132, 112), (188, 182, 174)))
    pen.rectangle((0, edge - 0.022 * scale, scale, edge), fill=skirting)
    pen.line((0, edge, scale, edge), fill=(96, 88, 80), width=max(1, scale // 320))
    left = rng.uniform(-0.05, 0.2)
    while left < 0.95:
        width = rng.uniform(0.12, 0.26)
        item = rng.choice(("window", "frame", "shelf", "socket", "nothing", "curtain"))
        x0, x1 = left * scale, (left + width) * scale
        y0, y1 = 0.05 * scale, edge - rng.uniform(0.1, 0.16) * scale
        if item == "window" and y1 > y0:
            pen.rectangle((x0, y0, x1, y1), fill=(236, 234, 228), outline=(150, 146, 140), width=2)
            rim = 0.014 * scale
            pen.rectangle((x0 + rim, y0 + rim, x1 - rim, y1 - rim), fill=(190, 210, 222))
            pen.rectangle(((x0 + x1) / 2 - rim / 3, y0 + rim, (x0 + x1) / 2 + rim / 3, y1 - rim), fill=(236, 234, 228))
        elif item == "frame" and y1 > y0:
            pen.rectangle((x0, y0, x1, y1), fill=rng.choice(((112, 92, 70), (86, 84, 82), (186, 170, 130))))
            rim = 0.012 * scale
            pen.rectangle((x0 + rim, y0 + rim, x1 - rim, y1 - rim), fill=(214, 210, 198))
            middle = (y0 + y1) / 2
            pen.ellipse((x0 + 2 * rim, middle, x1 - 2 * rim, y1 - 1.5 * rim), fill=(164, 176, 168))
        elif item == "shelf":
            y = edge - rng.uniform(0.15, 0.2) * scale
            pen.rectangle((x0, y, x1, y + 0.012 * scale), fill=(132, 112, 92))
            x = x0 + 0.01 * scale
            while x < x1 - 0.03 * scale:
                wide, tall = rng.uniform(0.008, 0.02) * scale, rng.uniform(0.03, 0.06) * scale
                shade = rng.randint(100, 190)
                pen.rectangle((x, y - tall, x + wide, y), fill=(shade, shade - 6, shade - 14))
                x += wide + 1
        elif item == "socket":
            y = edge - 0.06 * scale
            pen.rectangle((x0, y, x0 + 0.022 * scale, y + 0.022 * scale), fill=(236, 236, 232), outline=(150, 150, 150))
        elif item == "curtain":
            for fold in range(5):
                shade = 176 + 14 * (fold % 2)
                step = (x1 - x0) / 8
                pen.rectangle(
                    (x0 + fold * step, 0, x0 + (fold + 1) * step, edge - 0.03 * scale),
                    fill=(shade, shade - 6, shade - 16),
                )
        left += width + rng.uniform(0.04, 0.2)
    if rng.random() < 0.5:
        middle, y = rng.uniform(0.25, 0.75) * scale, rng.uniform(layout.edge + 0.15, 0.9) * scale
        across, down = rng.uniform(0.2, 0.36) * scale, rng.uniform(0.05, 0.1) * scale
        tone = rng.choice(((158, 146, 134), (134, 140, 146), (164, 156, 160)))
        pen.ellipse((middle - across, y - down, middle + across, y + down), fill=tone)
        inner = tuple(min(255, value + 20) for value in tone)
        pen.ellipse(
            (middle - across * 0.86, y - down * 0.84, middle + across * 0.86, y + down * 0.84), outline=inner, width=3
        )


def _land(pen: ImageDraw.ImageDraw, layout: Layout, scale: int, rng: random.Random) -> None:
    edge = layout.edge * scale
    if rng.random() < 0.75:
        tone = rng.choice(((140, 158, 150), (150, 160, 172), (156, 164, 144)))
        phase, tall = rng.uniform(0, 6), rng.uniform(0.03, 0.1) * scale
        ridge = [
            (x * scale / 24, edge - tall * (0.55 + 0.3 * math.sin(x * 0.5 + phase) + 0.15 * math.sin(x * 1.3 + phase)))
            for x in range(25)
        ]
        pen.polygon([(0, edge), *ridge, (scale, edge)], fill=tone)
    if rng.random() < 0.4:
        x = 0.0
        while x < 1:
            wide, tall = rng.uniform(0.06, 0.14), rng.uniform(0.08, 0.2)
            shade = rng.randint(150, 196)
            top = edge - tall * scale
            pen.rectangle((x * scale, top, (x + wide) * scale, edge), fill=(shade, shade - 4, shade - 10))
            for row in range(int(tall / 0.035)):
                for column in range(int(wide / 0.03)):
                    left, y = (x + 0.01 + column * 0.03) * scale, top + (0.012 + row * 0.035) * scale
                    if y < edge - 0.02 * scale:
                        pen.rectangle((left, y, left + 0.014 * scale, y + 0.016 * scale), fill=(128, 136, 148))
            x += wide + rng.uniform(0, 0.05)
    for _ in range(rng.randint(0, 5)):
        x, tall = rng.uniform(0, 1) * scale, rng.uniform(0.04, 0.1) * scale
        leaf = rng.choice(((104, 128, 96), (92, 116, 92), (122, 138, 104)))
        pen.rectangle((x - 0.006 * scale, edge - 0.4 * tall, x + 0.006 * scale, edge + 2), fill=(112, 96, 82))
        for _ in range(5):
            cx, cy = x + rng.uniform(-0.5, 0.5) * tall, edge - tall * rng.uniform(0.5, 1.0)
            pen.ellipse((cx - tall * 0.4, cy - tall * 0.34, cx + tall * 0.4, cy + tall * 0.34), fill=leaf)
    for _ in range(rng.randint(2, 9)):
        y = rng.uniform(layout.edge + 0.04, 0.99)
        wide = rng.uniform(0.012, 0.04) * (y - layout.horizon) * 2 * scale
        x, shade = rng.uniform(0, 1) * scale, rng.randint(120, 165)
        pen.ellipse(
            (x - wide, y * scale - wide * 0.5, x + wide, y * scale + wide * 0.4), fill=(shade, shade, shade - 6)
        )
        pen.ellipse(
            (x - wide * 0.7, y * scale - wide * 0.5, x + wide * 0.4, y * scale),
            fill=(shade + 18, shade + 18, shade + 12),
        )
