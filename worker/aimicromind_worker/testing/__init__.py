"""A broker and an endpoint to try the worker against: both real servers, both on loopback."""

from aimicromind_worker.testing.answers import (
    END,
    answer,
    error_answer,
    html_page,
    json_answer,
    json_error,
    never_answers,
    play,
    status_answer,
    too_many_requests,
    whole_answer,
)
from aimicromind_worker.testing.broker import (
    BrokerDidNotStart,
    CommandFailed,
    PrivateBroker,
    find_rabbitmq_server,
)
from aimicromind_worker.testing.call import Call
from aimicromind_worker.testing.connection import Request
from aimicromind_worker.testing.endpoint import ScriptedEndpoint
from aimicromind_worker.testing.flows import DEMO_FLOWS, add_demo_flows, load_script
from aimicromind_worker.testing.recording import Arrival, Recording, recording_names
from aimicromind_worker.testing.script import (
    HEARTBEAT,
    Cut,
    Ending,
    Finish,
    Head,
    Reset,
    Script,
    Send,
    Stall,
    Step,
    Wait,
    frame,
    send,
)

__all__ = [
    "DEMO_FLOWS",
    "END",
    "HEARTBEAT",
    "Arrival",
    "BrokerDidNotStart",
    "Call",
    "CommandFailed",
    "Cut",
    "Ending",
    "Finish",
    "Head",
    "PrivateBroker",
    "Recording",
    "Request",
    "Reset",
    "Script",
    "ScriptedEndpoint",
    "Send",
    "Stall",
    "Step",
    "Wait",
    "add_demo_flows",
    "answer",
    "error_answer",
    "find_rabbitmq_server",
    "frame",
    "html_page",
    "json_answer",
    "json_error",
    "load_script",
    "never_answers",
    "play",
    "recording_names",
    "send",
    "status_answer",
    "too_many_requests",
    "whole_answer",
]
