"""`python -m oxe_pipeline.train`: trains a vision-language-action model on a mixture. See
oxe_pipeline/vla/train_loop.py.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from oxe_pipeline.cache_arguments import cache_options
from oxe_pipeline.interrupts import heard_interrupts
from oxe_pipeline.train_arguments import CHANGEABLE, SETTLED, TEXT_SHARE, given, parse

if TYPE_CHECKING:
    import torch

    from oxe_pipeline.mixture.mixture import Mixture
    from oxe_pipeline.vla.checkpoint import Checkpoint
    from oxe_pipeline.vla.distill import Teacher
    from oxe_pipeline.vla.distributed import World
    from oxe_pipeline.vla.train_config import TrainConfig

INSTALL_HINT = "training needs torch and safetensors: pip install 'oxe-pipeline[train]'"
TINY = "tiny"
"""Folder in the run that holds the miniature's files."""


class UsageError(ValueError):
    """Arguments that do not go together; one line."""


def run(
    arguments: argparse.Namespace,
    environment: dict[str, str],
    *,
    teacher_of: "Callable[[Start, torch.device], Teacher] | None" = None,
) -> None:
    """Starts or resumes the run that the arguments describe. ValueError for anything that does not hold.

    `teacher_of` makes the teacher, for a run that is a distillation.
    """
    from oxe_pipeline.vla.distributed import World
    from oxe_pipeline.vla.train_loop import train

    world = World.from_environment(environment)
    device = find_device(arguments.device, world.local_rank)
    with _nothing_left_of_a_false_start(arguments.out, world):
        start = _resumed(arguments, world) if arguments.resume else _fresh(arguments, world, device)
        config, done = start.config, start.checkpoint.step if start.checkpoint else 0
        teacher = teacher_of(start, device) if teacher_of else None
        with (
            heard_interrupts() as raise_dropped,
            _texts(arguments, start, world) as texts,
            _progress(config.steps, done, shown=world.leads) as show,
        ):

            def on_step(record: dict) -> None:
                show(record)
                raise_dropped()

            train(
                config,
                start.mixture,
                arguments.out,
                mixture_file=start.mixture_file,
                device=device,
                world=world,
                texts=texts,
                teacher=teacher,
                resume=start.checkpoint,
                on_step=on_step,
            )
    world.leave()
    if world.leads:
        print(
            f"{arguments.out}: {config.steps} steps done; look at it with `python -m oxe_pipeline.eval {arguments.out}`"
        )


class Start(NamedTuple):
    """What a run begins with."""

    config: "TrainConfig"
    mixture: "Mixture"
    mixture_file: Path
    checkpoint: "Checkpoint | None"


@contextmanager
def _nothing_left_of_a_false_start(out: Path, world: "World"):
    """Takes a new run that fails before its log is begun out of the way, so that the next attempt finds its place."""
    from oxe_pipeline.vla.metrics import METRICS

    existed = out.exists()
    new = not existed or (out.is_dir() and not any(out.iterdir()))
    try:
        yield
    except BaseException:
        if new and world.leads and not (out / METRICS).exists():
            shutil.rmtree(out / TINY, ignore_errors=True)
            if not existed:
                with suppress(OSError):
                    out.rmdir()
        raise


def _fresh(arguments: argparse.Namespace, world: "World", device: "torch.device") -> Start:
    from oxe_pipeline.loader.augment import AugmentOptions
    from oxe_pipeline.mixture.mixture import load_mixture
    from oxe_pipeline.vla.presets import preset

    out = arguments.out
    if arguments.tiny and arguments.backbone:
        raise UsageError("--tiny makes a backbone of its own; leave one of --tiny and --backbone out")
    if arguments.mixture is None:
        raise UsageError("--mixture is missing; make one with `python -m oxe_pipeline.mix --out mix.yaml`")
    if world.leads and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"--out {out} is not empty; name a new folder, or give --resume to go on with that run's last checkpoint"
        )
    mixture = load_mixture(arguments.mixture, cache=cache_options(arguments))
    name, changes = arguments.preset or "nano", given(arguments, (*SETTLED, *CHANGEABLE))
    if arguments.tiny:  # Writes the miniature's files.
        config = world.from_leader(lambda: preset(name, tiny=out / TINY, **changes), device)
    else:
        config = preset(name, backbone=arguments.backbone, **changes)
    if arguments.augment is not None:
        config = replace(config, augment=(config.augment or AugmentOptions()) if arguments.augment else None)
    _check(arguments, config, mixture, world)
    return Start(config.prepared(mixture), mixture, arguments.mixture, None)


