"""Check everything that a worker needs, and print findings with remedies, for `doctor`."""

import shutil
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import click

from aimicromind_schemas import Names
from aimicromind_worker.app.broker import needed_topology
from aimicromind_worker.app.build import endpoint
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.core.endpoint.call_failed import CallFailed, is_from_gateway
from aimicromind_worker.core.findings import Finding, State, of_replicas, of_subscriber
from aimicromind_worker.http.client import EndpointClient
from aimicromind_worker.http.endpoint import Ping
from aimicromind_worker.http.saved_messages import SavedMessages
from aimicromind_worker.ops.broker_check import examine_broker
from aimicromind_worker.ops.management import Management, ManagementSilent
from aimicromind_worker.ops.terminal import safe_line, say_json, write
from aimicromind_worker.ops.worker_check import examine_workers

_MARKS = {
    State.OK: ("ok", "green"),
    State.WARNING: ("warning", "yellow"),
    State.PROBLEM: ("problem", "red"),
    State.NOT_CHECKED: ("not checked", "cyan"),
}


async def examine(settings: Settings, flow: str | None, *, as_json: bool) -> bool:
    """Check broker, workers, endpoint and subscribers, and print each finding at once.

    Returns:
        Whether there is no problem.
    """
    problems = 0
    for part in (
        examine_broker(settings),
        examine_workers(settings),
        _deadlines(settings),
        _endpoint(settings, flow),
        _subscribers(settings),
    ):
        async for finding in part:
            problems += finding.state is State.PROBLEM
            _print(finding, as_json=as_json)
    return not problems


async def _deadlines(settings: Settings) -> AsyncIterator[Finding]:
    assumed_s = settings.consumer_timeout_seconds
    yield Finding(
        "consumer_timeout",
        State.NOT_CHECKED,
        f"the worker keeps a job for up to {settings.hold.total_seconds():g} s, because it assumes "
        f"a consumer_timeout of {assumed_s:g} s, which cannot be read over AMQP",
        "set AIMICROMIND_CONSUMER_TIMEOUT_SECONDS to the consumer_timeout of rabbitmq.conf, which "
        "is in milliseconds",
    )


async def _endpoint(settings: Settings, flow: str | None) -> AsyncIterator[Finding]:
    async with EndpointClient.open(endpoint(lambda: settings)) as predictions:
        found = _server(settings.base_url, await predictions.ping())
        yield found
        if found.state is State.PROBLEM:
            return
        if flow is None:
            for about in ("flow", "saved answers"):
                yield Finding(about, State.NOT_CHECKED, "no flow was named", "give --flow")
            return
        yield await _flow(predictions, flow)
        has_key = settings.api_key is not None
        memory = SavedMessages(
            predictions.client, settings.base_url, settings.max_answer_bytes, has_key=has_key
        )
        yield await _saved_answers(memory, flow, has_key=has_key)


def _server(base_url: str, got: Ping | None) -> Finding:
    about = "endpoint"
    if got is None:
        remedy = "set AIMICROMIND_BASE_URL to the server's address, and check DNS, TLS and proxies"
        return Finding(about, State.PROBLEM, f"nothing answers at {base_url}", remedy)
    if is_from_gateway(got.http_status):
        detail = f"a gateway answers at {base_url}, and no server (HTTP {got.http_status})"
        return Finding(about, State.PROBLEM, detail, "start the server, or check the gateway")
    if not got.is_of_the_api:
        what = "no such path" if got.http_status == HTTPStatus.NOT_FOUND else "a page"
        detail = f"{base_url}/api/v1/ping is {what} (HTTP {got.http_status}): it is not the API"
        remedy = (
            "set AIMICROMIND_BASE_URL to the server's address without /api/v1; a proxy that passes "
            "only some paths must pass /api/v1/ping"
        )
        return Finding(about, State.PROBLEM, detail, remedy)
    return Finding(about, State.OK, f"{base_url} answers")


