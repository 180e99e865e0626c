"""`python -m ksql_lake_tests.faultloop`: one loop, its figures, exit code 1 for findings."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from ksql_lake_tests.faultloop.run import FaultLoop


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m ksql_lake_tests.faultloop", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="how many (default 300)")
    parser.add_argument("--seed", type=int, help="of rows, hits and switches (default: any)")
    parser.add_argument("--switch", action="append", help="only this switch; repeatable")
    parser.add_argument("--lag-reporting", action="store_true", help="nodes know each other's lag")
    arguments = parser.parse_args()
    seed = SystemRandom().randrange(1 << 30) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="ksql-lake-faults-") as folder:
        loop = FaultLoop(
            Path(folder),
            rounds=arguments.rounds,
            seed=seed,
            only=tuple(arguments.switch) if arguments.switch else None,
            lag_reporting=arguments.lag_reporting,
        )
        figures = loop.execute()
    sys.stdout.write("\n".join([*figures.lines(), ""]))
    return 0 if not figures.findings else 1


if __name__ == "__main__":
    sys.exit(main())
