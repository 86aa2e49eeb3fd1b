"""A Celery task that streams with httpx, and publishes each event with kombu, confirmed.

It reads its addresses and prefix from BENCH_AMQP_URL, BENCH_BASE_URL and BENCH_PREFIX.
"""

import json
import os
from functools import cache

import httpx
from celery import Celery
from kombu import Exchange

from benchmarks.peers.messages import PeerEvent, PeerFrame, PeerJob

TASK = "bench.carry"


def celery_app(amqp_url: str, prefix: str) -> Celery:
    """Return the application, for the worker and for the producer of jobs."""
    made = Celery("bench", broker=f"{amqp_url.rstrip('/')}//", backend=None)
    made.conf.update(
        task_default_queue=f"{prefix}.jobs",
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        # With heartbeats, Celery's loop for gevent waits 0.1 s after each job.
        broker_heartbeat=0,
    )
    return made


@cache
def _client() -> httpx.Client:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    base_url = os.environ["BENCH_BASE_URL"]
    return httpx.Client(base_url=base_url, timeout=60, limits=limits, trust_env=False)


def _carry(given: dict[str, str]) -> None:
    job = PeerJob.model_validate(given)
    events = Exchange(f"{os.environ['BENCH_PREFIX']}.events", "topic", durable=True)
    seq = 0
    with _client().stream("POST", job.path, json=job.request) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith("data:"):
                continue
            frame = PeerFrame.model_validate(json.loads(line[5:]))
            out = PeerEvent(jobId=job.jobId, seq=seq, event=frame.event, data=frame.data)
            seq += 1
            with app.producer_pool.acquire(block=True) as producer:
                producer.publish(
                    out.model_dump_json().encode(),
                    exchange=events,
                    routing_key=out.routing_key,
                    content_type="application/json",
                    content_encoding="utf-8",
                    delivery_mode=2,
                )


app = celery_app(os.environ.get("BENCH_AMQP_URL", "amqp://"), os.environ.get("BENCH_PREFIX", "b"))
# Events are confirmed; the producer of jobs does not use this module's `app`.
app.conf.broker_transport_options = {"confirm_publish": True}
app.task(name=TASK)(_carry)
