"""Held-out error of a model in real units, per data set and slot, beside two predictions that need no model.

The baselines say whether anything was learnt: the mean action of the train split, and the action before the present one
repeated (at an episode's first step: the mean). Targets are read from the stream itself, in their units; only
predictions pass through the Normalizer's inverse. Errors are open loop: they rank checkpoints, they do not foretell
success rates.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

from oxe_pipeline.loader.loader import make_eval_loader
from oxe_pipeline.loader.scaling import stream_normalizer
from oxe_pipeline.mixture.mixture import Mixture, MixtureDataset
from oxe_pipeline.stats.normalizer import Normalizer, is_passed_through
from oxe_pipeline.vla.model import VLA, to_device
from schemas.slots import ACTION_NAMES, slot_unit
from schemas.spec_parts import slot_indices

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
    episodes: int
    windows: int
    token_accuracy: float | None = None
    """Share of tokens predicted right, given the true ones before them."""
    error_of_range: dict[str, float] | None = None
    """Predictor -> mean absolute error over all normalised slots, as a share of the slot's range in training
    (q01..q99).
    """
    slots: tuple[SlotResult, ...] = ()


class _Sums:
    """Running sums over the windows of one data set."""

    def __init__(self, dataset: MixtureDataset, normalizer: Normalizer):
        manifest = dataset.stream.manifest
        self.dataset, self.normalizer = dataset, normalizer
        self.slots = np.array(manifest.action_slots)
        names = [ACTION_NAMES[slot] for slot in self.slots]
        self.binary = np.array([is_passed_through(name) for name in names])
        self.mean = np.array([manifest.statistics["action"][name]["mean"] for name in names])
        self.totals = {name: np.zeros(len(self.slots)) for name in PREDICTORS}
        self.steps = self.windows = 0
        self.token_accuracy = 0.0
        self.episodes: set[int] = set()

    def add(self, episode: int, step: int, predicted: np.ndarray, token_accuracy: float) -> None:
        """One window: `predicted` is the normalised chunk [chunk, 32]."""
        actions = self.dataset.stream.vector("action", episode)
        target = actions[step : step + len(predicted)].astype(np.float64)
        guesses = {
            "model": self.normalizer.inverse(predicted)[: len(target), self.slots],
            "mean_action": self.mean,
            "previous_action": actions[step - 1] if step else self.mean,
        }
        for name, guess in guesses.items():
            right = (guess > 0.5) == (target > 0.5)
            self.totals[name] += np.where(self.binary, right, np.abs(guess - target)).sum(0)
        self.steps += len(target)
        self.windows += 1
        self.token_accuracy += token_accuracy
        self.episodes.add(episode)

    def result(self) -> DatasetResult:
        if not self.windows:
            return DatasetResult(dataset=self.dataset.name, episodes=0, windows=0)
        means = {name: total / self.steps for name, total in self.totals.items()}
        units = action_units(self.dataset)
        rows = [
            SlotResult(
                name=ACTION_NAMES[slot],
                unit=units[ACTION_NAMES[slot]],
                measure="accuracy" if self.binary[i] else "mean absolute error",
                **{name: float(values[i]) for name, values in means.items()},
            )
            for i, slot in enumerate(self.slots)
        ]
        scaled = self.normalizer.normalised[self.slots]
        ranges = 2 * self.normalizer.scale[self.slots][scaled]
        shares = (
            {name: float((values[scaled] / ranges).mean()) for name, values in means.items()} if scaled.any() else None
        )
        return DatasetResult(
            dataset=self.dataset.name,
            episodes=len(self.episodes),
            windows=self.windows,
            token_accuracy=self.token_accuracy / self.windows,
            error_of_range=shares,
            slots=tuple(rows),
        )


def action_units(dataset: MixtureDataset) -> dict[str, str]:
    """Action slot name -> unit; "source" where the data set's spec says that no source states it."""
    units = {name: slot_unit(name) for name in ACTION_NAMES}
    for channel in dataset.stream.manifest.spec.get("action", []):
        if channel.get("unit", "source") == "source":
            units.update({ACTION_NAMES[slot]: "source" for slot in slot_indices(channel["slots"], "action")})
    return units


def evaluate(
    model: VLA,
    mixture: Mixture,
    normalizers: Mapping[str, Mapping[str, Normalizer]],
    *,
    split: str = "val",
    max_windows: int | None = None,
) -> list[DatasetResult]:
    """One result per data set of the mixture, in its order; windows of the split, each once, `max_windows` per data
    set.

    `normalizers` maps each data set to the Normalizers of "action" and "state" that the model was trained with. Raises
    ValueError for a data set without them, or whose stream's statistics are no longer those: its inputs would be scaled
    otherwise than in training. The model is left in the mode it was in.
    """
    for dataset in mixture.datasets:
        if dataset.name not in normalizers:
            raise ValueError(f"data set {dataset.name} was not trained on; there are {', '.join(sorted(normalizers))}")
        for vector, normalizer in normalizers[dataset.name].items():
            if stream_normalizer(dataset.stream, vector).to_dict() != normalizer.to_dict():
                raise ValueError(
                    f"data set {dataset.name}: the {vector} statistics of {dataset.stream.path} differ from those of "
                    "the training run; evaluate on the stream it was trained on"
                )
    sums = [_Sums(dataset, normalizers[dataset.name]["action"]) for dataset in mixture.datasets]
    if not any(dataset.stream.episodes.split_is(split).any() for dataset in mixture.datasets):
        return [entry.result() for entry in sums]
    loader = make_eval_loader(
        mixture,
        batch_size=EVALUATION_BATCH,
        split=split,
        max_windows_per_dataset=max_windows,
        chunk=model.config.chunk,
        history=model.config.history,
        image_size=model.backbone.image_size,
    )
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    with torch.no_grad():
        for batch in loader:
            batch = to_device(batch, device)
            accuracy = model(batch).metrics["token_accuracy"].tolist()
            predicted = model.predict(batch).cpu().numpy()
            places = zip(batch["dataset"].tolist(), batch["episode"].tolist(), batch["step"].tolist(), strict=True)
            for row, (dataset, episode, step) in enumerate(places):
                sums[dataset].add(episode, step, predicted[row], accuracy[row])
    model.train(was_training)
    return [entry.result() for entry in sums]


def results_record(results: list[DatasetResult]) -> dict:
    """Results as JSON: data set -> its numbers, slots by name."""
    record = {}
    for result in results:
        values = asdict(result)
        values["slots"] = {slot.pop("name"): slot for slot in map(dict, values["slots"])}
        record[values.pop("dataset")] = values
    return record


def training_record(results: list[DatasetResult]) -> dict:
    """The model's own numbers, for the metrics of a run: data set -> token accuracy, share of range, one value per
    slot.
    """
    return {
        result.dataset: {
            "windows": result.windows,
            "token_accuracy": result.token_accuracy,
            "error_of_range": result.error_of_range["model"] if result.error_of_range else None,
            **{f"{slot.name} [{_dimension(slot)}]": slot.model for slot in result.slots},
        }
        for result in results
        if result.windows
    }


def _dimension(slot: SlotResult) -> str:
    return "accuracy" if slot.measure == "accuracy" else slot.unit
