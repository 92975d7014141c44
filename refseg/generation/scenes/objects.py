"""Vehicles, furniture, tableware and things, drawn with a `Pen`."""

from __future__ import annotations

import math

from refseg.generation.scenes.pen import BODY, DARK, LIGHT, Pen

_GLASS = (176, 208, 226)
_TYRE = (40, 40, 44)
_STEEL = (168, 172, 178)


def _wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.ellipse(x, y, radius, radius, pen.ink(_TYRE))
    pen.ellipse(x, y, radius * 0.55, radius * 0.55, pen.ink(_STEEL))
    pen.ellipse(x, y, radius * 0.18, radius * 0.18, pen.ink((92, 92, 98)))


def car(pen: Pen, style: int) -> None:
    glass, lamp, tail = pen.ink(_GLASS), pen.ink((250, 240, 190)), pen.ink((176, 50, 48))
    bumper = pen.ink((86, 86, 92))
    pen.curve([(0.5, 0.42), (0.72, 0.06), (1.1, 0.0), (1.5, 0.06), (1.78, 0.42), (1.1, 0.5)], BODY)
    pen.box(0.04, 0.38, 2.11, 0.8, BODY, 0.16)
    pen.box(0.04, 0.62, 2.11, 0.82, DARK, 0.08)
    pen.polygon([(0.62, 0.4), (0.78, 0.13), (1.08, 0.1), (1.08, 0.4)], glass)
    pen.polygon([(1.15, 0.1), (1.45, 0.13), (1.64, 0.4), (1.15, 0.4)], glass)
    pen.box(0.02, 0.66, 0.2, 0.78, bumper, 0.05)
    pen.box(1.95, 0.66, 2.13, 0.78, bumper, 0.05)
    pen.ellipse(0.12, 0.52, 0.07, 0.06, lamp)
    pen.box(2.03, 0.45, 2.11, 0.58, tail)
    pen.box(1.22, 0.48, 1.34, 0.52, bumper)
    for x in (0.5, 1.65):
        _wheel(pen, x, 0.78, 0.215)


def bus(pen: Pen, style: int) -> None:
    glass, lamp = pen.ink(_GLASS), pen.ink((250, 240, 190))
    frame, stripe = pen.ink((70, 72, 78)), LIGHT
    pen.box(0.02, 0.03, 1.88, 0.87, BODY, 0.09)
    pen.box(0.02, 0.5, 1.88, 0.58, stripe)
    pen.box(0.02, 0.76, 1.88, 0.87, DARK)
    pen.box(0.05, 0.15, 0.24, 0.5, glass, 0.03)
    for index in range(5):
        left = 0.56 + index * 0.25
        pen.box(left, 0.16, left + 0.2, 0.44, glass, 0.03)
    pen.box(0.3, 0.16, 0.5, 0.8, frame, 0.02)
    pen.box(0.33, 0.2, 0.39, 0.74, glass)
    pen.box(0.41, 0.2, 0.47, 0.74, glass)
    pen.ellipse(0.07, 0.68, 0.045, 0.045, lamp)
    for x in (0.66, 1.5):
        _wheel(pen, x, 0.86, 0.135)


def truck(pen: Pen, style: int) -> None:
    glass, lamp = pen.ink(_GLASS), pen.ink((250, 240, 190))
    cargo = pen.ink((186, 184, 178) if style % 2 else (150, 156, 160))
    frame, seam = pen.ink((66, 66, 70)), pen.ink((124, 126, 130))
    pen.box(0.12, 0.74, 1.92, 0.84, frame)
    pen.box(0.7, 0.04, 1.93, 0.76, cargo, 0.02)
    for x in (0.95, 1.2, 1.45, 1.7):
        pen.line([(x, 0.08), (x, 0.72)], 0.018, seam)
    pen.polygon([(0.04, 0.8), (0.04, 0.52), (0.14, 0.46), (0.24, 0.18), (0.66, 0.18), (0.66, 0.8)], BODY)
    pen.box(0.04, 0.68, 0.66, 0.8, DARK)
    pen.polygon([(0.2, 0.47), (0.29, 0.24), (0.44, 0.24), (0.44, 0.47)], glass)
    pen.box(0.48, 0.24, 0.62, 0.47, glass)
    pen.ellipse(0.08, 0.6, 0.04, 0.05, lamp)
    for x in (0.36, 1.32, 1.64):
        _wheel(pen, x, 0.845, 0.15)


