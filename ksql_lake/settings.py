"""The settings, read from the environment."""

# Nothing else reads environment variables. Secrets exist only here and in the client; `repr` shows asterisks.

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from ksql_lake.errors import SettingsError

_log = logging.getLogger(__name__)

_OURS = ("KSQLDB_", "KSQL_LAKE_")
"""Prefixes of our variables; an unknown variable with one of them has no effect."""

_ELSEWHERE = frozenset({"KSQL_LAKE_DAGSTER_POSTGRES", "KSQL_LAKE_TEST_REQUIRE_ALL"})
"""Variables with such a prefix that are read elsewhere: by Dagster's configuration, and by the tests."""


def _variable(name: str) -> AliasChoices:
    return AliasChoices(name)


def _variable_of(field: FieldInfo) -> str:
    """Return the environment variable of a setting."""
    return str(field.validation_alias.choices[0]) if isinstance(field.validation_alias, AliasChoices) else ""


class _Environment(BaseModel):
    """Settings by environment variable, in any case; what is given takes precedence."""

    # pydantic-settings does this too, but takes as long to import as all of pydantic.
    # A class's validator is made when it is first used.
    model_config = ConfigDict(extra="ignore", populate_by_name=True, validate_default=True, defer_build=True)

    def __init__(self, **given: Any) -> None:
        environment = {name.upper(): text for name, text in os.environ.items()}  # noqa: TID251 - this is that place
        for name, field in type(self).model_fields.items():
            variable = _variable_of(field)
            if name not in given and variable not in given and variable in environment:
                given[variable] = environment[variable]
        super().__init__(**given)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_means_unset(cls, value: object, info: ValidationInfo) -> object:
        # `KSQLDB_USER=` in an env file means "no user", not "a user with an empty name".
        if isinstance(value, str) and not value.strip():
            return cls.model_fields[str(info.field_name)].default
        return value


