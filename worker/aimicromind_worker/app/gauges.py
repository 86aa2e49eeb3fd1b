"""Show the condition of a worker as gauges of `/metrics`."""

from aimicromind_worker.app.process_state import ProcessState


def watch_condition(process: ProcessState, max_held_bytes: int) -> None:
    """Add the gauges of a worker, whose values are read for each `/metrics`.

    Args:
        process: The state of the process.
        max_held_bytes: The most bytes of jobs that are held.
    """
    watch, held, status = process.metrics.watch, process.held, process.status
    watch("running_jobs", "Jobs that are run now", lambda: held.running)
    watch("waiting_jobs", "Jobs that wait in the worker", lambda: held.waiting)
    watch(
        "chat_waiting_jobs",
        "Jobs that wait in the worker for their chat",
        lambda: process.turns.waiting if process.turns else 0,
    )
    watch("ready", "Whether jobs are taken", lambda: not status.why_not_ready())
    watch(
        "held_bytes",
        "Bytes of the jobs that are held",
        lambda: process.budget.held if process.budget else 0,
    )
    watch("max_held_bytes", "Most bytes of the jobs that are held", lambda: max_held_bytes)
    watch(
        "endpoint_down",
        "Whether calls are stopped because the endpoint does not answer",
        lambda: process.breaker.obstacle() is not None,
    )
    watch(
        "unconfirmed_events",
        "Events that the broker has not answered for",
        lambda: process.publisher.unsettled if process.publisher else 0,
    )
    watch(
        "broker_blocked",
        "Whether the broker takes no events",
        lambda: process.publisher is not None and process.publisher.blocked,
    )
