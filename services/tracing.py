"""Traces for OpenTelemetry: off, and nothing of it loaded, unless a collector is named.

What a service did is recorded when it is done, with the times that were taken on the way. Spans are
sent by a thread of the library's; a collector that is away costs no more than their loss.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from services.logs import Log
from services.stopwatch import Interval

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Any of these variables turns traces on; what they mean is OpenTelemetry's."""

FLUSH_S = 1.0
"""How long stopping may take because of spans that are not sent yet."""

Attributes = Mapping[str, str | int | float | bool]


def tracing_of(env: Mapping[str, str], service: str, instance: str, log: Log) -> "Tracing | None":
    """What records traces of a service; None where no collector is named."""
    if not any(env.get(name, "").strip() for name in ENDPOINTS):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )

    return Tracing(OTLPSpanExporter(), service, instance, log)


class Tracing:
    """Records spans, and hands them to an exporter in the background."""

    def __init__(self, exporter: "SpanExporter", service: str, instance: str, log: Log) -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        resource = Resource.create(
            {"service.name": f"flexfeeder-{service}", "service.instance.id": instance}
        )
        _say_once(log)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("flexfeeder")
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER}

    def begin(self, name: str, traceparent: str | None, at: float) -> "Span":
        """Begin a span of a request that is served; what says nothing of a trace begins one.

        ``at`` in seconds of ``time.perf_counter``, as all times here.
        """
        kind = self._kinds["server"]
        start = _zero_ns() + _ns(at)
        return self._tracer.start_span(name, self._context(traceparent), kind, start_time=start)

    def end(self, span: "Span", name: str, attributes: Attributes, at: float) -> None:
        """End it, under the name that it has come to have."""
        span.update_name(name)
        span.set_attributes(dict(attributes))
        span.end(_zero_ns() + _ns(at))

    def traceparent(self, span: "Span") -> str | None:
        """What tells another service of a span."""
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return carrier.get("traceparent")

    def record(
        self,
        name: str,
        traceparent: str | None,
        interval: Interval,
        attributes: Attributes,
        parts: Mapping[str, Interval],
    ) -> None:
        """Record a command that was carried out, and the parts that its time went into."""
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

        zero = _zero_ns()  # once, as its parts are to lie within it to the last digit
        span = self._tracer.start_span(
            name,
            self._context(traceparent),
            self._kinds["consumer"],
            dict(attributes),
            start_time=zero + _ns(interval.start),
        )
        within = set_span_in_context(span)
        for part, taken in parts.items():
            below = self._tracer.start_span(part, within, start_time=zero + _ns(taken.start))
            below.end(zero + _ns(taken.end))
        span.end(zero + _ns(interval.end))

    def close(self) -> None:
        """Send what is left, as far as that can be done in time."""
        # The library waits for half a minute where a collector does not answer.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(FLUSH_S)

    def _context(self, traceparent: str | None) -> "Context":
        carrier = {} if traceparent is None else {"traceparent": traceparent}
        return self._propagator.extract(carrier)


def _zero_ns() -> int:
    """Epoch nanoseconds at which ``time.perf_counter`` was 0."""
    return time.time_ns() - time.perf_counter_ns()


def _ns(at: float) -> int:
    return int(1e9 * at)


class _Once(logging.Handler):
    """Has our log say the first thing that the library complains of, and nothing more: one that
    cannot send complains at each attempt.
    """

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._is_told = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_told:
            self._is_told = True
            self._log.warning("traces_not_sent", reason=record.getMessage()[:200])


def _say_once(log: Log) -> None:
    library = logging.getLogger("opentelemetry")
    library.handlers = [_Once(log)]
    library.propagate = False
