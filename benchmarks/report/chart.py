"""Draw the CPU time of one event as a bar chart in SVG, with a group of bars for each load."""

import math
import statistics
from collections.abc import Iterator
from typing import Final

from benchmarks.report.results import Results, number
from benchmarks.turns.workers import PRODUCT, WORKERS

_LEFT: Final = 150
_WIDTH: Final = 560
_BAR: Final = 15
_GAP: Final = 30
_OWN, _OTHER = "#1f6feb", "#9aa4b2"


def chart(results: Results) -> str:
    """Return the chart; its scale is logarithmic, from 1 µs on."""
    bars = list(_bars(results))
    longest = max((cpu for *_, cpu in bars), default=1)
    lines, y, last = [], 44, ""
    for load, worker, cpu in bars:
        if load != last:
            y += _GAP
            lines.append(f'<text x="8" y="{y - 5}" font-weight="bold">{load}</text>')
            last = load
        width = _WIDTH * math.log(max(cpu, 1.01)) / math.log(longest)
        colour = _OWN if worker == PRODUCT.name else _OTHER
        lines += [
            f'<text x="{_LEFT - 6}" y="{y + 12}" text-anchor="end">{worker}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR - 3}" fill="{colour}"/>',
            f'<text x="{_LEFT + width + 5:.0f}" y="{y + 11}">{number(cpu)}</text>',
        ]
        y += _BAR
    size = f'width="{_LEFT + _WIDTH + 60}" height="{y + 16}"'
    font = 'font-family="sans-serif" font-size="12"'
    title = "CPU of the worker for one event, µs, logarithmic scale: shorter is better"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="8" y="20" font-size="14">{title}</text>',
            f'<text x="8" y="38" fill="#555">{results.machine.date}</text>',
            *lines,
            "</svg>\n",
        )
    )


def _bars(results: Results) -> Iterator[tuple[str, str, float]]:
    for load in dict.fromkeys(it.load for it in results.turns):
        for worker in WORKERS:
            values = results.each("cpu_us", worker.name, load)
            if values:
                yield load, worker.name, statistics.median(values)
