"""The arguments of `python -m oxe_pipeline.train`, in groups. What a preset settles has no default here."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oxe_pipeline.cache_arguments import add_cache_arguments

DEVICES = ("auto", "cpu", "cuda")
TEXT_SHARE = 0.5
PRESET_NAMES = ("nano", "rt2", "palm_e", "openvla", "oft", "octo", "octo_base", "pi0", "pi0_fast")
"""Written out, so that --help need not load torch; oxe_pipeline/vla/presets.py makes them."""

SETTLED = (
    "batch_size",
    "chunk",
    "history",
    "normalizer",
    "goal_images",
    "chunk_s",
    "cameras",
    "camera_dropout",
    "lora_rank",
    "lora_alpha",
    "freeze",
    "learning_rate",
    "schedule",
    "warmup_steps",
    "weight_decay",
    "clip_norm",
    "ema_decay",
    "seed",
    "precision",
    "overfit_batch",
)
CHANGEABLE = (
    "steps",
    "micro_batches",
    "sharding",
    "activation_checkpointing",
    "compile",
    "on_corrupt",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_best",
    "evaluate_every",
    "evaluate_windows",
    "wandb",
)
"""Fields of TrainConfig that hold for a whole run, and those that a resumed run may be given anew."""


def parse(
    argv: list[str] | None,
    *,
    description: str,
    prog: str = "python -m oxe_pipeline.train",
    extend: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> argparse.Namespace:
    """`extend` adds the arguments of another command that trains."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    extend(parser)
    _add_run(parser.add_argument_group("run"))
    _add_model(parser.add_argument_group("model"))
    _add_data(parser.add_argument_group("data"))
    _add_optimisation(parser.add_argument_group("optimisation"))
    _add_machine(parser.add_argument_group("memory and machines: how it is computed, not what"))
    _add_records(parser.add_argument_group("evaluation, checkpoints and metrics"))
    add_cache_arguments(parser)
    return parser.parse_args(argv)


def given(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the options that the user typed, lists as tuples."""
    values = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mixture",
        type=Path,
        metavar="FILE",
        help="mixture file (python -m oxe_pipeline.mix --out); a resumed run has its own",
    )
    group.add_argument(
        "--preset", metavar="NAME", help=f"model and training settings: {', '.join(PRESET_NAMES)} (default: nano)"
    )
    group.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="run folder: new or empty, unless --resume"
    )
    group.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    group.add_argument(
        "--steps", type=int, metavar="N", help="optimiser steps of the whole run, those before a resume included"
    )
    _add_switch(group, "overfit-batch", "train on the first batch again and again: its loss must fall to nearly zero")


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backbone", metavar="SOURCE", help="pretrained backbone: a Hub name, or a directory in the Hub's form"
    )
    group.add_argument(
        "--tiny",
        action="store_true",
        default=None,
        help="random miniature of the preset's backbone, written to RUN/tiny: for tests",
    )
    group.add_argument("--chunk", type=int, metavar="N", help="actions predicted at once")
    group.add_argument("--history", type=int, metavar="N", help="observations given, the present one included")
    group.add_argument(
        "--lora-rank", type=int, metavar="R", help="train adapters of this rank beside the backbone's linear layers"
    )
    group.add_argument("--lora-alpha", type=float, metavar="A", help="adapters are scaled by A / R (preset's: 16)")
    group.add_argument(
        "--freeze",
        nargs="+",
        metavar="NAME",
        help="leave these parameters as they are; names or patterns like 'backbone.image_encoder.*'",
    )


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch-size", type=int, metavar="N", help="robot samples per step, over all ranks together")
    group.add_argument(
        "--normalizer", choices=("quantile", "mean_std", "min_max", "none"), help="how states and actions are scaled"
    )
    _add_switch(group, "augment", "random crops and colours, of the preset's strength where it has one")
    group.add_argument("--cameras", nargs="+", metavar="CAMERA", help="those to use (default: all there are)")
    group.add_argument("--camera-dropout", type=float, metavar="P", help="probability that a camera is blanked")
    _add_switch(group, "goal-images", "also an image from later in the episode, for models that take a goal")
    group.add_argument("--chunk-s", type=float, metavar="SECONDS", help="a chunk spans this time, at any robot's rate")
    group.add_argument("--on-corrupt", choices=("error", "substitute"), help="what an unreadable image does")
    group.add_argument(
        "--texts", metavar="FILE", help="also train on these prompts, images and answers: JSONL, or WebDataset tars"
    )
    group.add_argument(
        "--text-share", type=float, metavar="SHARE", help=f"of all samples of a step (default: {TEXT_SHARE})"
    )


def _add_optimisation(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--learning-rate", type=float, metavar="RATE", help="at its peak")
    group.add_argument(
        "--schedule",
        choices=("cosine", "constant", "rsqrt"),
        help="after warm-up: down by --steps, level, or with the inverse square root of the step",
    )
    group.add_argument("--warmup-steps", type=int, metavar="STEPS", help="of linear rise")
    group.add_argument("--weight-decay", type=float, metavar="DECAY", help="of matrices; not of norms and embeddings")
    group.add_argument("--clip-norm", type=float, metavar="NORM", help="longer gradients are cut to this length")
    group.add_argument("--ema-decay", type=float, metavar="DECAY", help="keep and evaluate averaged weights; 0: none")
    group.add_argument("--seed", type=int, help="of the initial weights; the order of samples has the mixture's seed")


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", choices=DEVICES, default="auto", help="default: a CUDA device where there is one")
    group.add_argument("--precision", choices=("fp32", "bf16"), help="bf16: mixed; weights themselves stay fp32")
    group.add_argument(
        "--micro-batches", type=int, metavar="N", help="work through a rank's batch in N pieces: less memory"
    )
    group.add_argument(
        "--sharding",
        choices=("ddp", "fsdp"),
        help="under torchrun: the whole model on every rank, or a part of each layer (FSDP2)",
    )
    _add_switch(group, "activation-checkpointing", "compute activations twice instead of keeping them: less memory")
    _add_switch(group, "compile", "torch.compile the backbone's layers")


def _add_records(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--evaluate-every", type=int, metavar="STEPS", help="0: only after the last step")
    group.add_argument("--evaluate-windows", type=int, metavar="N", help="held-out windows per data set, each time")
    group.add_argument("--checkpoint-every", type=int, metavar="STEPS", help="one is always written at the end")
    group.add_argument("--keep-checkpoints", type=int, metavar="N", help="the newest ones")
    _add_switch(group, "keep-best", "also keep the checkpoint with the least held-out error, named in RUN/best.json")
    group.add_argument("--wandb", metavar="PROJECT", help="also send metrics there (pip install wandb)")


def _add_switch(group: argparse._ArgumentGroup, name: str, meaning: str) -> None:
    """--name and --no-name; neither leaves it to the preset."""
    group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=None, help=meaning)
