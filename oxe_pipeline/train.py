"""`python -m oxe_pipeline.train`: trains a vision-language-action model on a mixture. See
oxe_pipeline/vla/train_loop.py.
"""

import argparse
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from oxe_pipeline.cache_arguments import add_cache_arguments, cache_options

if TYPE_CHECKING:
    import torch

    from oxe_pipeline.mixture.mixture import Mixture
    from oxe_pipeline.vla.checkpoint import Checkpoint
    from oxe_pipeline.vla.distributed import World
    from oxe_pipeline.vla.presets import TrainConfig

INSTALL_HINT = "training needs torch and safetensors: pip install 'oxe-pipeline[train]'"
DEVICES = ("auto", "cpu", "cuda")

SETTLED = ("batch_size", "micro_batches", "chunk", "history", "learning_rate", "seed", "precision")
CHANGEABLE = ("steps", "on_corrupt", "checkpoint_every", "evaluate_every")
"""Options that hold for a whole run, and options that a resumed run may be given anew."""


class UsageError(ValueError):
    """Arguments that do not go together; one line."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m oxe_pipeline.train", description=__doc__.partition(":")[2].split(".")[0]
    )
    parser.add_argument(
        "--mixture", type=Path, help="mixture file (python -m oxe_pipeline.mix --out); a resumed run knows its own"
    )
    parser.add_argument("--preset", help="model and training settings (default: nano)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="run folder: new or empty, unless --resume"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument("--steps", type=int, help="optimiser steps of the whole run, those before a resume included")
    parser.add_argument("--batch-size", type=int, help="samples per step, over all ranks together")
    parser.add_argument("--micro-batches", type=int, help="pieces of a batch worked through one after the other")
    parser.add_argument("--chunk", type=int, help="actions predicted at once")
    parser.add_argument("--history", type=int, help="observations given, the present one included")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, help="of the initial weights; the order of samples has the mixture's seed")
    parser.add_argument("--on-corrupt", choices=("error", "substitute"), help="what an unreadable image does")
    parser.add_argument("--checkpoint-every", type=int, metavar="STEPS")
    parser.add_argument("--evaluate-every", type=int, metavar="STEPS", help="0: only after the last step")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    add_cache_arguments(parser)
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace, environment: dict[str, str]) -> None:
    """Starts or resumes the run that the arguments describe. ValueError for anything that does not hold."""
    from oxe_pipeline.vla.distributed import World
    from oxe_pipeline.vla.train_loop import train

    world = World.from_environment(environment)
    device = find_device(arguments.device, world.local_rank)
    start = _resumed(arguments) if arguments.resume else _fresh(arguments, world)
    idle = [dataset.name for dataset in start.mixture.datasets if not dataset.stream.manifest.action_slots]
    if idle:
        raise UsageError(f"no action slot in {', '.join(idle)}: nothing to learn there; leave out of the mixture")
    smallest_part = start.config.batch_size // world.size
    if smallest_part < start.config.micro_batches:
        raise UsageError(
            f"batch_size {start.config.batch_size} gives one of {world.size} ranks {smallest_part} samples, fewer than "
            f"micro_batches {start.config.micro_batches}; use a larger batch, or fewer micro-batches or ranks"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    with _progress(start.config.steps, start.checkpoint.step if start.checkpoint else 0, shown=world.leads) as on_step:
        train(
            start.config,
            start.mixture,
            arguments.out,
            mixture_file=start.mixture_file,
            device=device,
            world=world,
            resume=start.checkpoint,
            on_step=on_step,
        )
    if world.leads:
        print(
            f"{arguments.out}: {start.config.steps} steps done; "
            f"look at it with `python -m oxe_pipeline.eval {arguments.out}`"
        )


class Start(NamedTuple):
    """What a run begins with."""

    config: "TrainConfig"
    mixture: "Mixture"
    mixture_file: Path
    checkpoint: "Checkpoint | None"


def _fresh(arguments: argparse.Namespace, world: "World") -> Start:
    from oxe_pipeline.mixture.mixture import load_mixture
    from oxe_pipeline.vla.presets import preset

    out = arguments.out
    if arguments.mixture is None:
        raise UsageError("--mixture is missing; make one with `python -m oxe_pipeline.mix --out mix.yaml`")
    if world.leads and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} is not empty; name a new folder, or give --resume to go on with that run")
    config = preset(arguments.preset or "nano", **_given(arguments, (*SETTLED, *CHANGEABLE)))
    return Start(config, load_mixture(arguments.mixture, cache=cache_options(arguments)), arguments.mixture, None)


def _resumed(arguments: argparse.Namespace) -> Start:
    from oxe_pipeline.mixture.mixture import load_mixture
    from oxe_pipeline.vla.checkpoint import latest_checkpoint, load_checkpoint
    from oxe_pipeline.vla.records import config_from_record

    for name in _given(arguments, ("preset", *SETTLED)):
        raise UsageError(f"--{name.replace('_', '-')} is settled by the run in {arguments.out}; leave it out to resume")
    checkpoint = load_checkpoint(latest_checkpoint(arguments.out))
    config = replace(config_from_record(checkpoint.state["config"]), **_given(arguments, CHANGEABLE))
    if checkpoint.step >= config.steps:
        raise UsageError(f"{arguments.out} has done all of its {config.steps} steps; give a larger --steps to go on")
    mixture_file = arguments.mixture or Path(checkpoint.state["mixture"]["file"])
    mixture = load_mixture(mixture_file, cache=cache_options(arguments))
    mixture = mixture.continued(checkpoint.state["loader"]["mixture"])
    return Start(config, mixture, mixture_file, checkpoint)


def _given(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the options that the user typed."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def find_device(choice: str, local_rank: int = 0) -> "torch.device":
    """The torch device that --device auto, cpu or cuda stands for here; UsageError for cuda where there is none."""
    import torch

    if choice == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
    if choice == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank)


@contextmanager
def _progress(steps: int, done: int, *, shown: bool):
    """A progress bar on stderr; yields what to call with the metrics of each step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("train"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(
            "loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} samples/s  wait {task.fields[wait]:.0%}  left"
        ),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("train", total=steps, completed=done, loss=float("nan"), rate=0.0, wait=0.0)

        def on_step(record: dict) -> None:
            figures = {"loss": record["loss"], "rate": record["samples_per_s"], "wait": record["wait_share"]}
            bar.update(task, completed=record["step"], **figures)

        yield on_step


def main(argv: list[str] | None = None) -> int:
    """0 when all steps are done; 2 with one line on stderr for anything the user can put right."""
    arguments = parse(argv)
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        print(f"error: {INSTALL_HINT}", file=sys.stderr)
        return 2
    from oxe_pipeline.vla.train_loop import TrainingError

    try:
        run(arguments, dict(os.environ))
    except (ValueError, TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
