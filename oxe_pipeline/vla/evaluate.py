"""Held-out error of a model in real units, per data set and slot, beside two predictions that need no model.

The baselines say whether anything was learnt: the mean action of the train split, and the action before the present one
repeated (at an episode's first step: the mean). Targets are read from the stream itself, in their units; only
predictions pass through the Normalizer's inverse. Errors are open loop: they rank checkpoints, they do not foretell
success rates.
"""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from oxe_pipeline.loader.augment import AugmentOptions, centre_crop
from oxe_pipeline.loader.held_out import EvalLoader
from oxe_pipeline.loader.loader import make_eval_loader
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.vla.action_errors import ActionSpace, DistanceSum, Normalizers, check_normalizers
from oxe_pipeline.vla.distributed import World
from oxe_pipeline.vla.model import VLA, to_device

EVALUATION_BATCH = 64
PREDICTORS = ("model", "mean_action", "previous_action")


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotResult:
    """One slot of one data set. `measure` is "mean absolute error" in `unit`, or "accuracy" where values are 0 or 1."""

    name: str
    unit: str
    measure: str
    model: float
    mean_action: float
    previous_action: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetResult:
    """Results over the held-out windows of one data set; without any, `windows` is 0 and there are no numbers."""

    dataset: str
    task_mode: str = "text"
    """By what the model was told its task: "text", "goal" (an image of it) or "both"."""
    episodes: int
    windows: int
    loss: float | None = None
    """The head's own, mean over windows."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What else the head measures, mean over windows: token_accuracy (the share of tokens predicted right, given the
    true ones before them) of those that predict tokens."""
    error_of_range: dict[str, float] | None = None
    """Predictor -> mean absolute error over all slots that have a range, as a share of it (q01..q99 in training)."""
    error_by_position: tuple[float, ...] | None = None
    """The model's, for each position in the chunk: later actions are further from what was seen."""
    slots: tuple[SlotResult, ...] = ()


class _Tally:
    """Running sums over the windows of one data set."""

    def __init__(self, space: ActionSpace, task_mode: str):
        self.space, self.task_mode = space, task_mode
        self.errors = {name: DistanceSum(space) for name in PREDICTORS}
        self.windows, self.loss = 0, 0.0
        self.metrics: dict[str, float] = {}
        self.episodes: set[int] = set()

    def add(self, episode: int, step: int, predicted: np.ndarray, loss: float, metrics: dict[str, float]) -> None:
        """One window: `predicted` is the normalised chunk [chunk, 32]."""
        window = self.space.window(episode, step)
        guesses = {
            "model": self.space.in_units(predicted, window),
            "mean_action": self.space.mean * window.steps,
            "previous_action": window.previous,
        }
        for name, guess in guesses.items():
            self.errors[name].add(np.broadcast_to(guess, window.target.shape), window.target, window)
        self._count(1, loss, metrics, {episode})

    def _count(self, windows: int, loss: float, metrics: dict[str, float], episodes: set[int]) -> None:
        self.windows += windows
        self.loss += loss
        for name, value in metrics.items():
            self.metrics[name] = self.metrics.get(name, 0.0) + value
        self.episodes |= episodes

    def sums(self) -> tuple:
        """All that was counted, to be added to another rank's by `add_sums`."""
        errors = {name: total.sums for name, total in self.errors.items()}
        return errors, (self.windows, self.loss, self.metrics, self.episodes)

    def add_sums(self, sums: tuple) -> None:
        errors, counts = sums
        for name, total in errors.items():
            self.errors[name].add_sums(total)
        self._count(*counts)

    def result(self) -> DatasetResult:
        space, windows = self.space, self.windows
        if not windows:
            return DatasetResult(dataset=space.dataset.name, task_mode=self.task_mode, episodes=0, windows=0)
        means = {name: errors.per_slot() for name, errors in self.errors.items()}
        slots = [
            SlotResult(
                name=name,
                unit=unit,
                measure="accuracy" if space.binary[i] else "mean absolute error",
                **{who: float(1 - values[i] if space.binary[i] else values[i]) for who, values in means.items()},
            )
            for i, (name, unit) in enumerate(zip(space.names, space.units, strict=True))
        ]
        shares = {name: share for name, errors in self.errors.items() if (share := errors.of_range()) is not None}
        return DatasetResult(
            dataset=space.dataset.name,
            task_mode=self.task_mode,
            episodes=len(self.episodes),
            windows=windows,
            loss=self.loss / windows,
            metrics={name: value / windows for name, value in self.metrics.items()},
            error_of_range=shares or None,
            error_by_position=self.errors["model"].of_range_by_position(),
            slots=tuple(slots),
        )