class Settings(_Environment):
    """All settings; times are in seconds.

    Attributes:
        ksqldb_url: The server, `http://host:port` or `https://host:port`, without a path.
        ksqldb_user: User for basic auth, or API key; goes with `ksqldb_password`.
        ksqldb_password: Password of that user, or API secret.
        ksqldb_token: Bearer token; instead of a user.
        ksqldb_ca_file: PEM file of the authority that signed the server's certificate.
        ksqldb_cert_file: PEM file of the client certificate, for mutual TLS.
        ksqldb_key_file: PEM file of its key, if the certificate's file does not hold it.
        require_tls: Whether credentials over plain http:// to another machine are an error, not a warning.
        connect_timeout: Seconds that a connection may take to open.
        read_timeout: Seconds that the server may stay silent inside a response.
        stall_timeout: Seconds that a pull query may send heartbeats, but neither a row nor its end.
        table_wait: Seconds to wait until the query that writes a table has consumed its source.
        settle_time: Seconds before the second reading of nodes that cannot be read one by one.
        nodes: Addresses of all nodes of the service, separated by commas, if the advertised addresses cannot be
            reached from here.
        trust_advertised: Whether credentials are also sent to advertised nodes of another scheme than
            `ksqldb_url`.
        require_properties: Whether a property of our queries that the server refuses is an error.
        spool_mb: How much of an answer may wait on disk for its reader, in MB of 1,000,000 bytes.
        quiet_seconds: Seconds a push query may stay silent before it counts as caught up; only rows from before
            the query began break the silence.
        max_row_mb: The longest row, as JSON, in MB of 1,000,000 bytes; a longer one is refused before it fills
            the memory.
        attempts: How many times a request or an export that may succeed later is tried in all.
        lake_root: Folder of the lake, or a bucket: `s3://bucket/prefix`, `gs://...`, `az://...`.
        feeds_root: Folder of the feed files, with `active/`, `archived/` and `proposed/` in it.
        dagster_home: Dagster's own folder; if set, exports from the shell are recorded in this Dagster
            instance.
        dagster_url: Dagster's web server, which is asked to reload when feed files change.
        schedules: Whether scheduled exports and upkeep are `running` until they are switched off in Dagster, or
            `stopped` until they are switched on.
        alert_webhook: Address to which alerts are posted as JSON; secret, because everyone who knows it can
            post.
        alert_email: Addresses that get alerts by mail, separated by commas.
        alert_sender: Sender's address of the mails; without it the first of `alert_email`.
        smtp_url: Mail server, `smtp://host:port` or `smtps://host:port`.
        smtp_user: User at the mail server; goes with `smtp_password`.
        smtp_password: Password of that user.
        validating: Whether Dagster only validates the definitions, so that a broken feed file is an error.
        log_format: Format of the command line's standard error: `text` for people, `json` for programs.
        otel_endpoint: OpenTelemetry collector to which traces are sent; without it there are no traces.
        keep_runs_days: How many days the job `prune` keeps Dagster's runs, their logs, and superseded events.
        keep_ticks_days: How many days the job `prune` keeps the ticks of schedules and sensors.
        executor: Where the steps of a Dagster run are executed: in the run's own process, or by Celery workers.
        celery_broker: Broker in which steps wait for a worker; e.g. `redis://:password@host:6379/0`.
        celery_backend: Store of the steps' results; without it, the broker.
        celery_visibility_timeout: Seconds after which a step that no worker has finished goes to another one;
            more than the longest export takes.
    """

    ksqldb_url: str = Field("http://localhost:8088", validation_alias=_variable("KSQLDB_URL"))
    ksqldb_user: str | None = Field(None, validation_alias=_variable("KSQLDB_USER"))
    ksqldb_password: SecretStr | None = Field(None, validation_alias=_variable("KSQLDB_PASSWORD"))
    ksqldb_token: SecretStr | None = Field(None, validation_alias=_variable("KSQLDB_TOKEN"))
    ksqldb_ca_file: Path | None = Field(None, validation_alias=_variable("KSQLDB_CA_FILE"))
    ksqldb_cert_file: Path | None = Field(None, validation_alias=_variable("KSQLDB_CERT_FILE"))
    ksqldb_key_file: Path | None = Field(None, validation_alias=_variable("KSQLDB_KEY_FILE"))
    require_tls: bool = Field(False, validation_alias=_variable("KSQL_LAKE_REQUIRE_TLS"))
    connect_timeout: float = Field(10.0, gt=0, validation_alias=_variable("KSQLDB_CONNECT_TIMEOUT"))
    read_timeout: float = Field(120.0, gt=0, validation_alias=_variable("KSQLDB_READ_TIMEOUT"))
    stall_timeout: float = Field(7200.0, gt=0, validation_alias=_variable("KSQLDB_STALL_TIMEOUT"))
    table_wait: float = Field(600.0, ge=0, validation_alias=_variable("KSQLDB_TABLE_WAIT"))
    settle_time: float = Field(45.0, ge=0, le=3600, validation_alias=_variable("KSQLDB_SETTLE_TIME"))
    nodes: str | None = Field(None, validation_alias=_variable("KSQLDB_NODES"))
    trust_advertised: bool = Field(False, validation_alias=_variable("KSQLDB_TRUST_ADVERTISED"))
    require_properties: bool = Field(False, validation_alias=_variable("KSQLDB_REQUIRE_PROPERTIES"))
    spool_mb: int = Field(10_000, ge=1, validation_alias=_variable("KSQLDB_SPOOL_MB"))
    quiet_seconds: float = Field(10.0, gt=0, le=3600, validation_alias=_variable("KSQLDB_QUIET_SECONDS"))
    max_row_mb: int = Field(64, ge=1, le=1000, validation_alias=_variable("KSQLDB_MAX_ROW_MB"))
    attempts: int = Field(4, ge=1, le=20, validation_alias=_variable("KSQLDB_ATTEMPTS"))
    lake_root: str = Field("data_lake", min_length=1, validation_alias=_variable("KSQL_LAKE_ROOT"))
    feeds_root: Path = Field(Path("feeds"), validation_alias=_variable("KSQL_LAKE_FEEDS"))
    dagster_home: Path | None = Field(None, validation_alias=_variable("DAGSTER_HOME"))
    dagster_url: str = Field(
        "http://127.0.0.1:3000", pattern="^https?://", validation_alias=_variable("KSQL_LAKE_DAGSTER_URL")
    )
    validating: bool = Field(False, validation_alias=_variable("DAGSTER_IS_DEFS_VALIDATION_CLI"))
    schedules: Literal["stopped", "running"] = Field(
        "stopped", validation_alias=_variable("KSQL_LAKE_SCHEDULES")
    )
    log_format: Literal["text", "json"] = Field("text", validation_alias=_variable("KSQL_LAKE_LOG"))
    otel_endpoint: str | None = Field(None, validation_alias=_variable("OTEL_EXPORTER_OTLP_ENDPOINT"))
    keep_runs_days: int = Field(30, ge=1, validation_alias=_variable("KSQL_LAKE_KEEP_RUNS_DAYS"))
    keep_ticks_days: int = Field(7, ge=1, validation_alias=_variable("KSQL_LAKE_KEEP_TICKS_DAYS"))
    executor: Literal["in_process", "celery"] = Field(
        "in_process", validation_alias=_variable("KSQL_LAKE_EXECUTOR")
    )
    celery_broker: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), validation_alias=_variable("KSQL_LAKE_CELERY_BROKER")
    )
    celery_backend: SecretStr | None = Field(None, validation_alias=_variable("KSQL_LAKE_CELERY_BACKEND"))
    celery_visibility_timeout: int = Field(
        3600, ge=1, validation_alias=_variable("KSQL_LAKE_CELERY_VISIBILITY_TIMEOUT")
    )

    alert_webhook: SecretStr | None = Field(None, validation_alias=_variable("KSQL_LAKE_ALERT_WEBHOOK"))
    alert_email: str | None = Field(None, validation_alias=_variable("KSQL_LAKE_ALERT_EMAIL"))
    alert_sender: str | None = Field(None, validation_alias=_variable("KSQL_LAKE_ALERT_SENDER"))
    smtp_url: str = Field("smtp://localhost:25", validation_alias=_variable("KSQL_LAKE_SMTP_URL"))
    smtp_user: str | None = Field(None, validation_alias=_variable("KSQL_LAKE_SMTP_USER"))
    smtp_password: SecretStr | None = Field(None, validation_alias=_variable("KSQL_LAKE_SMTP_PASSWORD"))

    @property
    def node_urls(self) -> tuple[str, ...]:
        """The addresses of `nodes`."""
        return tuple(url.strip().rstrip("/") for url in (self.nodes or "").split(",") if url.strip())

    @property
    def alert_recipients(self) -> list[str]:
        """The addresses of `alert_email`."""
        return [address.strip() for address in (self.alert_email or "").split(",") if address.strip()]

    @field_validator("ksqldb_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        return _server_address(value)

    @field_validator("nodes")
    @classmethod
    def _plain_urls(cls, value: str | None) -> str | None:
        addresses = [_server_address(text) for text in (value or "").split(",") if text.strip()]
        return ",".join(addresses) or None

    @field_validator("alert_webhook")
    @classmethod
    def _web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        address = value.get_secret_value().strip()
        if not _is_address(address, "http", "https"):
            raise ValueError("must be an address that begins with http:// or https://")
        return SecretStr(address)

    @field_validator("dagster_url")
    @classmethod
    def _web_server(cls, value: str) -> str:
        # It is linked in alerts, and the web server is asked without credentials.
        if "@" in value:
            raise ValueError("must not hold credentials")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _mail_server(cls, value: str) -> str:
        if not _is_address(value.strip(), "smtp", "smtps"):
            raise ValueError("must be smtp://host:port or smtps://host:port")
        if "@" in value:
            raise ValueError("must not hold credentials; use KSQL_LAKE_SMTP_USER and KSQL_LAKE_SMTP_PASSWORD")
        return value.strip()

    @field_validator("alert_email", "alert_sender")
    @classmethod
    def _mail_addresses(cls, value: str | None) -> str | None:
        for address in (value or "").split(","):
            name, at, domain = address.strip().partition("@")
            if address.strip() and not (name and at and domain and address.strip().isprintable()):
                raise ValueError(f"{address.strip()!r} is no e-mail address")
        return value

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        if self.ksqldb_token and self.ksqldb_user:
            raise ValueError("KSQLDB_TOKEN and KSQLDB_USER exclude each other; set one of them")
        if (self.ksqldb_user is None) != (self.ksqldb_password is None):
            raise ValueError("KSQLDB_USER and KSQLDB_PASSWORD go together; set both or neither")
        if (self.smtp_user is None) != (self.smtp_password is None):
            raise ValueError("KSQL_LAKE_SMTP_USER and KSQL_LAKE_SMTP_PASSWORD go together; set both or neither")
        if self.ksqldb_key_file and not self.ksqldb_cert_file:
            raise ValueError("KSQLDB_KEY_FILE needs KSQLDB_CERT_FILE beside it")
        for name in ("ksqldb_ca_file", "ksqldb_cert_file", "ksqldb_key_file"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{name.upper()}: no such file: {path}")
        return self


def _server_address(text: str) -> str:
    url = text.strip().rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    authority = url.split("://", 1)[1]
    if "@" in authority:
        raise ValueError("must not hold credentials; use KSQLDB_USER and KSQLDB_PASSWORD")
    if not authority or any(mark in authority for mark in "?# "):
        raise ValueError("must be http(s)://host:port")
    return url


def _is_address(text: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:
        return False


class StoreSettings(_Environment):
    """The settings of object stores that their client library does not read itself.

    Attributes:
        s3_allow_http: Allow S3 servers without TLS.
        gcs_allow_http: Allow Google Cloud Storage without TLS.
        azure_allow_http: Allow Azure without TLS.
        ca_bundle: PEM file of the authority that signed the store's certificate, beside the system's own.
        profile: Profile of the AWS configuration files whose credentials are used.
        access_key: Access key; with it no profile is needed.
    """

    s3_allow_http: bool = Field(False, validation_alias=_variable("AWS_ALLOW_HTTP"))
    gcs_allow_http: bool = Field(False, validation_alias=_variable("GOOGLE_ALLOW_HTTP"))
    azure_allow_http: bool = Field(False, validation_alias=_variable("AZURE_ALLOW_HTTP"))
    ca_bundle: Path | None = Field(None, validation_alias=_variable("AWS_CA_BUNDLE"))
    profile: str | None = Field(None, validation_alias=_variable("AWS_PROFILE"))
    access_key: SecretStr | None = Field(None, validation_alias=_variable("AWS_ACCESS_KEY_ID"))

    @field_validator("ca_bundle")
    @classmethod
    def _there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"no such file: {value}")
        return value


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` take precedence.

    An unknown variable with one of our prefixes is a warning in the log, once per process.

    Raises:
        SettingsError: A variable has an unusable value; the text names every such variable and never shows a
            secret.
    """
    for text in unknown_variables(os.environ):  # noqa: TID251 - this is that place
        _warn(text)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise _unusable(error, given=overrides) from None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each unknown variable with one of our prefixes."""
    known = {_variable_of(field) for field in Settings.model_fields.values()}
    unknown = []
    for name in sorted(environment):
        if not name.startswith(_OURS) or name in known or name in _ELSEWHERE:
            continue
        nearest = get_close_matches(name, known, n=1, cutoff=0.6)
        meant = f"; did you mean {nearest[0]}?" if nearest else ""
        unknown.append(f"the environment variable {name} is unknown and does nothing{meant}")
    return unknown


@cache
def _warn(text: str) -> None:
    _log.warning(text)


def load_store_settings() -> StoreSettings:
    """Read the settings of object stores from the environment.

    Raises:
        SettingsError: A variable has an unusable value; the text names every such variable.
    """
    try:
        return StoreSettings()
    except ValidationError as error:
        raise _unusable(error) from None


def _unusable(error: ValidationError, *, given: Collection[str] = ()) -> SettingsError:
    details = error.errors(include_input=False, include_url=False)
    problems = [
        ": ".join([*(str(key) for key in detail["loc"]), detail["msg"].removeprefix("Value error, ")])
        for detail in details
    ]
    if given and all(not detail["loc"] or detail["loc"][0] in given for detail in details):
        return SettingsError(
            "the settings cannot be used: " + "; ".join(problems),
            hint="Correct the setting, or leave it out to use its default.",
        )
    return SettingsError(
        "the environment cannot be used: " + "; ".join(problems),
        hint="Correct the variable, or unset it to use its default.",
    )
