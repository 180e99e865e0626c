"""What a feed file may say: two kinds, every key checked, unknown keys refused.

Pure data. It refuses to know about servers, lakes or Dagster; it only makes sure that what it lets through can
become a path, a Dagster asset and a SQL view without escaping. Secrets have no place here.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,99}$"
SOURCE_PATTERN = r"^[a-zA-Z0-9_-]{1,249}$"
HIVE_COLUMNS = {"stream": ("year", "month", "day"), "table": ("version",)}
"""Partition columns that come from the path; no column of a file may have one of these names in any case."""

_CRON_FIELD = r"[0-9A-Za-z*/,\-#?]+"
_CRON = re.compile(
    rf"^(@(hourly|daily|weekly|monthly|yearly|annually|midnight)|{_CRON_FIELD}( {_CRON_FIELD}){{4}})$"
)
_OWNER = re.compile(r"^(team:[A-Za-z0-9_\-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")
_TAG = re.compile(r"^[A-Za-z0-9_.\-]{0,63}$")


def _known_timezone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"{value!r} is not an IANA time zone, e.g. UTC or Europe/Berlin")
    return value


def _cron(value: str) -> str:
    if not _CRON.match(value):
        raise ValueError(f"{value!r} is not a cron expression of five fields, e.g. '0 * * * *'")
    return value


def _owner(value: str) -> str:
    if not _OWNER.match(value):
        raise ValueError(f"{value!r} must be an e-mail address or 'team:name'")
    return value


def _tags(value: dict[str, str]) -> dict[str, str]:
    for key, text in value.items():
        if not key or not _TAG.match(key) or not _TAG.match(text):
            raise ValueError(f"{key!r}: {text!r} must use at most 63 letters, digits, '_', '-', '.'")
    return value


ColumnName = Annotated[str, StringConstraints(min_length=1)]
Compression = Annotated[str, StringConstraints(pattern=r"^(snappy|lz4|none|zstd(:([1-9]|1\d|2[0-2]))?)$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Identity(_Strict):
    """What makes two rows of a day the same event.

    Attributes:
        by: `row` compares whole rows with multiplicity, `key` and `offset` compare the named columns.
        columns: For `key` the columns that are unique per event; for `offset` exactly the partition column and
            the offset column, in this order.
    """

    by: Literal["row", "key", "offset"] = "row"
    columns: tuple[ColumnName, ...] = ()

    @model_validator(mode="after")
    def _columns_fit(self) -> Identity:
        if self.by == "row" and self.columns:
            raise ValueError("identity by row takes no columns")
        if self.by == "key" and not self.columns:
            raise ValueError("identity by key needs `columns`, the names that are unique per event")
        if self.by == "offset" and len(self.columns) != 2:
            raise ValueError("identity by offset needs two `columns`: Kafka partition, then offset")
        return self


class Checks(_Strict):
    """What must hold after an export.

    Attributes:
        min_records: Fewest records a partition or version should have.
        max_age_hours: Oldest acceptable last export.
        not_null: Columns without NULL.
        unique: Columns whose values together are unique in a partition or version.
    """

    min_records: int | None = Field(None, ge=0)
    max_age_hours: float | None = Field(None, gt=0)
    not_null: tuple[ColumnName, ...] = ()
    unique: tuple[ColumnName, ...] = ()


class _FeedBase(_Strict):
    """The keys both kinds share.

    Attributes:
        name: The feed's name: path, Dagster asset key and SQL view.
        source: The ksqlDB stream or table, exact case.
        description: One sentence for people.
        enabled: False leaves the feed out of `--all`, schedules and Dagster.
        columns: The columns to export, in this order; None means all of the source's.
        rename: Source column -> column in the lake.
        compression: `zstd` (level 1), `zstd:N`, `snappy`, `lz4` or `none`.
        on_schema_change: What a changed source schema does: `evolve`, `freeze` or `new_version`.
        schedule: Cron expression; None means the kind's default.
        checks: What must hold after an export.
        owners: E-mail addresses or `team:name`.
        tags: Shown in Dagster.
    """

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    source: Annotated[str, StringConstraints(pattern=SOURCE_PATTERN)]
    description: str = ""
    enabled: bool = True
    columns: tuple[ColumnName, ...] | None = Field(None, min_length=1)
    rename: dict[ColumnName, ColumnName] = Field(default_factory=dict)
    compression: Compression = "zstd"
    on_schema_change: Literal["evolve", "freeze", "new_version"] = "evolve"
    schedule: Annotated[str, AfterValidator(_cron)] | None = None
    checks: Checks = Checks()
    owners: tuple[Annotated[str, AfterValidator(_owner)], ...] = ()
    tags: Annotated[dict[str, str], AfterValidator(_tags)] = Field(default_factory=dict)

    def lake_name(self, column: str) -> str:
        """The name a source column has in the lake."""
        return self.rename.get(column, column)


class StreamFeed(_FeedBase):
    """A stream, exported by day and appended.

    Attributes:
        start_date: First day there is; nothing before it is ever asked for.
        timezone: IANA zone whose calendar days are the partitions.
        event_time: `ROWTIME`, or the BIGINT (epoch ms) or TIMESTAMP column that decides a row's day; where that
            column is NULL the row's ROWTIME decides.
        identity: What makes two rows the same event.
        lookback_days: How many already exported days an export without a date reads again for late rows.
    """

    kind: Literal["stream"]
    start_date: date
    timezone: Annotated[str, AfterValidator(_known_timezone)] = "UTC"
    event_time: ColumnName = "ROWTIME"
    identity: Identity = Identity()
    lookback_days: int = Field(1, ge=0, le=366)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone object of `timezone`."""
        return ZoneInfo(self.timezone)


class TableFeed(_FeedBase):
    """A table, exported as full snapshots.

    Attributes:
        retention: How many of the newest versions are kept.
        min_ratio_to_previous: A snapshot with fewer rows than this share of the version before it is refused;
            0 accepts anything.
    """

    kind: Literal["table"]
    retention: int = Field(7, ge=1)
    min_ratio_to_previous: float = Field(0.5, ge=0, le=1)

    @property
    def versions_name(self) -> str:
        """The name of the feed's dynamic partitions in Dagster."""
        return f"{self.name}_versions"


Feed = StreamFeed | TableFeed
FEED_ADAPTER: TypeAdapter[StreamFeed | TableFeed] = TypeAdapter(Annotated[Feed, Field(discriminator="kind")])
