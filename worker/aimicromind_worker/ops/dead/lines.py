"""Write dead letters as lines for people: two for each, cut to the width of a terminal."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC

from rich.cells import cell_len, set_cell_size

from aimicromind_worker.core.dead_letters.dead_event import DeadEvent
from aimicromind_worker.core.dead_letters.dead_letter import DeadLetter
from aimicromind_worker.core.dead_letters.short_ids import short_ids
from aimicromind_worker.ops.terminal import counted, cut, safe_line

_REASONS_SHOWN = 5


@dataclass(slots=True)
class Tally:
    """What became of dead letters that an operator chose.

    Attributes:
        chosen: Their number.
        done: Those that something was done with, and what.
        left: Those that were left, and why.
    """

    chosen: int
    done: list[tuple[DeadLetter, Mapping[str, object]]] = field(default_factory=list)
    left: list[tuple[DeadLetter, str]] = field(default_factory=list)


class Lines:
    """Writes dead letters with ids that are short and tell apart all that are in the queue."""

    def __init__(self, known: Iterable[DeadLetter], width: int | None) -> None:
        """Shorten the ids.

        Args:
            known: All dead letters of the queue.
            width: The width of the terminal in columns; None: lines are never cut.
        """
        letters = list(known)
        self._width = width
        self._jobs = short_ids(it.job_id for it in letters)
        self._flows = short_ids(it.chatflow_id for it in letters)

    def id_of(self, dead: DeadLetter) -> str:
        """Return the short id: of the job, and of the event in it; `-` for none."""
        return safe_line(self._id(dead)) or "-"

    def of(self, chosen: Sequence[DeadLetter]) -> list[str]:
        """Return two lines for each dead letter, aligned."""
        if not chosen:
            return []
        ids = [self.id_of(dead) for dead in chosen]
        widest = max(map(cell_len, ids))
        kinds = max(cell_len(safe_line(dead.kind)) for dead in chosen)
        lines: list[str] = []
        for dead, short in zip(chosen, ids, strict=True):
            names = self._names(dead)
            kind = set_cell_size(safe_line(dead.kind), kinds)
            first = f"{set_cell_size(short, widest)}  {_time(dead)}  {kind}  {names}"
            second = f"  {safe_line(_reason(dead))}"
            lines += [cut(first, self._width), cut(second, self._width)]
        return lines

    def summary(self, tally: Tally, verb: str) -> list[str]:
        """Return what became of the chosen dead letters, in a few lines.

        Args:
            tally: What became of them.
            verb: What was done, such as "replayed".
        """
        done, left = len(tally.done), len(tally.left)
        first = f"{done:,} {verb}"
        if done == tally.chosen == 1:
            [(dead, said)] = tally.done
            new = said.get("replayedAs")
            where = f" as job {new} of chat {dead.chat_id}" if new else ""
            first = f"{self.id_of(dead)} is {verb}{where}"
        lines = [first + (f", {left:,} left" if left else "")]
        shown = tally.left[:_REASONS_SHOWN]
        lines += [f"  {self.id_of(dead)} is left: {why}" for dead, why in shown]
        if left > _REASONS_SHOWN:
            lines.append(f"  and {left - _REASONS_SHOWN:,} more, see --json")
        untouched = tally.chosen - done - left
        if untouched:
            lines.append(
                f"stopped before the end: {untouched:,} of {tally.chosen:,} stay dead letters; "
                "run the command again for them"
            )
        return lines

    def _id(self, dead: DeadLetter) -> str:
        short = self._jobs[dead.job_id]
        if not isinstance(dead, DeadEvent):
            return short
        if not short or not dead.id.startswith(f"{dead.job_id}:"):
            return dead.id
        return short + dead.id.removeprefix(dead.job_id)

    def _names(self, dead: DeadLetter) -> str:
        named = {
            "event": dead.event if isinstance(dead, DeadEvent) else "",
            "flow": self._flows[dead.chatflow_id],
            "chat": "" if dead.chat_id == dead.job_id else dead.chat_id,
        }
        return "  ".join(f"{name} {safe_line(it)}" for name, it in named.items() if it)


def by_kind(letters: Iterable[DeadLetter]) -> str:
    """Return the number of each kind, the most frequent first; empty for none."""
    return ", ".join(
        f"{safe_line(kind)}: {count:,}"
        for kind, count in Counter(it.kind for it in letters).most_common()
    )


def total_line(letters: Sequence[DeadLetter]) -> str:
    """Return the number of dead letters, and that of each kind."""
    kinds = by_kind(letters)
    return counted(len(letters), "dead letter") + (f" ({kinds})" if kinds else "")


def as_json(dead: DeadLetter, more: Mapping[str, object]) -> dict[str, object]:
    """Return the ids of a dead letter, and what became of it, for programs."""
    ids: dict[str, object] = {"jobId": dead.job_id, "chatId": dead.chat_id}
    if isinstance(dead, DeadEvent):
        ids["id"] = dead.id
    return ids | dict(more)


def _time(dead: DeadLetter) -> str:
    at = dead.failed_at
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}Z" if at else "unknown time     "


def _reason(dead: DeadLetter) -> str:
    attempts = f"after {counted(dead.attempts, 'attempt')}" if dead.attempts > 1 else ""
    return ": ".join(filter(None, (attempts, dead.message))) or "no reason is known"
