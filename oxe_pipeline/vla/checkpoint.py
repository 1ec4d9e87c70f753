"""Checkpoints: all that a run needs to go on with the very next sample, in a folder that is there whole or not at all.

    RUN/checkpoints/step_00000300/
        model.safetensors       weights as trained
        average.safetensors     exponential moving average of them, where the run keeps one
        frozen.safetensors      weights that no step changes, where there are any: one file, linked into each checkpoint
        training.pt             optimiser, scheduler, random generators: tensors and numbers, read with weights_only
        backbone/               tokeniser, image settings and sizes of a pretrained backbone: no other source is needed
        state.json              step, stream state, configuration, normalisers, mixture, versions, sizes of the others
    RUN/best.json               step and held-out error of the best checkpoint, where the run keeps it

A checkpoint is written under a temporary name, flushed to disk, then renamed; a reader only ever looks at final names.
The price is that the newest checkpoint and the one being written lie on disk together with the `keep` older ones; of
frozen weights there is one copy for all (a LoRA run of 7 B has them by the gigabyte).
torch is loaded with tensors only: commands that read a run's state start without it.
"""

import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from oxe_pipeline.stream.format import write_whole

if TYPE_CHECKING:
    import torch

CHECKPOINTS = "checkpoints"
CHECKPOINT_FORMAT = 2
BEST = "best.json"
_PREFIX, _PART = "step_", ".part"
_WEIGHTS, _AVERAGE, _FROZEN = "model.safetensors", "average.safetensors", "frozen.safetensors"
_TRAINING, _STATE, _PARTS = "training.pt", "state.json", "backbone"


class CheckpointError(ValueError):
    """A checkpoint that is missing or cannot be read: where, what, and the remedy, in one line."""


@dataclass(kw_only=True, slots=True)
class Checkpoint:
    """The content of one checkpoint. `state` is JSON: see train_loop for its keys."""

    step: int
    """Optimiser steps done."""
    weights: "dict[str, torch.Tensor]"
    """Those that training changes."""
    average: "dict[str, torch.Tensor] | None"
    """The same, averaged."""
    frozen: "dict[str, torch.Tensor] | None"
    """The others; None in one to be saved: as in the run's checkpoints so far (`frozen_file`)."""
    training: dict
    """State dictionaries of optimiser and scheduler, and the random generators' states."""
    state: dict
    parts: Path | None = None
    """Folder with the backbone's parts, of a checkpoint that was loaded."""


def save_checkpoint(
    run: Path, checkpoint: Checkpoint, *, keep: int, save_parts: Callable[[Path], None] | None = None
) -> Path:
    """Writes the checkpoint, then removes all but the `keep` newest and the best; returns its folder. Atomic against
    kill and power cut.

    `save_parts` writes the backbone's parts into the folder it is given. The best is the one of step
    `state["best"]["step"]`, where the state has that; best.json then says so.
    """
    import torch

    parent = run / CHECKPOINTS
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(run)
    final = _folder(run, checkpoint.step)
    part = parent / f".{final.name}.{os.getpid()}{_PART}"
    part.mkdir()
    _save_weights(checkpoint.weights, part / _WEIGHTS)
    if checkpoint.average is not None:
        _save_weights(checkpoint.average, part / _AVERAGE)
    if checkpoint.frozen:
        _save_weights(checkpoint.frozen, part / _FROZEN)
    elif checkpoint.frozen is None:
        _share(frozen_file(run), part / _FROZEN)
    torch.save(checkpoint.training, part / _TRAINING)
    _finish(part, final, {"step": checkpoint.step, **checkpoint.state}, save_parts)
    best = checkpoint.state.get("best")
    if best:
        write_whole(run / BEST, json.dumps(best).encode())
    for old in list_checkpoints(run)[:-keep]:
        if not best or old != _folder(run, best["step"]):
            _remove(old)
    return final


