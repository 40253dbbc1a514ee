"""The chart in the README, as handwritten SVG: a dozen bars need no plotting library."""

from __future__ import annotations

from pathlib import Path

_COLOURS = {
    "np6_async batches": "#1f6feb",
    "np6_async": "#58a6ff",
    "by hand": "#8b949e",
    "aiohttp+cattrs": "#d29922",
    "httpx+pydantic": "#cf5c4f",
}
_LABELS = {
    "np6_async batches": "np6_async, batches",
    "np6_async": "np6_async, per event",
    "by hand": "by hand: aiohttp + orjson, untyped",
    "aiohttp+cattrs": "by hand: aiohttp + orjson + cattrs",
    "httpx+pydantic": "generated: httpx + pydantic",
}
_WIDTH, _LEFT, _BAR, _GAP = 760, 240, 18, 6
_FONT = "font-family=\"-apple-system,'Segoe UI',Helvetica,Arial,sans-serif\""


def write(path: Path, ratios: dict[str, dict[str, float]]) -> None:
    """Draw the throughput ratios against untyped code by hand, by title, on a card that is readable on any page."""
    longest = max(value for shape in ratios.values() for name, value in shape.items() if name in _COLOURS)
    scale = (_WIDTH - _LEFT - 90) / max(longest, 1.5)
    parts: list[str] = []
    y = 62
    for title, values in ratios.items():
        y += 14
        parts.append(_text(24, y + 4, title, 13, "#1f2328", "600"))
        y += 18
        for name, colour in _COLOURS.items():
            if name not in values:
                continue
            width = max(values[name] * scale, 1)
            middle = y + _BAR / 2 + 4
            parts.append(_text(_LEFT - 8, middle, _LABELS[name], 12, "#57606a", anchor="end"))
            parts.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>')
            parts.append(_text(_LEFT + width + 6, middle, f"{values[name]:.2f} x", 12, "#1f2328", "600"))
            y += _BAR + _GAP
    height = y + 20
    mark = _LEFT + scale
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" {_FONT}><title>Throughput against untyped code by hand; more is better</title>'
        f'<rect x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="#d0d7de"/>'
    )
    parts.insert(0, _text(24, 32, "Throughput against untyped code by hand", 16, "#1f2328", "600"))
    parts.insert(1, _text(24, 52, "contacts per second, higher is better; every event is read", 12, "#57606a"))
    parts.append(
        f'<line x1="{mark:.1f}" y1="66" x2="{mark:.1f}" y2="{height - 14}" stroke="#1f2328" stroke-dasharray="3 3" '
        'stroke-opacity="0.45"/>'
    )
    path.write_text(head + "\n" + "\n".join(parts) + "\n</svg>\n")


def _text(x: float, y: float, text: str, size: int, colour: str, weight: str = "400", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{text}</text>'
    )
