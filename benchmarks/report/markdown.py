"""Write results as Markdown, and into the page that shows them."""

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill
from typing import Final

from benchmarks.report.goals import goals_table
from benchmarks.report.results import Results, shown
from benchmarks.turns.workers import COSTS, PRODUCT
from tools.generated import between

_BEGIN: Final = "<!-- figures: written by `make bench` -->\n"
_END: Final = "<!-- end of figures -->"
_WIDTH: Final = 100
_LOAD_HEAD: Final = (
    "| | CPU µs/event | broker CPU µs/event | events/s | p50 ms | p99 ms | KB/stream | wrong |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
)
# With few streams, other changes of memory are larger than theirs.
_FEW_STREAMS: Final = 100
_COST_NAMES: Final = tuple(worker.name for worker in COSTS)


def markdown(results: Results) -> str:
    """Return all tables."""
    turns = max((len(results.of(it.worker, it.load)) for it in results.turns), default=0)
    lines = [_paragraph(results.machine.sentence), "", f"Median, and range, of {turns} turns.", ""]
    for load in _names(it.load for it in results.turns if it.worker not in _COST_NAMES):
        lines += [f"**{load}**", "", *_LOAD_HEAD]
        workers = _names(it.worker for it in results.turns if it.load == load)
        lines += [_row(results, it, load) for it in workers if it not in _COST_NAMES]
        lines += [""]
    lines += [*_starts(results), "", *_publishing(results), "", *_costs(results)]
    lines += [*_cuts(results), "**Goals**", "", *goals_table(results), ""]
    return "\n".join(lines)


def into_page(page: Path, text: str) -> None:
    """Write text between the page's markers."""
    page.write_text(between(page.read_text(), _BEGIN, _END, text))


def _row(results: Results, worker: str, load: str) -> str:
    def cell(figure: str) -> str:
        return shown(results.each(figure, worker, load))

    wrong = int(sum(results.each("count.wrong", worker, load)))
    few = int(load.split(maxsplit=1)[0]) < _FEW_STREAMS
    name = f"**{worker}**" if worker == PRODUCT.name else worker
    return (
        f"| {name} | {cell('cpu_us')} | {cell('broker_cpu_us')} | {cell('events_per_s')} "
        f"| {cell('count.p50_ms')} | {cell('count.p99_ms')} "
        f"| {'' if few else cell('kb_per_stream')} | {wrong} |"
    )


def _starts(results: Results) -> list[str]:
    workers = [it for it in _names(it.worker for it in results.turns) if it not in _COST_NAMES]
    return [
        "**Start**",
        "",
        "| | idle MB | start to ready, s | CPU of that, s |",
        "|---|---:|---:|---:|",
        *(
            f"| {it} | {shown(results.each('idle_mb', it))} "
            f"| {shown(results.each('ready_s', it))} | {shown(results.each('ready_cpu_s', it))} |"
            for it in workers
        ),
    ]


def _publishing(results: Results) -> list[str]:
    rows = []
    for way in _names(it.way for it in results.publishing):
        speeds = shown([it.per_s for it in results.publishing if it.way == way])
        rows.append(f"| {way} | {shown(results.published(way))} | {speeds} |")
    head = ("| | CPU µs/message | messages/s |", "|---|---:|---:|")
    return ["**Publishing alone, 100 attempts**", "", *head, *rows]


def _costs(results: Results) -> list[str]:
    measured = [it for it in results.turns if it.worker in _COST_NAMES]
    if not measured:
        return []
    load = measured[0].load
    rows = [_row(results, name, load) for name in (PRODUCT.name, *_COST_NAMES)]
    return [f"**What each part costs, {load}**", "", *_LOAD_HEAD, *rows, ""]


def _cuts(results: Results) -> list[str]:
    return [
        _paragraph(
            f"A flood of {it.events - it.repeated} events, its connection cut {it.cuts} times: "
            f"{it.lost} lost, {it.disordered} out of order, {it.repeated} came again with the same "
            f"`message_id` and bytes, {it.altered} otherwise."
        )
        + "\n"
        for it in results.cuts
    ]


def _paragraph(text: str) -> str:
    return fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _names(names: Iterable[str]) -> list[str]:
    """Return the names without repeats, in order."""
    return list(dict.fromkeys(names))
