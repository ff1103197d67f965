"""Draw the ratios as an SVG picture: a bar a peer in a group a work, on a logarithmic scale, targets marked. Pure.

A bar begins at 1 and goes left where we are quicker, right where we are slower; the thin line over it is the spread.
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10

from tests.bench.results import Ratio, Result
from tests.bench.targets import target_of

COLOURS = {"rsync": "#0072b2", "rclone": "#e69f00", "cp": "#009e73", "original": "#8c8c8c"}
LABELS = {"rsync": "rsync", "rclone": "rclone", "cp": "cp", "original": "the original's loop"}
WIDTH, LEFT, RIGHT = 900, 300, 70
HEAD, FOOT = 74, 34
BAR, GAP = 13, 12
TITLE = "Time that Truecopy takes, as a share of a peer's"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
INK, FAINT, MARK = "#1f2328", "#d0d7de", "#cf222e"


class Scale:
    """Turns a ratio into a place from left to right."""

    def __init__(self, values: Sequence[float]) -> None:
        self.least = max((tick for tick in TICKS if tick <= min(values, default=1)), default=TICKS[0])
        self.most = min((tick for tick in TICKS if tick >= max(values, default=1)), default=TICKS[-1])
        if self.least == self.most:
            self.least, self.most = 0.5, 2

    def at(self, value: float) -> float:
        """Give the distance from the picture's left edge; what is off the scale lies on its end."""
        kept = min(max(value, self.least), self.most)
        share = log10(kept / self.least) / log10(self.most / self.least)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    @property
    def ticks(self) -> list[float]:
        """Give the values that get a line."""
        return [tick for tick in TICKS if self.least <= tick <= self.most]


def drawn(head: Mapping[str, object], results: Sequence[Result]) -> str:
    """Give the picture as text."""
    shown = [(result, _in_order(result.ratios)) for result in results if result.ratios]
    limits = [value for _, ratios in shown for found in ratios.values() for value in (found.least, found.most)]
    aims = [
        {peer: target.at_most for peer in ratios if (target := target_of(result, peer, results))}
        for result, ratios in shown
    ]
    scale = Scale([*limits, *(aim for each in aims for aim in each.values()), 1.0])
    groups = []
    top = float(HEAD)
    for (result, ratios), aim in zip(shown, aims, strict=True):
        groups.append(_group(result.title, ratios, top, scale))
        groups.append(_marks([aim.get(peer) for peer in ratios], top, scale))
        top += len(ratios) * BAR + GAP
    body = [
        _axis(scale, top),
        *filter(None, groups),
        _legend([peer for peer in COLOURS if any(peer in each for _, each in shown)]),
    ]
    date = str(head.get("date", ""))[:10]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + FOOT:g}" width="{WIDTH}" '
        f'height="{top + FOOT:g}" font-family="sans-serif" font-size="11" fill="{INK}">\n'
        f"<title>Wall time of Truecopy as a share of its peers' ({escape(date)})</title>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<text x="12" y="22" font-size="15" font-weight="bold">{TITLE}</text>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _in_order(ratios: Mapping[str, Ratio]) -> dict[str, Ratio]:
    return {peer: ratios[peer] for peer in COLOURS if peer in ratios}


def _axis(scale: Scale, bottom: float) -> str:
    lines = []
    for tick in scale.ticks:
        x, wide = scale.at(tick), 1.5 if tick == 1 else 1
        lines.append(
            f'<line x1="{x}" x2="{x}" y1="{HEAD - 8}" y2="{bottom - 4:g}" stroke="{INK if tick == 1 else FAINT}" '
            f'stroke-width="{wide}"/>'
            f'<text x="{x}" y="{bottom + 10:g}" text-anchor="middle">{tick:g}</text>'
        )
    middle = scale.at(1)
    lines.append(f'<text x="{middle - 6}" y="{bottom + 26:g}" text-anchor="end">Truecopy is quicker</text>')
    lines.append(f'<text x="{middle + 6}" y="{bottom + 26:g}">slower</text>')
    return "\n".join(lines)


def _group(title: str, ratios: Mapping[str, Ratio], top: float, scale: Scale) -> str:
    middle = top + len(ratios) * BAR / 2
    lines = [f'<text x="{LEFT - 12}" y="{middle + 4:g}" text-anchor="end">{escape(title)}</text>']
    for row, (peer, found) in enumerate(ratios.items()):
        lines.append(_bar(found, COLOURS[peer], top + row * BAR, scale))
    return "\n".join(lines)


def _marks(aims: Sequence[float | None], top: float, scale: Scale) -> str:
    places = [(scale.at(aim), top + row * BAR) for row, aim in enumerate(aims) if aim is not None]
    return "\n".join(f'<path d="M{x} {y:g}v{BAR}" stroke="{MARK}" stroke-width="2.5"/>' for x, y in places)


def _bar(found: Ratio, colour: str, y: float, scale: Scale) -> str:
    one, end = scale.at(1), scale.at(found.middle)
    first, last = scale.at(found.least), scale.at(found.most)
    centre = y + BAR / 2
    # The figure stands beyond the bar and its spread, on the side to which the bar goes.
    beyond, anchor = (first - 4, "end") if found.middle < 1 else (last + 4, "start")
    return (
        f'<rect x="{min(one, end)}" y="{y + 1:g}" width="{abs(one - end):.1f}" height="{BAR - 2}" fill="{colour}"/>'
        f'<line x1="{first}" x2="{last}" y1="{centre:g}" y2="{centre:g}" stroke="{INK}"/>'
        f'<text x="{beyond}" y="{centre + 3.5:g}" font-size="10" text-anchor="{anchor}">{_figure(found.middle)}</text>'
    )


def _figure(value: float) -> str:
    digits = max(0, 1 - floor(log10(value))) if value > 0 else 1
    return f"{value:.{digits}f}"


def _legend(peers: Sequence[str]) -> str:
    lines, x = [], 12
    for peer in peers:
        lines.append(f'<rect x="{x}" y="36" width="12" height="11" fill="{COLOURS[peer]}"/>')
        lines.append(f'<text x="{x + 17}" y="46">{escape(LABELS[peer])}</text>')
        x += 40 + 6 * len(LABELS[peer])
    lines.append(f'<path d="M{x + 4} 35v13" stroke="{MARK}" stroke-width="2.5"/>')
    lines.append(f'<text x="{x + 12}" y="46">target: at most; thin line: spread of the runs</text>')
    return "\n".join(lines)
