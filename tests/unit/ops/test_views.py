"""The view of a terminal, as what it wrote there."""

import io
import math
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from aimicromind_schemas import Event, event_from
from aimicromind_schemas.wire import load_json
from aimicromind_worker.ops import terminal
from aimicromind_worker.ops.following.views import JsonView, LiveView, PlainView

END: dict[str, Any] = {
    "status": "completed",
    "attempts": 1,
    "calls": 1,
    "events": 3,
    "durationSeconds": 1,
    "text": "done",
    "recovered": False,
    "tags": {},
}


def event(job: str, seq: int, name: str, data: object) -> Event:
    names = {"jobId": job, "chatId": "chat", "chatflowId": "flow", "attempt": 1}
    time = "2026-01-01T00:00:00Z"
    return event_from(names | {"seq": seq, "event": name, "data": data, "time": time})


def test_running_job_is_seen_however_many_have_ended() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=60, height=8)
    view = LiveView(console, None)

    with view:
        for number in range(9):
            view.show(event(f"ended-{number}", 0, "token", "done"))
            view.show(event(f"ended-{number}", 1, "end", END))
        written.truncate(0)
        view.show(event("running", 0, "token", "words of it"))
        view._live.refresh()  # noqa: SLF001 - else it is drawn when a clock says so
        drawn = written.getvalue()

    assert "words of it" in drawn
    assert "ended-" not in drawn


def test_job_that_has_ended_is_written_once_and_repeats_change_nothing() -> None:
    written = io.StringIO()
    view = LiveView(Console(file=written, force_terminal=True, width=60, height=20), {"a": "title"})

    with view:
        for _ in range(3):
            view.show(event("a", 0, "end", END))

    assert written.getvalue().count("end: completed") == 1


def test_whole_answer_of_an_ended_job_is_written_without_a_box() -> None:
    written = io.StringIO()
    answer = " ".join(f"word-{number}" for number in range(500))
    view = LiveView(Console(file=written, force_terminal=True, width=60, height=20), None)

    with view:
        view.show(event("a", 0, "token", answer))
        written.truncate(0)
        view.show(event("a", 1, "end", END | {"text": answer}))

    assert " ".join(written.getvalue().split()).count(answer) == 1


def test_line_of_a_panel_leaves_space_for_the_echo_of_ctrl_c() -> None:
    written = io.StringIO()
    view = LiveView(Console(file=written, force_terminal=True, width=60, height=20), None)

    with view:
        view.show(event("running", 0, "token", "words of it " * 20))
        view._live.refresh()  # noqa: SLF001 - else it is drawn when a clock says so

    panel = [line for line in Text.from_ansi(written.getvalue()).plain.splitlines() if "│" in line]
    assert panel
    assert max(map(cell_len, panel)) <= 60 - len("^C")


def test_share_of_the_event_log_is_shown_until_events_come_live() -> None:
    written = io.StringIO()
    share = iter([0.25, 0.25, 0.25, *[1.0] * 1000])
    console = Console(file=written, force_terminal=True, width=60, height=20)
    view = LiveView(console, None, lambda: next(share))

    with view:
        view._live.refresh()  # noqa: SLF001 - else it is drawn when a clock says so

    assert "reading the event log: 25%" in written.getvalue()


def test_plain_lines_have_the_whole_answer_before_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainView(terminal.console(), {"a": "title"})

    view.tell("earlier events")
    view.show(event("a", 0, "token", "do"))
    view.show(event("a", 1, "end", END))

    marker, answer, tokens, end = capsys.readouterr().out.splitlines()
    assert (marker, answer) == ("-- earlier events", "title: answer: done")
    assert tokens.startswith("title: 00:00:00 1 token")
    assert end.startswith("title: 00:00:00 end: completed")


def test_line_of_json_is_what_was_published_whatever_its_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    deep = load_json(b"[" * 2000 + b"]" * 2000)
    data = [math.inf, "\ud83d", deep]

    JsonView().show(event("a", 0, "usedTools", [{"tool": "t", "toolOutput": data}]))

    assert load_json(capsys.readouterr().out.encode())["data"][0]["toolOutput"][:2] == data[:2]
