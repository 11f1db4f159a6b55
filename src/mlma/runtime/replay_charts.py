"""Pictures of a replay's report as inline SVG, drawn by hand so that the page needs nothing else.

Colours are classes of the page's style sheet, so that a picture follows the light or dark scheme of its reader.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

import numpy as np

from mlma.core.blocks import Floats

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 900.0, 64.0, 24.0, 16.0, 48.0
CHARACTER, LINE = 6.6, 14.0
"""Width and height of a character of a label, in the unit of the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One policy in the picture of loss against trainings."""

    name: str
    group: str  # class of the style sheet: agent, latest, pooled
    share: float
    loss: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One policy in the picture of the streams' spread."""

    name: str
    group: str
    values: Floats  # relative loss of each stream, finite


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale from data to the picture."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Place of a value, inside the picture."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, wanted: int = 6) -> list[float]:
        """Round values on the axis, about as many as wanted.

        Examples
        --------
        >>> Axis(0.93, 1.21, 0.0, 1.0).ticks()
        [0.95, 1.0, 1.05, 1.1, 1.15, 1.2]
        """
        raw = (self.high - self.low) / wanted
        power = 10.0 ** floor(log10(raw))
        step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * 0.999)
        return [round(i * step, 10) for i in range(ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9) + 1)]


def loss_against_trainings(dots: Sequence[Dot], frontier: Sequence[tuple[float, float]]) -> str:
    """Mean relative loss over the share of trainings (log scale), with the frontier as a line.

    Parameters
    ----------
    dots
        Policies; whiskers are 95 % intervals.
    frontier
        Share and loss of the best choice in hindsight, one a price.
    """
    height = 470.0
    shares = [dot.share for dot in dots] + [share for share, _ in frontier]
    losses = [one for dot in dots for one in (dot.loss, dot.low, dot.high)] + [loss for _, loss in frontier]
    x = Axis(log10(min(shares)) - 0.12, max(0.0, log10(max(shares))) + 0.12, LEFT, WIDTH - RIGHT)
    pad = 0.05 * (max(losses) - min(losses)) + 1e-3
    y = Axis(min(losses) - pad, max(losses) + pad, height - BOTTOM, TOP)
    parts = _grid(x, y, height)
    if frontier:
        path = " ".join(f"{x.at(log10(share)):.1f},{y.at(loss):.1f}" for share, loss in sorted(frontier))
        parts.append(f'<polyline class="frontier" points="{path}"/>')
        parts += [
            f'<circle class="frontier-dot" cx="{x.at(log10(share)):.1f}" cy="{y.at(loss):.1f}" r="3"/>'
            for share, loss in frontier
        ]
        share, loss = max(frontier)
        parts.append(_text(x.at(log10(share)) - 4, y.at(loss) + 16, "frontier (hindsight)", "label muted", "end"))
    places = [(x.at(log10(dot.share)), y.at(dot.loss)) for dot in dots]
    taken = [(px - 6, py - 6, px + 6, py + 6) for px, py in places]
    for dot, (px, py) in zip(dots, places, strict=True):
        parts.append(
            f'<line class="whisker {dot.group}" x1="{px:.1f}" x2="{px:.1f}" y1="{y.at(dot.low):.1f}" '
            f'y2="{y.at(dot.high):.1f}"/><circle class="dot {dot.group}" cx="{px:.1f}" cy="{py:.1f}" r="5">'
            f"<title>{escape(dot.name)}: {dot.loss:.3f} at a share of {dot.share:.3f}</title></circle>"
        )
    for dot, place in zip(dots, places, strict=True):
        parts.append(_label(dot, place, taken, height))
    return _svg(height, parts, "Mean loss relative to always over the share of trainings")


