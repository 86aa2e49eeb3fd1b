"""Set up structured logs: JSON lines, or pretty ones on a terminal; other libraries join in."""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

_QUIET = ("aio_pika", "aiormq", "httpx", "httpcore", "pamqp", "urllib3", "uvicorn")


def set_up(level: str, form: Literal["auto", "json", "pretty"]) -> None:
    """Set up logging for the process, to standard error.

    Args:
        level: Least level, as the standard library names it, in small letters.
        form: `auto` is pretty on a terminal and JSON elsewhere.
    """
    pretty = form == "pretty" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # They tell what we tell, with their own words; what is left is worth a look.
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
