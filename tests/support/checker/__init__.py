"""The judge of a run: what was asked, received, called and measured → what must not be."""

from tests.support.checker.endpoint import Tolerance
from tests.support.checker.facts import Asked, Broken, EndpointCall, Span, Violation
from tests.support.checker.health import Counter, Gauge, Outage, Probe
from tests.support.checker.listener import Listener
from tests.support.checker.run import Run
from tests.support.checker.seen import Seen

__all__ = [
    "Asked",
    "Broken",
    "Counter",
    "EndpointCall",
    "Gauge",
    "Listener",
    "Outage",
    "Probe",
    "Run",
    "Seen",
    "Span",
    "Tolerance",
    "Violation",
]
