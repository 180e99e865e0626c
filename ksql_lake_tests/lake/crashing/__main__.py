"""`python -m ksql_lake_tests.lake.crashing`: one crash run, its figures, exit code 1 for findings."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from ksql_lake_tests.lake.crashing.nursery import SINGLE_THREADED


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m ksql_lake_tests.lake.crashing", description=main.__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many processes to kill (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of source, traps and kills (default 1)")
    parser.add_argument("--writers", type=int, default=3, help="writers awake at a time (default 3)")
    parser.add_argument("--seconds", type=float, default=300.0, help="end after this long (default 300)")
    parser.add_argument(
        "--store",
        choices=("disk", "moto", "seaweedfs", "s3"),
        default="disk",
        help="where the lake is; s3 is moto and then SeaweedFS (default disk)",
    )
    parser.add_argument("--without", metavar="GUARD", help="take a guard of the lake out, to see it noticed")
    parser.add_argument("--root", type=Path, help="an empty folder for the lake (default: a temporary one)")
    arguments = parser.parse_args()
    if arguments.store == "s3":
        return _each_store()
    if any(os.environ.get(name) != value for name, value in SINGLE_THREADED.items()):  # noqa: TID251
        os.execve(  # noqa: S606 - itself again
            sys.executable,
            [sys.executable, "-m", "ksql_lake_tests.lake.crashing", *sys.argv[1:]],
            {**os.environ, **SINGLE_THREADED},  # noqa: TID251
        )
    from ksql_lake_tests.lake.crashing.guards import GUARDS
    from ksql_lake_tests.lake.crashing.run import Options, Run
    from ksql_lake_tests.lake.crashing.writers import open_feed
    from ksql_lake_tests.stores.servers import place_for

    if arguments.without is not None and arguments.store != "disk":
        parser.error("--without goes with a lake on a disk")
    if arguments.without not in {None, *GUARDS}:
        parser.error("the guards are: " + "; ".join(GUARDS))
    guard = GUARDS.get(arguments.without)

    options = Options(
        kills=arguments.kills,
        seed=arguments.seed,
        writers=arguments.writers,
        seconds=arguments.seconds,
        until_found=guard is not None,
        points=guard.points if guard else (),
    )
    with place_for(arguments.store, arguments.root) as root:
        figures = Run(root, options, opening=guard.opening if guard else open_feed).execute()
    head = f"{arguments.store}, seed {options.seed}, {options.writers} writers"
    sys.stdout.write("\n".join([head, *figures.lines(), ""]))
    return 0 if figures.clean else 1


def _each_store() -> int:
    """Run the same on both servers, each in a process of its own: judging starts threads, and forks end."""
    command = [sys.executable, "-m", "ksql_lake_tests.lake.crashing", *sys.argv[1:], "--store"]
    return max(subprocess.run([*command, store], check=False).returncode for store in ("moto", "seaweedfs"))


if __name__ == "__main__":
    sys.exit(main())
