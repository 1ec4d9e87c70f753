"""The two options of every command that reads shards: where those of remote streams are kept here, and how much."""

import argparse
from dataclasses import replace
from pathlib import Path

from oxe_pipeline.stream.cache import CacheOptions


def add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --cache-dir and --cache-gb."""
    group = parser.add_argument_group("streams behind a URL (docs/remote.md)")
    group.add_argument("--cache-dir", type=Path, metavar="DIR", help="keeps their files (default: in the user's cache)")
    group.add_argument("--cache-gb", type=_positive, metavar="GB", help="that many at most (default: 50)")


def cache_options(arguments: argparse.Namespace) -> CacheOptions:
    """The CacheOptions that the parsed arguments ask for."""
    options = CacheOptions()
    if arguments.cache_dir is not None:
        options = replace(options, folder=arguments.cache_dir)
    if arguments.cache_gb is not None:
        options = replace(options, limit_bytes=int(arguments.cache_gb * 1e9))
    return options


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 1e-9 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of gigabytes above 0")
    return number
