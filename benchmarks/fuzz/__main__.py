"""`python -m benchmarks.fuzz [--seconds 60] [--format NAME ...] [--seed N]`: what do damaged files do to the readers?

For each raw format a small sample is written, and then, for so many seconds of processor time, copies of it are damaged
(bytes, tables, links, names, declared sizes), listed, read and converted in a worker process with a limit on time and
memory. Counted is what came of it. Anything but an episode, a DataError for one, or a DataError for the folder is a
fault and printed with the command that repeats it. Same seed, same inputs. Exit status 1 when there is a fault, hang or
crash. Linux only (inotify, /proc).
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.fuzz.attempt import OUTCOMES, Attempt, counted
from benchmarks.fuzz.formats import FORMATS
from benchmarks.fuzz.workers import fuzz

BAD = ("fault", "hang", "crash")


def row_of(format: str, tried: list[Attempt], seconds: float) -> dict:
    """One row of the table, with the most usual reasons."""
    reasons = Counter(attempt.reason for attempt in tried if attempt.outcome in ("quarantined", "refused"))
    row = {"format": format, "inputs": len(tried), "seconds": round(seconds), **counted(tried)}
    return row | {"reasons": dict(reasons.most_common(20))}


def main(argv: list[str] | None = None) -> int:
    """Prints faults as they come and the table; 1 when there was one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of processor time for each format")
    parser.add_argument("--format", nargs="+", choices=sorted(FORMATS), default=list(FORMATS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of inputs to repeat")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args(argv)
    rows = []
    for name in options.format:
        with tempfile.TemporaryDirectory() as folder:
            started, tried = time.monotonic(), []
            for attempt in fuzz(
                name, FORMATS[name], Path(folder), seed=options.seed, cpu_seconds=options.seconds, only=options.only
            ):
                tried.append(attempt)
                if options.only or attempt.outcome in BAD:
                    _print_attempt(attempt, options.seed)
            rows.append(row_of(name, tried, time.monotonic() - started))
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        _print_table(rows)
    return 1 if any(row[outcome] for row in rows for outcome in BAD) else 0


def _print_attempt(attempt: Attempt, seed: int) -> None:
    shown = dataclasses.asdict(attempt)
    again = f"--format {attempt.format} --seed {seed} --only {attempt.number}"
    print(f"{again}\n  {shown['damage']}\n  {attempt.outcome}: {attempt.reason}\n{attempt.trace}", file=sys.stderr)


def _print_table(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="damaged raw files by format")
    for name in ("format", "inputs", "seconds", *OUTCOMES):
        table.add_column(name, justify="left" if name == "format" else "right")
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("format", "inputs", "seconds", *OUTCOMES)))
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
