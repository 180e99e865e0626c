"""The properties that a request may override, and their types. It does not apply them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from ksql_lake.devserver.ksql_errors import SERVER_ERROR, RefusedError, bad_request
from ksql_lake.devserver.release import Release

MIGRATE = "ksql.endpoint.migrate.query"
SCAN = "ksql.query.pull.table.scan.enabled"
PUSH_V2 = "ksql.query.push.v2.enabled"
TOKENS = "ksql.query.push.v2.continuation.tokens.enabled"
INSTALLED = "ksql.query.push.v2.registry.installed"
LATEST_DELAY = "ksql.query.push.v2.new.latest.delay.ms"
CATCH_UPS = "ksql.query.push.v2.max.catchup.consumers"
SETTABLE = (PUSH_V2, TOKENS, INSTALLED, LATEST_DELAY, CATCH_UPS)
"""The settings with which a server of this kind can be started."""
_PROHIBITED = ("ksql.service.id",)
_STREAMS = "ksql.streams."
SESSION_MS = 45_000
POLL_INTERVAL_MS = 300_000
_WRAP = 80
"""Columns at which ksqlDB breaks the text of a cause."""

_KSQL = """
    access.validator.enable:s assert.schema.default.timeout.ms:i assert.topic.default.timeout.ms:i
    authorization.cache.expiry.time.secs:l authorization.cache.max.entries:l
    cast.strings.preserve.nulls:b client.ip_port.configuration.enabled:b
    connect.basic.auth.credentials.file:s connect.basic.auth.credentials.reload:b
    connect.basic.auth.credentials.source:s connect.request.timeout.ms:l connect.url:s
    create.or.replace.enabled:b deployment.type:s endpoint.migrate.query:b error.classifier.regex:s
    extension.dir:s fetch.remote.hosts.max.timeout.seconds:l headers.columns.enabled:b
    hidden.topics:s insert.into.values.enabled:b internal.topic.min.insync.replicas:i
    internal.topic.replicas:i json_sr.converter.deserializer.enabled:b lambdas.enabled:b
    metastore.backup.location:s metrics.extension:s metrics.tags.custom:s nested.error.set.null:b
    new.query.planner.enabled:b output.topic.name.prefix:s persistence.default.format.key:s
    persistence.default.format.value:s persistence.ensure.topics.exist:b
    persistence.wrap.single.values:b persistent.prefix:s properties.overrides.denylist:s
    query.cleanup.shutdown.timeout.ms:l query.error.max.queue.size:i query.persistent.active.limit:i
    query.persistent.max.bytes.buffering.total:l query.pull.enable.standby.reads:b
    query.pull.forwarding.timeout.ms:l query.pull.interpreter.enabled:b
    query.pull.limit.clause.enabled:b query.pull.max.allowed.offset.lag:l
    query.pull.max.concurrent.requests:i query.pull.max.hourly.bandwidth.megabytes:i
    query.pull.max.qps:i query.pull.metrics.enabled:b query.pull.range.scan.enabled:b
    query.pull.router.thread.pool.size:i query.pull.stream.enabled:b query.pull.table.scan.enabled:b
    query.pull.thread.pool.size:i query.push.v2.alos.enabled:b
    query.push.v2.catchup.consumer.msg.window:l query.push.v2.continuation.tokens.enabled:b
    query.push.v2.enabled:b query.push.v2.interpreter.enabled:b query.push.v2.latest.reset.age.ms:l
    query.push.v2.max.catchup.consumers:i query.push.v2.max.concurrent.requests:i
    query.push.v2.max.hourly.bandwidth.megabytes:i query.push.v2.metrics.enabled:b
    query.push.v2.new.latest.delay.ms:l query.push.v2.registry.installed:b
    query.retry.backoff.initial.ms:l query.retry.backoff.max.ms:l
    query.status.running.threshold.seconds:i query.transient.max.bytes.buffering.total:l
    queryanonymizer.logs_enabled:b readonly.topics:s rowpartition.rowoffset.enabled:b
    runtime.feature.shared.enabled:b sandbox.exception.mask:b schema.registry.url:s
    security.extension.class:s service.id:s shared.runtimes.count:i sink.partitions:i
    sink.replicas:i sink.window.change.log.additional.retention:l
    source.table.materialization.enabled:b suppress.buffer.size.bytes:l suppress.enabled:b
    timestamp.throw.on.invalid:b total.cache.max.bytes.buffering:l transient.prefix:s
    transient.query.cleanup.service.enable:b udf.collect.metrics:b udf.enable.security.manager:b
    udfs.enabled:b variable.substitution.enable:b websocket.num.threads:i
