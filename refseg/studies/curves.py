"""Learning curves as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["curves_svg"]

_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#000000",
    "#8C564B",
    "#7F7F7F",
    "#9467BD",
)


def curves_svg(document: Mapping[str, Any]) -> str:
    """gIoU in percent by expressions learnt from, a line a system, as an SVG picture that reads on light and dark."""
    width, height, left, top, right, bottom = 720, 380, 50, 20, 130, 40
    found = {result["name"]: result["curve"] for result in document["runs"].values() if result.get("curve")}
    curves = {name: found[name] for name in document["order"] if name in found}
    most = max((point["sentences"] for curve in curves.values() for point in curve), default=1.0)
    high = max((point["gIoU"] for curve in curves.values() for point in curve), default=0.1) * 1.1 or 0.1

    def place(expressions: float, value: float) -> str:
        x = left + (width - left - right) * expressions / most
        return f"{x:.1f},{height - bottom - (height - top - bottom) * value / high:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for step in range(0, int(100 * high) + 1, 10):
        x, y = place(0.0, step / 100).split(",")
        parts.append(f'<line x1="{x}" y1="{y}" x2="{width - right}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{step}</text>')
    for quarter in range(5):
        x = place(most * quarter / 4, 0.0).split(",")[0]
        label = f"{most * quarter / 4:,.0f}"
        parts.append(f'<text x="{x}" y="{height - bottom + 18}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">expressions</text>')
    ends = sorted((-curve[-1]["gIoU"], name) for name, curve in curves.items())
    spots: dict[str, float] = {}
    lowest = float(top)
    for value, name in ends:  # labels do not cover one another
        spots[name] = max(lowest, float(place(most, -value).split(",")[1]) + 4)
        lowest = spots[name] + 14
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(place(point["sentences"], point["gIoU"]) for point in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{width - right + 8}" y="{spots[name]:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
