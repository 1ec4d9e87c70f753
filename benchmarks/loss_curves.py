"""Loss curves of several runs as one SVG picture: a panel for each model, a line for each mixture.

Plain text, so that a picture in the documentation can be read as a difference of versions, and no plotting library is
needed.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 250, 150, 4
_LEFT, _TOP, _RIGHT, _BOTTOM = 44, 26, 10, 24
_COLOURS = ("#1f6feb", "#d1570a", "#2b8a3e", "#8a3ffc")


def smoothed(losses: Sequence[float], share: float = 0.02) -> list[float]:
    """Running mean over `share` of the curve on either side."""
    reach = max(1, int(len(losses) * share))
    windows = (losses[max(0, place - reach) : place + reach + 1] for place in range(len(losses)))
    return [sum(window) / len(window) for window in windows]


def curves_svg(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """SVG of `panels`: title -> line's name -> loss of each step. The loss axis is logarithmic, each panel has its own.

    ValueError for a loss that is not above 0.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * PANEL_WIDTH, rows * PANEL_HEIGHT + 28
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="11" fill="#333"><rect width="{width}" height="{height}" fill="white"/>'
    ]
    for number, (title, lines) in enumerate(panels.items()):
        x, y = number % COLUMNS * PANEL_WIDTH, number // COLUMNS * PANEL_HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_panel(title, lines, colours)}</g>')
    for number, name in enumerate(names):
        x, y = _LEFT + number * 200, rows * PANEL_HEIGHT + 14
        parts.append(f'<path d="M{x} {y}h22" stroke="{colours[name]}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 28}" y="{y + 4}">{escape(name)}</text>')
    return "".join([*parts, "</svg>\n"])


def _panel(title: str, lines: Mapping[str, Sequence[float]], colours: Mapping[str, str]) -> str:
    curves = {name: smoothed(losses) for name, losses in lines.items() if losses}
    values = [loss for curve in curves.values() for loss in curve]
    if not values or min(values) <= 0:
        raise ValueError(f"{title}: losses must be above 0 to be drawn on a logarithmic axis")
    low, high = math.log(min(values)), math.log(max(values))
    steps = max(map(len, curves.values()))
    across, down = PANEL_WIDTH - _LEFT - _RIGHT, PANEL_HEIGHT - _TOP - _BOTTOM

    def place(step: int, loss: float) -> str:
        return (
            f"{_LEFT + across * step / max(1, steps - 1):.1f} "
            f"{_TOP + down * (high - math.log(loss)) / max(1e-9, high - low):.1f}"
        )

    drawn = [
        f'<path d="M{" L".join(place(step, loss) for step, loss in enumerate(curve))}" fill="none" '
        f'stroke="{colours[name]}" stroke-width="1.5"/>'
        for name, curve in curves.items()
    ]
    return "".join(
        [
            f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(title)}</text>',
            f'<path d="M{_LEFT} {_TOP}v{down}h{across}" fill="none" stroke="#999"/>',
            f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{math.exp(high):.2g}</text>',
            f'<text x="{_LEFT - 4}" y="{_TOP + down}" text-anchor="end">{math.exp(low):.2g}</text>',
            f'<text x="{_LEFT + across}" y="{_TOP + down + 15}" text-anchor="end">{steps} steps</text>',
            *drawn,
        ]
    )
