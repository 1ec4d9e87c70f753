"""Checkpoints: all that a run needs to go on with the very next sample, in a folder that is there whole or not at all.

    RUN/checkpoints/step_00000300/
        model.safetensors       weights as trained
        average.safetensors     exponential moving average of them, where the run keeps one
        training.pt             optimiser, scheduler, random generators: tensors and numbers, read with weights_only
        state.json              step, stream state, configuration, normalisers, mixture, versions, sizes of the others

A checkpoint is written under a temporary name, flushed to disk, then renamed; a reader only ever looks at final names.
The price is that the newest checkpoint and the one being written lie on disk together with the `keep` older ones.
torch is loaded with tensors only: commands that read a run's state start without it.
"""

import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CHECKPOINTS = "checkpoints"
CHECKPOINT_FORMAT = 1
_PREFIX, _PART = "step_", ".part"
_WEIGHTS, _AVERAGE, _TRAINING, _STATE = "model.safetensors", "average.safetensors", "training.pt", "state.json"


class CheckpointError(ValueError):
    """A checkpoint that is missing or cannot be read: where, what, and the remedy, in one line."""


@dataclass(kw_only=True, slots=True)
class Checkpoint:
    """The content of one checkpoint. `state` is JSON: see train_loop for its keys."""

    step: int
    """Optimiser steps done."""
    weights: "dict[str, torch.Tensor]"
    average: "dict[str, torch.Tensor] | None"
    training: dict
    """State dictionaries of optimiser and scheduler, and the random generators' states."""
    state: dict


def save_checkpoint(run: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes the checkpoint, then removes all but the `keep` newest; returns its folder. Atomic against kill and power
    cut.
    """
    import torch
    from safetensors.torch import save_file

    parent = run / CHECKPOINTS
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(run)
    final = parent / f"{_PREFIX}{checkpoint.step:08d}"
    part = parent / f".{final.name}.{os.getpid()}{_PART}"
    part.mkdir()
    save_file({name: value.contiguous() for name, value in checkpoint.weights.items()}, part / _WEIGHTS)
    if checkpoint.average is not None:
        save_file({name: value.contiguous() for name, value in checkpoint.average.items()}, part / _AVERAGE)
    torch.save(checkpoint.training, part / _TRAINING)
    sizes = {path.name: path.stat().st_size for path in sorted(part.iterdir())}
    state = {
        "format": CHECKPOINT_FORMAT,
        "step": checkpoint.step,
        "files": sizes,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        **checkpoint.state,
    }
    (part / _STATE).write_text(json.dumps(state, indent=1))
    for path in part.iterdir():
        _flush(path)
    _flush(part)
    if final.exists():
        _remove(final)
    os.rename(part, final)
    _flush(parent)
    for old in list_checkpoints(run)[:-keep]:
        _remove(old)
    return final


def list_checkpoints(run: Path) -> list[Path]:
    """Folders of complete checkpoints, oldest first."""
    return sorted(path for path in (run / CHECKPOINTS).glob(f"{_PREFIX}*") if path.is_dir())


def latest_checkpoint(run: Path) -> Path:
    """The newest complete checkpoint of a run, or the folder itself when it is one; CheckpointError for none."""
    if (run / _STATE).is_file():
        return run
    found = list_checkpoints(run)
    if not found:
        raise CheckpointError(
            f"{run}: no checkpoint in {CHECKPOINTS}/; train with `python -m oxe_pipeline.train --out {run}`"
        )
    return found[-1]


def read_state(folder: Path) -> dict:
    """state.json of a checkpoint, after checking that every other file has its size. CheckpointError says what does not
    hold.
    """
    try:
        state = json.loads((folder / _STATE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder / _STATE}: cannot be read ({error}); remove this checkpoint to use an older one"
        ) from None
    if state.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{folder}: checkpoint format {state.get('format')!r}, this version reads {CHECKPOINT_FORMAT}"
        )
    for name, size in state["files"].items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            raise CheckpointError(
                f"{path}: {found} bytes, should be {size}; remove this checkpoint to use an older one"
            )
    return state


def load_checkpoint(folder: Path, *, device: "torch.device | str" = "cpu") -> Checkpoint:
    """Everything in the checkpoint at `folder`. Runs no code from the files: safetensors, JSON, and tensors by
    weights_only.
    """
    import torch
    from safetensors.torch import load_file

    state = read_state(folder)
    average = load_file(folder / _AVERAGE, device=str(device)) if (folder / _AVERAGE).is_file() else None
    return Checkpoint(
        step=state["step"],
        weights=load_file(folder / _WEIGHTS, device=str(device)),
        average=average,
        training=torch.load(folder / _TRAINING, map_location=device, weights_only=True),
        state=state,
    )


def load_weights(folder: Path, *, device: "torch.device | str" = "cpu") -> "dict[str, torch.Tensor]":
    """The weights to use for acting: the averaged ones where there are any."""
    from safetensors.torch import load_file

    read_state(folder)
    name = _AVERAGE if (folder / _AVERAGE).is_file() else _WEIGHTS
    return load_file(folder / name, device=str(device))


def remove_leftovers(run: Path) -> None:
    """Deletes what killed processes left half-written or half-deleted."""
    for path in (run / CHECKPOINTS).glob(f".{_PREFIX}*{_PART}"):
        shutil.rmtree(path)


def _remove(folder: Path) -> None:
    """Takes a checkpoint out of sight in one step, then deletes it, so that none is ever seen half-deleted."""
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}.old{_PART}")
    os.rename(folder, hidden)
    shutil.rmtree(hidden)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
