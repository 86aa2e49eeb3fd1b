"""Run the model of chat turns and print what it finds: `python -m tools.turns`."""

from itertools import pairwise
from random import Random
from statistics import quantiles

import click

from tools.turns.scene import Faults, Job
from tools.turns.world import World

_FAULTS = {
    "quiet": Faults(),
    "slow broker": Faults(latency_s=0.05),
    "one in ten messages lost": Faults(lost=0.1),
    "a worker dies every 2 s": Faults(crashes_every_s=2.0),
    "all of it": Faults(latency_s=0.05, lost=0.1, crashes_every_s=2.0),
}


@click.command()
@click.option("--jobs", default=2000, show_default=True, help="Jobs in each run.")
@click.option("--seed", default=1, show_default=True, help="Seed of the random numbers.")
def main(jobs: int, seed: int) -> None:
    """Print by faults, workers, and how jobs come.

    Jobs that began before an earlier one of their chat; how long jobs waited although their chat
    was free and the job before them over; messages and lock requests for each job.
    """
    print("| faults | workers | jobs of a chat | out of order | p50, ms | p99, ms | messages |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for name, faults in _FAULTS.items():
        for workers in (2, 3, 8):
            for how, of_chat in (
                ("bursts, `after`", in_bursts(jobs, seed, named=True)),
                ("bursts", in_bursts(jobs, seed, named=False)),
                ("50 ms apart", apart(jobs, seed)),
            ):
                world = World(of_chat, workers, faults, seed)
                world.run()
                cuts = quantiles(world.waited_s, n=100)
                row = (
                    f"| {name} | {workers} | {how} | {inversions(world)} "
                    f"| {cuts[49] * 1000:.1f} | {cuts[98] * 1000:.1f} "
                    f"| {sum(world.sent.values()) / jobs:.1f} |"
                )
                print(row, flush=True)


def in_bursts(jobs: int, seed: int, *, named: bool) -> list[Job]:
    """Return bursts of 2 to 20 jobs of a chat, delivered within milliseconds."""
    random = Random(seed)
    made: list[Job] = []
    while len(made) < jobs:
        chat_id, begin_s = f"chat-{len(made)}", random.uniform(0, jobs / 50)
        for place in range(random.randint(2, 20)):
            at_s = begin_s + place * 0.001
            after = made[-1].job_id if named and place else ""
            takes_s = random.uniform(0.005, 0.2)
            made.append(Job(f"{chat_id}-{place:04}", chat_id, at_s, takes_s, after))
    return made


def apart(jobs: int, seed: int) -> list[Job]:
    """Return chats of 10 jobs that are delivered 50 ms apart and run for 20 to 200 ms."""
    random = Random(seed)
    return [
        Job(
            f"chat-{number // 10}-{number % 10:04}",
            f"chat-{number // 10}",
            number // 10 * 0.2 + number % 10 * 0.05,
            random.uniform(0.02, 0.2),
        )
        for number in range(jobs)
    ]


def inversions(world: World) -> int:
    """Count the jobs that began before one of their chat that was delivered earlier."""
    return sum(
        later < earlier
        for order in world.runs.values()
        for earlier, later in pairwise(dict.fromkeys(order))
    )


if __name__ == "__main__":
    main()
