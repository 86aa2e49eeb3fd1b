"""Parse the commands for one job or chat: `submit`, `follow` and `cancel`."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

import json
import signal
import sys

import click

from aimicromind_worker.cli.outcomes import FAILED, WRONG_USE, end_by, fail, read, run_async


@click.command()
@click.argument("flow")
@click.argument("question")
@click.option("--chat", help="chatId; without it, the job's id.")
@click.option("--job-id", help="jobId; without it, a new one.")
@click.option("--after", help="jobId of the job before it in the chat: begin after its end.")
@click.option("--follow", "watch", is_flag=True, help="Show the job's events until it ends.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs.")
@click.option("--within", default=600.0, show_default=True, help="Seconds to follow, at most.")
def submit(  # noqa: PLR0913, PLR0917 - one for each option
    flow: str,
    question: str,
    chat: str | None,
    job_id: str | None,
    after: str | None,
    watch: bool,  # noqa: FBT001 - click passes it by name
    as_json: bool,  # noqa: FBT001 - click passes it by name
    within: float,
) -> None:
    """Submit a job that asks FLOW the QUESTION.

    \b
    Examples:
      aimicromind-worker submit 91975cee-5a0f "What is a queue?" --follow
      aimicromind-worker submit 91975cee-5a0f "And a stream?" --chat c1 --json
      aimicromind-worker submit 91975cee-5a0f "And a lock?" --chat c1 --after 5f0e7c1a
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_schemas import InvalidJob, PredictionJob
    from aimicromind_schemas.client import new_job_id
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.following.watch import submit_and_watch, submit_job

    settings = read(BrokerSettings)
    fields = {"chatflowId": flow, "question": question, "chatId": chat, "after": after}
    try:
        job = PredictionJob.decode(json.dumps({**fields, "jobId": job_id or new_job_id()}).encode())
    except InvalidJob as error:
        fail(str(error), WRONG_USE)
    if not watch:
        run_async(submit_job(settings, job, as_json=as_json))
        return
    try:
        completed = run_async(submit_and_watch(settings, job, as_json=as_json, within_s=within))
    except KeyboardInterrupt:
        end_by(signal.SIGINT)
    if not completed:
        sys.exit(FAILED)


@click.command()
@click.argument("chat")
@click.option("--job", help="Show only this job of the chat, until it ends.")
@click.option("--from-start", is_flag=True, help="Begin with the events of the event log.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs.")
@click.option("--within", type=float, help="Seconds to follow, at most; without it, no end.")
def follow(
    chat: str,
    job: str | None,
    from_start: bool,  # noqa: FBT001 - click passes it by name
    as_json: bool,  # noqa: FBT001 - click passes it by name
    within: float | None,
) -> None:
    """Show the events of CHAT as they arrive, until Ctrl-C.

    The chat of a job without chatId is its jobId. Each event is shown once, newer attempts
    replace older ones, and missing events are reported.

    \b
    Examples:
      aimicromind-worker follow c1 --from-start
      aimicromind-worker follow c1 --job 5f0e7c1a --json | jq -r 'select(.event=="token").data'
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.following.watch import Watch, watch_chat

    watch = Watch(chat, job, from_start=from_start, as_json=as_json, within_s=within)
    try:
        if not run_async(watch_chat(read(BrokerSettings), watch)):
            sys.exit(FAILED)
    except KeyboardInterrupt:
        # The usual end: a chat has none.
        return


@click.command()
@click.option("--job", help="Cancel the job with this id.")
@click.option("--chat", help="Cancel all jobs of this chat that were submitted until now.")
def cancel(job: str | None, chat: str | None) -> None:
    """Cancel a job, or the jobs of a chat; each then ends with status `cancelled`.

    A job that has ended stays as it is. A job that waits on the queue ends, too.

    \b
    Examples:
      aimicromind-worker cancel --job 5f0e7c1a
      aimicromind-worker cancel --chat c1
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.following.watch import cancel as ask

    if (job is None) == (chat is None):
        fail("name either --job or --chat, with an id", WRONG_USE)
    try:
        run_async(ask(read(BrokerSettings), job, chat))
    except ValueError as error:
        fail(str(error), WRONG_USE)
