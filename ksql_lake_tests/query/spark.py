"""One Spark for all tests of a process: local, without a web page, nothing but loopback, times in UTC."""

from __future__ import annotations

import shutil
from functools import cache
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Options of a Java that works for a minute: it does not optimise code for hours or collect in parallel."""

SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraJavaOptions": QUICK_JAVA,
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.timeType.enabled": "true",
    # The plan that is run is then the plan that can be looked at.
    "spark.sql.adaptive.enabled": "false",
}


@cache
def spark() -> SparkSession:
    """Return the session; it ends with the process."""
    if shutil.which("java") is None:
        pytest.skip("no java on this machine")
    builder = SparkSession.builder.master("local[1]").appName("ksql-lake tests")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session


def collected(frame: DataFrame) -> list[dict[str, Any]]:
    """Return rows as Python values, timestamps as text: Spark would give them in the machine's own zone."""
    text = "date_format(`{0}`, \"yyyy-MM-dd'T'HH:mm:ss.SSS+00:00\") AS `{0}`"
    terms = [(text if kind == "timestamp" else "`{0}`").format(name) for name, kind in frame.dtypes]
    return [row.asDict(recursive=True) for row in frame.selectExpr(*terms).collect()]


def files_read(frame: DataFrame) -> int:
    """Run a frame's plan and give how many files its scan says it has read."""
    plan = frame._jdf.queryExecution().executedPlan()
    plan.executeCollect()
    scan = plan.collectLeaves().head()
    return int(scan.metrics().apply("numFiles").value())
