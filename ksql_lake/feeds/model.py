"""The keys of a feed file for both kinds, all validated; unknown keys are errors."""

# Every valid name can be part of a path, a Dagster asset or a SQL view without escaping. Feed files hold no
# secrets. Column names are the source's, in exact case, except in the targets of `rename`.

from __future__ import annotations

import re
from datetime import date
from functools import cache
from keyword import iskeyword
from typing import Annotated, Literal, Self
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
from pydantic_core import PydanticCustomError

from ksql_lake.feeds.cron import check_cron
from ksql_lake.feeds.feed_columns import POSITIONS_MISSING, column_problems
from ksql_lake.feeds.suggestion import did_you_mean

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,99}$"
SOURCE_PATTERN = r"^[a-zA-Z0-9_-]{1,249}$"
COMPRESSION_PATTERN = r"^(snappy|lz4|none|zstd(:([1-9]|1\d|2[0-2]))?)$"

EARLIEST = date(1970, 1, 1)
"""The earliest start date: Kafka's timestamps begin here."""

COLUMN_PROBLEMS = "feed_columns"
"""Type of the pydantic error that carries the results of `column_problems`."""

_OWNER = re.compile(r"^(team:[A-Za-z0-9_\-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")
_TAG = re.compile(r"^[A-Za-z0-9_.\-]{0,63}$")
# Dagster refuses these names, and with one of them the whole code location.
_RESERVED_NAMES = frozenset(
    {"arg_dict", "input_arg_dict", "output_arg_dict", "input", "output", "context", "conf", "config", "meta"}
    | {"bool", "dict", "float", "int", "str", "type"}
)


@cache
def _timezones() -> frozenset[str]:
    return frozenset({"UTC"} | available_timezones())


def _known_timezone(value: str) -> str:
    # Listing all zones takes longer than reading a feed file, and most files use UTC.
    if value != "UTC" and value not in _timezones():
        hint = did_you_mean(value, _timezones()) or "Examples: UTC, Europe/Berlin."
        raise ValueError(f"{value!r} is not an IANA time zone. {hint}")
    return value


def is_reserved(name: str) -> bool:
    """Whether Dagster refuses this name."""
    return iskeyword(name) or name in _RESERVED_NAMES


def _free_name(value: str) -> str:
    if is_reserved(value):
        raise ValueError(f"{value!r} is a reserved word in Dagster; choose another, e.g. {value + '_feed'!r}")
    return value


def _cron(value: str) -> str:
    check_cron(value)
    return value


def _owner(value: str) -> str:
    if not _OWNER.fullmatch(value):
        raise ValueError(f"{value!r} must be an e-mail address or 'team:name'")
    return value


def _tags(value: dict[str, str]) -> dict[str, str]:
    for key, text in value.items():
        if not key or not _TAG.fullmatch(key) or not _TAG.fullmatch(text):
            raise ValueError(f"{key!r}: {text!r} must use at most 63 letters, digits, '_', '-', '.'")
    return value


FeedName = Annotated[str, StringConstraints(pattern=NAME_PATTERN), AfterValidator(_free_name)]
ColumnName = Annotated[str, StringConstraints(min_length=1)]
Compression = Annotated[str, StringConstraints(pattern=COMPRESSION_PATTERN)]


class _Strict(BaseModel):
    # Each model's validator is made when it is first used, so none is made of the base classes.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, defer_build=True)


class Identity(_Strict):
    """What makes two rows of a day the same event."""

    by: Literal["row", "key", "offset"] = "row"
    """`row` compares whole rows, and two equal rows stay two; `key` and `offset` compare the named columns."""

    columns: tuple[ColumnName, ...] = ()
    """For `key` the columns that are unique per event; for `offset` exactly two, Kafka partition and offset."""

    null_keys: Literal["distinct", "equal"] = "distinct"
    """What NULL in these columns means. `distinct`: the row has no key and is compared as a whole. `equal`:
    NULL is a key like any other, and of its rows only the last stays."""

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if self.by == "row" and self.columns:
            raise ValueError("by 'row' takes no `columns`; leave them out, or set by 'key'")
        if self.by == "key" and not self.columns:
            raise ValueError("by 'key' needs `columns`: the names that are unique per event")
        if self.by == "row" and self.null_keys == "equal":
            raise ValueError("by 'row' has no key that could be NULL; leave `null_keys` out")
        if self.by == "offset" and len(self.columns) != 2:
            raise ValueError("by 'offset' needs two `columns`: Kafka partition, then offset")
        return self


class PositionNames(_Strict):
    """The columns in which a derived stream carries ROWPARTITION and ROWOFFSET of its source."""

    partition: ColumnName
    """The column with the source's ROWPARTITION."""

    offset: ColumnName
    """The column with the source's ROWOFFSET."""

    @property
    def identity(self) -> Identity:
        """The row identity by these columns."""
        return Identity(by="offset", columns=(self.partition, self.offset))


