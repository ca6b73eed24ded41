"""structlog, set up once per process: people read the console form, machines the JSON one."""

import logging
import sys
from typing import Any

import structlog

from services.settings import Settings

Log = structlog.typing.FilteringBoundLogger


def printable(text: str) -> str:
    """``text`` with everything escaped that could move a terminal's cursor, or worse."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _escape(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    # Topics and names come from anybody. Only a traceback has lines.
    for key, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if key == "exception" else [value]
            event[key] = "\n".join(map(printable, lines))
    return event


class OncePerTopic:
    """Warns of a refused message once for each topic, and keeps no more topics than it must."""

    MOST_TOPICS = 1000

    def __init__(self, log: Log, event: str) -> None:
        self._log = log
        self._event = event
        self._topics: set[str] = set()

    def warn(self, topic: str, problem: str) -> None:
        if topic not in self._topics and len(self._topics) < self.MOST_TOPICS:
            self._topics.add(topic)
            self._log.warning(self._event, topic=topic[:200], problem=problem[:500])


def configure(settings: Settings, service: str) -> Log:
    """Set structlog up from the settings and return the logger of ``service``."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=28)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks
            if settings.log_format == "json"
            else structlog.processors.format_exc_info,
            _escape,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    log: Log = structlog.get_logger(service=service)
    return log
