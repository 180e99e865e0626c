"""`python -m ksql_lake_tests.soak`: one soak, its figures, exit code 1 for findings."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ksql_lake_tests.soak.run import Options, Soak


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m ksql_lake_tests.soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default 5)")
    parser.add_argument("--seed", type=int, default=1, help="of rows, kills and faults (default 1)")
    parser.add_argument("--batch", type=int, default=100, help="rows a round adds (default 100)")
    parser.add_argument("--root", type=Path, help="an empty folder that is kept (default: a temporary one)")
    arguments = parser.parse_args()
    options = Options(seconds=arguments.minutes * 60, seed=arguments.seed, batch=arguments.batch)
    with tempfile.TemporaryDirectory(prefix="ksql-lake-soak-") as folder:
        figures = Soak(arguments.root or Path(folder), options).execute()
    sys.stdout.write("\n".join([f"seed {options.seed}", *figures.lines(), ""]))
    return 0 if figures.clean else 1


if __name__ == "__main__":
    sys.exit(main())