"""
_STREAMS_NAMES = """
    acceptable.recovery.lag:l application.id:s application.server:s bootstrap.servers:s
    buffered.records.per.partition:i built.in.metrics.version:s cache.max.bytes.buffering:l
    client.id:s commit.interval.ms:l default.client.supplier:s
    default.deserialization.exception.handler:s default.dsl.store:s default.key.serde:s
    default.production.exception.handler:s default.timestamp.extractor:s default.value.serde:s
    deserialization.exception.handler:s dsl.store.suppliers.class:s max.task.idle.ms:l
    max.warmup.replicas:i num.standby.replicas:i num.stream.threads:i poll.ms:l
    probing.rebalance.interval.ms:l processing.guarantee:s production.exception.handler:s
    rack.aware.assignment.strategy:s replication.factor:i repartition.purge.interval.ms:l
    rocksdb.config.setter:s state.cleanup.delay.ms:l state.dir:s statestore.cache.max.bytes:l
    task.timeout.ms:l topology.optimization:s upgrade.from:s window.size.ms:l
    windowstore.changelog.additional.retention.ms:l
"""
_CONSUMER = """
    allow.auto.create.topics:b auto.commit.interval.ms:i auto.offset.reset:s check.crcs:b
    client.dns.lookup:s client.rack:s connections.max.idle.ms:l default.api.timeout.ms:i
    enable.auto.commit:b enable.metrics.push:b exclude.internal.topics:b fetch.max.bytes:i
    fetch.max.wait.ms:i fetch.min.bytes:i group.id:s group.instance.id:s group.protocol:s
    group.remote.assignor:s heartbeat.interval.ms:i interceptor.classes:s isolation.level:s
    key.deserializer:s max.partition.fetch.bytes:i max.poll.interval.ms:i max.poll.records:i
    metadata.max.age.ms:l metric.reporters:s metrics.num.samples:i metrics.recording.level:s
    metrics.sample.window.ms:l partition.assignment.strategy:s receive.buffer.bytes:i
    reconnect.backoff.max.ms:l reconnect.backoff.ms:l request.timeout.ms:i retry.backoff.max.ms:l
    retry.backoff.ms:l security.protocol:s send.buffer.bytes:i session.timeout.ms:i
    socket.connection.setup.timeout.max.ms:l socket.connection.setup.timeout.ms:l
    value.deserializer:s
"""
_PRODUCER = """
    acks:s batch.size:i buffer.memory:l compression.type:s delivery.timeout.ms:i
    enable.idempotence:b key.serializer:s linger.ms:l max.block.ms:l
    max.in.flight.requests.per.connection:i max.request.size:i metadata.max.idle.ms:l
    partitioner.class:s retries:i transaction.timeout.ms:i transactional.id:s value.serializer:s
