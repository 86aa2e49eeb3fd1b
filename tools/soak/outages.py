"""Decide when a worker must be ready again, where one fault follows another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.support.checker import Outage, Span


def judged(
    outages: Sequence[Outage], endpoint_down: Sequence[Span], stopped: Mapping[str, float]
) -> list[Outage]:
    """Return the outages that are to be judged, with the time that each worker has.

    Args:
        outages: They name their workers.
        endpoint_down: When no endpoint answered: no worker is ready then.
        stopped: When workers were killed or told to drain, by name.
    """
    down = [*endpoint_down, *(Span(it.began, it.cleared) for it in outages)]
    lasting = (_until_all_is_up(outage, down) for outage in outages)
    stayed = (_of_those_that_stayed(outage, stopped) for outage in lasting)
    return [outage for outage in stayed if outage is not None]


def _until_all_is_up(outage: Outage, down: Sequence[Span]) -> Outage:
    """Count the time from the end of the last outage that began before a worker had to be ready."""
    until = outage.cleared + outage.back_within_s
    # Connections that are reset are never down: that alone gives no more time.
    for span in sorted((it for it in down if it.until > it.since), key=lambda it: it.since):
        if span.meets(outage.began, until):
            until = max(until, span.until + outage.back_within_s)
    return replace(outage, back_within_s=until - outage.cleared)


def _of_those_that_stayed(outage: Outage, stopped: Mapping[str, float]) -> Outage | None:
    """Leave out the workers that were stopped before they had to be ready; None for no other."""
    until = outage.cleared + outage.back_within_s
    stayed = [name for name in outage.workers if stopped.get(name, until) >= until]
    return replace(outage, workers=stayed) if stayed else None
