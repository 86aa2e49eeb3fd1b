"""A private RabbitMQ and a scripted prediction endpoint for tests, both on loopback."""

from aimicromind_testing.broker.home import BrokerTls
from aimicromind_testing.broker.private import CommandFailed, PrivateBroker
from aimicromind_testing.broker.programs import BrokerDidNotStart, find_rabbitmq_server
from aimicromind_testing.endpoint.answers import (
    END,
    answer,
    error_answer,
    html_page,
    json_answer,
    json_error,
    never_answers,
    play,
    silent_answer,
    status_answer,
    too_many_requests,
    whole_answer,
)
from aimicromind_testing.endpoint.call import Call
from aimicromind_testing.endpoint.connection import Request
from aimicromind_testing.endpoint.flows import DEMO_FLOWS, add_demo_flows, load_script
from aimicromind_testing.endpoint.recording import Arrival, Recording, recording_names
from aimicromind_testing.endpoint.script import (
    HEARTBEAT,
    Break,
    Crash,
    Cut,
    Ending,
    Finish,
    Head,
    Mute,
    Reset,
    Script,
    Send,
    Stall,
    Step,
    Unheard,
    Wait,
    frame,
    send,
)
from aimicromind_testing.endpoint.server import ScriptedEndpoint

__all__ = [
    "DEMO_FLOWS",
    "END",
    "HEARTBEAT",
    "Arrival",
    "Break",
    "BrokerDidNotStart",
    "BrokerTls",
    "Call",
    "CommandFailed",
    "Crash",
    "Cut",
    "Ending",
    "Finish",
    "Head",
    "Mute",
    "PrivateBroker",
    "Recording",
    "Request",
    "Reset",
    "Script",
    "ScriptedEndpoint",
    "Send",
    "Stall",
    "Step",
    "Unheard",
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
    "silent_answer",
    "status_answer",
    "too_many_requests",
    "whole_answer",
]
