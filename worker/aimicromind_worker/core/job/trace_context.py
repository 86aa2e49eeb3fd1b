"""Validate the W3C trace context (Level 2) of a message: invalid headers are not passed on."""

import re

# W3C Trace Context, 3.2: zero ids and version ff are invalid, and letters are lower case. A later
# version may have more after these four fields; version 00 may not.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?:(?<!^00.{53})-[!-~]*)?"
)
_LONGEST = 512
# W3C Trace Context, 3.3.
_MOST_MEMBERS = 32
_KEY = r"[a-z0-9][a-z0-9_*/@-]{0,255}"
_VALUE = r"[ !-+\--<>-~]{0,255}[!-+\--<>-~]"
_MEMBER = re.compile(rf"({_KEY})={_VALUE}")


def trace_context(traceparent: str | None, tracestate: str | None) -> dict[str, str]:
    """Return the valid headers by name; `tracestate` is dropped without a valid `traceparent`."""
    if traceparent is None or len(traceparent) > _LONGEST:
        return {}
    if not _TRACEPARENT.fullmatch(traceparent):
        return {}
    if tracestate is None or not _is_tracestate(tracestate):
        return {"traceparent": traceparent}
    return {"traceparent": traceparent, "tracestate": tracestate}


def _is_tracestate(text: str) -> bool:
    members = [member.strip(" \t") for member in text.split(",")]
    read = [_MEMBER.fullmatch(member) for member in members if member]
    keys = {member[1] for member in read if member}
    # A duplicate key, or no member at all, makes the header invalid.
    return len(text) <= _LONGEST and 0 < len(keys) == len(read) <= _MOST_MEMBERS
