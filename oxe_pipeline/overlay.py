"""`python -m oxe_pipeline.overlay`: chooses which steps of a stream are drawn, and how often; writes an index file.

python -m oxe_pipeline.overlay --stream streams/droid --name clean --success --require-instruction --drop-idle
python -m oxe_pipeline.overlay --stream streams/droid --list
"""

import argparse
import json
import sys
from pathlib import Path

from pydantic import ValidationError

from oxe_pipeline.cache_arguments import add_cache_arguments, cache_options
from oxe_pipeline.overlays.episode_lists import read_episode_ids, read_episode_weights
from oxe_pipeline.overlays.idle import IdleRule
from oxe_pipeline.overlays.make_overlay import OverlayRules, make_overlay
from oxe_pipeline.overlays.overlay import (
    SUFFIX,
    OverlayError,
    OverlayHeader,
    is_path,
    overlay_names,
    overlay_path,
    read_header,
    write_overlay,
)
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.reader import Stream, open_stream

_IDLE_LIMITS = ("m_per_s", "rad_per_s", "gripper_per_s", "source_per_s")
_IDLE_DURATIONS = ("min_s", "keep_s", "before_s", "min_motion_s")


def main(argv: list[str] | None = None) -> int:
    """Makes an overlay and prints what each rule removed, or lists those that are there; 0, or 2 after one line on
    stderr for anything the user has to put right."""
    options = _parser().parse_args(argv)
    try:
        if options.list:
            _list(options)
        else:
            _make(options)
    except (StreamError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oxe_pipeline.overlay",
        description="Chooses which steps of a stream are drawn, and how often; writes an index file.",
    )
    parser.add_argument("--stream", required=True, help="folder of the stream, or its URL (then --out says where to)")
    parser.add_argument("--name", help="of the overlay; its file becomes overlays/NAME.arrow of the stream's folder")
    parser.add_argument("--out", type=Path, metavar=f"FILE{SUFFIX}", help="another place for the file")
    parser.add_argument("--overwrite", action="store_true", help="replace an overlay of that name")
    parser.add_argument("--list", action="store_true", help="show the overlays of the stream and their rules")
    parser.add_argument("--json", action="store_true", help="print JSON for machines instead of tables")
    episodes = parser.add_argument_group("whole episodes")
    episodes.add_argument("--success", action="store_true", help="only those marked successful")
    episodes.add_argument("--drop-failed", action="store_true", help="none marked failed; those nobody judged stay")
    episodes.add_argument("--require-instruction", action="store_true", help="only those with an instruction")
    episodes.add_argument("--language", nargs="+", default=[], metavar="en", help="none recognised as another language")
    episodes.add_argument("--instruction", default="", metavar="REGEX", help="only those whose instructions match")
    episodes.add_argument("--drop-quality-flag", nargs="+", default=[], metavar="FLAG")
    episodes.add_argument("--drop-label-flag", nargs="+", default=[], metavar="FLAG")
    episodes.add_argument("--min-steps", type=int, default=1, metavar="N", help="only those of N steps or more")
    episodes.add_argument("--episodes", nargs="+", default=[], metavar="FILE", help="only these; one id a line")
    episodes.add_argument("--drop-episodes", nargs="+", default=[], metavar="FILE", help="none of these; one id a line")
    episodes.add_argument(
        "--weights", nargs="+", default=[], metavar="FILE", help="how often: lines of id,weight, or JSON; others 1"
    )
    idle = parser.add_argument_group("idle steps", "units per second and seconds, so that they mean the same at any Hz")
    idle.add_argument("--drop-idle", action="store_true", help="leave out stretches in which nothing moves")
    for key in (*_IDLE_LIMITS, *_IDLE_DURATIONS):
        default = IdleRule.model_fields[key].default
        shown = "" if default is None else f" (default: {default:g})"
        flag = f"--idle-{key.replace('_', '-')}"
        idle.add_argument(flag, dest=key, type=float, metavar="X", help=_IDLE_HELP[key] + shown)
    add_cache_arguments(parser)
    return parser


_IDLE_HELP = {
    "m_per_s": "slower than this in every slot is idle",
    "rad_per_s": "slower than this in every slot is idle",
    "gripper_per_s": "slower than this is idle; the gripper's range is 0 to 1",
    "source_per_s": "the same for slots whose unit the spec does not state",
    "min_s": "shorter idle stretches stay",
    "keep_s": "of each idle stretch, keep this much before motion goes on",
    "before_s": "drop this much before each idle stretch too",
    "min_motion_s": "drop what is left beside idle stretches where it is shorter than this",
}


