"""`python -m oxe_pipeline.train`: trains a vision-language-action model on a mixture. See
oxe_pipeline/vla/train_loop.py.
"""

import argparse
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

INSTALL_HINT = "training needs torch and safetensors: pip install 'oxe-pipeline[train]'"


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
    parser.add_argument("--checkpoint-every", type=int, metavar="STEPS")
    parser.add_argument("--evaluate-every", type=int, metavar="STEPS", help="0: only after the last step")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace, environment: dict[str, str]) -> None:
    """Starts or resumes the run that the arguments describe. ValueError for anything that does not hold."""
    from oxe_pipeline.mixture.mixture import load_mixture
    from oxe_pipeline.vla.checkpoint import latest_checkpoint, load_checkpoint
    from oxe_pipeline.vla.distributed import World
    from oxe_pipeline.vla.presets import preset
    from oxe_pipeline.vla.records import config_from_record
    from oxe_pipeline.vla.train_loop import train

    settings = ("batch_size", "micro_batches", "chunk", "history", "learning_rate", "seed", "precision")
    intervals = ("steps", "checkpoint_every", "evaluate_every")
    given = {name: getattr(arguments, name) for name in (*settings, *intervals) if getattr(arguments, name) is not None}
    world = World.from_environment(environment)
    device = _device(arguments.device, world)
    checkpoint = None
    if arguments.resume:
        fixed = [name for name in ("preset", *settings) if getattr(arguments, name) is not None]
        if fixed:
            raise UsageError(
                f"--{fixed[0].replace('_', '-')} is settled by the run in {arguments.out}; leave it out to resume"
            )
        checkpoint = load_checkpoint(latest_checkpoint(arguments.out))
        config = replace(config_from_record(checkpoint.state["config"]), **given)
        if checkpoint.step >= config.steps:
            raise UsageError(
                f"{arguments.out} has done all of its {config.steps} steps; give a larger --steps to go on"
            )
        mixture_file = arguments.mixture or Path(checkpoint.state["mixture"]["file"])
        mixture = load_mixture(mixture_file).continued(checkpoint.state["loader"]["mixture"])
    else:
        if arguments.mixture is None:
            raise UsageError("--mixture is missing; make one with `python -m oxe_pipeline.mix --out mix.yaml`")
        if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())) and world.leads:
            raise UsageError(
                f"--out {arguments.out} is not empty; name a new folder, or give --resume to go on with that run"
            )
        config = preset(arguments.preset or "nano", **given)
        mixture_file = arguments.mixture
        mixture = load_mixture(mixture_file)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with _progress(config.steps, checkpoint.step if checkpoint else 0, shown=world.leads) as on_step:
        train(
            config,
            mixture,
            arguments.out,
            mixture_file=mixture_file,
            device=device,
            world=world,
            resume=checkpoint,
            on_step=on_step,
        )
    if world.leads:
        print(
            f"{arguments.out}: {config.steps} steps done; look at it with `python -m oxe_pipeline.eval {arguments.out}`"
        )


def _device(choice: str, world):
    import torch

    if choice == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
    if choice == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", world.local_rank)


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