def _resumed(arguments: argparse.Namespace, world: "World") -> Start:
    from oxe_pipeline.mixture.mixture import load_mixture
    from oxe_pipeline.vla.checkpoint import latest_checkpoint, load_checkpoint
    from oxe_pipeline.vla.records import config_from_record

    for name in given(arguments, ("preset", "backbone", "tiny", "augment", *SETTLED)):
        raise UsageError(f"--{name.replace('_', '-')} is settled by the run in {arguments.out}; leave it out to resume")
    checkpoint = load_checkpoint(latest_checkpoint(arguments.out))
    config = replace(config_from_record(checkpoint.state["config"]), **given(arguments, CHANGEABLE))
    if checkpoint.step >= config.steps:
        raise UsageError(f"{arguments.out} has done all of its {config.steps} steps; give a larger --steps to go on")
    mixture_file = arguments.mixture or Path(checkpoint.state["mixture"]["file"])
    mixture = load_mixture(mixture_file, cache=cache_options(arguments))
    mixture = mixture.continued(checkpoint.state["loader"]["mixture"])
    _check(arguments, config, mixture, world)
    return Start(config, mixture, mixture_file, checkpoint)


def _check(arguments: argparse.Namespace, config: "TrainConfig", mixture: "Mixture", world: "World") -> None:
    """What does not fit together is found before a model of many gigabytes is loaded."""
    from oxe_pipeline.vla.metrics import check_wandb

    _check_mixture(config, mixture)
    _check_batch(config, world)
    if arguments.texts is not None:
        _check_learns_texts(config)
    if config.wandb:
        check_wandb()


def _check_mixture(config: "TrainConfig", mixture: "Mixture") -> None:
    idle = [dataset.name for dataset in mixture.datasets if not dataset.stream.manifest.action_slots]
    if idle:
        raise UsageError(f"no action slot in {', '.join(idle)}: nothing to learn there; leave out of the mixture")
    present = {name for dataset in mixture.datasets for name, count in dataset.stream.manifest.cameras.items() if count}
    if config.cameras and present and not present.intersection(config.cameras):
        raise UsageError(
            f"no data set of the mixture has a camera {' or '.join(config.cameras)}: the model would see nothing; "
            f"give --cameras of {', '.join(sorted(present))}"
        )


def _check_learns_texts(config: "TrainConfig") -> None:
    from oxe_pipeline.vla.model import learns_texts
    from oxe_pipeline.vla.presets import PRESETS

    if not learns_texts(config.model):
        able = [name for name, make in PRESETS.items() if learns_texts(make().model)]
        raise UsageError(
            f"--texts: backbone {config.model.backbone.kind} with head {config.model.head.kind} learns no texts; leave "
            f"them out, or use --preset {' or '.join(able)}"
        )


def _check_batch(config: "TrainConfig", world: "World") -> None:
    smallest_part = config.batch_size // world.size
    if smallest_part < config.micro_batches:
        raise UsageError(
            f"batch_size {config.batch_size} gives one of {world.size} ranks {smallest_part} samples, fewer than "
            f"micro_batches {config.micro_batches}; use a larger batch, or fewer micro-batches or ranks"
        )


@contextmanager
def _texts(arguments: argparse.Namespace, start: Start, world: "World"):
    """The stream of texts that was asked for, or None. A resumed run knows their share."""
    if arguments.texts is None:
        yield None
        return
    from oxe_pipeline.vla.text_examples import open_text_examples
    from oxe_pipeline.vla.text_stream import TextStream

    config, examples = start.config, open_text_examples(arguments.texts)
    if world.leads and (bad := examples.quarantined):
        print(f"texts: {len(bad)} of {len(bad) + len(examples)} set aside, the first: {bad[0]}", file=sys.stderr)
    saved = start.checkpoint.state["texts"] if start.checkpoint else None
    share = saved["share"] if saved else TEXT_SHARE
    texts = TextStream(
        examples,
        share=share if arguments.text_share is None else arguments.text_share,
        batch_size=config.batch_size,
        seed=config.seed,
        rank=world.rank,
        world_size=world.size,
        on_corrupt=config.on_corrupt,
    )
    with closing(texts):
        yield texts


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
    """A progress bar on stderr from the first step on; yields what to call with the metrics of each step."""
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
    bar = Progress(*columns, console=Console(stderr=True), disable=not shown)
    task = bar.add_task("train", total=steps, completed=done, loss=float("nan"), rate=0.0, wait=0.0)

    def on_step(record: dict) -> None:
        figures = {"loss": record["loss"], "rate": record["samples_per_s"], "wait": record["wait_share"]}
        bar.update(task, completed=record["step"], **figures)
        bar.start()

    try:
        yield on_step
    finally:
        if bar.live.is_started:
            bar.stop()


def main(argv: list[str] | None = None) -> int:
    """0 when all steps are done; 2 with one line on stderr for anything the user can put right."""
    arguments = parse(argv, description=(__doc__ or "").partition(":")[2].split(".")[0])
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        print(f"error: {INSTALL_HINT}", file=sys.stderr)
        return 2
    from oxe_pipeline.vla.train_loop import TrainingError

    try:
        run(arguments, dict(os.environ))
    except (ValueError, TrainingError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped(arguments.out), file=sys.stderr)
        return 130
    return 0


def stopped(out: Path) -> str:
    """What to tell somebody who stopped a run by Ctrl-C."""
    from oxe_pipeline.vla.checkpoint import list_checkpoints

    found = list_checkpoints(out)
    if not found:
        return f"stopped before the first checkpoint; nothing in {out} can be resumed"
    return f"stopped; give --out {out} --resume to go on from {found[-1].name}"


if __name__ == "__main__":
    sys.exit(main())
