"""The view of a terminal, as what it wrote there."""

import io
import math
from typing import Any

import pytest
from rich.console import Console

from aimicromind_schemas import Event, event_from
from aimicromind_schemas.wire import load_json
from aimicromind_worker.ops.views import JsonView, LiveView

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


def test_line_of_json_is_what_was_published_whatever_its_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    deep = load_json(b"[" * 2000 + b"]" * 2000)
    data = [math.inf, "\ud83d", deep]

    JsonView().show(event("a", 0, "usedTools", [{"tool": "t", "toolOutput": data}]))

    assert load_json(capsys.readouterr().out.encode())["data"][0]["toolOutput"][:2] == data[:2]
