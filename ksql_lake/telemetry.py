"""Fields for log records, and OpenTelemetry spans.

Nothing is sent unless OTEL_EXPORTER_OTLP_ENDPOINT is set.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import MappingProxyType
from typing import Any

Value = str | int | float | bool | None

_log = logging.getLogger(__name__)
_NOTHING: Mapping[str, Value] = MappingProxyType({})
_fields: ContextVar[Mapping[str, Value]] = ContextVar("ksql_lake_fields", default=_NOTHING)


class _Tracing:
    """Holds OpenTelemetry's tracer when tracing is on."""

    tracer: Any = None


def fields() -> Mapping[str, Value]:
    """Return the fields of log records and spans of this thread: `feed`, `run`, ..."""
    return _fields.get()


@contextmanager
def about(**values: Value) -> Iterator[None]:
    """Add fields to log records and spans of this thread while the block lasts."""
    token = _fields.set({**_fields.get(), **values})
    try:
        yield
    finally:
        _fields.reset(token)


def trace(endpoint: str | None) -> None:
    """Send spans to an OpenTelemetry collector from now on; None changes nothing.

    The exporter reads its settings (headers, certificates, time-outs) from OpenTelemetry's own variables.

    Args:
        endpoint: The value of OTEL_EXPORTER_OTLP_ENDPOINT; OTLP over HTTP.
    """
    if endpoint is None or _Tracing.tracer is not None:
        return
    try:
        exporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        resources = import_module("opentelemetry.sdk.resources")
        sdk = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
    except ImportError:
        # The variable is often set for a whole machine; no export fails because of it.
        _log.warning("no traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, but ksql-lake[telemetry] is not installed")
        return
    name = resources.Resource.create({"service.name": "ksql-lake"})
    # OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME take precedence.
    provider = sdk.TracerProvider(resource=name.merge(resources.OTELResourceDetector().detect()))
    provider.add_span_processor(export.BatchSpanProcessor(exporter.OTLPSpanExporter()))
    _Tracing.tracer = provider.get_tracer("ksql_lake")


@contextmanager
def span(name: str) -> Iterator[dict[str, Value]]:
    """Trace the block as one span; the entries of the dictionary become its attributes.

    An exception that leaves the block marks the span as failed.
    """
    attributes: dict[str, Value] = {}
    if _Tracing.tracer is None:
        yield attributes
        return
    with _Tracing.tracer.start_as_current_span(name) as current:
        try:
            yield attributes
        finally:
            for key, value in {**fields(), **attributes}.items():
                if value is not None:
                    current.set_attribute(f"ksql_lake.{key}", value)
