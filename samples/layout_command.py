"""The command that writes a sample in a lab's layout, the same for every module that has one:
`python -m samples.<format>_layout --out FOLDER`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def layout_parser(about: str | None, *, episodes: int) -> argparse.ArgumentParser:
    """Options --out and --episodes; `about` is the module's docstring, of which the first line is shown."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument("--episodes", type=int, default=episodes, help="how many to write (default: %(default)s)")
    return parser


def write_layout(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, write: Callable[[argparse.Namespace], object]
) -> int:
    """Parses `argv` and calls `write` with the options: 0, or 2 after one line on stderr where --out exists already or
    no episode is asked for."""
    options = parser.parse_args(argv)
    fault = ""
    if options.out.exists():
        fault = f"{options.out} exists; remove it or choose another --out"
    elif options.episodes < 1:
        fault = f"--episodes is {options.episodes}; must be 1 or more"
    if fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    write(options)
    return 0
