"""`python -m oxe_pipeline.mix`: what a mixture of streams will give training, before any training; writes mix.yaml.

python -m oxe_pipeline.mix --root streams --weights bridge_dataset=1,taco_play=0.5 --out mix.yaml
python -m oxe_pipeline.mix --root streams --mixture octo_oxe_magic_soup --balance --skip-missing --draw 100000
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from oxe_pipeline.cache_arguments import add_cache_arguments, cache_options
from oxe_pipeline.mixture.config import (
    MixtureConfig,
    MixtureConfigError,
    named_config,
    read_config,
    validated,
    with_streams_below,
    write_config,
)
from oxe_pipeline.mixture.eligible import open_overlays, train_steps
from oxe_pipeline.mixture.mixture import Mixture, build_mixture, open_streams
from oxe_pipeline.mixture.report import DrawRow, ShareRow, chunks, count_draw, draw_rows, share_rows
from oxe_pipeline.mixture.schedule import parse_schedule, parse_weights
from oxe_pipeline.mixture.shares import WeightError
from oxe_pipeline.mixture.shuffle_quality import STRETCH, Measure, ShuffleQuality, shuffle_quality
from oxe_pipeline.mixture.weights import effective_weights
from oxe_pipeline.overlays.overlay import OverlayError, is_path
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.terminal import console, table
from schemas.spec import nearest


def main(argv: list[str] | None = None) -> int:
    """Prints the table of a mixture; 0, or 2 after one line on stderr for anything the user has to put right."""
    options = _parser().parse_args(argv)
    try:
        _run(options)
    except (MixtureConfigError, WeightError, StreamError, OverlayError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oxe_pipeline.mix",
        description="Shows what a mixture of streams will give training, before any training; writes its file.",
    )
    parser.add_argument("--root", help="folder or URL that holds the streams, one folder each")
    parser.add_argument("--weights", help="a=1,b=0.5")
    parser.add_argument("--mixture", help="a mixture file, or the name of a published mixture (schemas/mixtures)")
    parser.add_argument("--schedule", help='other weights later on: "0: a=1,b=1; 50000: a=2,b=1"')
    parser.add_argument("--overlay", help="what is drawn of a data set: a=no_idle,b=successes (oxe_pipeline.overlay)")
    parser.add_argument("--balance", action="store_true", help="multiply weights by the data sets' train steps")
    parser.add_argument("--temperature", type=float, help="multiply weights by (share of train steps)^(1/temperature)")
    parser.add_argument(
        "--pool-shards",
        type=int,
        metavar="N",
        help="shuffle within N shards of a data set at a time",
    )
    parser.add_argument("--seed", type=int, help="of the order of samples (default: the mixture file's, or 0)")
    parser.add_argument("--skip-missing", action="store_true", help="leave out data sets that are not under --root")
    parser.add_argument("--out", type=Path, help="write the mixture file that training takes")
    parser.add_argument("--draw", type=int, default=0, metavar="N", help="draw N samples and count them")
    parser.add_argument("--batch-size", type=int, default=256, metavar="B", help="of the shuffle quality; default: 256")
    parser.add_argument("--json", action="store_true", help="print JSON for machines instead of tables")
    add_cache_arguments(parser)
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.draw < 0:
        raise MixtureConfigError(f"--draw {options.draw} is negative; give the number of samples to draw")
    if options.batch_size < 1:
        raise MixtureConfigError(f"--batch-size {options.batch_size} is not a number of samples; give 1 or more")
    config, skipped = find_config(options)
    streams = open_streams(config, cache=cache_options(options))
    overlays = open_overlays(config, streams)
    mixture = build_mixture(config, streams, overlays=overlays)
    effective = effective_weights(config, train_steps(streams, overlays))
    quality = shuffle_quality(mixture, options.batch_size)
    tables = share_rows(mixture, config.weights_from(), effective)
    drawn = draw_rows(mixture, effective, _drawn(mixture, options)) if options.draw else []
    if options.out:
        write_config(options.out, config)
    if options.json:
        print(json.dumps(as_json(mixture, config, tables, quality, drawn, skipped), indent=1))
    else:
        _print_tables(mixture, config, tables, quality, drawn, skipped)
        if options.out:
            print(f"wrote {options.out}; train with: python -m oxe_pipeline.train --mixture {options.out}")


def find_config(options: argparse.Namespace) -> tuple[MixtureConfig, list[str]]:
    """The config that the options ask for, paths found, and the names of the data sets that were left out."""
    if options.mixture and options.weights:
        raise MixtureConfigError("--weights and --mixture both say the weights; give one of them")
    changes = parse_schedule(options.schedule) if options.schedule else {}
    if options.mixture:
        is_file = options.mixture.endswith((".yaml", ".yml")) or Path(options.mixture).is_file()
        content = (read_config if is_file else named_config)(options.mixture).model_dump()
    else:
        content = {
            "datasets": _entries(parse_weights(options.weights) if options.weights else changes.pop(0, {}), changes)
        }
    if 0 in changes:
        raise MixtureConfigError("--schedule says the weights from 0 on, and so does the mixture; start it later")
    if changes:
        content["schedule"] = [{"start": start, "weights": weights} for start, weights in changes.items()]
    if options.balance:
        content["balance"] = True
    for key in ("seed", "temperature", "pool_shards"):
        if getattr(options, key) is not None:
            content[key] = getattr(options, key)
    if options.overlay:
        content["datasets"] = _with_overlays(content["datasets"], options.overlay)
    config = validated(content, options.mixture or "options")
    skipped: list[str] = []
    if options.root is not None:
        config = with_streams_below(config, options.root, on_missing=skipped.append if options.skip_missing else None)
    return config, skipped


def _entries(first: dict[str, float], changes: dict[int, dict[str, float]]) -> list[dict]:
    if not first:
        raise MixtureConfigError(
            "say what to mix: --weights a=1,b=0.5, --mixture NAME or FILE, or --schedule from 0 on"
        )
    later = {name: 0.0 for weights in changes.values() for name in weights if name not in first}
    return [{"name": name, "weight": weight} for name, weight in {**first, **later}.items()]


def _with_overlays(entries: list[dict], text: str) -> list[dict]:
    """The entries with the overlays that --overlay gives them; paths in it are relative to where the command runs."""
    overlays = {}
    for part in text.split(","):
        name, equals, overlay = (piece.strip() for piece in part.partition("="))
        if not (name and equals and overlay):
            raise MixtureConfigError(f"--overlay {text!r} does not parse at {part!r}; write dataset=overlay,...")
        overlays[name] = str(Path(overlay).resolve()) if is_path(overlay) and "://" not in overlay else overlay
    known = [entry["name"] for entry in entries]
    for name in overlays:
        if name not in known:
            raise MixtureConfigError(f"--overlay: the mixture has no data set {name!r}{nearest(name, known)}")
    return [{**entry, "overlay": overlays.get(entry["name"], entry.get("overlay", ""))} for entry in entries]


def _drawn(mixture: Mixture, options: argparse.Namespace):
    from rich.console import Console
    from rich.progress import track

    pieces = list(chunks(options.draw))
    bar = track(
        pieces, "drawing", console=Console(stderr=True), transient=True, disable=options.json or len(pieces) < 20
    )
    return count_draw(mixture, bar)


def as_json(
    mixture: Mixture,
    config: MixtureConfig,
    tables: dict[int, list[ShareRow]],
    quality: ShuffleQuality,
    drawn: list[DrawRow],
    skipped: list[str],
) -> dict:
    """Everything the tables show, for machines."""
    return {
        "name": mixture.name,
        "seed": mixture.seed,
        "split": mixture.split,
        "identity": mixture.identity,
        "balance": config.balance,
        "temperature": config.temperature,
        "pool_shards": config.pool_shards,
        "skipped": skipped,
        "segments": [{"start": start, "datasets": [asdict(row) for row in rows]} for start, rows in tables.items()],
        "shuffle_quality": {"score": quality.score, **asdict(quality)},
        "draw": [asdict(row) for row in drawn],
    }


def _print_tables(
    mixture: Mixture,
    config: MixtureConfig,
    tables: dict[int, list[ShareRow]],
    quality: ShuffleQuality,
    drawn: list[DrawRow],
    skipped: list[str],
) -> None:
    screen = console()
    for name in skipped:
        screen.print(f"left out, not under --root: {name}")
    size = "" if config.temperature is None and not config.balance else ", weighted by size"
    pools = "" if config.pool_shards is None else f", shuffled within {config.pool_shards:,} shards at a time"
    for start, rows in tables.items():
        title = f"{mixture.name or 'mixture'}: split {mixture.split}, seed {mixture.seed}{size}{pools}"
        screen.print(_share_table(title + (f", from sample {start:,}" if len(tables) > 1 else ""), rows))
    every_row = [row for rows in tables.values() for row in rows]
    if any(row.overlay for row in every_row):
        screen.print("+ overlay; steps: those it leaves, a repeated one counted as often, of those there are")
    screen.print("epoch after: samples of the mixture until each step of the data set was drawn once")
    screen.print("repeats per 1 M: passes over the data set in a million samples of the mixture")
    worst = max(row.share_error for row in every_row)
    screen.print("shares are exact" if worst < 1e-15 else f"shares are held to within {worst:.1e} of all samples")
    screen.print()
    screen.print(_shuffle_table(quality))
    screen.print("ratio 1: as mixed as if every sample were drawn independently; lower: neighbours come together")
    if drawn:
        screen.print()
        screen.print(_draw_table(drawn))


def _share_table(title: str, rows: list[ShareRow]):
    numbers = ["episodes", "steps", "weight", "share", "epoch\nafter", "repeats\nper 1 M"]
    made = table(title, texts=["data set"], numbers=numbers)
    for row in rows:
        made.add_row(
            f"{row.dataset} + {row.overlay}" if row.overlay else row.dataset,
            f"{row.episodes:,}",
            f"{row.steps:,} of {row.split_steps:,}" if row.overlay else f"{row.steps:,}",
            f"{row.weight:g}",
            _percent(row.share),
            "never" if row.samples_per_epoch is None else f"{row.samples_per_epoch:,.0f}",
            f"{row.epochs_per_million:,.0f}" if row.epochs_per_million >= 100 else f"{row.epochs_per_million:.3f}",
        )
    return made


def _percent(share: float) -> str:
    return f"{share:.4%}" if share >= 1e-5 or not share else f"{100 * share:.2g}%"


def _shuffle_table(quality: ShuffleQuality):
    made = table(
        f"shuffle quality {quality.score:.3f}, over {quality.batches} batches of {quality.batch_size:,}",
        texts=["on average"],
        numbers=["this order", "independent", "ratio"],
    )

    def add(what: str, measure: Measure) -> None:
        made.add_row(what, f"{measure.drawn:,.1f}", f"{measure.uniform:,.1f}", f"{measure.ratio:.3f}")

    add("different episodes in a batch", quality.episodes_per_batch)
    add(f"different episodes in {STRETCH} batches", quality.episodes_per_stretch)
    add("different data sets in a batch", quality.datasets_per_batch)
    crowded = quality.samples_with_neighbour
    made.add_row("samples with another of their episode", f"{crowded.drawn:.1%}", f"{crowded.uniform:.1%}", "")
    return made


def _draw_table(rows: list[DrawRow]):
    made = table(
        f"a draw of {sum(row.samples for row in rows):,} samples",
        texts=["data set"],
        numbers=["samples", "requested", "realised", "samples off"],
    )
    for row in rows:
        made.add_row(
            row.dataset,
            f"{row.samples:,}",
            _percent(row.requested_share),
            _percent(row.realised_share),
            f"{row.error_samples:+.2f}",
        )
    return made


if __name__ == "__main__":
    sys.exit(main())
