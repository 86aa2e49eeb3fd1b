"""What is told of a job that waits, and of one that goes on."""

import shlex

import pytest

from aimicromind_worker.ops.status.queue_place import Place, goes_on


@pytest.mark.parametrize(
    ("place", "exact", "told"),
    [
        (Place(None, 3, 2, 2), True, "queued, 3 before it, 2 workers"),
        (Place(None, 3, 1, 2), False, "queued, at most 3 before it, 1 worker"),
        (Place(None, 0, 1, 1), False, "queued, 0 before it, 1 worker"),
        (Place(None, 3, 0, 2), True, "queued, 3 before it, no worker answers"),
        (Place(None, 3, 0, 0), True, "queued, 3 before it, no worker takes jobs: start one with"),
        (Place("running", 3, 2, 2), True, "a worker runs it; no answer yet"),
        (Place("waiting", None, 2, 2), True, "a worker has it: it waits for its chat, a slot or"),
        (Place(None, None, 2, 2), True, "delayed, or a worker that does not answer has it"),
    ],
)
def test_place_of_a_job_is_told(place: Place, exact: bool, told: str) -> None:  # noqa: FBT001
    assert place.sentence(exact=exact).startswith(told)


@pytest.mark.parametrize("chat", ["c1", "a b", "it's", "$(x)", "-c", "--json"])
def test_commands_for_a_job_that_goes_on_can_be_pasted(chat: str) -> None:
    said, follow, cancel = goes_on("job-1", chat)

    assert said == "job job-1 goes on"
    assert shlex.split(follow.partition(": ")[2])[-1] == chat
    assert shlex.split(cancel.partition(": ")[2])[1:] == ["cancel", "--job=job-1"]
