"""Set up structured logs for the process: JSON lines, or readable ones on a terminal."""

import logging
import re
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor

# Characters that a terminal interprets, and line ends, which could fake a line of ours.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# The worker logs itself what these libraries log.
_QUIET = ("aio_pika", "aiormq", "httpx", "httpcore", "pamqp", "urllib3")


def set_up(level: str, form: Literal["auto", "json", "pretty"]) -> None:
    """Set up logging to standard error, for structlog and for the standard library.

    Args:
        level: Lowest level to log, as the standard library names it, in small letters.
        form: `auto` is pretty on a terminal and JSON elsewhere.
    """
    pretty = form == "pretty" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = structlog.processors.JSONRenderer()
    if pretty:
        shared.append(_without_control_characters)
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _set_up_libraries(level, shared, renderer)


def _set_up_libraries(level: str, shared: list[Processor], renderer: Processor) -> None:
    """Log lines of the standard library in the same form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _without_control_characters(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape characters that a terminal interprets; the JSON renderer does so itself."""
    return {
        name: _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], value)
        if isinstance(value, str)
        else value
        for name, value in event.items()
    }
