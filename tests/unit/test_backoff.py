"""Pauses between tries that may go on for ever."""

from aimicromind_worker.backoff import Backoff


def test_pauses_double_up_to_the_limit_and_are_cut_by_a_half_at_most() -> None:
    backoff = Backoff(0.25, 5)

    for longest_s in (0.25, 0.5, 1, 2, 4, 5, 5):
        assert longest_s / 2 <= backoff.pause() <= longest_s


def test_pauses_of_two_workers_differ() -> None:
    assert len({Backoff(1, 5).pause() for _ in range(20)}) > 1


def test_pause_stays_at_the_limit_for_ever() -> None:
    backoff = Backoff(0.25, 5)

    pauses = [backoff.pause() for _ in range(5000)]

    assert max(pauses) <= 5


def test_pauses_begin_again_after_a_reset() -> None:
    backoff = Backoff(0.25, 5)
    for _ in range(10):
        backoff.pause()

    backoff.reset()

    assert backoff.pause() <= 0.25
