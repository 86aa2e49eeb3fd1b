"""Events of every name, known or not, at times that a float can hold."""

from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import strategies as st

from aimicromind_schemas import EVENT_NAMES, Event
from tests.unit.schemas.strategies import events, unknown_names

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_times = st.integers(0, 64 * 4_000_000_000).map(lambda n: _EPOCH + timedelta(seconds=n / 64))
_names = st.sampled_from(sorted(EVENT_NAMES)) | unknown_names

any_event: Final[st.SearchStrategy[Event]] = st.builds(
    lambda event, time: event.model_copy(update={"time": time}), _names.flatmap(events), _times
)
