"""Run mutated recordings through the worker's code for one job, without socket and broker."""

import asyncio
import json
import traceback

from aimicromind_worker.core.endpoint.errors import StreamCut
from aimicromind_worker.jobs.settlement import settle
from tests.support.fakes import FakeDelivery, Run
from tools.fuzz.judge import ending_of, violations
from tools.fuzz.mutations import MAX_ANSWER_BYTES, MAX_FRAME_BYTES, Case, case
from tools.fuzz.report import Report

_LONGEST_S = 30.0


async def through_core(seed: int, numbers: range, report: Report) -> None:
    """Run each case, and add its violations to the report."""
    for number in numbers:
        mutated = case(seed, number)
        try:
            async with asyncio.timeout(_LONGEST_S):
                ending = await _one(mutated, number, report)
        except Exception:  # noqa: BLE001 - any exception is a violation
            report.violation(number, mutated, traceback.format_exc())
            ending = "exception"
        report.took(mutated, ending)


async def _one(mutated: Case, number: int, report: Report) -> str:
    limits = {
        "max_calls": 1,
        "max_frame_bytes": MAX_FRAME_BYTES,
        "max_answer_bytes": MAX_ANSWER_BYTES,
    }
    breaking = [StreamCut("the peer left")] if mutated.breaks else []
    run = Run([*mutated.chunks, *breaking], limits=limits, question=mutated.question)
    outcome = await run.outcome()
    await settle(run.job.progress, outcome, FakeDelivery(b""))
    events = [json.loads(event.body) for event in run.publisher.published]
    for wrong in violations(mutated, "chat", events):
        report.violation(number, mutated, wrong)
    return ending_of(events)
