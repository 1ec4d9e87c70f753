"""`python -m oxe_pipeline.samples`: which samples an optimiser step takes, or took, and what they look like.

python -m oxe_pipeline.samples --mixture mix.yaml --step 41233 --batch-size 256 --rank 1 --world-size 8
python -m oxe_pipeline.samples --checkpoint runs/first --step 812 --images step_812.png
python -m oxe_pipeline.samples --mixture mix.yaml --g 123456 --count 64 --json
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oxe_pipeline.cache_arguments import add_cache_arguments, cache_options
from oxe_pipeline.loader.audit import DrawnSample, drawn_samples, located
from oxe_pipeline.loader.steps import StepSamples
from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.mixture import Mixture, load_mixture
from oxe_pipeline.terminal import console, table
from oxe_pipeline.vla.checkpoint import latest_checkpoint, read_state

if TYPE_CHECKING:
    from rich.table import Table

_NARROW = 120
"""Columns of a terminal below which a sample takes several lines."""
_END_OF_NUMBERS = 1 << 62
_MOST_SAMPLES = 1 << 20


class UsageError(ValueError):
    """Arguments that do not go together; one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What the order of samples of a run depends on."""

    mixture: Mixture
    batch_size: int | None
    """Global: over all ranks. None where nobody said it."""
    checkpoint: Path | None = None
    steps_done: int | None = None
    """At the checkpoint."""
    image_size: tuple[int, int] | None = None
    """(height, width) that the run trains on; None: as stored."""


def main(argv: list[str] | None = None) -> int:
    """Lists the samples of one step, or of a range of sample numbers; 0, or 2 after one line on stderr."""
    options = _parser().parse_args(argv)
    try:
        _run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oxe_pipeline.samples",
        description="Lists which samples an optimiser step takes, or took, and draws what they look like.",
    )
    of = parser.add_argument_group("whose samples")
    of.add_argument("--mixture", type=Path, help="mixture file (python -m oxe_pipeline.mix --out)")
    of.add_argument(
        "--checkpoint",
        type=Path,
        metavar="RUN",
        help="run folder of oxe_pipeline.train, or one of its checkpoints: knows mixture, seed, weights and batch size",
    )
    of.add_argument("--batch-size", type=int, metavar="B", help="samples per step, over all ranks together")
    of.add_argument("--seed", type=int, help="of the order, where training was given another than the mixture file's")
    of.add_argument(
        "--instruction", choices=("any", "main"), default="any", help="as the loader was told; default: any"
    )
    which = parser.add_argument_group("which of them")
    which.add_argument(
        "--step",
        type=int,
        metavar="N",
        help="optimiser step: with --checkpoint as metrics.jsonl and the trainer's messages count "
        "them, from 1; otherwise as make_loader(start_step=) counts them, from 0",
    )
    which.add_argument(
        "--rank", type=int, metavar="R", help="only this rank's part of the step, from 0; needs --world-size"
    )
    which.add_argument("--world-size", type=int, metavar="W", help="number of ranks")
    which.add_argument("--g", type=int, help="sample number, from 0, instead of a step")
    which.add_argument("--count", type=int, metavar="N", help="with --g: samples from there on (default: 1)")
    how = parser.add_argument_group("what to show")
    how.add_argument("--images", type=Path, metavar="FILE", help="draw the samples' images into a .png or .jpg")
    how.add_argument("--most", type=int, default=24, metavar="N", help="samples drawn into --images (default: 24)")
    how.add_argument("--json", action="store_true", help="print JSON for machines instead of a table")
    add_cache_arguments(parser)
    return parser


def _run(options: argparse.Namespace) -> None:
    _check(options)
    run = _find_run(options)
    samples = _find_samples(run, options)
    rows = drawn_samples(run.mixture, samples, instruction=options.instruction)
    if options.images:
        _write_images(options, run, samples, rows)
    if options.json:
        print(json.dumps(as_json(run, rows, options), indent=1))
        return
    _print_table(_headline(run, samples, options), rows)
    if options.images:
        left_out = f"; the first {options.most} of {len(rows)}, --most N draws more" if len(rows) > options.most else ""
        print(f"wrote {options.images}{left_out}")


def _check(options: argparse.Namespace) -> None:
    """UsageError, before anything is opened, for options that do not go together."""
    if not options.mixture and not options.checkpoint:
        raise UsageError("say whose samples: --mixture mix.yaml, or --checkpoint RUN")
    if (options.step is None) == (options.g is None):
        raise UsageError("say which samples: --step N, or --g N [--count M], one of the two")
    if options.checkpoint:
        for name in ("batch_size", "seed"):
            if getattr(options, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} is settled by the run in {options.checkpoint}; leave it out"
                )
    elif options.step is not None and options.batch_size is None:
        raise UsageError(f"--step {options.step} needs the --batch-size of the run, over all ranks together")
    if (options.rank is None) != (options.world_size is None):
        raise UsageError("--rank and --world-size go together: which rank of how many")
    if options.g is not None and options.rank is not None:
        raise UsageError("--rank is part of a step; give --step, or leave --rank out with --g")
    if options.step is not None and options.count is not None:
        raise UsageError("--count goes with --g; a step has as many samples as its batch")
    first = 1 if options.checkpoint else 0
    for name, least in (("step", first), ("g", 0), ("count", 1), ("most", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"--{name} must be {least} or more, is {value}")
    if options.images:
        from oxe_pipeline.loader.contact_sheet import picture_format

        picture_format(options.images)


def _find_run(options: argparse.Namespace) -> Run:
    if not options.checkpoint:
        mixture = load_mixture(options.mixture, cache=cache_options(options))
        return Run(
            mixture=mixture if options.seed is None else mixture.with_seed(options.seed), batch_size=options.batch_size
        )
    folder = latest_checkpoint(options.checkpoint)
    state = read_state(folder)
    mixture = load_mixture(options.mixture or state["mixture"]["file"], cache=cache_options(options))
    mixture = mixture.continued(state["loader"]["mixture"])
    size = state["image_size"]
    return Run(
        mixture=mixture,
        batch_size=state["loader"]["batch_size"],
        checkpoint=folder,
        steps_done=state["step"],
        image_size=(size, size),
    )


def _find_samples(run: Run, options: argparse.Namespace) -> Samples:
    by_step = options.step is not None
    count = (run.batch_size or 0) if by_step else (options.count or 1)
    if count > _MOST_SAMPLES:
        raise UsageError(f"{count:,} samples are more than the {_MOST_SAMPLES:,} that can be listed at once")
    end = (options.step + 1) * count if by_step else options.g + count
    if end > _END_OF_NUMBERS:
        raise UsageError(f"sample numbers end at 2^62, these would go up to {end}; give a smaller step or number")
    if not by_step:
        return located(run.mixture, np.arange(options.g, end))
    rank, world_size = (0, 1) if options.rank is None else (options.rank, options.world_size)
    return StepSamples(run.mixture, count, rank, world_size)[options.step - (1 if run.checkpoint else 0)]


def _headline(run: Run, samples: Samples, options: argparse.Namespace) -> str:
    """What is shown, with how its numbers count: a step counted from 1 and one counted from 0 look alike."""
    first, last = int(samples.g[0]), int(samples.g[-1])
    numbers = f"sample {first:,}" if first == last else f"samples {first:,} to {last:,}"
    whose = f"{run.mixture.name or 'mixture'}, seed {run.mixture.seed}, split {run.mixture.split}"
    if options.step is None:
        return f"{whose}: {numbers}"
    rank = "" if options.rank is None else f", rank {options.rank} of {options.world_size} (from 0)"
    if run.steps_done is None:
        return f"{whose}: step {options.step:,} (counted from 0), batch size {run.batch_size}{rank}: {numbers}"
    to_come = f"; to come: it has done {run.steps_done:,} steps" if options.step > run.steps_done else ""
    return (
        f"{whose}: step {options.step:,} (counted from 1, as in metrics.jsonl) of {run.checkpoint}, "
        f"batch size {run.batch_size}{rank}: {numbers}{to_come}"
    )


def as_json(run: Run, rows: list[DrawnSample], options: argparse.Namespace) -> dict:
    """Everything the table shows, for machines."""
    return {
        "mixture": run.mixture.name,
        "seed": run.mixture.seed,
        "split": run.mixture.split,
        "identity": run.mixture.identity,
        "checkpoint": None if run.checkpoint is None else str(run.checkpoint),
        "batch_size": run.batch_size,
        "step": options.step,
        "first_step": 1 if run.checkpoint else 0,
        "rank": options.rank,
        "world_size": options.world_size,
        "samples": [asdict(row) for row in rows],
    }


def _print_table(headline: str, rows: list[DrawnSample]) -> None:
    screen = console()
    made = _narrow_table(headline, rows) if screen.width < _NARROW else _wide_table(headline, rows)
    screen.print(made)
    screen.print("sample numbers, epochs and the steps of an episode count from 0", style="dim", highlight=False)


def _wide_table(headline: str, rows: list[DrawnSample]) -> "Table":
    made = table(
        headline, numbers_first=["sample"], texts=["data set", "episode", "step", "epoch", "instruction", "source"]
    )
    for row in rows:
        step = f"{row.step} of {row.num_steps}"
        made.add_row(
            f"{row.g:,}", row.dataset, row.episode_id, step, f"{row.epoch:,}", _instruction(row), row.source_path
        )
    return made


def _narrow_table(headline: str, rows: list[DrawnSample]) -> "Table":
    """The same in three lines a sample, for terminals in which seven columns would be slivers."""
    made = table(
        headline, numbers_first=["sample"], texts=["data set, episode, step", "instruction, source"], ruled=True
    )
    for row in rows:
        place = f"{row.dataset}\n{row.episode_id}\nstep {row.step} of {row.num_steps}, epoch {row.epoch:,}"
        made.add_row(f"{row.g:,}", place, f"{_instruction(row)}\n{row.source_path}")
    return made


def _instruction(row: DrawnSample) -> str:
    return row.instruction or "(no instruction)"


def _write_images(options: argparse.Namespace, run: Run, samples: Samples, rows: list[DrawnSample]) -> None:
    from oxe_pipeline.loader.contact_sheet import contact_sheet, write_picture

    title = _headline(run, samples, options)
    if len(rows) > options.most:
        title += f"; the first {options.most} of {len(rows)}"
    sheet = contact_sheet(run.mixture, samples, rows[: options.most], title=title, size=run.image_size)
    write_picture(options.images, sheet)


if __name__ == "__main__":
    sys.exit(main())
