"""Headers of a message → W3C trace context (Level 2): what is none must not travel on."""

import re

# Section 3.2: zero ids and version ff are invalid, and letters are small. A version to come may
# have more behind these four fields, version 00 has nothing.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?:(?<!^00.{53})-[!-~]*)?"
)
_LONGEST = 512
# Section 3.3.
_MOST_MEMBERS = 32
_KEY = r"[a-z0-9][a-z0-9_*/@-]{0,255}"
_VALUE = r"[ !-+\--<>-~]{0,255}[!-+\--<>-~]"
_MEMBER = re.compile(rf"({_KEY})={_VALUE}")


def trace_context(traceparent: str | None, tracestate: str | None) -> dict[str, str]:
    """Keep the headers that are valid; without a valid `traceparent` there is no `tracestate`."""
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
    # A key that is there twice, or no member at all, counts as unreadable, too.
    return len(text) <= _LONGEST and 0 < len(keys) == len(read) <= _MOST_MEMBERS