def _make(options: argparse.Namespace) -> None:
    rules = rules_of(options)
    stream = open_stream(options.stream, cache=cache_options(options))
    path = _target(options, stream)
    overlay = make_overlay(stream, options.name, rules, track=None if options.json else _shown)
    write_overlay(path, overlay)
    if options.json:
        print(json.dumps({"path": str(path), **overlay.header.model_dump()}, indent=1))
        return
    _print_rules(overlay.header)
    reference = options.name if not options.out else path
    print(f"wrote {path}, {path.stat().st_size / 1e3:,.1f} kB, identity {overlay.header.identity}")
    print(f"use it: `overlay: {reference}` in a mixture file, or mix --overlay {overlay.header.dataset}={reference}")


def _target(options: argparse.Namespace, stream: Stream) -> Path:
    """Where the overlay goes; OverlayError, before any work, where it may not."""
    if not options.name:
        raise OverlayError("say what the overlay is called: --name no_idle (or --list those that are there)")
    if options.out and not is_path(str(options.out)):
        raise OverlayError(f"--out {options.out}: an overlay's file ends in {SUFFIX}")
    if stream.is_remote and not options.out:
        raise OverlayError(f"{stream.path}: streams behind a URL are only read; say --out FILE{SUFFIX}")
    path = overlay_path(stream.path, options.name)
    path = options.out or path
    if path.exists() and not options.overwrite:
        raise OverlayError(f"{path}: is there already; choose another --name, or give --overwrite")
    return path


def rules_of(options: argparse.Namespace) -> OverlayRules:
    """The rules that the options ask for, files read. OverlayError for a file or number that does not hold."""
    if options.min_steps < 1:
        raise OverlayError(f"--min-steps {options.min_steps}: give 1 or more")
    given = {key: value for key in (*_IDLE_LIMITS, *_IDLE_DURATIONS) if (value := getattr(options, key)) is not None}
    if given and not options.drop_idle:
        raise OverlayError(f"--idle-{next(iter(given)).replace('_', '-')} says what is idle; give --drop-idle too")
    try:
        idle = IdleRule(**given) if options.drop_idle else None
    except ValidationError as error:
        fault = error.errors()[0]
        flag = f"--idle-{str(fault['loc'][0]).replace('_', '-')}"
        raise OverlayError(f"{flag} {fault['input']:g}: {fault['msg']}") from None
    rules = OverlayRules(
        success=options.success,
        drop_failed=options.drop_failed,
        require_instruction=options.require_instruction,
        languages=tuple(options.language),
        instruction=options.instruction,
        drop_quality_flags=tuple(options.drop_quality_flag),
        drop_label_flags=tuple(options.drop_label_flag),
        min_steps=options.min_steps,
        keep_episodes={path: read_episode_ids(path) for path in options.episodes},
        drop_episodes={path: read_episode_ids(path) for path in options.drop_episodes},
        weights={path: read_episode_weights(path) for path in options.weights},
        idle=idle,
    )
    if rules == OverlayRules():
        raise OverlayError("no rule given, so every step would stay; see --help for the rules")
    return rules


def _list(options: argparse.Namespace) -> None:
    stream = open_stream(options.stream, cache=cache_options(options))
    if stream.is_remote:
        raise OverlayError(f"{stream.path}: overlays of streams behind a URL lie elsewhere; --list takes a folder")
    headers = [read_header(overlay_path(stream.path, name)) for name in overlay_names(stream.path)]
    if options.json:
        print(json.dumps([header.model_dump() for header in headers], indent=1))
        return
    for header in headers:
        _print_rules(header)
        if header.stream != stream.identity:
            print(f"of another stream ({header.stream}), refused by this one ({stream.identity}): make it again")
    if not headers:
        print(f"{options.stream}: no overlay yet")


def _print_rules(header: OverlayHeader) -> None:
    from oxe_pipeline.terminal import console, table

    title = f"overlay {header.name} of {header.dataset}: {header.steps:,} steps in {header.episodes:,} episodes"
    columns = ["episodes\nremoved", "steps\nremoved", "episodes\nleft", "steps\nleft", "of all"]
    rows = table(title, texts=["rule", "parameters"], numbers=columns)
    for effect in header.rules:
        parameters = ", ".join(f"{key} {_text(value)}" for key, value in effect.parameters.items())
        counts = (effect.episodes_removed, effect.steps_removed, effect.episodes_left, effect.steps_left)
        rows.add_row(effect.rule, parameters, *(f"{n:,}" for n in counts), f"{effect.steps_left / header.steps:.1%}")
    console().print(rows)
    splits = (f"{split} {left:,} ({header.windows[split]:,})" for split, left in header.steps_left.items())
    print(f"steps left (windows per epoch): {', '.join(splits)}")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} (carried by {count:,})" for key, count in value.items())
    return (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else f"{value}"
    )


def _shown(items, what: str, total: int):
    from rich.console import Console
    from rich.progress import track

    return track(items, what, total, console=Console(stderr=True), transient=True, disable=total < 20)


if __name__ == "__main__":
    sys.exit(main())
