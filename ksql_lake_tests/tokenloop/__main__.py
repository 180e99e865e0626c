"""`python -m ksql_lake_tests.tokenloop`: one loop, its figures, exit code 1 for findings."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from ksql_lake_tests.tokenloop.run import TokenLoop


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m ksql_lake_tests.tokenloop", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="how many (default 300)")
    parser.add_argument("--seed", type=int, help="of rows and hits (default: any)")
    parser.add_argument("--only", action="append", help="only this hit; repeatable")
    parser.add_argument("--loud", action="store_true", help="print each round")
    arguments = parser.parse_args()
    seed = SystemRandom().randrange(1 << 30) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="ksql-lake-tokens-") as folder:
        only = tuple(arguments.only) if arguments.only else None
        loop = TokenLoop(Path(folder), rounds=arguments.rounds, seed=seed, only=only, loud=arguments.loud)
        figures = loop.execute()
    sys.stdout.write("\n".join([*figures.lines(), ""]))
    return 0 if not figures.findings else 1


if __name__ == "__main__":
    sys.exit(main())
