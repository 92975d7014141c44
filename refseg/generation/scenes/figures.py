"""People and animals, drawn with a `Pen`. People face us; animals stand in profile, looking left unless mirrored."""

from __future__ import annotations

from refseg.generation.scenes.pen import BODY, DARK, LIGHT, Colour, Pen

_SKIN: tuple[Colour, ...] = ((250, 214, 184), (236, 188, 150), (206, 150, 110), (160, 108, 74), (112, 74, 52))
_HAIR: tuple[Colour, ...] = (
    (38, 30, 28),
    (84, 54, 34),
    (150, 104, 56),
    (214, 178, 104),
    (164, 72, 40),
    (150, 148, 146),
)
_TROUSERS: tuple[Colour, ...] = ((92, 96, 104), (124, 126, 130), (68, 74, 86), (150, 150, 148))
_EYE: Colour = (30, 26, 26)


def person(pen: Pen, category: str, traits: tuple[str, ...], style: int) -> None:
    """A man, woman, boy or girl, standing or sitting cross-legged, perhaps waving, perhaps with a hat."""
    kid = category in ("boy", "girl")
    female = category in ("woman", "girl")
    dress = female and style // 7 % 3 > 0
    skin_colour = _SKIN[style % len(_SKIN)]
    hair_choices = _HAIR[:5] if kid else _HAIR
    skin, skin_dark = pen.ink(skin_colour), pen.ink(tuple(v * 0.85 for v in skin_colour))  # type: ignore[arg-type]
    hair = pen.ink(hair_choices[style // 5 % len(hair_choices)])
    trousers, shoes = pen.ink(_TROUSERS[style // 11 % len(_TROUSERS)]), pen.ink((58, 48, 46))
    middle = pen.aspect / 2
    # Lengths are in body heights of a standing figure; sitting figures are 0.6 as tall, so they are scaled up.
    zoom = 1 / 0.6 if "sitting" in traits else 1.0
    head = (0.098 if kid else 0.072) * zoom
    neck = 2 * head * 1.14 + 0.012 * zoom
    if "hat" in traits:
        neck += 0.03 * zoom
    shoulder = (0.115 if kid else 0.108 if female else 0.132) * zoom
    waist = (0.085 if female and not kid else 0.098) * zoom
    hip = neck + 0.31 * zoom if not kid else neck + 0.27 * zoom
    face_y = neck - head * 1.12
    if female:
        fall = neck + (0.09 if style // 13 % 2 else 0.02) * zoom
        pen.box(middle - head * 1.12, face_y - head * 0.3, middle + head * 1.12, fall, hair, head * 0.6)
    if "sitting" in traits:
        _folded_legs(pen, middle, hip, BODY if dress else trousers, DARK if dress else trousers, shoes)
    else:
        _standing_legs(pen, middle, hip, waist, kid, dress, skin, trousers, shoes)
    pen.box(middle - 0.03 * zoom, neck - 0.04 * zoom, middle + 0.03 * zoom, neck + 0.03 * zoom, skin_dark)
    body = [
        (middle - 0.05 * zoom, neck),
        (middle - shoulder, neck + 0.045 * zoom),
        (middle - waist, neck + 0.19 * zoom),
        (middle - waist * 1.08, hip + 0.02 * zoom),
        (middle + waist * 1.08, hip + 0.02 * zoom),
        (middle + waist, neck + 0.19 * zoom),
        (middle + shoulder, neck + 0.045 * zoom),
        (middle + 0.05 * zoom, neck),
    ]
    pen.polygon(body, BODY)
    if dress and "sitting" not in traits:
        hem = hip + (0.16 if not kid else 0.13)
        flare = shoulder * (1.35 if style % 2 else 1.1)
        pen.polygon(
            [(middle - waist, hip - 0.1), (middle - flare, hem), (middle + flare, hem), (middle + waist, hip - 0.1)],
            BODY,
        )
    _arms(pen, middle, neck, shoulder, hip, zoom, "waving" in traits, "sitting" in traits, skin)
    _head(pen, middle, face_y, head, female, skin, hair, "hat" in traits, style)


def _standing_legs(
    pen: Pen, middle: float, hip: float, waist: float, kid: bool, dress: bool, skin: int, trousers: int, shoes: int
) -> None:
    width = 0.085 if kid else 0.08
    for side in (-1, 1):
        x = middle + side * waist * 0.55
        foot_x = middle + side * waist * 0.72
        pen.line([(x, hip + 0.02), (foot_x, 0.945)], width * (0.72 if dress else 1.0), skin if dress else trousers)
        pen.ellipse(foot_x + side * 0.018, 0.968, 0.052, 0.03, shoes)
    if not dress:
        pen.box(middle - waist * 1.05, hip - 0.01, middle + waist * 1.05, hip + 0.06, trousers)


def _folded_legs(pen: Pen, middle: float, hip: float, cloth: int, shade: int, shoes: int) -> None:
    knee = 0.40
    for side in (-1, 1):
        pen.line([(middle + side * 0.08, hip - 0.02), (middle + side * knee, 0.865)], 0.16, cloth)
    pen.ellipse(middle - 0.2, 0.945, 0.07, 0.045, shoes)
    pen.ellipse(middle + 0.2, 0.945, 0.07, 0.045, shoes)
    for side in (-1, 1):
        pen.line([(middle + side * knee, 0.875), (middle - side * 0.12, 0.925)], 0.115, shade)


def _arms(
    pen: Pen,
    middle: float,
    neck: float,
    shoulder: float,
    hip: float,
    zoom: float,
    waving: bool,
    sitting: bool,
    skin: int,
) -> None:
    thick = 0.056 * zoom
    top = neck + 0.065 * zoom
    for side in (-1, 1):
        start = (middle + side * (shoulder - 0.022 * zoom), top)
        if waving and side == 1:
            elbow = (middle + side * (shoulder + 0.055 * zoom), top + 0.02 * zoom)
            hand = (middle + side * (shoulder + 0.075 * zoom), top - 0.15 * zoom)
        elif sitting:
            elbow = (middle + side * (shoulder + 0.035 * zoom), top + 0.12 * zoom)
            hand = (middle + side * 0.3, 0.835)
        else:
            elbow = (middle + side * (shoulder + 0.022 * zoom), top + 0.12 * zoom)
            hand = (middle + side * (shoulder + 0.012 * zoom), hip + 0.03 * zoom)
        pen.line([start, elbow, hand], thick * 0.85, skin)
        pen.line([start, elbow], thick, DARK)
        pen.ellipse(hand[0], hand[1], thick * 0.55, thick * 0.6, skin)


def _head(pen: Pen, x: float, y: float, head: float, female: bool, skin: int, hair: int, hat: bool, style: int) -> None:
    eye, mouth = pen.ink(_EYE), pen.ink((150, 64, 60))
    if not female:
        for side in (-1, 1):
            pen.ellipse(x + side * head * 0.95, y + head * 0.1, head * 0.2, head * 0.24, skin)
    pen.ellipse(x, y, head * 0.95, head * 1.12, skin)
    if female:
        pen.slice(x, y - head * 0.02, head * 1.04, head * 1.18, 180, 360, hair)
        pen.ellipse(x, y + head * 0.1, head * 0.76, head * 0.72, skin)
        pen.slice(x - head * 0.35, y - head * 0.35, head * 0.75, head * 0.6, 150, 330, hair)
    else:
        pen.slice(x, y - head * 0.12, head * 1.0, head * 1.06, 184, 356, hair)
        pen.box(x - head * 0.97, y - head * 0.3, x - head * 0.78, y + head * 0.15, hair)
        pen.box(x + head * 0.78, y - head * 0.3, x + head * 0.97, y + head * 0.15, hair)
        if style // 17 % 4 == 0 and head < 0.09:
            pen.slice(x, y + head * 0.35, head * 0.8, head * 0.75, 10, 170, hair)
            pen.ellipse(x, y + head * 0.42, head * 0.4, head * 0.2, skin)
    for side in (-1, 1):
        pen.ellipse(x + side * head * 0.36, y + head * 0.12, head * 0.11, head * 0.14, eye)
    pen.slice(x, y + head * 0.5, head * 0.32, head * 0.24, 0, 180, mouth)
    if hat:
        straw = ((196, 172, 120), (112, 112, 118), (150, 140, 128))[style // 19 % 3]
        brim, band = pen.ink(straw), pen.ink(tuple(v * 0.6 for v in straw))  # type: ignore[arg-type]
        pen.box(x - head * 0.85, y - head * 1.62, x + head * 0.85, y - head * 0.55, brim, head * 0.45)
        pen.box(x - head * 0.87, y - head * 0.85, x + head * 0.87, y - head * 0.6, band)
        pen.ellipse(x, y - head * 0.55, head * 1.5, head * 0.24, brim)


def dog(pen: Pen, style: int) -> None:
    nose, eye = pen.ink((28, 24, 24)), pen.ink(_EYE)
    tongue, collar = pen.ink((226, 112, 120)), pen.ink((150, 150, 156))
    pen.line([(1.02, 0.42), (1.14, 0.3), (1.17, 0.16)], 0.075, BODY)
    for x in (0.52, 0.98):
        pen.line([(x, 0.6), (x - 0.02, 0.95)], 0.1, DARK)
    pen.curve(
        [(0.32, 0.46), (0.5, 0.36), (0.8, 0.37), (1.06, 0.4), (1.1, 0.58), (0.9, 0.68), (0.6, 0.72), (0.4, 0.68)], BODY
    )
    pen.ellipse(0.98, 0.58, 0.13, 0.17, BODY)
    for x in (0.42, 0.9 + 0.1):
        pen.line([(x, 0.6), (x, 0.93)], 0.11, BODY)
        pen.ellipse(x - 0.03, 0.955, 0.075, 0.045, BODY)
    pen.curve([(0.3, 0.3), (0.46, 0.3), (0.54, 0.5), (0.4, 0.62), (0.3, 0.5)], BODY)
    pen.line([(0.35, 0.5), (0.51, 0.45)], 0.05, collar)
    pen.ellipse(0.34, 0.24, 0.18, 0.17, BODY)
    pen.curve([(0.3, 0.2), (0.14, 0.22), (0.04, 0.27), (0.05, 0.36), (0.2, 0.4), (0.34, 0.38)], LIGHT)
    pen.ellipse(0.06, 0.27, 0.05, 0.04, nose)
    if style % 2:
        pen.curve([(0.42, 0.08), (0.56, 0.14), (0.57, 0.36), (0.47, 0.42), (0.41, 0.26)], DARK)
    else:
        pen.polygon([(0.38, 0.12), (0.44, 0.0), (0.53, 0.17)], DARK)
        pen.polygon([(0.28, 0.12), (0.31, 0.0), (0.41, 0.1)], BODY)
    pen.ellipse(0.27, 0.2, 0.03, 0.035, eye)
    pen.ellipse(0.14, 0.405, 0.035, 0.05, tongue)


def cat(pen: Pen, style: int) -> None:
    eye, nose = pen.ink((96, 150, 60) if style % 2 else (196, 160, 40)), pen.ink((230, 130, 140))
    slit, whisker = pen.ink(_EYE), pen.ink((150, 150, 150))
    pen.line([(0.92, 0.62), (1.05, 0.5), (1.06, 0.28), (0.98, 0.12), (1.02, 0.06)], 0.075, BODY)
    for x in (0.48, 0.86):
        pen.line([(x, 0.7), (x - 0.02, 0.95)], 0.085, DARK)
    pen.curve(
        [(0.3, 0.5), (0.5, 0.44), (0.75, 0.46), (0.94, 0.52), (0.98, 0.7), (0.8, 0.8), (0.5, 0.8), (0.34, 0.72)], BODY
    )
    for x in (0.38, 0.92):
        pen.line([(x, 0.66), (x, 0.94)], 0.095, BODY)
        pen.ellipse(x - 0.025, 0.96, 0.065, 0.04, LIGHT)
    for side in (-1, 1):
        pen.polygon([(0.28 + side * 0.22, 0.02), (0.28 + side * 0.24, 0.3), (0.28 + side * 0.04, 0.14)], BODY)
        pen.polygon([(0.28 + side * 0.2, 0.07), (0.28 + side * 0.21, 0.2), (0.28 + side * 0.1, 0.15)], nose)
    pen.ellipse(0.28, 0.31, 0.26, 0.22, BODY)
    pen.ellipse(0.28, 0.41, 0.13, 0.085, LIGHT)
    for side in (-1, 1):
        pen.ellipse(0.28 + side * 0.115, 0.27, 0.052, 0.06, eye)
        pen.ellipse(0.28 + side * 0.115, 0.27, 0.018, 0.055, slit)
        pen.line([(0.28 + side * 0.08, 0.4), (0.28 + side * 0.26, 0.38)], 0.012, whisker)
        pen.line([(0.28 + side * 0.08, 0.43), (0.28 + side * 0.25, 0.45)], 0.012, whisker)
    pen.polygon([(0.25, 0.36), (0.31, 0.36), (0.28, 0.395)], nose)


def horse(pen: Pen, style: int) -> None:
    mane_colour: Colour = ((60, 44, 34), (206, 192, 160), (110, 106, 104))[style % 3]
    mane, hoof, eye = pen.ink(mane_colour), pen.ink((72, 66, 62)), pen.ink(_EYE)
    pen.curve([(1.02, 0.36), (1.12, 0.42), (1.14, 0.62), (1.08, 0.74), (1.05, 0.56)], mane)
    for x in (0.52, 0.97):
        pen.line([(x, 0.56), (x - 0.015, 0.76), (x + 0.005, 0.95)], 0.055, DARK)
        pen.box(x - 0.03, 0.94, x + 0.045, 0.995, hoof)
    pen.curve(
        [(0.34, 0.4), (0.55, 0.37), (0.8, 0.36), (1.02, 0.35), (1.08, 0.5), (0.98, 0.61), (0.7, 0.64), (0.42, 0.6)],
        BODY,
    )
    for x in (0.42, 1.03):
        pen.line([(x, 0.54), (x - 0.01, 0.76), (x, 0.95)], 0.066, BODY)
        pen.box(x - 0.04, 0.94, x + 0.04, 1.0, hoof)
    pen.polygon([(0.27, 0.1), (0.4, 0.08), (0.62, 0.4), (0.4, 0.6), (0.33, 0.42)], BODY)
    pen.curve([(0.3, 0.06), (0.4, 0.03), (0.52, 0.16), (0.62, 0.36), (0.54, 0.4), (0.44, 0.2)], mane)
    pen.curve(
        [(0.38, 0.08), (0.28, 0.07), (0.12, 0.2), (0.03, 0.3), (0.07, 0.37), (0.16, 0.35), (0.3, 0.27), (0.38, 0.18)],
        BODY,
    )
    pen.curve([(0.1, 0.24), (0.03, 0.3), (0.07, 0.37), (0.15, 0.35)], LIGHT)
    pen.polygon([(0.3, 0.08), (0.31, 0.0), (0.38, 0.07)], BODY)
    pen.ellipse(0.25, 0.16, 0.02, 0.022, eye)
    pen.ellipse(0.065, 0.3, 0.013, 0.013, eye)


def duck(pen: Pen, style: int) -> None:
    beak, eye = pen.ink((236, 134, 32)), pen.ink(_EYE)
    for x in (0.56, 0.72):
        pen.line([(x, 0.8), (x, 0.95)], 0.045, beak)
        pen.ellipse(x - 0.05, 0.965, 0.09, 0.03, beak)
    pen.curve(
        [(0.3, 0.52), (0.5, 0.5), (0.8, 0.5), (1.12, 0.38), (1.08, 0.66), (0.86, 0.86), (0.5, 0.88), (0.3, 0.74)], BODY
    )
    pen.curve([(0.5, 0.58), (0.75, 0.56), (0.98, 0.56), (0.86, 0.74), (0.62, 0.76)], DARK)
    pen.curve([(0.28, 0.3), (0.46, 0.3), (0.52, 0.56), (0.42, 0.7), (0.28, 0.62)], BODY)
    pen.ellipse(0.34, 0.22, 0.19, 0.2, BODY)
    pen.polygon([(0.2, 0.19), (0.0, 0.27), (0.02, 0.32), (0.2, 0.32)], beak)
    pen.ellipse(0.29, 0.17, 0.035, 0.04, eye)


def teddy_bear(pen: Pen, style: int) -> None:
    eye = pen.ink(_EYE)
    middle = pen.aspect / 2
    for side in (-1, 1):
        pen.ellipse(middle + side * 0.2, 0.1, 0.095, 0.095, DARK)
        pen.ellipse(middle + side * 0.2, 0.1, 0.05, 0.05, LIGHT)
        pen.line([(middle + side * 0.16, 0.52), (middle + side * 0.31, 0.66)], 0.14, DARK)
        pen.ellipse(middle + side * 0.235, 0.875, 0.15, 0.12, DARK)
        pen.ellipse(middle + side * 0.25, 0.885, 0.08, 0.07, LIGHT)
    pen.ellipse(middle, 0.68, 0.25, 0.26, BODY)
    pen.ellipse(middle, 0.7, 0.14, 0.16, LIGHT)
    pen.ellipse(middle, 0.27, 0.26, 0.23, BODY)
    pen.ellipse(middle, 0.34, 0.12, 0.095, LIGHT)
    for side in (-1, 1):
        pen.ellipse(middle + side * 0.1, 0.23, 0.03, 0.035, eye)
    pen.ellipse(middle, 0.305, 0.045, 0.03, eye)
