"""Sum the token counts of a model's provider over the `usageMetadata` events of an attempt."""

from typing import Annotated

import msgspec

_Tokens = Annotated[int, msgspec.Meta(ge=0)]


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

    def plus(self, data: bytes) -> "UsageCount":
        """Return the sum with an event's counts; data of another shape adds nothing."""
        try:
            more = _counted(data)
        except (msgspec.DecodeError, RecursionError):
            return self
        return UsageCount(
            _sum(self.input, more.input_tokens),
            _sum(self.output, more.output_tokens),
            _sum(self.total, more.total_tokens),
        )


def _sum(known: int | None, more: int | None) -> int | None:
    return known if more is None else (known or 0) + more
