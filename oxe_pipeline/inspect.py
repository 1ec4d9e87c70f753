"""`python -m oxe_pipeline.inspect STREAM`: a stream as one HTML page to look at, or an episode for the Rerun viewer.

python -m oxe_pipeline.inspect out/streams/metaworld_bridge --out report.html
python -m oxe_pipeline.inspect out/streams/* --out reports --episodes 12
python -m oxe_pipeline.inspect out/streams/metaworld_bridge --rerun 3 --out episode_3.rrd
"""

import argparse
import re
import sys
from pathlib import Path

from oxe_pipeline.cache_arguments import add_cache_arguments, cache_options
from oxe_pipeline.inspection.page import render_page
from oxe_pipeline.inspection.report import InspectOptions
from oxe_pipeline.inspection.rerun_export import export_episode, find_episode
from oxe_pipeline.stream.cache import CacheOptions
from oxe_pipeline.stream.format import write_whole
from oxe_pipeline.stream.reader import Stream, open_stream

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DEFAULTS = InspectOptions()


class UsageError(ValueError):
    """Arguments that do not go together; one line."""


def main(argv: list[str] | None = None) -> int:
    """Writes a page per stream, or one recording, and says where; 0, or 2 after one line on stderr."""
    options = _parser().parse_args(argv)
    try:
        _check(options)
        cache = cache_options(options)
        written = [_write_recording(options, cache)] if options.rerun else _write_pages(options, cache)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for path in written:
        print(f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oxe_pipeline.inspect",
        description="Writes one self-contained HTML page per stream: images, histograms, labels, audits, quarantine.",
    )
    parser.add_argument("streams", nargs="+", metavar="STREAM", help="folder or URL of a stream")
    parser.add_argument(
        "--out", type=Path, help="page to write, or folder for several (default: <data set>.html in this folder)"
    )
    parser.add_argument(
        "--episodes", type=int, default=_DEFAULTS.episodes, metavar="N", help="film strips (default: %(default)s)"
    )
    parser.add_argument(
        "--images", type=int, default=_DEFAULTS.images, metavar="N", help="of each contact sheet (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=_DEFAULTS.seed, help="of the choice (default: %(default)s)")
    parser.add_argument(
        "--shards",
        type=int,
        default=_DEFAULTS.shards,
        metavar="N",
        help="shards to open at most; of a remote stream each is downloaded whole (default: %(default)s)",
    )
    parser.add_argument(
        "--max-mb",
        type=float,
        default=_DEFAULTS.most_bytes / 1e6,
        metavar="MB",
        help="of a page (default: %(default)s)",
    )
    parser.add_argument(
        "--rerun", metavar="EPISODE", help="export this episode, by number or id, to the .rrd file --out for Rerun"
    )
    add_cache_arguments(parser)
    return parser


def _check(options: argparse.Namespace) -> None:
    """UsageError, before anything is opened, for options that do not go together."""
    for name, least in (("episodes", 0), ("images", 0), ("shards", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name} must be {least} or more, is {getattr(options, name)}")
    if not 0.1 <= options.max_mb <= 1000:
        raise UsageError(f"--max-mb must be 0.1 to 1000, is {options.max_mb:g}")
    if options.rerun:
        if len(options.streams) > 1:
            raise UsageError(f"--rerun takes an episode of one stream; {len(options.streams)} are named")
        if options.out is None or options.out.suffix != ".rrd":
            raise UsageError(f"--rerun needs --out with a name that ends in .rrd, got {options.out or 'none'}")
    elif options.out is not None and _is_file(options.out):
        if len(options.streams) > 1:
            raise UsageError(f"--out {options.out}: {len(options.streams)} streams give as many pages; name a folder")
        if options.out.is_dir():
            raise UsageError(f"--out {options.out}: is a folder; name a file that ends in .html")


def _is_file(out: Path) -> bool:
    return out.suffix.lower() in (".html", ".htm")


def _write_pages(options: argparse.Namespace, cache: CacheOptions) -> list[Path]:
    """All streams are opened, and their pages' names found free of clashes, before the first is written."""
    streams = [open_stream(address, cache=cache) for address in options.streams]
    paths = [_page_path(stream, options.out) for stream in streams]
    for stream, path in zip(streams, paths, strict=True):
        if paths.count(path) > 1:
            raise UsageError(f"{path}: {paths.count(path)} of the streams are data set {stream.name}; write one by one")
    asked = InspectOptions(
        episodes=options.episodes,
        images=options.images,
        seed=options.seed,
        shards=options.shards,
        most_bytes=int(options.max_mb * 1e6),
    )
    for stream, path in zip(streams, paths, strict=True):
        write_whole(path, render_page(stream, asked))
    return paths


def _page_path(stream: Stream, out: Path | None) -> Path:
    if out is not None and _is_file(out):
        return out
    if not _FILE_NAME.fullmatch(stream.name):
        raise UsageError(f"data set {stream.name!r} is no name of a file; give --out with one that ends in .html")
    return (out or Path()) / f"{stream.name}.html"


def _write_recording(options: argparse.Namespace, cache: CacheOptions) -> Path:
    stream = open_stream(options.streams[0], cache=cache)
    export_episode(stream, find_episode(stream, options.rerun), options.out)
    return options.out


if __name__ == "__main__":
    sys.exit(main())