def _grid(x: Axis, y: Axis, height: float) -> list[str]:
    parts = []
    for tick in y.ticks(8):
        at = y.at(tick)
        one = " one" if abs(tick - 1.0) < 1e-9 else ""
        parts.append(f'<line class="grid{one}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(LEFT - 8, at + 4, f"{tick:g}", "tick", "end"))
    for power in range(floor(x.low), ceil(x.high) + 1):
        for factor in (1, 2, 5):
            value = log10(factor) + power
            if x.low <= value <= x.high:
                at = x.at(value)
                parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
                parts.append(_text(at, height - BOTTOM + 18, f"{10.0**value:g}", "tick", "middle"))
    parts.append(
        _text((LEFT + WIDTH - RIGHT) / 2, height - 8, "trainings, share of always (log scale)", "axis", "middle")
    )
    middle = f"translate(14 {(height - BOTTOM + TOP) / 2:.1f}) rotate(-90)"
    parts.append(
        f'<text class="axis" text-anchor="middle" transform="{middle}">loss / always, mean over streams</text>'
    )
    return parts


def _label(dot: Dot, place: tuple[float, float], taken: list[tuple[float, float, float, float]], height: float) -> str:
    """The name beside its dot, at the first place where it hides nothing; further away with a line to it."""
    px, py = place
    width = CHARACTER * len(dot.name)
    for distance in (0.0, 16.0, 30.0, 44.0, 60.0, 78.0, 98.0, 120.0, 150.0, 180.0):
        for side, dy in ((1, 0.0), (-1, 0.0), (1, -1.0), (-1, -1.0), (1, 1.0), (-1, 1.0)):
            if not distance and dy:
                continue
            if distance and not dy:
                continue
            x0 = px + 9 if side > 0 else px - 9 - width
            y0 = py + 4 + dy * distance
            box = (x0, y0 - LINE + 3, x0 + width, y0 + 3)
            inside = box[0] > LEFT and box[2] < WIDTH - 4 and box[1] > TOP and box[3] < height - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                end = x0 if side > 0 else x0 + width
                line = f'<line class="leader" x1="{px:.1f}" y1="{py:.1f}" x2="{end:.1f}" y2="{y0 - 4:.1f}"/>'
                return (line if dy else "") + _text(x0, y0, dot.name, f"label {dot.group}", "start")
    return ""  # the title of the dot still tells


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def spread_by_stream(strips: Sequence[Strip]) -> str:
    """One row a policy: box from quartile to quartile, line from 5 to 95 %, median, and every stream as a dot."""
    row, left = 30.0, 150.0
    height = TOP + row * len(strips) + BOTTOM
    ends = [np.quantile(strip.values, (0.02, 0.98)) for strip in strips if len(strip.values)]
    low, high = min(1.0, *(float(end[0]) for end in ends)), max(1.0, *(float(end[1]) for end in ends))
    pad = 0.03 * (high - low) + 1e-3
    x = Axis(low - pad, high + pad, left, WIDTH - RIGHT)
    parts = []
    for tick in x.ticks(8):
        at, one = x.at(tick), " one" if abs(tick - 1.0) < 1e-9 else ""
        parts.append(f'<line class="grid{one}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        parts.append(_text(at, height - BOTTOM + 18, f"{tick:g}", "tick", "middle"))
    for i, strip in enumerate(strips):
        middle = TOP + row * (i + 0.5)
        parts.append(_text(left - 10, middle + 4, strip.name, f"label {strip.group}", "end"))
        if len(strip.values):
            parts += _strip(strip, x, middle)
    parts.append(_text((left + WIDTH - RIGHT) / 2, height - 8, "loss / always of each stream", "axis", "middle"))
    return _svg(height, parts, "Loss relative to always of every stream, by policy")


MOST_DOTS = 300
"""Streams that are drawn as dots, evenly over their order; boxes hold all."""


def _strip(strip: Strip, x: Axis, middle: float) -> list[str]:
    values = np.sort(strip.values)
    p5, q1, median, q3, p95 = (x.at(float(q)) for q in np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)))
    shown = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_DOTS)).astype(np.int64))]
    parts = [
        f'<circle class="stream {strip.group}" cx="{x.at(float(value)):.1f}" '
        f'cy="{middle + 7 * ((i * 0.618034) % 1.0 - 0.5):.1f}" r="1.8"/>'  # golden ratio: evenly spread, not by chance
        for i, value in enumerate(shown)
    ]
    return [
        *parts,
        f'<line class="whisker {strip.group}" x1="{p5:.1f}" x2="{p95:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<rect class="box {strip.group}" x="{q1:.1f}" y="{middle - 8}" width="{max(1.0, q3 - q1):.1f}" height="16"/>',
        f'<line class="median {strip.group}" x1="{median:.1f}" x2="{median:.1f}" y1="{middle - 8}" y2="{middle + 8}"/>',
    ]


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )
