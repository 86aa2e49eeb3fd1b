"""Sum the token counts of a model's provider over the `usageMetadata` events of a job's calls."""

import re
from typing import Annotated

import msgspec

# No answer costs more; sums of such counts stay readable for every language.
_MOST = 1_000_000_000_000
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
_WRITTEN = re.compile(r"(\d{0,13}),(\d{0,13}),(\d{0,13})", re.ASCII)


class _Counted(msgspec.Struct):
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    total_tokens: _Tokens | None = None


_counted = msgspec.json.Decoder(_Counted).decode


class UsageCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """Numbers of tokens; None where the provider gave none.

    Attributes:
        input: Tokens of prompts.
        output: Tokens of answers.
        total: Both.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None

    @classmethod
    def of_event(cls, data: bytes) -> "UsageCount":
        """Return the counts of a `usageMetadata` event; data of another shape has none."""
        try:
            told = _counted(data)
        except (msgspec.DecodeError, RecursionError):
            return cls()
        return cls(told.input_tokens, told.output_tokens, told.total_tokens)

    @classmethod
    def from_text(cls, text: object) -> "UsageCount":
        """Return what `to_text` wrote; anything else has no counts."""
        found = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            return cls()
        return cls(*(min(int(count), _MOST) if count else None for count in found.groups()))

    @property
    def by_direction(self) -> dict[str, int]:
        """The known counts of `input` and `output`; what is only told as a sum is `undivided`."""
        known = {"input": self.input, "output": self.output}
        if self.input is None and self.output is None:
            known = {"undivided": self.total}
        return {direction: count for direction, count in known.items() if count is not None}

    def to_text(self) -> str:
        """Return the counts with commas between them; those that are unknown are empty."""
        counts = (self.input, self.output, self.total)
        return ",".join("" if count is None else str(count) for count in counts)

    def plus(self, more: "UsageCount") -> "UsageCount":
        """Return the sum."""
        return UsageCount(
            _sum(self.input, more.input),
            _sum(self.output, more.output),
            _sum(self.total, more.total),
        )


def _sum(known: int | None, more: int | None) -> int | None:
    return known if more is None else min((known or 0) + more, _MOST)