CheckName = Literal[
    "min_records",
    "not_null",
    "unique",
    "day_boundaries",
    "volume",
    "shrinkage",
    "schema_unchanged",
    "files_match",
    "topic_retention",
    "certificate",
]
Severity = Literal["off", "warn", "error", "block"]

_FOREIGN = {
    "table": frozenset({"day_boundaries", "volume", "topic_retention", "certificate"}),
    "stream": frozenset({"shrinkage"}),
}
"""Checks that a kind of feed cannot have, because only the other kind has them."""


class Checks(_Strict):
    """The keys of `checks`; an absent key is no check."""

    min_records: int | None = Field(None, ge=0)
    """Fewest rows that a closed day, or a version, should have. In Dagster a check of severity `warn`."""

    max_age_hours: float | None = Field(None, gt=0)
    """Oldest acceptable last export, in hours; Dagster and the report show a feed that is older."""

    not_null: tuple[ColumnName, ...] = ()
    """Columns without NULL. In Dagster a check of severity `error`."""

    unique: tuple[ColumnName, ...] = ()
    """Columns whose values together occur once in a day or version; NULL is a value. Severity `error`."""

    severity: dict[CheckName, Severity] = Field(default_factory=dict)
    """Severity by check: `off` leaves the check out, `warn` is for unusual data, `error` for wrong data;
    `block` also fails the run, so that nothing below the asset runs."""


class _FeedBase(_Strict):
    """The keys that both kinds have."""

    name: FeedName
    """Lower case, digits and `_`: the name of the file, the lake's folder, the asset and the SQL view."""

    source: Annotated[str, StringConstraints(pattern=SOURCE_PATTERN)]
    """The ksqlDB stream or table, exact case."""

    description: str = ""
    """One sentence for people; Dagster and the report show it."""

    enabled: bool = True
    """`false` leaves the feed out of exports, schedules and Dagster; its data stays."""

    extraction: Literal["pull", "push", "continue"] = "pull"
    """`pull` reads the current rows and proves that it read all; `push` also reads sources that no pull query
    can read; `continue` reads a derived stream on from where the last export ended, and needs `positions`."""

    isolation: Literal["committed", "uncommitted"] = "committed"
    """`committed` leaves out records of aborted and open transactions; `uncommitted` takes them too."""

    evidence: Literal["proven"] | None = None
    """`proven` refuses a reading that is not proven complete; without it, checked readings land too."""

    on_bad_text: Literal["refuse", "replace"] = "refuse"
    """Parquet cannot hold half a surrogate pair: `refuse` fails, `replace` writes U+FFFD, except in keys."""

    columns: tuple[ColumnName, ...] | None = Field(None, min_length=1)
    """The columns to export, in this order; without it, all columns of the source."""

    rename: dict[ColumnName, ColumnName] = Field(default_factory=dict)
    """Columns that have another name in the lake: `{"IN_THE_SOURCE": "IN_THE_LAKE"}`."""

    descriptions: dict[ColumnName, str] = Field(default_factory=dict)
    """Descriptions of the source's columns for people, by name; Dagster shows them on the asset's page."""

    compression: Compression = "zstd"
    """Compression of the Parquet files: `zstd` (level 1), `zstd:1` to `zstd:22`, `snappy`, `lz4`, `none`."""

    on_schema_change: Literal["evolve", "freeze", "new_version"] = "evolve"
    """What happens when the source's columns change."""

    schedule: Annotated[str, AfterValidator(_cron)] | None = None
    """Cron expression of five fields, in the time zone of the days (a table: UTC). Without it `5 * * * *` for a
    stream, `30 1 * * *` for a table."""

    automation: Literal["schedule", "condition"] = "schedule"
    """What uses the cron expression in Dagster: a schedule, which starts one run for everything that is due, or
    an automation condition, which decides partition by partition."""

    checks: Checks = Checks()
    """Conditions that the feed's data should meet; an export reports the checks that failed."""

    sample_rows: int = Field(5, ge=0, le=20)
    """How many rows the asset page in Dagster shows, at most 20; `0` shows none."""

    owners: tuple[Annotated[str, AfterValidator(_owner)], ...] = ()
    """E-mail addresses or `team:name`, shown in Dagster and in the report."""

    tags: Annotated[dict[str, str], AfterValidator(_tags)] = Field(default_factory=dict)
    """Keys and texts that Dagster shows and filters by; `group` names the group of the graph."""

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if said := "; ".join(map(str, column_problems(self.model_dump()))):
            raise PydanticCustomError(COLUMN_PROBLEMS, "{problems}", {"problems": said})
        return self

    @model_validator(mode="after")
    def _severities_fit(self) -> Self:
        kind = str(getattr(self, "kind", ""))
        if foreign := sorted(_FOREIGN[kind] & self.checks.severity.keys()):
            raise ValueError(f"checks.severity: a {kind} has no check {', '.join(foreign)}")
        return self

    def lake_name(self, column: str) -> str:
        """Return the name of a source column in the lake."""
        return self.rename.get(column, column)

    @property
    def named_columns(self) -> dict[str, tuple[str, ...]]:
        """Return the source's columns that the feed names, by the key that names them."""
        return {"columns": self.columns or (), "rename": tuple(self.rename)}

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of its times: UTC for a table, which has no days."""
        return ZoneInfo("UTC")

    @property
    def event_clock(self) -> str:
        """The column that decides a row's day, in short; empty for a table."""
        return ""

    @property
    def known_by(self) -> Literal["row", "key", "offset", "version"]:
        """What makes two rows the same: a stream's identity; for a table, the version."""
        return "version"

    @property
    def marks_deleted(self) -> bool:
        """Whether deleted keys stay, marked as deleted."""
        return False