def evaluate(
    model: VLA,
    mixture: Mixture,
    normalizers: Normalizers,
    *,
    options: Mapping[str, Any] | None = None,
    augment: AugmentOptions | None = None,
    split: str = "val",
    max_windows: int | None = None,
    world: World | None = None,
) -> list[DatasetResult]:
    """One result per data set of the mixture, in its order; windows of the split, each once, `max_windows` per data
    set. A model that takes goal images besides texts gets one result per data set and task mode, modes outermost.

    `normalizers` maps each data set to the Normalizers of "action" and "state" that the model was trained with,
    `options` are what else its batches had (`TrainConfig.batch_options`), `augment` how its images were changed: it is
    given the middle of them (see `centre_crop`). Raises ValueError for a data set without
    normalizers, or whose stream's statistics are no longer those: its inputs would be scaled otherwise than in
    training. The model is left in the mode it was in. The ranks of a `world` share the windows, and all get the results
    of all.
    """
    world = world or World()
    held_out = functools.partial(
        held_out_loader, model, mixture, normalizers, options=options, split=split, max_windows=max_windows
    )
    loader, counts = held_out(world=world), True
    if not min(world.gather(len(loader.samples) if loader else 0)):  # Fewer windows than ranks: the first has them all.
        loader, counts = held_out(), world.leads
    spaces = action_spaces(model, mixture, normalizers, options)
    num_batches = max(world.gather(len(loader or ())))
    results = []
    for task_mode in task_modes(options):
        own, total = ([_Tally(space, task_mode) for space in spaces] for _ in range(2))
        with acting(model):
            for batch, is_new in _padded(held_out_batches(model, loader, task_mode, augment=augment), num_batches):
                output, predicted = model(batch), model.predict(batch).float().cpu().numpy()
                if not (is_new and counts):
                    continue
                metrics = {name: value.tolist() for name, value in output.metrics.items()}
                for row, (place, loss) in enumerate(zip(places(batch), output.loss_B.tolist(), strict=True)):
                    of_row = {name: values[row] for name, values in metrics.items()}
                    own[place[0]].add(*place[1:], predicted[row], loss, of_row)
        for of_rank in world.gather([tally.sums() for tally in own]):
            for tally, sums in zip(total, of_rank, strict=True):
                tally.add_sums(sums)
        results += [tally.result() for tally in total]
    return results


def _padded(batches: Iterator[dict], count: int) -> Iterator[tuple[dict, bool]]:
    """The batches, and the last one again until there were `count`; with each whether it is new. Ranks run a sharded
    model together, and one may have a batch more than another.
    """
    batch: dict = {}
    for batch in batches:
        count -= 1
        yield batch, True
    for _ in range(count):
        yield batch, False


def task_modes(options: Mapping[str, Any] | None) -> tuple[str, ...]:
    """How a model is told its task: by text alone, or by goal images too where its batches had them in training."""
    return ("text", "goal", "both") if (options or {}).get("goal_images") else ("text",)


def held_out_loader(
    model: VLA,
    mixture: Mixture,
    normalizers: Normalizers,
    *,
    options: Mapping[str, Any] | None = None,
    split: str = "val",
    max_windows: int | None = None,
    world: World | None = None,
) -> EvalLoader | None:
    """The held-out windows as the model is to see them, in a `world` this rank's part of them; None where the split is
    empty. ValueError as `evaluate`.
    """
    normalizer = check_normalizers(mixture, normalizers)
    if not any(dataset.stream.episodes.split_is(split).any() for dataset in mixture.datasets):
        return None
    own = {
        "chunk": model.config.chunk,
        "history": model.config.history,
        "image_size": model.backbone.image_size,
        "normalizer": normalizer,
    }
    return make_eval_loader(
        mixture,
        batch_size=EVALUATION_BATCH,
        split=split,
        max_windows_per_dataset=max_windows,
        rank=world.rank if world else 0,
        world_size=world.size if world else 1,
        **{**(options or {}), **own},
    )


def action_spaces(
    model: VLA, mixture: Mixture, normalizers: Normalizers, options: Mapping[str, Any] | None = None
) -> list[ActionSpace]:
    """Of each data set of the mixture, for chunks as the model predicts them."""
    chunk_s = (options or {}).get("chunk_s")
    return [
        ActionSpace(dataset, normalizers[dataset.name]["action"], chunk=model.config.chunk, chunk_s=chunk_s)
        for dataset in mixture.datasets
    ]


def held_out_batches(
    model: VLA, loader: EvalLoader | None, task_mode: str, *, augment: AugmentOptions | None
) -> Iterator[dict]:
    """The loader's batches on the model's device, as one trained with `augment` sees them; none without a loader."""
    device = next(model.parameters()).device
    for batch in loader or ():
        yield centre_crop(to_device({**batch, "task_mode": task_mode}, device), options=augment)


def places(batch: dict) -> list[tuple[int, int, int]]:
    """Data set, episode and step of each sample."""
    return list(zip(*(batch[name].tolist() for name in ("dataset", "episode", "step")), strict=True))


@contextmanager
def acting(model: VLA) -> Iterator[None]:
    """The model in evaluation mode and without gradients; afterwards in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def results_record(results: list[DatasetResult]) -> dict:
    """Results as JSON: data set -> its numbers, slots by name; a model with several task modes: "data set (mode)"."""
    record = {}
    for result in results:
        values = asdict(result)
        values["slots"] = {slot.pop("name"): slot for slot in map(dict, values["slots"])}
        record[_title(result)] = values
        del values["dataset"]
    return record


def training_record(results: list[DatasetResult]) -> dict:
    """The model's own numbers, for the metrics of a run: data set -> loss, the head's metrics, share of range, one
    value per slot.
    """
    return {
        _title(result): {
            "windows": result.windows,
            "loss": result.loss,
            **result.metrics,
            "error_of_range": result.error_of_range["model"] if result.error_of_range else None,
            **{f"{slot.name} [{_dimension(slot)}]": slot.model for slot in result.slots},
        }
        for result in results
        if result.windows
    }


def _title(result: DatasetResult) -> str:
    return result.dataset if result.task_mode == "text" else f"{result.dataset} ({result.task_mode})"


def _dimension(slot: SlotResult) -> str:
    return "accuracy" if slot.measure == "accuracy" else slot.unit
