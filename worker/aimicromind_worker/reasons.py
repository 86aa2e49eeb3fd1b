"""The common name of errors that a command reports as one sentence, with exit code 1."""


class NotAchieved(Exception):
    """A command ran, and what it should have achieved it did not; the text says why."""
