"""`python -m ksql_lake_tests.hourly`: simulated days of exports, their figures, exit code 1 for findings."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ksql_lake_tests.hourly.run import Month, Options


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m ksql_lake_tests.hourly", description=main.__doc__)
    parser.add_argument("--days", type=int, default=30, help="simulated days (default 30)")
    parser.add_argument("--exports", type=int, default=24, help="exports a day (default 24)")
    parser.add_argument("--rows", type=int, default=40, help="rows that come before each (default 40)")
    parser.add_argument(
        "--extraction", choices=("pull", "push", "continue"), default="pull", help="default: pull"
    )
    parser.add_argument("--no-compact", action="store_true", help="merge nothing, to see what grows")
    parser.add_argument("--seed", type=int, default=1, help="of the rows (default 1)")
    parser.add_argument("--root", type=Path, help="an empty folder that is kept (default: a temporary one)")
    arguments = parser.parse_args()
    options = Options(
        days=arguments.days,
        exports=arguments.exports,
        rows=arguments.rows,
        extraction=arguments.extraction,
        compact=not arguments.no_compact,
        seed=arguments.seed,
    )
    with tempfile.TemporaryDirectory(prefix="ksql-lake-hourly-") as folder:
        figures = Month(arguments.root or Path(folder), options).execute()
    sys.stdout.write("\n".join([*figures.lines(), ""]))
    return 1 if figures.findings else 0


if __name__ == "__main__":
    sys.exit(main())
