"""Count what a run publishes, check its order, and say when all jobs have ended.

Usage: python -m tests.bench.consumer AMQP_URL PREFIX JOBS
"""

import json
import sys
from collections import Counter
from time import monotonic

import pika

_PATIENCE_S = 120


def watch(amqp_url: str, prefix: str, jobs: int) -> None:
    channel = pika.BlockingConnection(pika.URLParameters(amqp_url)).channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, f"{prefix}.events", "#")
    expected: Counter[str] = Counter()
    disordered = ended = events = 0
    print("ready", flush=True)
    deadline = monotonic() + _PATIENCE_S
    for method, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=1):
        if monotonic() > deadline:
            break
        if method is None:
            continue
        message = json.loads(body)
        job = message["jobId"]
        events += 1
        disordered += message["seq"] != expected[job]
        expected[job] = message["seq"] + 1
        ended += message["event"] == "end"
        if ended == jobs:
            break
    print(json.dumps({"events": events, "disordered": disordered, "ended": ended}), flush=True)


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2], int(sys.argv[3]))
