"""`python -m oxe_pipeline.mix`: what a mixture of streams will give training, before any training; writes mix.yaml.

python -m oxe_pipeline.mix --root streams --weights bridge_dataset=1,taco_play=0.5 --out mix.yaml
python -m oxe_pipeline.mix --root streams --mixture octo_oxe_magic_soup --balance --skip-missing --draw 100000
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from oxe_pipeline.mixture.chairman import WeightError
from oxe_pipeline.mixture.config import (
    MixtureConfig,
    MixtureConfigError,
    named_config,
    read_config,
    validated,
    with_streams_below,
    write_config,
)
from oxe_pipeline.mixture.mixture import Mixture, build_mixture, open_streams, train_steps
from oxe_pipeline.mixture.report import DrawRow, ShareRow, chunks, count_draw, draw_rows, share_rows
from oxe_pipeline.mixture.schedule import parse_schedule, parse_weights
from oxe_pipeline.mixture.weights import effective_weights
from oxe_pipeline.stream.format import StreamError


def main(argv: list[str] | None = None) -> int:
    """Prints the table of a mixture; 0, or 2 after one line on stderr for anything the user has to put right."""
    options = _parser().parse_args(argv)
    try:
        _run(options)
    except (MixtureConfigError, WeightError, StreamError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m oxe_pipeline.mix", description=main.__doc__)
    parser.add_argument("--root", type=Path, help="folder that holds the streams, one folder each")
    parser.add_argument("--weights", help="a=1,b=0.5")
    parser.add_argument("--mixture", help="a mixture file, or the name of a published mixture (schemas/mixtures)")
    parser.add_argument("--schedule", help='other weights later on: "0: a=1,b=1; 50000: a=2,b=1"')
    parser.add_argument("--balance", action="store_true", help="multiply weights by the data sets' train steps")
    parser.add_argument("--temperature", type=float, help="multiply weights by (share of train steps)^(1/temperature)")
    parser.add_argument("--seed", type=int, help="of the order of samples (default: the mixture file's, or 0)")
    parser.add_argument("--skip-missing", action="store_true", help="leave out data sets that are not under --root")
    parser.add_argument("--out", type=Path, help="write the mixture file that training takes")
    parser.add_argument("--draw", type=int, default=0, metavar="N", help="draw N samples and count them")
    parser.add_argument("--json", action="store_true", help="print JSON for machines instead of tables")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.draw < 0:
        raise MixtureConfigError(f"--draw {options.draw} is negative; give the number of samples to draw")
    config, skipped = find_config(options)
    streams = open_streams(config)
    mixture = build_mixture(config, streams)
    effective = effective_weights(config, train_steps(streams))
    tables = share_rows(mixture, config.weights_from(), effective)
    drawn = draw_rows(mixture, effective, _drawn(mixture, options)) if options.draw else []
    if options.out:
        write_config(options.out, config)
    if options.json:
        print(json.dumps(as_json(mixture, config, tables, drawn, skipped), indent=1))
    else:
        _print_tables(mixture, config, tables, drawn, skipped)
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
    for key in ("seed", "temperature"):
        if getattr(options, key) is not None:
            content[key] = getattr(options, key)
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
        "skipped": skipped,
        "segments": [{"start": start, "datasets": [asdict(row) for row in rows]} for start, rows in tables.items()],
        "draw": [asdict(row) for row in drawn],
    }


def _print_tables(
    mixture: Mixture,
    config: MixtureConfig,
    tables: dict[int, list[ShareRow]],
    drawn: list[DrawRow],
    skipped: list[str],
) -> None:
    from rich.console import Console

    console = Console()
    # A pipe or a log file has no width of its own; wide enough for the longest published names.
    console = console if console.is_terminal else Console(width=150)
    for name in skipped:
        console.print(f"left out, not under --root: {name}", markup=False)
    size = "" if config.temperature is None and not config.balance else ", weighted by size"
    for start, rows in tables.items():
        title = f"{mixture.name or 'mixture'}: split {mixture.split}, seed {mixture.seed}{size}"
        console.print(_share_table(title + (f", from sample {start:,}" if len(tables) > 1 else ""), rows))
    worst = max(row.share_error for rows in tables.values() for row in rows)
    console.print("epoch after: samples of the mixture until the data set was seen once, every step in it exactly once")
    console.print("repeats per 1 M: how often the data set is seen in a million samples of the mixture")
    console.print("shares are exact" if worst < 1e-15 else f"shares are held to within {worst:.1e} of all samples")
    if drawn:
        console.print(_draw_table(drawn))


def _share_table(title: str, rows: list[ShareRow]):
    table = _table(title, ["episodes", "steps", "weight", "share", "epoch after", "repeats per 1 M"])
    for row in rows:
        epoch_after = "never" if row.samples_per_epoch is None else f"{row.samples_per_epoch:,.0f}"
        table.add_row(
            row.dataset,
            f"{row.episodes:,}",
            f"{row.steps:,}",
            f"{row.weight:g}",
            f"{row.share:.4%}",
            epoch_after,
            f"{row.epochs_per_million:,.3f}",
        )
    return table


def _draw_table(rows: list[DrawRow]):
    table = _table(
        f"a draw of {sum(row.samples for row in rows):,} samples", ["samples", "requested", "realised", "samples off"]
    )
    for row in rows:
        table.add_row(
            row.dataset,
            f"{row.samples:,}",
            f"{row.requested_share:.4%}",
            f"{row.realised_share:.4%}",
            f"{row.error_samples:+.2f}",
        )
    return table


def _table(title: str, columns: list[str]):
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("data set", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


if __name__ == "__main__":
    sys.exit(main())
