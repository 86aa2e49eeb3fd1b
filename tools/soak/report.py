"""Print the figures of a soak."""

from collections import Counter

from tests.support.checker import Run
from tests.support.watch import Watch, slope
from tools.soak.faults import Facts
from tools.soak.load import Producer

_LONG_LIVED_JOBS = 100


def report(run: Run, producer: Producer, facts: Facts, watch: Watch, took_s: float) -> None:
    """Print jobs, events, faults, recovery times and memory."""
    (listener,) = run.listeners
    jobs = listener.jobs.values()
    attempts = Counter(len(job.attempts) for job in jobs)
    kinds = Counter(kind for job in jobs for kind in job.kinds)
    print(
        f"took {took_s:.0f} s; {producer.submitted} jobs, {producer.unconfirmed} unconfirmed, "
        f"{producer.copied} repeated"
    )
    print(f"statuses: {dict(listener.statuses())}")
    print(f"jobs by attempts that showed something: {dict(sorted(attempts.items()))}")
    print(f"retries and errors by kind: {dict(kinds.most_common())}")
    print(f"events: {listener.events}, physical duplicates {listener.copies}")
    print(f"calls at the endpoint: {len(run.calls or [])}")
    durations = sorted(
        job.end.at - asked
        for job in jobs
        if job.end is not None and (asked := run.asked[job.job_id].confirmed_at) is not None
    )
    if durations:
        middle, most = durations[len(durations) // 2], durations[int(len(durations) * 0.99)]
        print(
            f"from confirm to end: median {middle:.2f} s, 99% {most:.2f} s, {durations[-1]:.1f} s"
        )
    print("faults, how often, and longest time until a job ended again:")
    for kind, count in sorted(facts.done.items()):
        longest = max(facts.recovery_s[kind], default=float("nan"))
        print(f"  {kind:26} {count:4}   {longest:6.2f} s")
    print("memory of workers, first to last, MB; slope in MB per 1000 jobs:")
    for name, sizes in watch.sizes.items():
        grown = sizes[-1].jobs - sizes[0].jobs
        if grown < _LONG_LIVED_JOBS:
            continue
        # Modules that are loaded with the first jobs are no growth.
        warm = [it for it in sizes if it.jobs >= min(_LONG_LIVED_JOBS, grown / 2)]
        print(
            f"  {name}: {sizes[0].rss_mb:.1f} to {sizes[-1].rss_mb:.1f}, most "
            f"{max(it.rss_mb for it in sizes):.1f}; {sizes[-1].jobs} jobs; slope {slope(warm):+.3f}"
        )
