"""Pictures as SVG inside of HTML: bars over time, and bars in a table. The text around them is HTML, and stays legible
however small the picture gets."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

_WIDTH: Final = 10  # of a column, of which the gap is a tenth
_HEIGHT: Final = 100


def columns(numbers: Sequence[int], labels: Sequence[str], alternative: str) -> str:
    """A column for each number, which a label names."""
    most = max(numbers, default=0) or 1
    rects = "".join(
        f'<rect x="{at * _WIDTH}" y="{_HEIGHT - height:g}" width="{_WIDTH * 0.9:g}" height="{height:g}">'
        f"<title>{escape(label)}: {number:,}</title></rect>"
        for at, (number, label) in enumerate(zip(numbers, labels, strict=True))
        if number
        for height in [max(round(number / most * _HEIGHT, 2), 1)]
    )
    size = f'viewBox="0 0 {max(len(numbers), 1) * _WIDTH} {_HEIGHT}" preserveAspectRatio="none"'
    return f'<svg {size} role="img" aria-label="{escape(alternative)}">{rects}</svg>'


def bar(number: int, most: int, series: str) -> str:
    """A bar in a row of a table, which has the number too: so it is hidden from those who are read to."""
    width = number / most * 100 if most else 0
    rect = f'<rect width="{width:.2f}" height="1"/>' if width else ""
    return f'<svg class="bar {series}" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">{rect}</svg>'