class StreamFeed(_FeedBase):
    """A stream, exported by day and appended."""

    kind: Literal["stream"]
    """`stream`"""

    start_date: date = Field(ge=EARLIEST, le=date(2200, 1, 1))
    """The first day, `YYYY-MM-DD`; no earlier row is requested."""

    timezone: Annotated[str, AfterValidator(_known_timezone)] = "UTC"
    """IANA time zone whose calendar days are the partitions."""

    event_time: ColumnName = "ROWTIME"
    """`ROWTIME`, or the BIGINT (epoch ms) or TIMESTAMP column that decides a row's day; where it is NULL, the
    row's ROWTIME decides."""

    event_time_unit: Literal["s", "ms", "us", "ns"] = "ms"
    """Unit of a BIGINT `event_time`, counted from 1970: `s`, `ms`, `us` or `ns`. If an export finds no row in a
    source that has rows, it reads one of them, and fails if that row seems to have another unit."""

    identity: Identity = Identity()
    """What makes two rows the same event; with `positions`, their two columns."""

    positions: PositionNames | None = None
    """The columns of a derived stream with ROWPARTITION and ROWOFFSET of its source; they are its
    `identity`."""

    lookback_days: int = Field(1, ge=0, le=366)
    """How many days before the last export are read again for late rows."""

    topic_retention_hours: float | None = Field(None, gt=0)
    """How long Kafka keeps the topic's records; without it, the RETENTION_MS of the source's statement."""

    @model_validator(mode="after")
    def _positions_fit(self) -> Self:
        if self.positions is None:
            if self.extraction == "continue":
                raise ValueError(POSITIONS_MISSING)
            return self
        if "identity" not in self.model_fields_set:
            # A "before" validator would see plain Python values, which pydantic reads less strictly than JSON.
            object.__setattr__(self, "identity", self.positions.identity)
        elif self.identity.columns != self.positions.identity.columns or self.identity.by != "offset":
            raise ValueError(
                "`positions` set the row identity: leave `identity` out, or name the same two by 'offset'"
            )
        return self

    @model_validator(mode="after")
    def _unit_fits(self) -> Self:
        if self.event_time == "ROWTIME" and self.event_time_unit != "ms":
            raise ValueError("`event_time_unit` needs an `event_time`; ROWTIME always counts milliseconds")
        return self

    @property
    def event_clock(self) -> str:
        """The column that decides a row's day, and its unit if that is not milliseconds."""
        unit = "" if self.event_time_unit == "ms" else f" in {self.event_time_unit}"
        return f"{self.event_time}{unit}"

    @property
    def zone(self) -> ZoneInfo:
        """The time zone object of `timezone`."""
        return ZoneInfo(self.timezone)

    @property
    def known_by(self) -> Literal["row", "key", "offset", "version"]:
        """What makes two rows the same."""
        return self.identity.by

    @property
    def named_columns(self) -> dict[str, tuple[str, ...]]:
        """Return the source's columns that the feed names, by the key that names them."""
        return {**super().named_columns, "event_time": (self.event_time,), "identity": self.identity.columns}


class TableFeed(_FeedBase):
    """A table, exported as full snapshots."""

    kind: Literal["table"]
    """`table`"""

    extraction: Literal["pull", "push"] = "pull"
    """`pull` reads the table's current rows; `push` reads its changes from the first one on."""

    retention: int = Field(7, ge=1)
    """How many of the newest versions are kept."""

    min_ratio_to_previous: float = Field(0.5, ge=0, le=1)
    """A snapshot with fewer rows than this share of the last one is read twice, then refused; `0`: never."""

    max_shrinkage: float = Field(0.1, ge=0, le=1)
    """The share of rows that a version may lose against the version before. Beyond it the table is read again.
    If both readings show the loss, the version lands, marked as shrunk, and the check `shrinkage` fails."""

    deleted: bool = False
    """`true` keeps deleted keys, marked in a column `deleted`; needs `"extraction": "push"`."""

    @model_validator(mode="after")
    def _deletions_are_seen(self) -> Self:
        if self.deleted and self.extraction == "pull":
            raise ValueError('`deleted` needs "extraction": "push": a pull query never shows a deleted key')
        return self

    @property
    def marks_deleted(self) -> bool:
        """Whether deleted keys stay, marked as deleted."""
        return self.deleted


Feed = StreamFeed | TableFeed
FEED_ADAPTER: TypeAdapter[StreamFeed | TableFeed] = TypeAdapter(Annotated[Feed, Field(discriminator="kind")])
