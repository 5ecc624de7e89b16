"""Plots as inline SVG: without script, in the colours of the page. Each has a text that says what it shows; tables have the figures.

Variants differ by the form of their mark and of their line as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from remit.evals.reports.figures import percent, with_interval
from remit.evals.statistics import EVIDENCE_ALPHA, Comparison, VariantSummary
from remit.tracing.reports.html import escaped

WIDTH: Final = 760  # of every plot, in its own units; the page scales it
_LEFT: Final = 220  # where the axis begins, right of the names
_RIGHT: Final = 740
_ROW: Final = 24  # height of a scenario with one variant
_HEIGHT: Final = 220  # of a plot with lines
_DASHES: Final = ("none", "7 4", "2 4")  # of lines, by variant; more variants repeat them in another colour
_STYLES: Final = 6  # as many as report.css has colours


def rates_plot(variants: Sequence[VariantSummary]) -> str:
    """The pass rate of each scenario with its interval, one mark for each variant."""
    names = [scenario.name for scenario in variants[0].scenarios]
    step = _ROW + 10 * (len(variants) - 1)
    height = step * len(names) + 30
    parts: list[str] = []
    for tick in range(0, 101, 25):
        x = _LEFT + (_RIGHT - _LEFT) * tick / 100
        parts.append(f'<line class="grid" x1="{x:.0f}" y1="0" x2="{x:.0f}" y2="{height - 24}"/>')
        parts.append(f'<text x="{x:.0f}" y="{height - 6}" text-anchor="middle">{tick} %</text>')
    for at, name in enumerate(names):
        middle = step * at + step / 2
        parts.append(f'<text x="{_LEFT - 12}" y="{middle + 4:.0f}" text-anchor="end">{escaped(_short(name))}</text>')
        for number, variant in enumerate(variants):
            y = middle + 10 * (number - (len(variants) - 1) / 2)
            scenario = variant.scenarios[at]
            low, mean, high = (
                _LEFT + (_RIGHT - _LEFT) * rate for rate in (scenario.interval[0], scenario.rate, scenario.interval[1])
            )
            parts.append(
                f'<line class="line{number % _STYLES}" x1="{low:.1f}" y1="{y:.1f}" x2="{high:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(_mark(number, mean, y))
    worst = min(variants[0].scenarios, key=lambda scenario: scenario.rate)
    title = f"Pass rate of each scenario with its 95 % interval. Lowest: {worst.name}, {with_interval(worst.rate, worst.interval)}"
    return _figure(title, height, parts, _legend(variants))


def pass_hat_plot(variants: Sequence[VariantSummary]) -> str:
    """pass^k for each variant; "" if no scenario has two runs."""
    most = max(len(variant.pass_hat) for variant in variants)
    if most < 2:
        return ""
    parts = [*_scale("1 run", f"{most} runs", ["0 %", "50 %", "100 %"])]
    for number, variant in enumerate(variants):
        places = [(_across(at, most - 1), _up(chance)) for at, chance in enumerate(variant.pass_hat)]
        parts += [_line(number, places), *(_mark(number, x, y) for x, y in places)]
    first = variants[0].pass_hat
    title = (
        f"Chance that k runs of a scenario all pass: {percent(first[0])} for one, {percent(first[-1])} for {len(first)}"
    )
    return _figure(title, _HEIGHT, parts, _legend(variants))


def evidence_plot(comparison: Comparison) -> str:
    """The e-value after each pair of runs that differ, on a logarithmic scale; "" without a pair."""
    values = (0.0, *comparison.evidence)
    if len(values) < 2:
        return ""
    limit = -math.log10(EVIDENCE_ALPHA)
    reached = max(values)
    low, high = min(-1.0, *values), max(limit + 0.5, reached)

    def place(value: float) -> float:
        return _up((value - low) / (high - low))

    y = place(limit)
    parts = [
        *_scale("start", f"pair {len(comparison.evidence)}", []),
        f'<line class="limit" x1="{_LEFT}" y1="{y:.1f}" x2="{_RIGHT}" y2="{y:.1f}"/>',
        *(
            f'<text x="{_LEFT - 12}" y="{place(value) + 4:.1f}" text-anchor="end">{10**value:.3g}</text>'
            for value in (0.0, limit, *([reached] if reached > limit + 1 else []))
        ),
        _line(0, [(_across(at, len(values) - 1), place(value)) for at, value in enumerate(values)]),
    ]
    title = f"Evidence that {comparison.candidate.name} is worse: the e-value reached {10**reached:.3g}, the limit is {10**limit:.0f}"
    return _figure(title, _HEIGHT, parts, "")


def _figure(title: str, height: float, parts: Sequence[str], legend: str) -> str:
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escaped(title)}">{"".join(parts)}</svg>'
        f"<figcaption>{escaped(title)}.{legend}</figcaption></figure>"
    )


def _legend(variants: Sequence[VariantSummary]) -> str:
    if len(variants) < 2:
        return ""
    marks = (
        f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{_mark(number, 8, 8)}</svg>{escaped(variant.variant.name)}'
        for number, variant in enumerate(variants)
    )
    return f"<br>{' '.join(marks)}"


def _mark(number: int, x: float, y: float) -> str:
    tone = f'class="mark{number % _STYLES}"'
    match number % 3:
        case 0:
            return f'<circle {tone} cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
        case 1:
            return f'<rect {tone} x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
        case _:
            return f'<path {tone} d="M{x:.1f} {y - 5:.1f}l5 9h-10z"/>'


def _line(number: int, places: Sequence[tuple[float, float]]) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dashes = _DASHES[number % len(_DASHES)]
    return f'<polyline class="line{number % _STYLES}" stroke-dasharray="{dashes}" points="{points}"/>'


def _scale(first: str, last: str, levels: Sequence[str]) -> Iterator[str]:
    yield f'<line class="grid" x1="{_LEFT}" y1="{_up(0):.0f}" x2="{_RIGHT}" y2="{_up(0):.0f}"/>'
    yield f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{first}</text>'
    yield f'<text x="{_RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{last}</text>'
    for at, level in enumerate(levels):
        y = _up(at / (len(levels) - 1))
        yield f'<line class="grid" x1="{_LEFT}" y1="{y:.0f}" x2="{_RIGHT}" y2="{y:.0f}"/>'
        yield f'<text x="{_LEFT - 12}" y="{y + 4:.0f}" text-anchor="end">{level}</text>'


def _across(at: int, last: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * at / last


def _up(share: float) -> float:
    return 12 + (_HEIGHT - 48) * (1 - share)


def _short(name: str) -> str:
    return name if len(name) <= 32 else f"{name[:31]}…"