def bicycle(pen: Pen, style: int) -> None:
    tyre, steel, seat = pen.ink(_TYRE), pen.ink(_STEEL), pen.ink((58, 50, 48))
    front, back, y, radius = 0.34, 1.21, 0.67, 0.31
    for x in (front, back):
        for spoke in range(4):
            angle = spoke * math.pi / 4
            across, down = math.cos(angle) * radius * 0.9, math.sin(angle) * radius * 0.9
            pen.line([(x - across, y - down), (x + across, y + down)], 0.014, steel)
        pen.ring(x, y, radius, 0.06, tyre)
    pedal = (0.76, 0.7)
    saddle, bar = (0.9, 0.24), (0.5, 0.24)
    for ends in (
        (pedal, saddle),
        (pedal, (0.52, 0.34)),
        ((0.86, 0.36), (0.52, 0.34)),
        (pedal, (back, y)),
        ((0.87, 0.34), (back, y)),
        ((front, y), bar),
    ):
        pen.line(list(ends), 0.07, BODY)
    pen.line([(0.9, 0.26), (0.92, 0.16)], 0.04, steel)
    pen.line([(0.8, 0.14), (1.04, 0.13)], 0.07, seat)
    pen.line([(0.5, 0.26), (0.48, 0.12), (0.34, 0.1)], 0.045, steel)
    pen.line([(0.3, 0.1), (0.42, 0.1)], 0.06, seat)
    pen.ellipse(*pedal, 0.07, 0.07, steel)


def chair(pen: Pen, style: int) -> None:
    for x in (0.12, 0.54):
        pen.box(x - 0.03, 0.1, x + 0.03, 0.88, DARK)
    if style % 2:
        pen.box(0.09, 0.03, 0.57, 0.34, BODY, 0.06)
    else:
        for top in (0.05, 0.19, 0.33):
            pen.box(0.09, top, 0.57, top + 0.09, BODY, 0.03)
    pen.polygon([(0.1, 0.5), (0.56, 0.5), (0.64, 0.63), (0.02, 0.63)], LIGHT)
    pen.box(0.02, 0.63, 0.64, 0.69, BODY)
    for x in (0.055, 0.605):
        pen.box(x - 0.035, 0.66, x + 0.035, 1.0, BODY)


def table(pen: Pen, style: int) -> None:
    """Seen from above, so that the top is a band that other things can stand on."""
    wide = pen.aspect
    for x in (0.22, wide - 0.22):
        pen.box(x - 0.035, 0.2, x + 0.035, 0.86, DARK)
    pen.polygon([(0.2, 0.0), (wide - 0.2, 0.0), (wide - 0.01, 0.24), (0.01, 0.24)], LIGHT)
    pen.box(0.01, 0.24, wide - 0.01, 0.33, BODY)
    pen.box(0.1, 0.33, wide - 0.1, 0.41, DARK)
    for x in (0.1, wide - 0.1):
        pen.box(x - 0.05, 0.33, x + 0.05, 1.0, BODY)


def sofa(pen: Pen, style: int) -> None:
    leg = pen.ink((66, 52, 42))
    for x in (0.14, 1.81):
        pen.box(x - 0.05, 0.86, x + 0.05, 1.0, leg)
    pen.box(0.1, 0.02, 1.85, 0.7, BODY, 0.16)
    pen.box(0.24, 0.48, 0.965, 0.72, LIGHT, 0.07)
    pen.box(0.985, 0.48, 1.71, 0.72, LIGHT, 0.07)
    pen.box(0.1, 0.68, 1.85, 0.92, DARK, 0.04)
    pen.box(0.02, 0.3, 0.28, 0.93, BODY, 0.12)
    pen.box(1.67, 0.3, 1.93, 0.93, BODY, 0.12)


def lamp(pen: Pen, style: int) -> None:
    steel, glow = pen.ink((92, 88, 84)), pen.ink((255, 244, 200))
    pen.line([(0.22, 0.3), (0.22, 0.95)], 0.035, steel)
    pen.ellipse(0.22, 0.965, 0.13, 0.033, steel)
    pen.ellipse(0.22, 0.3, 0.13, 0.03, glow)
    if style % 2:
        pen.polygon([(0.12, 0.01), (0.32, 0.01), (0.43, 0.3), (0.01, 0.3)], BODY)
    else:
        pen.slice(0.22, 0.3, 0.21, 0.29, 180, 360, BODY)


def cup(pen: Pen, style: int) -> None:
    inside = pen.ink((92, 66, 52))
    pen.ring(0.98, 0.48, 0.2, 0.09, DARK)
    pen.polygon([(0.06, 0.14), (0.92, 0.14), (0.8, 0.9), (0.18, 0.9)], BODY)
    pen.ellipse(0.49, 0.9, 0.31, 0.09, BODY)
    pen.ellipse(0.49, 0.14, 0.43, 0.125, LIGHT)
    pen.ellipse(0.49, 0.155, 0.36, 0.085, inside)


