"""Tokens that a model's provider counted, summed over the `usageMetadata` events of an attempt."""

from typing import Annotated

import msgspec

_Tokens = Annotated[int, msgspec.Meta(ge=0)]


class _Counted(msgspec.Struct):
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    total_tokens: _Tokens | None = None


_counted = msgspec.json.Decoder(_Counted).decode


class UsageCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens by kind; None where nobody told.

    Attributes:
        input: Of the prompts.
        output: Of the answers.
        total: Of both.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None

    def plus(self, data: bytes) -> "UsageCount":
        """Add what an event counted; one of another shape adds nothing."""
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
