"""Check for `doctor` whether any worker takes jobs."""

from collections.abc import AsyncIterator, Sequence

from aiormq.exceptions import AMQPError

from aimicromind_schemas import WorkerReport
from aimicromind_schemas.client import ClientError
from aimicromind_worker.amqp.connection import PermissionMissing
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.core.findings import Finding, State
from aimicromind_worker.ops.status.facts import silent_consumers
from aimicromind_worker.ops.status.reading import NoJobQueue, StatusReader

_ABOUT = "workers"
_START = "start one: `aimicromind-worker run`"
_SEE = "see `aimicromind-worker status`"


async def examine_workers(settings: Settings) -> AsyncIterator[Finding]:
    """Yield whether workers take jobs; nothing where the broker cannot be reached.

    Args:
        settings: Addresses of the broker, and names of the topology.
    """
    try:
        async with StatusReader.open(settings) as reader:
            counts, reports = await reader.ask()
            unknown = reader.unknown
    except (AMQPError, ClientError, NoJobQueue, OSError, PermissionMissing):
        # Other findings tell that the broker, the queue or a permission is missing.
        return
    yield of_workers(counts.consumers, reports, unknown)


def of_workers(
    consumers: int, reports: Sequence[WorkerReport], unknown: Sequence[str] = ()
) -> Finding:
    """Return a finding about the workers of an installation.

    Args:
        consumers: The consumers of the queue of jobs.
        reports: Of the workers that answered.
        unknown: Why they could not be asked; empty if they could.
    """
    told = "1 consumer" if consumers == 1 else f"{consumers} consumers"
    if not reports and not consumers:
        return Finding(_ABOUT, State.WARNING, "no worker takes jobs", _START)
    if unknown:
        detail = f"the queue of jobs has {told}; {'; '.join(unknown)}"
        return Finding(_ABOUT, State.NOT_CHECKED, detail, "docs/operations.md, Permissions")
    if silent := silent_consumers(reports, consumers):
        detail = f"the queue of jobs has {told}, and {silent} of no worker that answers"
        remedy = "update workers of earlier versions, restart those that hang, stop other consumers"
        return Finding(_ABOUT, State.WARNING, detail, remedy)
    ready = [it for it in reports if it.ready]
    if not ready:
        first = reports[0]
        why = "; ".join(first.obstacles) or "it does not say why"
        detail = f"no worker takes jobs: {first.host}/{first.pid}: {why}"
        return Finding(_ABOUT, State.WARNING, detail, _SEE)
    slots = sum(it.slots for it in ready)
    detail = f"{len(ready)} of {len(reports)} take jobs, with {slots} slots"
    return Finding(_ABOUT, State.OK, detail)
