"""`python -m ksql_lake_tests.fuzzing`: mutated input into every reader; figures, and exit code 1 for finds."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
import time
import warnings
from pathlib import Path

from ksql_lake_tests.fuzzing import answers, files
from ksql_lake_tests.fuzzing.engine import Figures, fuzz


def main() -> int:
    """Run as the arguments say."""
    known = [*answers.targets(), *files.targets()]
    parser = argparse.ArgumentParser(prog="python -m ksql_lake_tests.fuzzing", description=main.__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="per target, fewer for dear ones (2000)")
    parser.add_argument("--minutes", type=float, help="run rounds of new seeds until this long has passed")
    parser.add_argument("--seed", type=int, default=1, help="repeats a run (1)")
    parser.add_argument(
        "--target", action="append", choices=[target.name for target in known], help="only these"
    )
    parser.add_argument("--finds", type=Path, help="a folder for the bytes of every find")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    chosen = [target for target in known if not arguments.target or target.name in arguments.target]
    total = {target.name: Figures(target.name) for target in chosen}
    began, seed = time.monotonic(), arguments.seed
    while True:
        for target in chosen:
            total[target.name].add(fuzz(target, examples=arguments.examples, seed=seed))
        seed += 1
        if arguments.minutes is None or time.monotonic() - began > arguments.minutes * 60:
            break
    sys.stdout.write(_text(list(total.values()), time.monotonic() - began))
    if arguments.finds:
        _keep(list(total.values()), arguments.finds)
    return 1 if any(figures.finds for figures in total.values()) else 0


def _text(total: list[Figures], seconds: float) -> str:
    lines = [f"{'TARGET':20} {'EXAMPLES':>10} {'REFUSED':>10} {'SLOWEST':>9} {'FINDS':>6}"]
    for figures in total:
        lines.append(
            f"{figures.target:20} {figures.examples:>10,} {figures.refused:>10,} "
            f"{figures.slowest:>7.2f} s {len(figures.finds):>6}"
        )
        lines += [f"    {find.what}\n        {find.data[:150]!r}" for find in figures.finds.values()]
    count = sum(figures.examples for figures in total)
    finds = sum(len(figures.finds) for figures in total)
    return "\n".join([*lines, "", f"{count:,} examples, {finds} finds, {seconds:.0f} s", ""])


def _keep(total: list[Figures], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for figures in total:
        for find in figures.finds.values():
            name = f"{find.target}-{hashlib.sha256(find.data).hexdigest()[:12]}"
            (folder / name).write_bytes(find.data)


if __name__ == "__main__":
    sys.exit(main())