async def _flow(predictions: EndpointClient, flow: str) -> Finding:
    about = f"flow {flow}"
    try:
        facts = await predictions.facts(flow)
    except CallFailed as error:
        return Finding(about, State.PROBLEM, str(error), "check the flow's id")
    match facts.streams:
        case True:
            return Finding(about, State.OK, "it streams")
        case False:
            remedy = "for tokens, choose a model and a last node that stream"
            return Finding(about, State.WARNING, "it answers in one piece", remedy)
        case None:
            return Finding(about, State.NOT_CHECKED, "the endpoint does not say whether it streams")


async def _saved_answers(memory: SavedMessages, flow: str, *, has_key: bool) -> Finding:
    about = "saved answers"
    off = "an answer whose stream broke is not recovered"
    if not has_key:
        return Finding(
            about, State.WARNING, f"there is no API key: {off}", "set AIMICROMIND_API_KEY"
        )
    try:
        readable = await memory.messages(flow, f"doctor-{uuid4()}")
    except CallFailed as error:
        return Finding(about, State.NOT_CHECKED, str(error))
    if readable is None:
        remedy = "use an API key that may read messages, on a server that has /api/v1/chatmessage"
        return Finding(about, State.WARNING, f"they cannot be read: {off}", remedy)
    return Finding(about, State.OK, "the API key may read messages")


async def _subscribers(settings: Settings) -> AsyncIterator[Finding]:
    about, names = "subscribers", Names(settings.prefix)
    if settings.management_url is None:
        detail = "AMQP does not show the queues of subscribers"
        yield Finding(about, State.NOT_CHECKED, detail, "set AIMICROMIND_MANAGEMENT_URL")
        return
    path = urlsplit(settings.broker_urls[0]).path
    url = settings.management_url.get_secret_value()
    ours = {queue.name for queue in needed_topology(settings).queues}
    try:
        async with Management(url, unquote(path[1:]) or "/") as management:
            nodes = await management.nodes()
            for node in nodes:
                for finding in _node(node.name, memory=node.mem_alarm, disk=node.disk_free_alarm):
                    yield finding
            replicas = await management.replicas(settings.prefix)
            bound = await management.subscribers(names.events)
    except ManagementSilent as error:
        remedy = "check AIMICROMIND_MANAGEMENT_URL, its user and the management plugin"
        yield Finding(about, State.NOT_CHECKED, str(error), remedy)
        return
    stored = [(it.name, it.leader or it.node, len(it.members)) for it in replicas]
    for finding in of_replicas(len(nodes), stored):
        yield finding
    queues = [it for it in bound if it.name not in ours]
    yield Finding(about, State.OK, f"{len(queues)} queues of subscribers")
    for queue in queues:
        passing = queue.exclusive or not queue.durable
        for finding in of_subscriber(
            queue.name, queue.type, passing=passing, messages=queue.messages, limit=queue.limit
        ):
            yield finding


def _node(name: str, *, memory: bool, disk: bool) -> Iterator[Finding]:
    for is_set, what in ((memory, "memory"), (disk, "disk")):
        if is_set:
            detail = f"it has a {what} alarm: no worker can publish"
            yield Finding(f"node {name}", State.PROBLEM, detail, f"free {what}, or add more")


def _print(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        say_json(finding)
        return
    mark, colour = _MARKS[finding.state]
    said = _wrapped(safe_line(f"{finding.about}: {finding.detail}"), indent=13)
    write(f"{click.style(f'{mark:>11}', fg=colour)}  {said}")
    if finding.remedy:
        write(f"{'':>11}  → {_wrapped(safe_line(finding.remedy), indent=15)}")


def _wrapped(text: str, indent: int) -> str:
    """Break a text between words for a terminal; a pipe gets one line.

    Args:
        text: One line.
        indent: Columns to the left of each line.
    """
    if not sys.stdout.isatty():
        return text
    columns = max(shutil.get_terminal_size().columns - indent, 20)
    lines = textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False)
    return f"\n{'':{indent}}".join(lines)