"""
_CHOICES = {
    "isolation.level": ("read_committed", "read_uncommitted"),
    "processing.guarantee": ("at_least_once", "exactly_once", "exactly_once_beta", "exactly_once_v2"),
}


_DEFAULTS = {
    MIGRATE: "true",
    "ksql.query.pull.enable.standby.reads": "false",
    "ksql.query.pull.max.concurrent.requests": "2147483647",
    "ksql.query.pull.max.qps": "2147483647",
    "ksql.query.pull.stream.enabled": "true",
    SCAN: "true",
    TOKENS: "false",
    PUSH_V2: "false",
    CATCH_UPS: "5",
    LATEST_DELAY: "5000",
    INSTALLED: "false",
    "ksql.service.id": "default_",
}


def _typed(text: str) -> dict[str, str]:
    return dict(word.rsplit(":", 1) for word in text.split())


_OF_KSQL = {f"ksql.{name}": kind for name, kind in _typed(_KSQL).items()}
_OF_CONSUMER, _OF_PRODUCER = _typed(_CONSUMER), _typed(_PRODUCER)
_OF_STREAMS = {**_OF_PRODUCER, **_OF_CONSUMER, **_typed(_STREAMS_NAMES)}
_SINCE = {MIGRATE: (0, 24)}
"""Releases that brought a property; the others count as older than any."""


def resolve(name: str, version: Release) -> tuple[str, str] | None:
    """Return the plain name and type (`s`, `i`, `l`, `b`) of a property; None if this release does not know it.

    Kafka's names may be bare, after `ksql.streams.`, `consumer.` or `producer.`, or after both.
    """
    if name.startswith("ksql.") and not name.startswith(_STREAMS):
        known = version.release >= _SINCE.get(name, (0, 0))
        if name.startswith("ksql.functions."):
            return name, "s"
        return (name, _OF_KSQL[name]) if name in _OF_KSQL and known else None
    plain, names = name.removeprefix(_STREAMS), _OF_STREAMS
    for prefix, own in (("consumer.", _OF_CONSUMER), ("producer.", _OF_PRODUCER)):
        if plain.startswith(prefix):
            plain, names = plain.removeprefix(prefix), own
    return (plain, names[plain]) if plain in names else None


def check_names(properties: Mapping[str, Any], version: Release) -> None:
    """Check that this release knows every property.

    Raises:
        RefusedError: It does not: 500 since 0.24, 400 before.
    """
    for name in properties:
        if resolve(name, version) is None:
            raise RefusedError(
                f"Not recognizable as ksql, streams, consumer, or producer property: '{name}'",
                status=500 if version.migrated else 400,
                code=SERVER_ERROR if version.migrated else 40000,
                statement=None,
            )


def check_values(properties: Mapping[str, Any], version: Release) -> None:
    """Check that every value is of its property's type.

    Raises:
        RefusedError: One is not.
    """
    for name, value in properties.items():
        found = resolve(name, version)
        reason = _wrong(found[0], found[1], value) if found is not None else None
        if found is not None and reason is not None:
            cause = f"Caused by: Invalid value {value} for configuration {found[0]}: {reason}"
            raise bad_request(
                f"Failed to coerce type of value '{value}' for key '{name}'\n"
                + "\n\t".join(textwrap.wrap(cause, _WRAP, break_long_words=False, break_on_hyphens=False))
            )


def _wrong(plain: str, kind: str, value: object) -> str | None:
    """Return why a value is not one of the property's, or None."""
    text = str(value)
    if plain == "auto.offset.reset":
        if text.lower() in ("earliest", "latest", "none") or text.startswith("by_duration:"):
            return None
        return (
            f"Invalid value `{text}` for configuration auto.offset.reset. The value must be either 'earliest', "
            "'latest', 'none' or of the format 'by_duration:<PnDTnHnMn.nS.>'."
        )
    if plain in _CHOICES:
        return None if text in _CHOICES[plain] else f"String must be one of: {', '.join(_CHOICES[plain])}"
    if kind == "b":
        return None if text.lower() in ("true", "false") else "Expected value to be either true or false"
    if kind in ("i", "l") and (isinstance(value, bool) or not text.strip().lstrip("+-").isdigit()):
        return f"Not a number of type {'INT' if kind == 'i' else 'LONG'}"
    return None


def prohibited(names: list[str]) -> RefusedError:
    """Return the refusal of properties that the server's operator lets no client override."""
    return bad_request(
        "One or more properties overrides set locally are prohibited by the KSQL server (use UNSET to reset "
        f"their default value): [{', '.join(names)}]"
    )


def check_allowed(properties: Mapping[str, Any], forbidden: tuple[str, ...]) -> None:
    """Check that nothing prohibited is overridden.

    Args:
        properties: The request's.
        forbidden: Names beside those that no server allows.

    Raises:
        RefusedError: Something is; the text has all the names.
    """
    names = [name for name in properties if name in (*_PROHIBITED, *forbidden)]
    if names:
        raise prohibited(names)


def consumer_number(properties: Mapping[str, Any], plain: str) -> int | None:
    """Return a number set for the query's consumer; the server's own setting overrides a bare name."""
    for prefix in ("ksql.streams.consumer.", "consumer."):
        if f"{prefix}{plain}" in properties:
            return int(properties[f"{prefix}{plain}"])
    return None


def server_settings(given: Iterable[str]) -> dict[str, str]:
    """Return the settings that a server runs with: of a real server's hundreds those that matter to a reader.

    Args:
        given: `NAME=VALUE` of each that is not left at its default.

    Raises:
        RefusedError: A name cannot be set here, or its value is of the wrong type.
    """
    settings = dict(_DEFAULTS)
    for text in given:
        name, _, value = text.partition("=")
        if name not in SETTABLE:
            raise bad_request(f"--setting knows {', '.join(SETTABLE)}, not {name!r}")
        reason = _wrong(name, _OF_KSQL[name], value)
        if reason is not None:
            raise bad_request(f"--setting {text}: {reason}")
        settings[name] = value.lower()
    return settings


def server_properties(settings: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what SHOW PROPERTIES reports of the settings."""
    return [
        {"name": name, "scope": "KSQL", "value": value, "editable": False, "level": "SERVER"}
        for name, value in settings.items()
    ]


def outlives(pause_ms: float, properties: Mapping[str, Any], *, session_ms: float = SESSION_MS) -> bool:
    """Whether a query's consumer keeps its place in its group during a pause.

    Args:
        pause_ms: Length of the pause of the server, its broker or its client.
        properties: What the request overrides.
        session_ms: The server's own session time-out.
    """
    session = consumer_number(properties, "session.timeout.ms") or session_ms
    poll = consumer_number(properties, "max.poll.interval.ms") or max(POLL_INTERVAL_MS, session_ms)
    return pause_ms < min(session, poll)
