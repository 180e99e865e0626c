"""`python -m ksql_lake_tests.judges`: judges against an oracle; figures, and exit code 1 if one was wrong."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from ksql_lake_tests.judges.run import judged


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m ksql_lake_tests.judges", description=main.__doc__)
    parser.add_argument("--lakes", type=int, default=300, help="with a fault each, as many sound ones (300)")
    parser.add_argument("--seed", type=int, default=1, help="repeats a run (1)")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    figures = judged(arguments.lakes, arguments.seed)
    lines = [f"{kind:20} {count:>5}" for kind, count in figures.faulty.items()]
    lines += [f"{'sound':20} {figures.sound:>5}", *figures.wrong]
    lines.append(f"{len(figures.wrong)} wrong, seed {arguments.seed}, {time.monotonic() - began:.0f} s")
    sys.stdout.write("\n".join([*lines, ""]))
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
