"""Small plots as SVG, made by the service: without a script, in the colours of the page. Each has a text that says what it shows.

Their texts come from numbers and from the catalogue of strings; what a run or a rule wrote is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from remit.tracing.reports.html import escaped

_WIDTH: Final = 160  # of a line over time, in its own units
_HEIGHT: Final = 36
_BARS: Final = 300  # the longest bar


def line_plot(values: Sequence[float | None], title: str) -> str:
    """A line over parts of a time; "" without any value. A part without a value is a gap; one alone is a dot."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    most = max(*known, 0.0) or 1.0
    places = [
        None
        if value is None
        else (6 + (_WIDTH - 12) * at / max(len(values) - 1, 1), _HEIGHT - 6 - (_HEIGHT - 12) * value / most)
        for at, value in enumerate(values)
    ]
    marks = [f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="2.5"/>' for place in places if place is not None]
    lines = [
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'
        for a, b in pairwise(places)
        if a is not None and b is not None
    ]
    return _figure(_WIDTH, _HEIGHT, [*lines, *marks], title)


def bar_plot(value: float, most: float, title: str) -> str:
    """A bar whose length is the share of `value` in `most`."""
    length = max(2.0, _BARS * value / most) if most else 2.0
    return _figure(_BARS, 14, [f'<rect x="0" y="2" width="{length:.1f}" height="10" rx="2"/>'], title)


def _figure(width: int, height: int, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg class="plot" role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'aria-label="{escaped(title)}">{"".join(parts)}</svg>'
    )
