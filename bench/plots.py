"""Plots as SVG, written plainly: lines where a number grows from case to case, else bars."""

import math
from collections.abc import Callable, Sequence
from html import escape

from bench.measurements import Measurement, figure

COLOURS = {
    "direct": "#9aa0a6",
    "nginx, tuned": "#188038",
    "mod_auth_openidc": "#a142f4",
    "bare aiohttp": "#f29900",
    "Orthanc's QIDO": "#188038",
    "ours": "#1a73e8",
}
_OTHER_COLOURS = ("#d93025", "#12b5cb", "#5f6368")
WIDTH, LEFT, RIGHT, TOP = 760, 170, 90, 62
_PLOT_HEIGHT, _BAR, _GAP = 260, 16, 14


def plot(measurements: Sequence[Measurement]) -> str:
    """Return the SVG of one group's metric."""
    peers = list(dict.fromkeys(each.peer for each in measurements))
    others = iter(_OTHER_COLOURS * len(peers))
    colours = {peer: COLOURS.get(peer) or next(others) for peer in peers}
    grows = [each for each in measurements if each.x]
    is_line = len({each.x for each in grows}) > 1
    height, shapes = _lines(grows, colours) if is_line else _bars(measurements, colours)
    title = f"{measurements[0].group}: {measurements[0].metric}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12" fill="#3c4043">'
    )
    shapes = [
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(10, 22, title, "start", 'font-size="15"'),
        *_legend(colours),
        *shapes,
    ]
    return "\n".join([head, *shapes, "</svg>\n"])


def _legend(colours: dict[str, str]) -> list[str]:
    shapes, x = [], 10.0
    for peer, colour in colours.items():
        if peer:
            shapes.append(f'<rect x="{x:.0f}" y="34" width="10" height="10" fill="{colour}"/>')
            shapes.append(_text(x + 14, 43, peer, "start"))
            x += 30 + 6.6 * len(peer)
    return shapes


def _lines(measurements: Sequence[Measurement], colours: dict[str, str]) -> tuple[int, list[str]]:
    """Return the height and the shapes of lines with whiskers; both axes are logarithmic."""
    bottom = TOP + _PLOT_HEIGHT
    left = LEFT - 90
    across = _scale([each.x or 0 for each in measurements], left, WIDTH - RIGHT)
    values = [each for one in measurements for each in (one.lower, one.upper)]
    up = _scale(values, bottom, TOP + 10)
    shapes = []
    for tick in _ticks(values):
        y = up(tick)
        shapes.append(_line(left, y, WIDTH - RIGHT, y, "#dadce0"))
        shapes.append(_text(left - 8, y + 4, figure(tick), "end"))
    for x, case in {each.x or 0: each.case for each in measurements}.items():
        shapes.append(_text(across(x), bottom + 20, case, "middle"))
    for peer, colour in colours.items():
        of_peer = sorted((each.x or 0, each) for each in measurements if each.peer == peer)
        points = " ".join(f"{across(x):.1f},{up(each.median):.1f}" for x, each in of_peer)
        shapes.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        for x, each in of_peer:
            at = across(x)
            shapes.append(
                f'<circle cx="{at:.1f}" cy="{up(each.median):.1f}" r="3" fill="{colour}"/>'
            )
            shapes.append(_line(at, up(each.lower), at, up(each.upper), colour))
    return bottom + 32, shapes


def _bars(measurements: Sequence[Measurement], colours: dict[str, str]) -> tuple[int, list[str]]:
    """Return the height and the shapes of bars with whiskers, by case."""
    y: float = TOP
    largest = max(each.upper for each in measurements) or 1
    per_unit = (WIDTH - RIGHT - LEFT) / largest
    shapes = []
    for case in dict.fromkeys(each.case for each in measurements):
        bars = [each for each in measurements if each.case == case]
        shapes.append(_text(LEFT - 8, y + _BAR * len(bars) / 2 + 4, case, "end"))
        for each in bars:
            width = each.median * per_unit
            middle = y + _BAR / 2
            shapes.append(
                f'<rect x="{LEFT}" y="{y:.1f}" width="{width:.1f}" height="{_BAR - 3}" '
                f'fill="{colours[each.peer]}"/>'
            )
            begin, end = LEFT + each.lower * per_unit, LEFT + each.upper * per_unit
            shapes.append(_line(begin, middle - 1.5, end, middle - 1.5, "#3c4043"))
            shapes.append(
                _text(max(end, LEFT + width) + 6, middle + 3, figure(each.median), "start")
            )
            y += _BAR
        y += _GAP
    return round(y), shapes


def _scale(values: Sequence[float], begin: float, end: float) -> Callable[[float], float]:
    """Return the function that maps the values, logarithmically, to positions in between."""
    usable = [value for value in values if value > 0] or [1]
    low, high = math.log(min(usable)), math.log(max(usable))
    return lambda value: (
        begin + (end - begin) * ((math.log(max(value, min(usable))) - low) / ((high - low) or 1))
    )


def _ticks(values: Sequence[float]) -> list[float]:
    """Return 1, 2, 5, 10, 20 … where they are among the values."""
    usable = [value for value in values if value > 0] or [1]
    low, high = math.floor(math.log10(min(usable))), math.ceil(math.log10(max(usable)))
    steps = [digit * 10.0**power for power in range(low, high + 1) for digit in (1, 2, 5)]
    return [step for step in steps if min(usable) <= step <= max(usable)]


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _line(x: float, y: float, other_x: float, other_y: float, colour: str) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{other_x:.1f}" y2="{other_y:.1f}" '
        f'stroke="{colour}" stroke-width="1"/>'
    )