def bottle(pen: Pen, style: int) -> None:
    cap, label = pen.ink((90, 84, 78)), pen.ink((226, 222, 208))
    pen.box(0.13, 0.06, 0.23, 0.34, BODY)
    pen.curve(
        [(0.13, 0.24), (0.23, 0.24), (0.34, 0.42), (0.34, 0.9), (0.3, 0.99), (0.06, 0.99), (0.02, 0.9), (0.02, 0.42)],
        BODY,
    )
    pen.box(0.05, 0.4, 0.09, 0.92, LIGHT, 0.02)
    pen.box(0.02, 0.56, 0.34, 0.76, label)
    pen.box(0.12, 0.0, 0.24, 0.09, cap, 0.02)


def vase(pen: Pen, style: int) -> None:
    leaf, bloom = pen.ink((74, 128, 70)), pen.ink((226, 196, 206) if style % 2 else (214, 214, 236))
    pen.line([(0.31, 0.5), (0.31, 0.12)], 0.03, leaf)
    pen.line([(0.31, 0.5), (0.16, 0.18)], 0.03, leaf)
    pen.line([(0.31, 0.5), (0.47, 0.18)], 0.03, leaf)
    for x, y in ((0.31, 0.09), (0.13, 0.17), (0.49, 0.17)):
        pen.ellipse(x, y, 0.085, 0.085, bloom)
        pen.ellipse(x, y, 0.03, 0.03, pen.ink((214, 170, 70)))
    pen.curve(
        [
            (0.2, 0.4),
            (0.42, 0.4),
            (0.41, 0.5),
            (0.56, 0.68),
            (0.52, 0.88),
            (0.42, 0.99),
            (0.2, 0.99),
            (0.1, 0.88),
            (0.06, 0.68),
            (0.21, 0.5),
        ],
        BODY,
    )
    pen.ellipse(0.31, 0.405, 0.13, 0.03, DARK)


def ball(pen: Pen, style: int) -> None:
    pen.ellipse(0.5, 0.5, 0.495, 0.495, BODY)


def box(pen: Pen, style: int) -> None:
    wide = pen.aspect
    tape = pen.ink((206, 178, 128))
    pen.polygon([(0.18, 0.0), (wide - 0.18, 0.0), (wide - 0.01, 0.28), (0.01, 0.28)], LIGHT)
    pen.box(0.01, 0.28, wide - 0.01, 0.995, BODY)
    pen.polygon(
        [(wide / 2 - 0.06, 0.0), (wide / 2 + 0.06, 0.0), (wide / 2 + 0.08, 0.28), (wide / 2 - 0.08, 0.28)], tape
    )
    pen.box(wide / 2 - 0.08, 0.28, wide / 2 + 0.08, 0.48, tape)


def suitcase(pen: Pen, style: int) -> None:
    steel, tyre = pen.ink(_STEEL), pen.ink(_TYRE)
    pen.line([(0.26, 0.2), (0.26, 0.03), (0.52, 0.03), (0.52, 0.2)], 0.05, steel)
    for x in (0.14, 0.64):
        pen.ellipse(x, 0.955, 0.045, 0.045, tyre)
    pen.box(0.02, 0.17, 0.76, 0.94, BODY, 0.1)
    for x in (0.17, 0.39, 0.61):
        pen.box(x - 0.015, 0.22, x + 0.015, 0.89, DARK)
    for x in (0.05, 0.66):
        pen.box(x, 0.5, x + 0.07, 0.58, steel)


def umbrella(pen: Pen, style: int) -> None:
    """Open, lying on its rim, the handle to the front."""
    steel = pen.ink((110, 104, 98))
    wide = pen.aspect
    middle = wide / 2
    pen.line([(middle, 0.06), (middle, 0.0)], 0.04, steel)
    pen.line([(middle, 0.6), (middle, 0.93), (middle - 0.1, 0.97), (middle - 0.17, 0.9)], 0.045, steel)
    pen.slice(middle, 0.72, wide / 2 - 0.01, 0.68, 180, 360, BODY)
    for index in range(4):
        left = 0.01 + index * (wide - 0.02) / 4
        right = left + (wide - 0.02) / 4
        pen.slice((left + right) / 2, 0.72, (right - left) / 2, 0.075, 0, 180, BODY if index % 2 else DARK)
    for index in (1, 2, 3):
        rim = 0.01 + index * (wide - 0.02) / 4
        pen.line([(middle, 0.06), ((middle + 2 * rim) / 3, 0.36), (rim, 0.72)], 0.015, DARK)
