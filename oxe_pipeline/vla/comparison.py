"""Two models on the same held-out windows: error in real units, difference of their actions, latency, size.

What decides whether a variant (fewer bits, merged adapters, a distilled student) may take its original's place.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import numpy as np
import torch
from rich.table import Table

from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.terminal import table
from oxe_pipeline.vla.action_errors import ActionSpace, DistanceSum
from oxe_pipeline.vla.evaluate import acting, held_out_batches, held_out_loader, places
from oxe_pipeline.vla.latency import Latency, first_sample, measure_latency, weight_bytes
from oxe_pipeline.vla.model import VLA
from oxe_pipeline.vla.trained import TrainedModel

BASELINES = ("mean_action", "previous_action")


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotComparison:
    """One slot of one data set, in its unit; shares of wrong and of differing decisions where values are 0 or 1."""

    name: str
    unit: str
    errors: dict[str, float]
    """Model or baseline -> mean absolute error."""
    difference: float
    """Mean absolute difference between the actions of the last model and the first."""
    largest_difference: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetComparison:
    dataset: str
    windows: int
    errors_of_range: dict[str, float]
    """Model or baseline -> mean absolute error over the slots that have a range, as a share of it."""
    difference_of_range: float | None
    slots: tuple[SlotComparison, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFigures:
    latency: Latency
    weight_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """`models` gives the figures of each by name, the one to measure against first."""

    device: str
    models: dict[str, ModelFigures]
    datasets: tuple[DatasetComparison, ...]

    @property
    def error_growth(self) -> float:
        """By which share of the first model's error the last one's is larger, both as means over data sets of shares
        of range; negative where it is smaller. Data sets without a held-out window or a slot with a range do not
        count."""
        first, *_, last = self.models
        pairs = [(d.errors_of_range[first], d.errors_of_range[last]) for d in self.datasets if d.errors_of_range]
        before, after = (sum(column) for column in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
        return after / before - 1 if before else 0.0


class _Tally:
    """Distances of one data set, over the first actions that the chunks of all models have."""

    def __init__(self, spaces: dict[str, ActionSpace]):
        self.spaces, self.windows = spaces, 0
        self.own = next(iter(spaces.values()))
        self.errors = {name: DistanceSum(self.own) for name in (*spaces, *BASELINES)}
        self.difference = DistanceSum(self.own)
        self.largest = np.zeros(len(self.own.slots))

    def add(self, episode: int, step: int, chunks: dict[str, np.ndarray]) -> None:
        """One window: the normalised chunk [chunk, 32] of each model."""
        window = self.own.window(episode, step)
        guesses = {name: space.in_units(chunks[name], window) for name, space in self.spaces.items()}
        first, *_, last = guesses.values()
        self.difference.add(first, last, window)
        self.largest = np.maximum(self.largest, self.own.distance(first, last).max(0, initial=0.0))
        guesses |= {"mean_action": self.own.mean * window.steps, "previous_action": window.previous}
        for name, guess in guesses.items():
            self.errors[name].add(np.broadcast_to(guess, window.target.shape), window.target, window)
        self.windows += 1

    def result(self) -> DatasetComparison:
        errors = {name: total.per_slot() for name, total in self.errors.items()}
        difference, own = self.difference.per_slot(), self.own
        return DatasetComparison(
            dataset=own.dataset.name,
            windows=self.windows,
            errors_of_range={name: s for name, total in self.errors.items() if (s := total.of_range()) is not None},
            difference_of_range=self.difference.of_range(),
            slots=tuple(
                SlotComparison(
                    name=name,
                    unit="1" if own.binary[i] else own.units[i],
                    errors={who: float(values[i]) for who, values in errors.items()},
                    difference=float(difference[i]),
                    largest_difference=float(self.largest[i]),
                )
                for i, name in enumerate(own.names)
            ),
        )


def compare(
    models: Mapping[str, TrainedModel], mixture: Mixture, *, split: str = "val", max_windows: int | None = None
) -> Comparison:
    """The first of the named models beside the last (and any between) on the held-out windows of the mixture.

    Each gets the batches that it was trained for; chunks are compared as far as all have them. All models must be on
    one device. ValueError as `evaluate`, for a mixture without held-out windows, and for actions that last unequal
    times.
    """
    loaders, spaces = {}, {}
    chunk = min(trained.config.model.chunk for trained in models.values())
    for name, trained in models.items():
        options = trained.config.batch_options(image_size=trained.model.backbone.image_size)
        loaders[name] = held_out_loader(
            trained.model, mixture, trained.normalizers, options=options, split=split, max_windows=max_windows
        )
        spaces[name] = [
            ActionSpace(dataset, trained.normalizers[dataset.name]["action"], chunk=chunk, chunk_s=seconds)
            for seconds in [_chunk_s(trained, chunk)]
            for dataset in mixture.datasets
        ]
    if any(loader is None for loader in loaders.values()):
        raise ValueError(f"no held-out episode (split {split!r}) to measure by; give a mixture that has some")
    if len({_chunk_s(trained, chunk) for trained in models.values()}) > 1:
        raise ValueError("the models' actions last unequal times (chunk_s / chunk); they cannot be compared")
    tallies = [_Tally({name: spaces[name][i] for name in models}) for i in range(len(mixture.datasets))]
    batches = [
        held_out_batches(models[name].model, loader, "text", augment=models[name].config.augment)
        for name, loader in loaders.items()
    ]
    sample: dict[str, dict] = {}
    with ExitStack() as stack:
        for trained in models.values():
            stack.enter_context(acting(trained.model))
        for parts in zip(*batches, strict=True):
            given = dict(zip(models, parts, strict=True))
            sample = sample or {name: first_sample(batch) for name, batch in given.items()}
            chunks = {name: models[name].model.predict(batch).float().cpu().numpy() for name, batch in given.items()}
            for row, (dataset, episode, step) in enumerate(places(parts[0])):
                tallies[dataset].add(episode, step, {name: chunk[row] for name, chunk in chunks.items()})
    return Comparison(
        device=device_name(next(iter(models.values())).model),
        models={name: _figures(trained, sample[name]) for name, trained in models.items()},
        datasets=tuple(tally.result() for tally in tallies if tally.windows),
    )


def device_name(model: VLA) -> str:
    """ "cpu", or the name of the CUDA device the model is on: merged bf16 weights are best run where they were made."""
    device = next(model.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def comparison_table(comparison: Comparison, title: str) -> Table:
    """One table: speed and size, then per data set the errors of each model beside the baselines', and the
    differences between the last model and the first."""
    names = list(comparison.models)
    columns = [*names, "mean action", "previous action", "difference", "largest"]
    made = table(title, texts=["", "unit"], numbers=columns)
    empty = [""] * (len(columns) - len(names))
    figures = comparison.models.values()
    for name, unit, values in (
        ("predict, median", "ms", [f"{f.latency.median_ms:.1f}" for f in figures]),
        ("predict, 95 of 100 within", "ms", [f"{f.latency.p95_ms:.1f}" for f in figures]),
        ("predictions", "Hz", [f"{f.latency.rate_hz:.1f}" for f in figures]),
        ("weights", "MB", [f"{f.weight_bytes / 1e6:.2f}" for f in figures]),
    ):
        made.add_row(name, unit, *values, *empty)
    for result in comparison.datasets:
        made.add_section()
        made.add_row(f"{result.dataset}, {result.windows} windows: error")
        for slot in result.slots:
            factor, digits, unit = (100, 1, "% wrong") if slot.unit == "1" else (1, 4, slot.unit)
            numbers = [*slot.errors.values(), slot.difference, slot.largest_difference]
            shown = [f"{factor * number:.{digits}f}" for number in numbers]
            made.add_row(f"  {slot.name}", "source's" if unit == "source" else unit, *shown)
        if result.errors_of_range:
            shares = [*result.errors_of_range.values(), result.difference_of_range or 0.0]
            made.add_row("  mean of those in units", "% of range", *(f"{100 * share:.1f}" for share in shares))
    made.caption, made.caption_justify = (
        f"on {comparison.device}; mean absolute errors; difference: of {names[-1]}'s actions from {names[0]}'s",
        "left",
    )
    return made


def comparison_record(comparison: Comparison) -> dict:
    """As JSON."""
    record = asdict(comparison)
    for name, figures in comparison.models.items():
        record["models"][name]["latency"]["rate_hz"] = figures.latency.rate_hz
    return {**record, "error_growth": comparison.error_growth}


def _figures(trained: TrainedModel, sample: dict) -> ModelFigures:
    return ModelFigures(latency=measure_latency(trained.model, sample), weight_bytes=weight_bytes(trained.model))


def _chunk_s(trained: TrainedModel, chunk: int) -> float | None:
    """Seconds that the first `chunk` actions of the model's chunks span; None for chunks in recorded steps."""
    whole = trained.config.chunk_s
    return None if whole is None else whole * chunk / trained.config.model.chunk