def save_for_acting(
    folder: Path, weights: "dict[str, torch.Tensor]", state: dict, *, save_parts: Callable[[Path], None]
) -> None:
    """Writes a checkpoint that can be acted with but not trained on, at `folder`: new or empty. Atomic as the others.

    `state` is that of a checkpoint, "step" included.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}{_PART}")
    part.mkdir(parents=True)
    _save_weights(weights, part / _WEIGHTS)
    _finish(part, folder, state, save_parts)


def frozen_file(run: Path) -> Path | None:
    """The weights that no step changes, in the newest checkpoint that has them; None for a run that has none so far."""
    return next((path for folder in reversed(list_checkpoints(run)) if (path := folder / _FROZEN).is_file()), None)


def _save_weights(weights: "dict[str, torch.Tensor]", path: Path) -> None:
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    path.chmod(mode)  # safetensors writes files that only their owner may read, whatever the umask says.


def _share(source: Path | None, path: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    if source is None:
        raise CheckpointError(f"{path}: no earlier checkpoint of this run holds its frozen weights; save them as well")
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _finish(part: Path, final: Path, state: dict, save_parts: Callable[[Path], None] | None) -> None:
    """Completes the folder `part` by the backbone's parts and state.json, and gives it its final name."""
    (part / _PARTS).mkdir()
    if save_parts is not None:
        save_parts(part / _PARTS)
    files = [path for path in sorted(part.rglob("*")) if path.is_file()]
    own = {
        "format": CHECKPOINT_FORMAT,
        "files": {path.relative_to(part).as_posix(): path.stat().st_size for path in files},
        "versions": {"python": platform.python_version(), "torch": metadata.version("torch")},
    }
    (part / _STATE).write_text(json.dumps({**state, **own}, indent=1))
    for path in (*part.rglob("*"), part):
        _flush(path)
    if final.exists():
        _remove(final)
    os.rename(part, final)
    _flush(final.parent)


def best_checkpoint(run: Path) -> Path:
    """The checkpoint with the least held-out error; CheckpointError for a run that did not keep one."""
    try:
        best = json.loads((run / BEST).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{run / BEST}: cannot be read ({error}); train with --keep-best") from None
    return _folder(run, best["step"])


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
            f"{run}: no checkpoint in {CHECKPOINTS}/; train with `python -m oxe_pipeline.train` and --out another "
            "folder, or delete this one if it is of a run that stopped before its first --checkpoint-every"
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
            f"{folder}: checkpoint format {state.get('format')!r}, this version reads {CHECKPOINT_FORMAT}; train anew, "
            "or use the version of the package that wrote it"
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
    if not (folder / _TRAINING).is_file():
        raise CheckpointError(f"{folder}: made for acting; training goes on from the run that it was made from")
    average = load_file(folder / _AVERAGE, device=str(device)) if (folder / _AVERAGE).is_file() else None
    return Checkpoint(
        step=state["step"],
        weights=load_file(folder / _WEIGHTS, device=str(device)),
        average=average,
        frozen=_load_frozen(folder, device),
        training=torch.load(folder / _TRAINING, map_location=device, weights_only=True),
        state=state,
        parts=parts_folder(folder),
    )


def load_weights(folder: Path, *, device: "torch.device | str" = "cpu") -> "dict[str, torch.Tensor]":
    """All weights to use for acting: the averaged ones where there are any."""
    from safetensors.torch import load_file

    read_state(folder)
    name = _AVERAGE if (folder / _AVERAGE).is_file() else _WEIGHTS
    return _load_frozen(folder, device) | load_file(folder / name, device=str(device))


def _load_frozen(folder: Path, device: "torch.device | str") -> "dict[str, torch.Tensor]":
    from safetensors.torch import load_file

    return load_file(folder / _FROZEN, device=str(device)) if (folder / _FROZEN).is_file() else {}


def parts_folder(folder: Path) -> Path:
    """Where a checkpoint keeps the parts of its backbone."""
    return folder / _PARTS


def remove_leftovers(run: Path) -> None:
    """Deletes what killed processes left half-written or half-deleted."""
    for path in (run / CHECKPOINTS).glob(f".{_PREFIX}*{_PART}"):
        shutil.rmtree(path)


def _folder(run: Path, step: int) -> Path:
    return run / CHECKPOINTS / f"{_PREFIX}{step:08d}"


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
